"""A question, passages and a model become an answer and a record of how it came to be.

``answering`` is what is served; ``evaluating`` and ``batch`` ask the same assistant, and
``tracing`` follows what it did. May import ``engines`` and ``store``.
Read first: ``answering/answer.py`` and ``inference_config.py``.
"""
