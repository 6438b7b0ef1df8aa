"""Two texts read together: rerankers, and entailment for groundedness.

May import ``weights`` of ``engines``, and ``store``.
Read first: ``reranking.py`` and ``entailment.py``.
"""
