"""Bytes to clean text with headings: readers by suffix, in a process with limits.

May import ``store`` and no other room of ``feature``.
Read first: ``readers/__init__.py`` and ``parsing.py``.
"""
