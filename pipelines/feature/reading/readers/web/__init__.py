"""HTML and what is made of it: pages, books, mails, and XML without a schema.

May import the modules of ``readers`` itself.
Read first: ``html.py`` and ``html_content.py``.
"""
