"""One file a family of routes: take a request, ask the worker or the store, answer.

May import ``schemas``, ``worker``, ``documents`` and ``static_pages`` of ``service``, and below.
Read first: ``parts.py`` and ``chat.py``.
"""
