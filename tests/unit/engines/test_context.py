"""A sentence cut out of a table takes the names of its columns along."""

from __future__ import annotations

import pytest

from fti.pipelines.engines.evidence import cut
from fti.store.types import CONTEXT, Passage

TABLE = "Prices.\n\n| Valve | Price |\n| --- | --- |\n| A | 7 |\n| B | 9 |\n\nWithout tax."


def a_passage(text: str, context: str = "") -> Passage:
    return Passage(
        rank=1, chunk_id="c", document_id="d", title="T", source="s", text=text, end=len(text),
        metadata={CONTEXT: context, "lang": "en"} if context else {"lang": "en"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "context", "piece", "expected"),
    [
        (TABLE, "", "B | 9", "Valve | Price"),
        (TABLE, "", "Without tax.", ""),
        (TABLE, "", "Prices.", ""),
        ("| C | 3 |\n| D | 4 |\n\nMore.", "Valve | Price", "D | 4", "Valve | Price"),
        ("| C | 3 |\n| D | 4 |\n\nMore.", "Valve | Price", "More.", ""),
        ("Name: Ann\nOffice: North\nExtension: none", "", "Extension: none", "Name: Ann"),
        ("Name: Ann\nOffice: North", "", "Name: Ann", ""),
        ("Price: 4\n\nName: Ann\nOffice: North", "Name: Bob", "Price: 4", "Name: Bob"),
        ("Note: it rains.\nAnd it pours.", "", "And it pours.", ""),
    ],
)
def test_what_is_cut_out_says_what_it_is_of(
    text: str, context: str, piece: str, expected: str
) -> None:
    start = text.index(piece)
    found = cut(a_passage(text, context), start, start + len(piece))

    assert (found.text, found.start) == (piece, start)
    assert found.metadata == ({CONTEXT: expected} if expected else {}) | {"lang": "en"}
