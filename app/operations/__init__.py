"""What a command, a pipeline step and a route all start: promote, evaluate, export and so on.

May import ``build``, ``embedder_choice``, ``settings``, ``pipelines`` and ``store``; prints
nothing. ``training``, ``measuring``, ``promoting`` and ``releasing`` follow a model on its way.
Read first: ``promoting/promotion.py`` and ``measuring/evaluating.py``.
"""
