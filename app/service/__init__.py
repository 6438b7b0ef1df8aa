"""The HTTP service: an OpenAI-compatible API, keys, workers, pages.

May import ``pipelines`` and ``store``; the commands give it what ``build`` has made.
Read first: ``api.py`` and ``worker.py``.
"""
