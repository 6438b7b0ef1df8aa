"""Datasets built, language models and embedders trained from them, and a training done again.

May import what ``operations`` may.
Read first: ``dataset_building.py`` and ``finetuning.py``.
"""
