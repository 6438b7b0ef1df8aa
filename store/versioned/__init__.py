"""Immutable numbered things: datasets, case sets, models and their aliases.

May import ``contracts``, ``files``, ``tabular`` and the values.
Read first: ``versions.py`` and ``registry.py``.
"""
