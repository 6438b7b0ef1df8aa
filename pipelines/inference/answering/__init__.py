"""A question's way: condensed, retrieved, fitted, generated, cited, logged.

May import ``inference_config``, ``engines`` and ``store``.
Read first: ``answer.py`` and ``retrieve.py``.
"""
