from __future__ import annotations

import pytest

from fti.store.page_starts import PAGE_STARTS, encode_page_starts, passage_metadata

#: Page 1 is 0-9, page 2 is empty, page 3 is 10-19, page 4 is 20 and on.
METADATA = {"author": "Ann", PAGE_STARTS: encode_page_starts([0, 10, 10, 20])}


@pytest.mark.parametrize(
    ("start", "end", "page"),
    [(0, 5, "1"), (0, 10, "1"), (5, 12, "1-3"), (10, 20, "3"), (12, 40, "3-4"), (30, 40, "4")],
)
def test_a_passage_says_the_pages_it_stands_on(start: int, end: int, page: str) -> None:
    assert passage_metadata(METADATA, start, end) == {"author": "Ann", "page": page}


def test_a_document_without_pages_says_none() -> None:
    assert passage_metadata({"author": "Ann"}, 0, 5) == {"author": "Ann"}
