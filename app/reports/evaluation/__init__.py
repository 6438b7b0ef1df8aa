"""What an evaluation found, gathered once and shown as JSON, Markdown or HTML.

May import what ``reports`` may.
Read first: ``evaluation_report.py`` and ``evaluation_document.py``.
"""
