"""Measured and compared: evaluations, what they compare, when they are good enough, refusals.

May import what ``operations`` may; promoting is decided on what was measured here.
Read first: ``evaluating.py`` and ``systems.py``.
"""
