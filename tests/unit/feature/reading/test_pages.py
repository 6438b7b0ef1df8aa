"""Pages of PDFs: what they repeat at their edges, and where each begins in the text."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.feature.reading.readers import Extracted, SourcesConfig
from fti.pipelines.feature.reading.readers.pages.margins import without_running_lines
from fti.pipelines.feature.reading.readers.pages.pdf import read_pdf
from fti.store.page_starts import PAGE_STARTS
from fti.store.plain_text import clean
from fti.store.store import Store
from tests.support.documents import a_pdf

WORDS = ["anvil", "bellows", "chisel", "drill", "easel", "file", "gauge", "hammer"]


def bodies(count: int) -> list[str]:
    return [f"All about the {word}.\nThe {word} hangs on its hook." for word in WORDS[:count]]


def pdf(*pages: list[str]) -> Extracted:
    (found,) = read_pdf(a_pdf(*pages), SourcesConfig())
    return found


# Heads and feet


def test_a_running_head_is_said_once_and_page_numbers_never() -> None:
    pages = [f"Handbook of tools\n{b}\nPage {i} of 4" for i, b in enumerate(bodies(4), start=1)]

    assert without_running_lines(pages) == [f"Handbook of tools\n{bodies(1)[0]}", *bodies(4)[1:]]


def test_a_head_that_counts_its_pages_is_said_once() -> None:
    pages = [f"{i + 11}   Chapter 2: Tools\n{b}" for i, b in enumerate(bodies(4))]

    assert without_running_lines(pages) == [
        f"11   Chapter 2: Tools\n{bodies(1)[0]}",
        *bodies(4)[1:],
    ]


def test_odd_and_even_pages_may_differ() -> None:
    heads = ("Handbook", "Tools and hooks")
    pages = [f"{heads[i % 2]}\n{b}" for i, b in enumerate(bodies(8))]

    kept = without_running_lines(pages)

    assert kept[2:] == bodies(8)[2:]
    assert [page.split("\n")[0] for page in kept[:2]] == list(heads)


def test_the_head_of_a_chapter_is_found_among_many_others() -> None:
    pages = [f"Part {'ABCD'[i // 2 % 4]}\n{WORDS[i % 8]} {i} words" for i in range(8)]
    pages += [f"Annex on kilns\nText {word}" for word in WORDS[:4]]

    kept = without_running_lines(pages)

    assert [("Annex on kilns" in page) for page in kept[8:]] == [True, False, False, False]


def test_rows_of_a_table_at_the_edge_of_pages_stay() -> None:
    pages = [f"{b}\nItem {i * 7} costs {i * i} euros" for i, b in enumerate(bodies(6), start=1)]

    assert without_running_lines(pages) == pages


def test_what_repeats_in_the_midst_of_pages_stays() -> None:
    pages = ["\n".join([f"{w} {i}" for i in range(5)] + ["It hangs."] + ["x" + w] * 5)
             for w in WORDS]  # fmt: skip

    assert without_running_lines(pages) == pages


def test_one_page_has_no_running_lines() -> None:
    assert without_running_lines(["Handbook\n1"]) == ["Handbook\n1"]


@given(st.lists(st.lists(st.sampled_from([*WORDS, "1", "Page 2", ""]), max_size=9), max_size=8))
def test_only_lines_go_and_no_words_are_lost(pages: list[list[str]]) -> None:
    texts = ["\n".join(page) for page in pages]

    kept = without_running_lines(texts)

    assert len(kept) == len(texts)
    for before, after in zip(texts, kept, strict=True):
        left = iter(before.split("\n"))
        assert all(line in left for line in after.split("\n") if line)
    said = {w for text in texts for w in text.split("\n") if w in WORDS}
    assert said == {w for text in kept for w in text.split("\n") if w in WORDS}


# Where pages begin


def starts(found: Extracted) -> list[int]:
    return [int(offset) for offset in found.metadata[PAGE_STARTS].split()]


def test_the_text_of_a_page_begins_where_it_is_said_to() -> None:
    found = pdf(["Page one."], [], ["Page three."], ["And four."])

    assert found.text == "Page one.\n\nPage three.\n\nAnd four."
    assert starts(found) == [0, 11, 11, 24]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.sampled_from([*WORDS, "Handbook", "7", "  a "]), max_size=6),
                min_size=1, max_size=6))  # fmt: skip
def test_cleaning_moves_no_page(pages: list[list[str]]) -> None:
    found = pdf(*pages)

    assert clean(found.text) == found.text
    if found.text:
        assert len(starts(found)) == len(pages)
        assert starts(found) == sorted(starts(found))
        inner = [s for s in starts(found) if 0 < s < len(found.text)]
        assert all(found.text[s - 2 : s] == "\n\n" for s in inner)


def test_passages_of_a_pdf_say_their_page_and_can_be_filtered_by_it(tmp_path: Path) -> None:
    docs, store = tmp_path / "docs", Store(tmp_path / "store")
    docs.mkdir()
    lines = [[f"The {w} {i} hangs on hook number {i}." for i in range(40)] for w in WORDS[:3]]
    (docs / "tools.pdf").write_bytes(a_pdf(*lines))
    ingest([str(docs)], store=store, embedder=HashingEmbedder(64), config=FeatureConfig())

    found = store.features.search_text("bellows", 3)
    document = next(store.features.documents([found[0].document_id]))

    page_2 = [int(s) for s in document.metadata[PAGE_STARTS].split()][1]
    assert document.text[page_2:].startswith("The bellows 0")
    assert PAGE_STARTS not in found[0].metadata
    assert any(p.metadata["page"] == "2" for p in found)
    only = store.features.search_text("hook", 50, where={"page": "3"})
    assert only
    assert all("drill" not in p.text and "chisel" in p.text for p in only)
