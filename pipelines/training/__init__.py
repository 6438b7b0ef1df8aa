"""A dataset version becomes a model version: an adapter, a whole model or an embedder.

May import ``engines`` and ``store``. ``steps`` is what every training is made of; ``builtin`` is
the recipe of the model that ships and is used by nothing else here.
Read first: ``finetune.py`` and ``examples.py``.
"""
