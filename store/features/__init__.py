"""The feature store: documents, their ledger, chunks, vectors, and search over them.

May import ``lance``, ``versioned``, ``files`` and the values.
Read first: ``feature_store.py`` and ``writing.py``.
"""
