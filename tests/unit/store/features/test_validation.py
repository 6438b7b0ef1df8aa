"""Features that break the contract, each way found and named."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fti.store.features.validation import StatisticsCounter, ValidationConfig, violation
from fti.store.lance.shapes import DocumentUpdate
from tests.support.features import IDENTITY, an_update, axis

CONFIG = ValidationConfig(max_characters=40)
GOOD = an_update("/a.md", {"one text": axis(1), "another text": axis(0.6, 0.8)})


def with_chunk(**changes: Any) -> DocumentUpdate:
    first, *rest = GOOD.chunks
    return replace(GOOD, chunks=(first.model_copy(update=changes), *rest))


def test_what_holds_is_accepted() -> None:
    assert violation(GOOD, IDENTITY, CONFIG) is None
    assert violation(an_update("/empty.md", []), IDENTITY, CONFIG) is None


@pytest.mark.parametrize(
    ("update", "why"),
    [
        (with_chunk(text="  "), "chunk 0 has no text"),
        (with_chunk(start=1), "chunk 0 is not the text at 1-8"),
        (with_chunk(document_id="d0"), "chunk 0 is of another document, 'd0'"),
        (with_chunk(id=GOOD.chunks[1].id), "two chunks have one id"),
        (replace(GOOD, search_texts=("one",)), "2 chunks came with 1 texts to search"),
        (replace(GOOD, vectors=GOOD.vectors[:1]), r"shape \(1, 4\), not \(2, 4\)"),
        (replace(GOOD, vectors=np.stack([axis(1), axis(np.nan)])), "chunk 1 is not finite"),
        (replace(GOOD, vectors=np.stack([axis(1), axis(np.inf)])), "chunk 1 is not finite"),
        (replace(GOOD, vectors=np.stack([axis(1), axis(0)])), "chunk 1 has length 0, not 1"),
        (replace(GOOD, vectors=np.stack([axis(2), axis(1)])), "chunk 0 has length 2, not 1"),
        (an_update("/l.md", {"long " * 10: axis(1)}), "50 characters, more than 40"),
        (an_update("/x.md", {"\ufffd\x01\ufffd read": axis(1)}), "38% of its text are replacement"),
    ],
)
def test_what_does_not_hold_is_named(update: DocumentUpdate, why: str) -> None:
    found = violation(update, IDENTITY, CONFIG)
    assert found is not None
    assert re.search(why, found), found


def test_vectors_of_any_length_are_fine_where_the_model_does_not_normalise() -> None:
    loose = IDENTITY.model_copy(update={"normalized": False})
    double = replace(GOOD, vectors=GOOD.vectors * 2)
    assert violation(double, loose, CONFIG) is None
    assert violation(replace(GOOD, vectors=GOOD.vectors * 0), loose, CONFIG)


def test_statistics_say_how_long_chunks_are_and_in_which_scripts() -> None:
    counter = StatisticsCounter()
    assert counter.result() is None
    counter.add(["abc", "日本語", "привет мир"])
    found = counter.result()
    assert found is not None
    assert (found.chunks, found.characters_min, found.characters_max) == (3, 3, 10)
    assert found.characters_median == 3
    assert found.scripts == {"cyrillic": 0.6, "latin": 0.2, "cjk": 0.2}
