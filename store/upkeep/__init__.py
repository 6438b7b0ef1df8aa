"""A whole store backed up, checked, moved, put into a bucket, and a document forgotten in it.

May import everything else in ``store``; nothing in ``store`` imports it.
Read first: ``backup.py`` and ``forgetting.py``.
"""
