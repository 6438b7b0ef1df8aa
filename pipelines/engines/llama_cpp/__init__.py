"""Models as llama.cpp has them: weights and tokenizer in a GGUF file, and that file run here.

May import ``causal_lm`` (tokenizers, merged weights, the texts of ids, refusals), ``encoding`` and
``weights`` of ``engines``, and ``store``.
Read first: ``gguf_file.py`` and ``llamacpp_generator.py``.
"""
