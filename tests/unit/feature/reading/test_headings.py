from __future__ import annotations

import pytest

from fti.pipelines.feature.reading.headings import (
    CSV,
    DOCX,
    HTML,
    MARKDOWN,
    ORG,
    PDF,
    PLAIN,
    RST,
    find_headings,
    plain_heading,
)


def found(text: str, media_type: str = MARKDOWN) -> list[tuple[int, str]]:
    return [(h.level, h.title) for h in find_headings(text, media_type)]


def test_atx_headings_with_and_without_closing_marks() -> None:
    assert found("# One\n\ntext\n\n## Two ##\n###### Six\n####### seven\n#none\n") == [
        (1, "One"),
        (2, "Two"),
        (6, "Six"),
    ]


def test_setext_headings() -> None:
    assert found("Title\n=====\n\ntext\n\nPart\n---\n\n* item\n---\n\nlong\nparagraph\n---\n") == [
        (1, "Title"),
        (2, "Part"),
    ]


def test_headings_inside_fences_are_code() -> None:
    fences = "```\n# not\n~~~\n# not\n```\n\n~~~~ python\n# not\n~~~\n# not\n~~~~"
    text = f"# Real\n\n{fences}\n\n## Real too\n"

    assert found(text) == [(1, "Real"), (2, "Real too")]


def test_a_fence_that_never_closes_runs_to_the_end() -> None:
    assert found("# A\n```\n# b\n") == [(1, "A")]


def test_inline_code_of_three_backticks_opens_no_fence() -> None:
    assert found("```x``` is code\n# A\n") == [(1, "A")]


def test_headings_inside_comments_are_not_seen() -> None:
    assert found("<!-- one\n# not\n-->\n# A\n<!-- # no -->\n") == [(1, "A")]


def test_a_table_rule_and_a_list_are_no_headings() -> None:
    assert found("| a |\n---\n\n1. one\n---\n\n    code\n---\n") == []


def test_offsets_cover_the_heading_lines() -> None:
    text = "intro\n\nTitle\n=====\n\n## Next\nbody"

    spans = [text[h.start : h.end] for h in find_headings(text, MARKDOWN)]

    assert spans == ["Title\n=====", "## Next"]


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("Query Parameters { #query-parameters }", "Query Parameters"),
        ("The [`Path`](../path.md) **class**", "The Path class"),
        ("`__init__` and *args*", "__init__ and args"),
        ("snake_case_name stays", "snake_case_name stays"),
        ("A <em>b</em> \\[edit\\]", "A b [edit]"),
        ("![logo](x.png) Name", "logo Name"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
    ],
)
def test_a_heading_is_its_words_without_markup(raw: str, plain: str) -> None:
    assert plain_heading(raw) == plain


def test_readers_that_write_markdown_are_read_as_markdown() -> None:
    assert found("# A", HTML) == found("# A", DOCX) == [(1, "A")]


def test_rst_levels_follow_the_order_of_their_marks() -> None:
    text = "=====\nTitle\n=====\n\nPart\n----\n\ntext\n\nSub\n~~~\n\nPart 2\n------\n"
    text += "\n::\n\n  a\n  --\n"

    assert found(text, RST) == [(1, "Title"), (2, "Part"), (3, "Sub"), (2, "Part 2")]


def test_org_stars_outside_blocks() -> None:
    assert found("* A\n** B\n#+BEGIN_SRC\n* no\n#+END_SRC\n*bold* x\n", ORG) == [(1, "A"), (2, "B")]


def test_plain_text_has_underlined_and_capital_headings() -> None:
    text = "THE HALL\n========\n\nOPENING HOURS\n\nNine to five.\nNOT A HEADING\nmore\n\n--\nAnn\n"

    assert found(text, PLAIN) == [(1, "THE HALL"), (2, "OPENING HOURS")]


def test_tables_and_pdfs_write_no_headings() -> None:
    assert found("# A\n", CSV) == found("# A\n", PDF) == []


def test_very_long_lines_are_no_headings_and_cost_little() -> None:
    assert found("# " + "[a" * 1_000_000) == []
    assert found("a" * 1_000_000 + "\n===") == []
    assert found("=" * 1_000_000 + "x\n", RST) == []
