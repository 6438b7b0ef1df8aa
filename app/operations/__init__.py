"""What a command, a pipeline step and a route all start: promote, evaluate, export and so on.

May import ``build``, ``settings``, ``pipelines`` and ``store``; prints nothing.
Read first: ``promotion.py`` and ``evaluating.py``.
"""
