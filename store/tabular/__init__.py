"""What is stored, as rows and columns: conditions on rows, and Arrow tables of values.

May import the values.
Read first: ``where.py`` and ``value_tables.py``.
"""
