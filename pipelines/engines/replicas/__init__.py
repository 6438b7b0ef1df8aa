"""Work done by replicas of what loads weights, on the machines of a Ray cluster, or in one process.

May import ``generator``, ``embedders`` and ``store``; it does not know what the work is.
Read first: ``actors.py`` and ``cluster.py``.
"""
