"""What two sides must agree on: the prompt, a trained embedder, a pipeline's conditions.

May import the values of ``store`` (``types``, ``errors``) and nothing else.
Read first: ``prompt_contract.py`` and ``conditions.py``.
"""
