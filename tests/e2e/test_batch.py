"""Batches through the installed command: killed for real, gone on with, every key once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Fti

pytestmark = pytest.mark.heavy

ASKED = 24


@pytest.fixture
def questions(fti: Fti, handbook: Path) -> Path:
    """A store with documents, and many questions."""
    fti.run("ingest", str(handbook))
    path = fti.home / "questions.csv"
    lines = [f"q{n},When is the kiln fired for the {n}. time?" for n in range(ASKED)]
    path.write_text("id,question\n" + "\n".join(lines) + "\n", "utf-8")
    return path


def _journal(fti: Fti) -> list[Path]:
    return list((fti.home / "store" / "batches").glob("*.jsonl"))


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _jsonl(fti: Fti) -> list[dict[str, Any]]:
    return [json.loads(x) for x in (fti.home / "a.jsonl").read_text("utf-8").splitlines()]


def _parquet(fti: Fti) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return list(pq.read_table(fti.home / "a.parquet").to_pylist())


def _table(fti: Fti) -> list[dict[str, Any]]:
    import lancedb

    table = lancedb.connect(str(fti.home / "store" / "tables")).open_table("nightly")
    return list(table.to_arrow().to_pylist())


def _commits(fti: Fti) -> int:
    return len(list((fti.home / "store" / "tables").glob("nightly.lance/_versions/*.manifest")))


KINDS: dict[str, tuple[tuple[str, str], Callable[[Fti], bool], Callable[[Fti], Any]]] = {
    "jsonl": (("--out", "a.jsonl"), lambda fti: _lines(fti.home / "a.jsonl") >= 3, _jsonl),
    "parquet": (
        ("--out", "a.parquet"),
        lambda fti: any(_lines(path) >= 3 for path in _journal(fti)),
        _parquet,
    ),
    "table": (("--table", "nightly"), lambda fti: _commits(fti) >= 5, _table),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_batch_killed_in_the_middle_goes_on_and_has_every_key_once(
    fti: Fti, questions: Path, kind: str
) -> None:
    where, some_are_there, rows = KINDS[kind]
    args = ("batch", str(questions), *where, "--set", "batch.group=1")
    fti.kill_when(lambda: some_are_there(fti), *args)

    # A third of the rest now, and what the others would take.
    some = fti.run(*args, "--limit", "5")
    assert some["skipped"] >= 3, "what was answered before the kill counts"
    assert (some["done"], some["failed"]) == (5, 0)
    assert some["remaining"] == ASKED - some["skipped"] - 5 > 0
    assert some["estimate"]["questions"] == some["remaining"]
    rest = fti.run(*args)
    assert (rest["done"], rest["skipped"]) == (some["remaining"], some["skipped"] + 5)
    found = rows(fti)
    assert sorted(row["id"] for row in found) == sorted(f"q{n}" for n in range(ASKED))
    assert all(row["error"] is None for row in found if "error" in row)
    lineage = json.dumps(fti.run("trace", found[0]["answer_id"]))
    assert found[0]["run"] in lineage
    assert "kiln.txt" in lineage
    runs = {json.loads(p.read_bytes())["id"] for p in (fti.home / "store").glob("runs/*/run.json")}
    assert {row["run"] for row in found} <= runs


def test_a_schedule_finds_nothing_to_do_until_something_changed(
    fti: Fti, questions: Path, handbook: Path
) -> None:
    args = ("batch", str(questions), "--out", "a.jsonl")
    assert fti.run(*args)["causes"] == {"new": ASKED}
    before = (fti.home / "a.jsonl").read_bytes()
    fti.run("ingest", str(handbook))
    again = fti.run(*args)
    assert (again["done"], again["skipped"], again["causes"]) == (0, ASKED, {})
    assert (fti.home / "a.jsonl").read_bytes() == before

    kiln = handbook / "kiln.txt"
    kiln.write_text(kiln.read_text("utf-8").replace("1240", "1180"), "utf-8")
    fti.run("ingest", str(handbook))
    assert fti.run(*args, "--keep-outdated")["skipped"] == ASKED
    assert fti.run(*args)["causes"] == {"outdated": ASKED}
    assert len(_jsonl(fti)) == ASKED


def test_misuse_is_named_before_any_work(fti: Fti, questions: Path) -> None:
    nowhere = fti.run("batch", str(questions), code=2)
    assert "one file or one table" in nowhere["error"]["message"]
    twice = fti.run("batch", str(questions), "--out", "a.jsonl", "--table", "a", code=2)
    assert "one file or one table" in twice["error"]["message"]
    sheet = fti.run("batch", str(questions), "--out", "a.xlsx", code=2)
    assert "'.xlsx'" in sheet["error"]["message"]
    assert not list((fti.home / "store").glob("runs/*/run.json"))[1:], "only the ingest ran"
