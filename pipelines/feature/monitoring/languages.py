"""Which language a text is in: enough to see that people write in another than before."""

from __future__ import annotations

import re

_LOOKED_AT = 2_000  # characters; more tell no more
_FEWEST_WORDS = 3  # of Latin letters; two words ("opening hours") are at home in many languages
UNKNOWN = "unknown"


def language(text: str) -> str:
    """ISO 639-1 code of the text's language, or ``unknown`` where it holds too little to tell.

    Told by py3langid (Lui and Baldwin, "langid.py: An Off-the-shelf Language Identification Tool",
    ACL 2012), whose model of 97 languages comes with the package.
    """
    looked_at = text[:_LOOKED_AT]
    words = re.findall(r"[^\W\d_]+", looked_at)
    if not words or (len(words) < _FEWEST_WORDS and re.search("[A-Za-z]", looked_at)):
        return UNKNOWN
    import py3langid

    return str(py3langid.classify(looked_at)[0])
