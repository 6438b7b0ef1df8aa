"""A generator behind HTTP, and when to leave a failing server alone.

May import ``generation`` (whose protocol it keeps), ``causal_lm`` (a tokenizer to count with),
``encoding`` and ``weights`` of ``engines``, and ``store``.
Read first: ``openai_server.py`` and ``circuit.py``.
"""
