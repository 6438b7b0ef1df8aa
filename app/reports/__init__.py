"""What people look at: reports and cards as HTML, Markdown and SVG, without scripts.

May import the values of ``operations``, ``pipelines`` and ``store``; computes no score.
Read first: ``page.py`` and ``evaluation/evaluation_document.py``.
"""
