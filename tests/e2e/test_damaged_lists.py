"""Lists of versions tell of what cannot be read, and show the rest."""

from __future__ import annotations

from pathlib import Path

from fti.store.store import Store
from fti.store.types import Case
from tests.e2e.conftest import Fti
from tests.support.values import a_contract, a_row, publish_files


def break_manifest(folder: Path) -> None:
    manifest = folder / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_text("{", "utf-8")


def test_a_damaged_manifest_of_one_model_does_not_hide_the_others(fti: Fti) -> None:
    store = Store(fti.home / "store")
    for name in ("reader", "writer"):
        publish_files(store, a_contract(), name)
        store.models.promote(name, 1, "champion", reason="a test")
    assert fti.run("models", "list")["damaged"] == []
    break_manifest(store.models.path("reader/1"))
    (store.layout.models / "writer" / "aliases.json").write_text("{", "utf-8")
    body = fti.run("models", "list", code=3)
    assert [(m["ref"], m["aliases"]) for m in body["models"]] == [("writer/1", [])]
    assert [d["ref"] for d in body["damaged"]] == ["reader/1", "writer"]
    assert "reader/1" in body["damaged"][0]["reason"]
    shown = fti.raw("models", "list")
    assert shown.returncode == 3
    assert "writer/1" in shown.stdout
    assert "fti store verify" in shown.stderr


def test_so_it_is_with_datasets_and_case_sets_and_verify_names_each(fti: Fti) -> None:
    store = Store(fti.home / "store")
    for name in ("a", "b", "c"):
        store.datasets.publish(
            name,
            rows={"train": [a_row()]},
            features_version=1,
            embedder=a_contract().embedder,
            prompt_digest="0" * 64,
            run_id="r-20260101-000000-0123ab",
        )
        store.cases.freeze(name, [Case(id="1", question=f"{name}?", answers=("yes",))], source="x")
    for name in ("a", "c"):
        break_manifest(store.datasets.path(f"{name}/1"))
        break_manifest(store.layout.cases / name / "1")
    for command, key in (("dataset", "datasets"), ("cases", "case_sets")):
        body = fti.run(command, "list", code=3)
        assert [v["name"] for v in body[key]] == ["b"], command
        assert [d["ref"] for d in body["damaged"]] == ["a/1", "c/1"], command
    said = fti.raw("store", "verify").stdout
    for name in ("dataset a/1", "dataset c/1", "case set a/1", "case set c/1"):
        assert name in said
