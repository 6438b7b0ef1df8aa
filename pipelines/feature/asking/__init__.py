"""Questions with short answers, written from text by rule and without a model.

Pure functions of their arguments. May import ``store.proof`` and nothing else.
Read first: ``questions.py`` and ``quality.py``.
"""
