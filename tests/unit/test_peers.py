"""The comparison with other frameworks: what is counted, and the page that is written of it."""

from __future__ import annotations

import copy
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.bench.peers import peer_page
from tests.bench.peers.peer_run import as_json
from tests.bench.peers.peer_scores import (
    Question,
    edited,
    first_right,
    held_against,
    latency,
    quality,
    worth,
)

ASKED = Question("When did it begin?", ("October 1973", "1973"), "oil.md")


@pytest.mark.parametrize(
    ("hits", "rank"),
    [
        ([("oil.md", "It began in October 1973."), ("oil.md", "1973 again")], 1),
        ([("war.md", "It was 1973 too."), ("oil.md", "In 1973, prices rose.")], 2),
        ([("oil.md", "Nothing of the kind."), ("war.md", "1973")], 0),
        ([], 0),
    ],
)
def test_a_chunk_is_right_in_its_article_with_an_answer(
    hits: list[tuple[str, str]], rank: int
) -> None:
    assert first_right(ASKED, hits) == rank


def test_quality_of_ranks() -> None:
    assert quality([1, 2, 6, 0]) == pytest.approx(
        {"recall@1": 0.25, "recall@5": 0.5, "mrr@10": (1 + 1 / 2 + 1 / 6) / 4}
    )
    assert quality([11])["mrr@10"] == 0, "beyond the first ten"
    assert worth([1, 1]) > worth([1, 2]) > worth([2, 2])


def test_latency_is_of_single_questions() -> None:
    assert latency([1.0] * 99 + [100.0]) == pytest.approx({"p50": 1.0, "p95": 1.0})


FILES = {
    "a.md": "# A\n\nThe first paragraph is here.\n\nThe second one, too!",
    "b.md": "# B\n\nSome other text.",
}
WHOLE = [
    ("a.md", "# A\n\nThe first paragraph is here."),
    ("a.md", "The second one, too!"),
    ("b.md", "B\nSome other text."),
]


def test_a_store_that_says_what_the_files_say() -> None:
    assert held_against(FILES, WHOLE).as_dict() == {
        "chunks": 3, "stale": 0, "doubled": 0, "lacking": 0,
    }  # fmt: skip


def test_what_a_file_says_no_longer_is_stale() -> None:
    stored = [*WHOLE, ("a.md", "It said this once."), ("c.md", "Some other text.")]
    assert held_against(FILES, stored).stale == 2


def test_what_stands_there_twice_is_doubled() -> None:
    stored = [*WHOLE, WHOLE[0], WHOLE[0]]
    assert held_against(FILES, stored).doubled == 2
    twice = {"a.md": "Once more.\n\nOnce more."}
    assert held_against(twice, [("a.md", "Once more.")] * 2).doubled == 0, "as the file has it"


def test_what_is_not_in_the_store_is_lacking() -> None:
    assert held_against(FILES, WHOLE[:1]).lacking == 3


def test_an_edit_leaves_something_to_be_stale() -> None:
    before = "# A\n\none is here\n\ntwo is here\n\nthree is here\n\nfour is here\n"
    after = edited(before)
    old = [("a.md", part) for part in before.split("\n\n")]
    found = held_against({"a.md": after}, old)
    assert (found.stale, found.lacking) == (2, 1)
    with pytest.raises(ValueError, match="2 paragraphs"):
        edited("# A\n\none")


def peer(best: str = "hybrid", **changed: float) -> dict[str, Any]:
    """A peer that was measured, with some of its values changed."""
    keeping = {"wall_s": 1.0, "cpu_s": 2.0, "peak_mb": 500.0}
    holds = {"chunks": 9, "stale": 0, "doubled": 0, "lacking": 0}
    times = {"p50": 10.0, "p95": 20.0, "cpu_ms": 9.0} | changed
    scores = {"ranks": [1, 2, 0, 1], **quality([1, 2, 0, 1])}
    return {
        "versions": {"thing": "1.2"},
        **{phase: {**keeping, **holds} for phase in ("ingest", "again", "edit", "remove")},
        "settings": {"best": best, "tried": {}},
        "asked": {name: {"how": {}, **scores, **times} for name in {"hybrid", best}},
        "asking_mb": 400.0,
        "start_s": 3.0,
    }


