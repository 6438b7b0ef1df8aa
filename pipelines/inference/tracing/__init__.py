"""Lineage: from an answer or a citation to what made it, from a document to what came of it.

May import ``store``.
Read first: ``answer_lineage.py`` and ``document_lineage.py``.
"""
