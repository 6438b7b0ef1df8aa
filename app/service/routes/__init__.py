"""One file a family of routes: take a request, ask the worker or the store, answer.

May import ``forms``, ``worker``, ``documents`` and ``asking`` of ``service``, and below.
Read first: ``parts.py`` and ``chat.py``.
"""
