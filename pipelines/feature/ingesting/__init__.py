"""Documents found, read and split become vectors and rows, in one commit each.

May import ``finding``, ``reading``, ``splitting``, ``asking.quality``, ``engines`` and ``store``.
Read first: ``ingest.py`` and ``ingest_run.py``.
"""
