"""A dataset version becomes an embedder that puts questions nearer to what answers them.

May import ``engines``, ``steps``, ``readmes`` and ``store``.
Read first: ``train_embedder.py`` and ``embedder_rows.py``.
"""
