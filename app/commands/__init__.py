"""One file a command: parse, call, print. Heavy imports stand inside the functions.

May import everything in ``app``; only ``cli`` imports it.
Read first: ``ask.py`` and ``ingest.py``.
"""
