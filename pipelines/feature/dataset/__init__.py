"""Rows to train on: questions from ``sources``, passages around them, splits, pairs.

May import ``asking``, ``ingesting.resemblance``, ``engines`` and ``store``.
Read first: ``instructions.py`` and ``rows.py``.
"""
