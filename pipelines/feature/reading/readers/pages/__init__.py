"""PDF and pictures: text by where it stands on a page, and by OCR where it is only painted.

May import the modules of ``readers`` itself.
Read first: ``pdf.py`` and ``page_layout.py``.
"""
