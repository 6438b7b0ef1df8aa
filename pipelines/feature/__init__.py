"""Documents into features, and features into datasets.

A document's way is found (``finding``), read (``reading``), split (``splitting``), embedded and
committed (``ingesting``); ``streaming`` goes the same way as things change. ``dataset`` makes rows
of what is stored, ``monitoring`` asks whether it has changed. May import ``engines`` and ``store``.
Read first: ``ingesting/ingest.py`` and ``feature_config.py``.
"""
