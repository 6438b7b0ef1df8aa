"""How the system does: promises against what was measured, and monitoring as a run that is kept.

May import ``build``, ``pipeline_contracts`` and the pipelines.
Read first: ``monitor_run.py`` and ``promise_measuring.py``.
"""
