"""The assistant that is served, measured on questions with known answers.

May import ``answering``, ``engines`` and ``store``.
Read first: ``evaluation.py`` and ``scoring.py``.
"""
