"""Records that come one after another: read from a pipe or Redis, gathered, written to Redis.

Knows not what the records say. May import the values.
Read first: ``record_streams.py`` and ``buffered.py``.
"""
