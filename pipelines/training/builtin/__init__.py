"""The recipe of the built-in small language model that reads passages and answers from them.

``tokenizer`` and ``initial`` make the untrained model from MiniLM; ``rows``, ``gaps`` and
``invented`` make what it learns from; ``recipe`` and ``batches`` order it; ``train`` runs;
``export`` writes the model folder; ``evaluate`` measures it.

Run ``python -m fti.pipelines.training.builtin --help``.
"""
