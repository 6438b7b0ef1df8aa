"""Word, PowerPoint, OpenDocument and RTF, each read as its own program shows it.

May import the modules of ``readers`` itself, and ``web`` for HTML and XML inside of files. What
several formats share stands in files named after it: formulas, drawings, numbering, merged cells.
Read first: ``docx.py`` and ``merged_cells.py``.
"""
