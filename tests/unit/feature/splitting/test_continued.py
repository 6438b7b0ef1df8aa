"""Pieces of a table that is split say what its columns are."""

from __future__ import annotations

import re

import pytest

from fti.pipelines.feature.asking.pieces import pieces
from fti.pipelines.feature.reading.headings import CSV, MARKDOWN, PLAIN
from fti.pipelines.feature.splitting.chunking import ChunkingConfig, chunk
from fti.store.contracts.prompt_contract import PromptForm
from fti.store.features.indexed_text import embedding_text
from fti.store.page_starts import passage_metadata
from fti.store.types import CONTEXT, Chunk, Document, Passage

CONFIG = ChunkingConfig(max_tokens=60, overlap_tokens=8, min_tokens=4)
NAMES = "Valve | Price | Delivery"


def words(text: str) -> list[tuple[int, int]]:
    return [m.span() for m in re.finditer(r"\w+|[^\w\s]", text)]


def split(text: str, media_type: str = MARKDOWN, limit: int | None = None) -> list[Chunk]:
    document = Document(
        id="d", source="s", title="Valves", text=text, content_hash="", media_type=media_type
    )
    found = chunk(document, token_spans=words, config=CONFIG, embedder_max_tokens=limit)
    assert all(text[c.start : c.end] == c.text for c in found)
    return found


def a_table(rows: int, *, bars: bool = True) -> str:
    lines = [NAMES, "--- | --- | ---", *(f"Type {n} | {n * 3} | {n} weeks" for n in range(rows))]
    return "\n".join(f"| {line} |" if bars else line for line in lines)


@pytest.mark.parametrize("bars", [True, False])
@pytest.mark.parametrize("media_type", [MARKDOWN, PLAIN])
def test_each_piece_of_a_table_names_its_columns(bars: bool, media_type: str) -> None:
    text = f"# Prices\n\n{a_table(40, bars=bars)}\n\nAll prices are without tax, as the law says."
    found = split(text, media_type)

    of_table = [c for c in found if "weeks" in c.text]
    assert len(of_table) > 3
    assert [c.context for c in of_table if NAMES not in c.text] == [NAMES] * (len(of_table) - 1)
    assert all(c.context == "" for c in found if c not in of_table)
    rows = [line for c in of_table for line in c.text.split("\n") if "weeks" in line]
    assert all(line.count("|") == (4 if bars else 2) for line in rows), "no row is cut"


def test_the_names_are_embedded_and_fit_the_limit() -> None:
    for one in split(a_table(40), limit=50):
        embedded = embedding_text("Valves", one.section, one.text, one.context)
        assert NAMES in embedded
        assert len(words(embedded)) <= 50


@pytest.mark.parametrize("limit", [80, 90, 100, 120])
@pytest.mark.parametrize("item", ["Rope", "The longest rope of all in the store " * 3])
@pytest.mark.parametrize("word", ["ropes", "ﬁﬁﬁ-ﬂﬂﬂ"])
def test_a_context_is_shortened_to_what_the_embedder_sees(limit: int, item: str, word: str) -> None:
    def spans(text: str) -> list[tuple[int, int]]:  # a ligature is one token, its letters several
        return [m.span() for m in re.finditer(r"[fil]|[^\Wfil]+|[^\w\s]", text)]

    note = f"a remark on {word} and what they are good for. " * 30
    text = f"Item: {item.strip()}\nNote: {note.strip()}"
    document = Document(
        id="d", source="s", title="Valves", text=text, content_hash="", media_type=CSV
    )
    found = chunk(document, token_spans=spans, config=CONFIG, embedder_max_tokens=limit)
    assert len(found) > 3
    for one in found:
        embedded = embedding_text("Valves", one.section, one.text, one.context)
        assert len(spans(embedded)) + 4 <= limit or not one.context


def test_a_row_over_many_pieces_is_not_given_to_the_tokenizer_once_more_for_each() -> None:
    asked: list[str] = []

    def counting(text: str) -> list[tuple[int, int]]:
        asked.append(text)
        return words(text)

    rows = (f"Item: Rope {n}\nNote: {'a remark on ropes, ' * 60}" for n in range(20))
    document = Document(
        id="d", source="s", title="Valves", text="\n\n".join(rows), content_hash="", media_type=CSV
    )
    found = chunk(document, token_spans=counting, config=CONFIG, embedder_max_tokens=200)
    assert sum(bool(one.context) for one in found) > 100
    assert len(asked) < 10


def test_the_names_are_shown_to_the_model_and_the_text_stays_as_it_is() -> None:
    one = next(c for c in split(a_table(40)) if c.context)
    passage = Passage(
        rank=1, chunk_id=one.id, document_id="d", title="Valves", source="s", text=one.text,
        metadata=passage_metadata({CONTEXT: "said by the document"}, 0, 1, context=one.context),
    )  # fmt: skip
    (message,) = PromptForm(system="").messages("What does type 30 cost?", [passage])
    assert f"[1] Valves > {NAMES}\n{one.text}" in message.content
    assert CONTEXT not in passage_metadata({CONTEXT: "said by the document"}, 0, 1)


def test_a_row_longer_than_a_chunk_says_whose_it_is_and_which_column() -> None:
    note = "a long remark on ropes and what they are good for. " * 30
    found = split(f"Item: Rope\nNote: {note.strip()}\nPrice: 4\n\nItem: Saw\nPrice: 5", CSV)

    assert found[0].context == ""
    within = [c for c in found[1:] if "long" in c.text and "Item" not in c.text]
    assert len(within) > 3
    assert {c.context for c in within} == {"Item: Rope | Note"}
    assert next(c for c in found if c.text.startswith("Item: Saw")).context == ""


def test_text_without_tables_has_no_context() -> None:
    prose = "A sentence | with a bar. " * 60
    assert {
        c.context
        for c in split(f"{prose}\n\n- a | b\n- c | d\n\n```\na | b\n--- | ---\n1 | 2\n```")
    } == {""}
    assert {c.context for c in split("North | 5\nSouth | 6\n\n" * 60, CSV)} == {""}


def test_questions_about_a_piece_take_its_first_row_for_values() -> None:
    found = list(pieces("| Type 9 | 27 | 9 weeks |", context=NAMES))
    assert [(p.of, p.key, p.text) for p in found] == [
        ("Type 9", "Price", "27"), ("Type 9", "Delivery", "9 weeks")
    ]  # fmt: skip
    (pair,) = pieces("Price: 4", context="Item: Rope | Note")
    assert (pair.of, pair.key, pair.text) == ("Rope", "Price", "4")
