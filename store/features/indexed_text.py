"""The words of a chunk that are embedded and indexed: one text for every way into the store."""

from __future__ import annotations

from collections.abc import Sequence

from fti.store.plain_text import clean_line

_PREFIX_CHARACTERS = 160
#: Typographic ligatures, and what they are spelt out as.
LIGATURES = {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
_SPELT_OUT = str.maketrans(LIGATURES)


def embedding_text(title: str, section: Sequence[str], text: str, context: str = "") -> str:
    """What is embedded and full-text indexed for a chunk: where it stands, then what it says.

    Typographic ligatures are spelt out, since queries spell them so; the stored text keeps them.
    """
    parts = [prefix(title, section), context, text]
    return "\n".join(filter(None, parts)).translate(_SPELT_OUT)


def prefix(title: str, section: Sequence[str]) -> str:
    """Where a chunk stands: title and path of headings, on one line and cut to be short."""
    parts = [clean_line(title), *(clean_line(s) for s in section if s != title)]
    parts = [p for p in parts if p]
    while len(parts) > 2 and sum(map(len, parts)) > _PREFIX_CHARACTERS:
        del parts[1]  # the ends say most: which document, which section
    return clean_line(" > ".join(parts), max_characters=_PREFIX_CHARACTERS)
