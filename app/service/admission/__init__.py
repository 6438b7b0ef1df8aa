"""What a request must pass before a route answers it: names, keys, limits, collections, headers.

May import ``forms`` for the errors that it sends. Read first: ``callers.py`` and ``access.py``.
"""
