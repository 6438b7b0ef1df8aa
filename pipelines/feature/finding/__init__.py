"""From what a user names to the documents in it: folders, archives, web pages, buckets.

May import ``reading`` and ``store``.
Read first: ``discovering.py`` and ``opening.py``.
"""
