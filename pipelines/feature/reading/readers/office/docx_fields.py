"""Fields of a Word document: their code is no text, their result is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fti.pipelines.feature.reading.readers.office.numbering import W, is_on, value


@dataclass(slots=True)
class OpenFields:
    """The fields that are open where a paragraph is being read.

    ``in_code`` counts those whose code, not their result, is being read; ``results`` says of each
    whether its result is.
    """

    in_code: int = 0
    results: list[bool] = field(default_factory=list)

    def meet(self, element: Any) -> str:
        """Take in that a field begins, comes to its result or ends; what a form's field shows."""
        kind = element.get(W + "fldCharType")
        if kind == "begin":
            self.results.append(False)
            self.in_code += 1
            data = element.find(W + "ffData")
            if data is not None and self.in_code == 1:
                return _form_value(data)
        elif self.results and kind == "separate" and not self.results[-1]:
            self.results[-1] = True
            self.in_code -= 1
        elif self.results and kind == "end" and not self.results.pop():
            self.in_code -= 1
        return ""


def _form_value(data: Any) -> str:
    """What a field of a form shows that has no result: a tick, or one of several words."""
    box = data.find(W + "checkBox")
    if box is not None:
        name = "checked" if box.find(W + "checked") is not None else "default"
        return "☒" if is_on(box, name) else "☐"
    chosen = data.find(W + "ddList")
    if chosen is not None:
        entries = [e.get(W + "val") or "" for e in chosen.iterchildren(W + "listEntry")]
        number = value(chosen, "result", value(chosen, "default", "0"))
        index = int(number) if number.isdecimal() and len(number) < 6 else 0
        return entries[index] if index < len(entries) else ""
    return ""
