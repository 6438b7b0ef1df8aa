"""A model's text as it may be shown while more of it is still coming.

What a reader has seen must be the beginning of the final answer. So white space, markers and the
beginning of the abstention sentence are held back until what follows decides them.
"""

from __future__ import annotations

import re

from fti.store.contracts.prompt_contract import ParsedResponse, PromptForm

# Where markers are taken out, only white space, brackets and digits can come together to another
# marker. A run of these at the end stays open until something else follows it.
_UNDECIDED = re.compile(r"(?:[\s\[][\s\[\]0-9]*)?\Z")
_HALF_MARKER = re.compile(r"\s*\[[0-9]{0,3}\Z")


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
        self.shown = ""

    def feed(self, piece: str) -> str:
        """Take a piece; return what can be shown now, often nothing."""
        self._raw += piece
        decided = self._raw[: _undecided_at(self._raw)]
        if not self.shown and self._form.may_become_abstention(decided):
            return ""
        parsed = self._form.parse(decided, self._passages)
        return self._show(parsed.text)

    def parsed(self, *, broken_off: bool) -> ParsedResponse:
        """The whole text, understood.

        Args:
            broken_off: generation did not end by itself, so half a marker at the end is dropped.
        """
        raw = _HALF_MARKER.sub("", self._raw) if broken_off else self._raw
        return self._form.parse(raw, self._passages)

    def finish(self, text: str) -> str:
        """What is still to be shown of the final text."""
        return self._show(text)

    def _show(self, text: str) -> str:
        assert text.startswith(self.shown), "shown text was not the beginning of the answer"
        new = text[len(self.shown) :]
        self.shown = text
        return new


def _undecided_at(raw: str) -> int:
    match = _UNDECIDED.search(raw)
    assert match is not None  # the pattern matches the empty end
    return match.start()
