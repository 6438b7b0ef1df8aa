"""A document's text to chunks, cut where its structure says.

May import ``reading`` (for headings) and ``store``.
Read first: ``chunking.py`` and ``split_places.py``.
"""
