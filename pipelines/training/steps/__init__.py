"""What every training is made of: batches, loss, methods, checkpoints, processes.

May import ``training_config`` and ``choices`` of ``training``, ``engines`` and ``store``.
Read first: ``trainer.py`` and ``loss.py``.
"""
