"""The registry, datasets and runs over HTTP: to read, and never more than is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog.testing

from fti.app.service.api import create_app
from fti.store.store import Store
from fti.store.types import Case
from tests.support.service import Client, assistant_over, filled_store
from tests.support.values import a_contract, publish_files


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path / "store")


@pytest.fixture
def client(store: Store) -> Iterator[Client]:
    with structlog.testing.capture_logs(), Client(create_app(assistant_over(store))) as client:
        yield client


def test_versions_come_with_their_aliases_and_how_these_moved(client: Client, store: Store) -> None:
    assert client.get("/v1/registry/models").json() == {
        "object": "list",
        "data": [],
        "history": [],
        "damaged": {},
    }
    for _ in range(2):
        publish_files(store, a_contract())
    store.models.promote("reader", 1, "champion", reason="the first")
    store.models.promote("reader", 2, "champion", reason="better")
    found = client.get("/v1/registry/models").json()
    assert [(v["ref"], v["aliases"]) for v in found["data"]] == [
        ("reader/2", ["champion"]),
        ("reader/1", []),
    ]
    assert [(m["from_version"], m["to_version"], m["reason"]) for m in found["history"]] == [
        (1, 2, "better"),
        (None, 1, "the first"),
    ]


def test_a_damaged_version_is_shown_as_such_and_hides_no_other(
    client: Client, store: Store
) -> None:
    for _ in range(2):
        publish_files(store, a_contract())
    store.models.promote("reader", 2, "champion", reason="better")
    manifest = store.models.path("reader/1") / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_text("{", "utf-8")
    found = {v["ref"]: v for v in client.get("/v1/registry/models").json()["data"]}
    assert set(found) == {"reader/1", "reader/2"}
    assert "error" in found["reader/1"]
    assert "error" not in found["reader/2"]
    assert found["reader/2"]["aliases"] == ["champion"]


def test_damaged_aliases_of_one_model_hide_no_other(client: Client, store: Store) -> None:
    for name in ("reader", "writer"):
        publish_files(store, a_contract(), name=name)
        store.models.promote(name, 1, "champion", reason="the first")
    (store.layout.models / "reader" / "aliases.json").write_text("{", "utf-8")
    shown = client.get("/v1/registry/models").json()
    assert {v["ref"]: v["aliases"] for v in shown["data"]} == {
        "reader/1": [], "writer/1": ["champion"],
    }  # fmt: skip
    assert shown["damaged"].keys() == {"reader"}
    assert [move["model"] for move in shown["history"]] == ["writer"]


def test_a_damaged_run_hides_no_other(client: Client, store: Store) -> None:
    for _ in range(2):
        with store.runs.running("evaluate") as run:
            pass
    (store.layout.runs / run.id / "run.json").write_text("{", "utf-8")
    shown = client.get("/v1/registry/runs").json()
    assert len(shown["data"]) == 1
    assert shown["damaged"].keys() == {run.id}


def test_runs_are_listed_newest_first_by_kind_and_without_settings(
    client: Client, store: Store
) -> None:
    for kind in ("ingest", "evaluate"):
        with store.runs.running(kind, settings={"secret": "x"}) as run:  # type: ignore[arg-type]
            run.metrics["cases"] = 3
    listed = client.get("/v1/registry/runs").json()["data"]
    assert [run["kind"] for run in listed] == ["evaluate", "ingest"]
    assert "settings" not in listed[0]
    (evaluated,) = client.get("/v1/registry/runs?kind=evaluate").json()["data"]
    assert evaluated["metrics"] == {"cases": 3}
    assert len(client.get("/v1/registry/runs?limit=1").json()["data"]) == 1
    for wrong in ("limit=0", "limit=9999", "kind=party"):
        assert client.get(f"/v1/registry/runs?{wrong}").status_code == 400
    assert client.get("/v1/registry/datasets").json() == {
        "object": "list",
        "data": [],
        "damaged": {},
    }


def test_frozen_case_sets_are_listed_with_their_numbers(client: Client, store: Store) -> None:
    assert client.get("/v1/registry/cases").json() == {"object": "list", "data": []}
    asked = [
        Case(id="1", question="When?", answers=("nine",)),
        Case(id="2", question="Who sings?"),
    ]
    store.cases.freeze("quiz", asked, source="/home/somebody/quiz.jsonl")
    (found,) = client.get("/v1/registry/cases").json()["data"]
    assert (found["ref"], found["cases"], found["answerable"]) == ("quiz/1", 2, 1)
    assert found["source"] == "quiz.jsonl", "no path of the server"


def test_the_registry_is_read_only_and_behind_the_key(client: Client, store: Store) -> None:
    assert client.post("/v1/registry/models", json={}).status_code == 405
    _, key = store.keys.create("reader", read_only=True)
    assert client.get("/registry").status_code == 200, "the page itself holds nothing"
    for path in ("models", "datasets", "cases", "runs"):
        assert client.get(f"/v1/registry/{path}").status_code == 401
        headers = {"Authorization": f"Bearer {key}"}
        assert client.get(f"/v1/registry/{path}", headers=headers).status_code == 200
