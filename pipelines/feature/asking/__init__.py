"""Questions with short answers, written from text by rule and without a model.

``verbs`` and ``grammar`` take a clause apart; the rest asks for its parts, its phrases,
what is linked to it, and for fields. Pure functions of their arguments. May import ``store.proof``
and nothing else.
Read first: ``questions.py`` and ``written_questions.py``.
"""
