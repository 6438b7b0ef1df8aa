"""Everything at once, killed again and again: ``python -m tests.soak --minutes 20``."""