def measured(**peers: dict[str, Any]) -> dict[str, Any]:
    return {
        "date": "2026-12-01",
        "machine": {
            "system": "Linux x86_64", "cores": 2, "memory_gb": 25, "processor": "avx2",
            "python": "3.11.7", "load_before": 0.1,
        },
        "articles": 3, "questions": 4, "development": 2, "rounds": 1, "limited": False,
        "max_tokens": 200, "overlap_tokens": 24, "peers": peers,
    }  # fmt: skip


def test_the_page_says_who_is_first_and_the_plot_is_a_picture(tmp_path: Path) -> None:
    found = measured(fti=peer(p50=5.0), txtai=peer("weights 0.4 and 0.6", p50=8.0))
    assert peer_page.write_page(found, tmp_path) == []
    page = (tmp_path / "peers.md").read_text("utf-8")
    assert "| best hybrid: p50, ms | **5.0** | 8.0 |" in page
    assert "txtai: weights 0.4 and 0.6" in page
    assert "In no row." in page
    assert "limited" not in page
    assert max(len(line) for line in page.splitlines() if not line.startswith("|")) <= 100
    picture = ET.parse(tmp_path / "peers.svg").getroot()
    assert picture.tag.endswith("svg")
    assert "prefers-color-scheme:dark" in ET.tostring(picture, "unicode")


def test_a_row_where_fti_is_behind_wants_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = measured(fti=peer(p50=9.0), txtai=peer(p50=8.0))
    late = ["best hybrid: p50, ms", "hybrid as shipped: p50, ms"]
    monkeypatch.setattr(peer_page, "WHY", {})
    assert peer_page.write_page(found, tmp_path) == late
    assert "not looked into" in (tmp_path / "peers.md").read_text("utf-8")
    monkeypatch.setattr(peer_page, "WHY", dict.fromkeys(late, "It reads the store's version."))
    assert peer_page.write_page(found, tmp_path) == []
    assert "It reads the store's version." in (tmp_path / "peers.md").read_text("utf-8")


def test_what_is_within_two_percent_counts_as_first() -> None:
    assert peer_page.behind({"fti": peer(p50=10.1), "txtai": peer(p50=10.0)}) == []
    assert peer_page.behind({"fti": peer(p50=10.3), "txtai": peer(p50=10.0)}) != []


def test_what_a_peer_could_not_do_is_said_and_has_no_time(tmp_path: Path) -> None:
    broken = peer()
    broken["edit"] |= {"failed": "ValueError: no such column", "stale": 3, "wall_s": 0.01}
    broken["edit_by_hand"] = copy.deepcopy(peer()["edit"]) | {"wall_s": 2.5}
    found = measured(fti=peer(), llamaindex=broken)
    assert peer_page.write_page(found, tmp_path) == []
    page = (tmp_path / "peers.md").read_text("utf-8")
    assert "| one article edited, s | **1.00** | failed |" in page
    assert "| stale chunks after the edit | **0** | 3 |" in page
    assert "ValueError: no such column" in page
    assert "LlamaIndex, LanceDB, edit: 2.50 s, 0 stale, 0 doubled" in page


def test_a_limited_run_says_that_it_measures_nothing(tmp_path: Path) -> None:
    peer_page.write_page(measured(fti=peer()) | {"limited": True}, tmp_path)
    assert "It measures nothing." in (tmp_path / "peers.md").read_text("utf-8")


def test_figures_are_json_with_a_line_for_each_list() -> None:
    text = as_json({"a": {"ranks": [1, 2, 0]}, "b": [[1, 2], []], "c": 1})
    assert '"ranks": [ 1, 2, 0 ]\n' in text
    assert json.loads(text) == {"a": {"ranks": [1, 2, 0]}, "b": [[1, 2], []], "c": 1}
