"""Documents searchable moments after they change: a folder watched, a stream followed.

May import ``ingesting`` and what stands below it, ``engines`` and ``store``.
Read first: ``watch.py`` and ``follow.py``.
"""
