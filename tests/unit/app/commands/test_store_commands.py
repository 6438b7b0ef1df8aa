"""Collections, dead letters and repairs through the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fti.store.errors import CollectionNotFound, InvalidFilter, InvalidName
from fti.store.lance.shapes import CHUNKS
from fti.store.store import Store
from tests.support.command import fti, light_store


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return light_store(tmp_path, monkeypatch)


def test_a_search_and_an_answer_keep_within_a_collection(docs: Path) -> None:
    fti("ingest", str(docs / "kiln.md"), "--collection", "clay")
    fti("ingest", str(docs))
    assert fti("collections")["collections"] == [{"name": "clay", "documents": 1, "chunks": 1}]
    found = fti("search", "books are lent", "--collection", "clay")["passages"]
    assert [p["title"] for p in found] == ["Kiln"]
    answer = fti("ask", "When is the kiln fired?", "--collection", "clay")
    assert "Thursdays" in answer["answer"]
    assert {p["title"] for p in answer["passages"]} == {"Kiln"}
    with pytest.raises(CollectionNotFound, match="'yes'"):
        fti("search", "kiln", "--collection", "yes")
    with pytest.raises(InvalidName):
        fti("ingest", str(docs), "--collection", "Two Words")
    with pytest.raises(InvalidFilter, match="no key and operator"):
        fti("search", "kiln", "--where", "nothing")


def test_dead_letters_are_listed_and_tried_again(docs: Path) -> None:
    bad = docs / "bad.json"
    bad.write_text("{", "utf-8")
    assert fti("ingest", str(docs), code=3)["waiting"] == 0
    assert fti("ingest", str(docs), code=3)["waiting"] == 1
    (letter,) = fti("failed")["failed"]
    assert letter["source"] == str(bad)
    assert "not JSON" in letter["reason"]
    assert (letter["attempts"], letter["retry_at"], letter["still_served"]) == (1, None, False)
    assert fti("failed", "--retry", code=1)["waiting"] == 0
    bad.write_text('{"title": "Good", "text": "It is good now."}', "utf-8")
    assert fti("failed", "--retry")["added"] == 1
    assert fti("failed")["failed"] == []


def test_the_doctor_names_damage_and_repairs_it(docs: Path, tmp_path: Path) -> None:
    (docs / "copy.md").write_text((docs / "kiln.md").read_text("utf-8"), "utf-8")
    assert fti("ingest", str(docs))["near_duplicates"] == 1
    table = Store(tmp_path / "store").features._lance.open(CHUNKS)
    table.add(table.search().limit(1).to_arrow().cast(table.schema))

    def checks(body: Any) -> dict[str, tuple[str, str]]:
        return {c["name"]: (c["verdict"], c["found"]) for c in body["checks"]}

    sick = checks(fti("doctor", code=1))
    assert sick["features"][0] == "fail"
    assert "1 documents have a chunk twice" in sick["features"][1]
    assert "fti doctor --repair" in sick["features"][1]
    assert sick["near-duplicates"][0] == "note"
    assert "vectors are searched exactly" in sick["store"][1]

    mended = fti("doctor", "--repair")
    assert mended["repaired"]["documents_remade"] == 1
    assert checks(mended)["features"][0] == "ok"


def test_the_doctor_says_when_many_versions_are_kept(
    docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fti("ingest", str(docs))

    def versions() -> tuple[str, str]:
        (found,) = (c for c in fti("doctor")["checks"] if c["name"] == "versions")
        return found["verdict"], found["found"]

    verdict, found = versions()
    assert verdict == "ok"
    assert "MB" in found
    monkeypatch.setattr("fti.app.commands.doctor._MANY_VERSIONS", 1)
    verdict, found = versions()
    assert verdict == "note"
    assert "fti versions prune --older-than 1 --yes" in found
    monkeypatch.setattr("fti.store.features.bykey.has_pylance", lambda: False)
    assert "fti-llm[maintenance]" in versions()[1]
    monkeypatch.setattr("fti.store.features.bykey.has_pylance", lambda: True)
    assert "fti-llm[maintenance]" not in versions()[1]
