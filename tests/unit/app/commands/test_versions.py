"""Versions of the features through the command line: searched, tagged, gone back to, pruned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fti.app.cli import app
from fti.store.errors import FtiError, StoreEmpty, VersionNotFound


@pytest.fixture
def fti(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("FTI_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("FTI_EMBEDDER__ENGINE", "hashing")

    def run(*words: str) -> Any:
        done = CliRunner().invoke(app, [*words, "--json"])
        if isinstance(done.exception, FtiError):
            raise done.exception
        assert done.exit_code == 0, (done.exception, done.output)
        (line,) = done.stdout.splitlines()
        return json.loads(line)

    return run


def test_an_ingest_leaves_a_version_that_can_be_searched_tagged_and_gone_back_to(
    fti: Any, tmp_path: Path
) -> None:
    page = tmp_path / "docs" / "hours.md"
    page.parent.mkdir()
    page.write_text("# Hours\n\nThe hall opens at nine.\n", "utf-8")
    first = fti("ingest", str(page.parent))["features_version"]
    assert fti("ingest", str(page.parent))["features_version"] == first, "nothing has changed"
    fti("versions", "tag", "spring")
    page.write_text("# Hours\n\nThe hall opens at noon.\n", "utf-8")
    second = fti("ingest", str(page.parent))["features_version"]

    listed = fti("versions", "list")["versions"]
    assert [(v["version"], v["tags"]) for v in listed] == [(first, ["spring"]), (second, [])]
    for at, hour in ((str(first), "nine"), ("spring", "nine"), (str(second), "noon")):
        found = fti("search", "when does the hall open", "--at", at)
        assert f"at {hour}" in found["passages"][0]["text"]
    assert fti("search", "hall", "--at", "spring")["features_version"] == first

    back = fti("versions", "rollback", "spring")
    assert (back["restored"], back["before"]) == (first, second)
    assert "at nine" in fti("search", "hall")["passages"][0]["text"]
    again = fti("ingest", str(page.parent))
    assert (again["updated"], again["embedded_chunks"]) == (1, 0), "the vector is remembered"
    assert "at noon" in fti("search", "hall")["passages"][0]["text"]

    planned = fti("versions", "prune", "--older-than", "0")
    assert planned["removed"] == []
    assert not planned["done"]
    assert fti("versions", "untag", "spring")["version"] == first
    with pytest.raises(VersionNotFound, match="'spring'"):
        fti("search", "hall", "--at", "spring")


@pytest.mark.parametrize("age", ["36501", "1e300", "inf", "nan"])
def test_an_age_beyond_the_calendar_is_a_misuse(age: str) -> None:
    done = CliRunner().invoke(app, ["versions", "prune", "--older-than", age])
    assert (done.exit_code, type(done.exception)) == (2, SystemExit)
    assert "--older-than" in done.output


def test_a_store_without_documents_has_no_versions(fti: Any) -> None:
    assert fti("versions", "list")["versions"] == []
    with pytest.raises(StoreEmpty):
        fti("versions", "tag", "spring")
    with pytest.raises(StoreEmpty):
        fti("versions", "rollback", "spring")
    with pytest.raises(StoreEmpty):
        fti("versions", "prune")
