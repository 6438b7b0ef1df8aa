"""The LanceDB tables under the features: shapes, connection, indexes, memory.

May import ``files`` and the values; what the rows mean is the business of ``features``.
Read first: ``shapes.py`` and ``connection.py``.
"""
