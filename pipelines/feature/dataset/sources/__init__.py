"""Where questions come from: rules, given cases, a writing model, chats, reviewed answers.

May import ``asking``, the rest of ``dataset``, ``engines`` and ``store``; each source gives
``Asked`` questions and does not know the others.
Read first: ``../asked.py`` and ``rules.py``.
"""
