"""Several commands as one: a YAML file of steps, each run as far as something changed.

May import ``reports``, ``operations``, ``build``, ``settings``, ``pipelines`` and ``store``.
Read first: ``plan.py`` and ``runner.py``.
"""
