"""A version made the champion: the gate's proof first, then the alias, then the store's vectors.

May import ``measuring`` beside what ``operations`` may.
Read first: ``promotion.py`` and ``gating.py``.
"""
