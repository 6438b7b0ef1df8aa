"""What happened: runs, answers, answer tables, keys, rejected records, states of steps.

May import ``lance``, ``versioned``, ``files``, ``tabular`` and the values.
Read first: ``runs.py`` and ``answers.py``.
"""
