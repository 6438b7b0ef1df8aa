"""How good the answers of these days are, judged by a model on a sample of them.

May import ``evaluating``, ``engines`` and ``store``.
Read first: ``live_answers.py`` and ``answer_sample.py``.
"""
