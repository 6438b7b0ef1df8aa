"""Texts to unit vectors: the protocol, the real embedder, the hashing one, trained ones.

May import ``encoding`` and ``weights`` of ``engines``, and ``store``.
Read first: ``embedding.py`` and ``trained_embedder.py``.
"""
