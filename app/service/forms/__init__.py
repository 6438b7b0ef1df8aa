"""What goes over the wire: bodies of requests and responses, errors, names, the API's description.

May import ``pipelines`` and ``store``, and nothing else of the service.
Read first: ``schemas.py`` and ``http_errors.py``.
"""
