"""Has what comes in changed? Documents, questions and answers against what was expected.

May import ``finding``, ``feature_config``, ``engines`` and ``store``.
Read first: ``system_report.py`` and ``drift.py``.
"""
