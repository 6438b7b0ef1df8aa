"""Weights in, values out: the only place that loads a model.

May import ``store``. The families (``causal_lm``, ``embedders``, ``cross_encoders``) do not know
one another; ``remote`` is a language model behind HTTP. torch is imported inside functions.
Read first: ``generation.py`` and ``encoding.py``.
"""
