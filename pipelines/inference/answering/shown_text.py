"""A model's text as it may be shown while more of it is still coming.

What a reader has seen must be the beginning of the final answer. So white space, markers, the
beginning of the abstention sentence and a word that may go on are held back until what follows
decides them: an answer that is broken off ends at a word.
"""

from __future__ import annotations

import re

from fti.store.contracts.prompt_contract import ParsedResponse, PromptForm

# Where markers are taken out, only white space, brackets and digits can come together to another
# marker. A run of these at the end stays open until something else follows it.
_UNDECIDED = re.compile(r"(?:[\s\[][\s\[\]0-9]*)?\Z")
_HALF_MARKER = re.compile(r"\s*\[[0-9]{0,3}\Z")
# What stands at the end without white space after it: "Satur", "12," of "12,345". Scripts that are
# written without spaces are shown as they come.
_LAST_WORD = re.compile(
    r"[^\s\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\ud7ff\uf900-\U0010ffff]+\Z"
)
_LONGEST_WORD = 40
# After these a word is whole; a full stop after a digit may be a decimal point.
_WHOLE = re.compile(r"(?:[^\W\d_]\.|[!?)\]\"\u201d])\Z")


class ShownText:
    """Collects pieces of raw text and says what may be shown.

    Args:
        form: understands the text.
        passages: how many passages the model was shown.
    """

    def __init__(self, form: PromptForm, passages: int) -> None:
        self._form = form
        self._passages = passages
        self._raw = ""
        self._decided = 0  # so much of it
        self.shown = ""

    def feed(self, piece: str) -> str:
        """Take a piece; return what can be shown now, often nothing."""
        self._raw += piece
        end = _undecided_at(self._raw)
        if not self._raw[end : end + 1].isspace():  # the word before it may go on
            end = _last_word_at(self._raw[:end])
        self._decided = max(self._decided, end)
        decided = self._raw[: self._decided]
        if not self.shown and self._form.may_become_abstention(decided):
            return ""
        parsed = self._form.parse(decided, self._passages)
        return self._show(parsed.text)

    def parsed(self, *, broken_off: bool) -> ParsedResponse:
        """The whole text, understood.

        Args:
            broken_off: generation did not end by itself, so half a marker or a word that may not be
                whole is dropped from the end.
        """
        raw = _HALF_MARKER.sub("", self._raw) if broken_off else self._raw
        if broken_off and raw == self._raw and not _WHOLE.search(raw):
            raw = raw[: _last_word_at(raw)].rstrip() or raw  # one word alone stays
        return self._form.parse(raw, self._passages)

    def finish(self, text: str) -> str:
        """What is still to be shown of the final text."""
        return self._show(text)

    def _show(self, text: str) -> str:
        assert text.startswith(self.shown), "shown text was not the beginning of the answer"
        new = text[len(self.shown) :]
        self.shown = text
        return new


def _last_word_at(raw: str) -> int:
    """Where the word at the end of a text begins, if one stands there."""
    match = _LAST_WORD.search(raw, max(0, len(raw) - _LONGEST_WORD))
    return match.start() if match else len(raw)


def _undecided_at(raw: str) -> int:
    match = _UNDECIDED.search(raw)
    assert match is not None  # the pattern matches the empty end
    return match.start()
