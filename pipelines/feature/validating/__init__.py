"""Does what landed keep to what is expected of it? By collection, with a report that is kept.

May import ``monitoring``, ``feature_config`` and ``store``.
Read first: ``expectations.py`` and ``validate_features.py``.
"""
