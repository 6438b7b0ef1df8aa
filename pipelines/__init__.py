"""The three kinds of program that meet only in the store, and the engines under them.

``feature``, ``training`` and ``inference`` never import one another; each may import ``engines``
and ``store``. A notebook can call any of them without ``app``.
Read first: ``feature/ingesting/ingest.py`` and ``inference/answering/answer.py``.
"""
