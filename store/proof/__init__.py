"""Is a difference more than chance: intervals, paired tests, the gate.

May import the values of ``store`` (``types``, ``errors``) and nothing else.
Read first: ``significance.py`` and ``gate.py``.
"""
