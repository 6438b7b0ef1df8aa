"""Which of the titles that a file states is one that a person gave it."""

from __future__ import annotations

import re

from fti.store.plain_text import clean_line

# What programs write where nobody said anything.
_MADE_UP = re.compile(
    r"(?:microsoft )?(?:word|powerpoint|office)? ?(?:document|presentation|file) ?\d*"
    r"|(?:untitled|new|no title|title|slide|folie|diapositive|dokument|documento|document[eo]?"
    r"|präsentation|presentación|présentation|presentazione|unbenannt|sans titre|sin título"
    r"|ohne titel|senza titolo|neues dokument|nouveau document)[ _-]?\d*"
    r"|(?:untitled|new|unnamed) (?:document|presentation|page) ?\d*"
    r"|microsoft (?:word|powerpoint|office) ?-.*|(?:powerpoint|word)[- ]?(?:document|presentation"
    r"|präsentation|présentation|presentación)"
    r"|.*\.(?:docx?|docm|dotx?|dotm|pptx?|pptm|potx?|odt|ott|rtf|tmp)"
    r"|\W*",
    re.IGNORECASE,
)


def stated_title(title: str | None) -> str:
    """The title on one line; empty where a program made it up, such as ``Word Document``."""
    line = clean_line(title or "")
    return "" if _MADE_UP.fullmatch(line) else line
