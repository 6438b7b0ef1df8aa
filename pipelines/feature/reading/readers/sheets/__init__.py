"""Tables of their own: CSV, TSV and spreadsheets, every value under its own name.

May import the modules of ``readers`` itself.
Read first: ``grid.py`` and ``workbook.py``.
"""
