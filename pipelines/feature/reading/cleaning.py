"""How readers clean what they read: as the store cleans what it indexes (``store.plain_text``)."""

from fti.store.plain_text import clean, clean_line

__all__ = ["clean", "clean_line"]
