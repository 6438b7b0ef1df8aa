"""The recipes of the built-in models: the reader that answers and the writer that asks.

``reading_rows``, ``evidence_rows`` and ``writing_rows`` make what they learn from; ``recipe`` and
``branches`` order it; ``train`` runs; ``export`` and ``writer_card`` write what ships; ``evaluate``
measures it.

Run ``python -m fti.pipelines.training.builtin --help``.
"""
