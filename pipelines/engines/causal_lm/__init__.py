"""A language model on this machine: loaded, its prompts read, its tokens picked, batched.

May import ``encoding`` and ``weights`` of ``engines``, and ``store``.
Read first: ``loading.py`` and ``batching.py``.
"""
