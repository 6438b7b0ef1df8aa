"""The assistant that is served, asked a table of questions or a stream, each once under its key.

May import ``answering``, ``evaluating.cases`` (which reads JSON lines) and ``store``.
Read first: ``answer_table.py`` and ``follow_questions.py``.
"""
