"""What clients are told of where things lie."""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from fti.app.service.api import create_app
from fti.app.service.forms.public_names import PublicNames
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.store.features.filters import Condition
from fti.store.progress import ProgressEvent
from fti.store.store import Store
from fti.store.upkeep.placing import place_store
from tests.support.buckets import a_bucket
from tests.support.service import Client, assistant_over
from tests.unit.app.service.test_documents_api import settled, upload


def take(store: Store, *sources: Path) -> None:
    ingest(
        [str(s) for s in sources],
        store=store,
        embedder=HashingEmbedder(),
        config=FeatureConfig(),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Documents in a folder with a telling path."""
    folder = tmp_path / "secret-customer" / "handbook"
    (folder / "rules").mkdir(parents=True)
    (folder / "rules" / "kiln.md").write_text("# Kiln\n\nThe kiln fires at 1240 degrees.", "utf-8")
    (folder / "hours.md").write_text("# Hours\n\nThe workshop opens at nine.", "utf-8")
    (folder / "empty.md").write_text("", "utf-8")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("old/fees.md", "# Fees\n\nA locker costs four euros.")
    (folder / "papers.zip").write_bytes(packed.getvalue())
    return folder


@pytest.fixture
def store(tmp_path: Path, folder: Path) -> Store:
    store = Store(tmp_path / "secret-store")
    take(store, folder)
    return store


@pytest.fixture
def client(store: Store) -> Iterator[Client]:
    with structlog.testing.capture_logs(), Client(create_app(assistant_over(store))) as client:
        yield client


def test_documents_are_named_relative_to_what_was_ingested(store: Store, folder: Path) -> None:
    names = PublicNames(store)
    assert names.of(str(folder / "rules" / "kiln.md")) == "handbook/rules/kiln.md"
    assert names.of(f"{folder}/papers.zip!/old/fees.md") == "handbook/papers.zip!/old/fees.md"
    assert names.of(str(store.layout.uploads / "shed.md")) == "shed.md"
    for same in ("https://example.org/a/b.html", "s3://bucket/a.md", "ticket-17"):
        assert names.of(same) == same


def test_a_store_in_a_bucket_names_what_another_machine_ingested(
    folder: Path, tmp_path: Path
) -> None:
    with a_bucket("memory", tmp_path) as url:
        for name in ("here", "there"):
            place_store(Store(tmp_path / name), url)
        names = PublicNames(Store(tmp_path / "here"))
        file = str(folder / "rules" / "kiln.md")
        assert names.of(file) == "rules/kiln.md", "of a store from elsewhere"
        inputs = {"sources": json.dumps([str(folder)])}
        with Store(tmp_path / "there").runs.running("ingest", inputs=inputs):
            pass
        deadline = time.monotonic() + 30
        while names.of(file) != "handbook/rules/kiln.md":
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_the_outermost_of_what_was_ingested_names_and_a_file_by_itself_has_its_name(
    store: Store, folder: Path
) -> None:
    names = PublicNames(store)
    alone = folder.parent / "alone.md"
    alone.write_text("# Alone\n\nBy itself.", "utf-8")
    assert names.of(str(alone)) == "secret-customer/alone.md", "nobody said what it belongs to"
    take(store, alone, folder / "rules")
    assert names.of(str(alone)) == "alone.md"
    assert names.of(str(folder / "rules" / "kiln.md")) == "handbook/rules/kiln.md"


def test_a_store_whose_runs_are_gone_names_a_document_and_its_folder(tmp_path: Path) -> None:
    names = PublicNames(Store(tmp_path / "bare"))
    assert names.of("/srv/acme/handbook/kiln.md") == "handbook/kiln.md"
    assert names.of("/srv/acme/papers.zip!/old/fees.md#3") == "acme/papers.zip!/old/fees.md#3"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Another process is writing to '{store}' (process 17: ingest).",
         "Another process is writing to 'secret-store' (process 17: ingest)."),
        ("'{store}/writer.lock' cannot be written: Permission denied.",
         "'writer.lock' cannot be written: Permission denied."),
        ("LanceError(IO): {bare_store}/features/chunks.lance/data/1.lance, /tmp/x.rs:12",
         "LanceError(IO): features/chunks.lance/data/1.lance, x.rs:12"),
        ("Say which: {folder}/hours.md, {folder}/rules/kiln.md.",
         "Say which: handbook/hours.md, handbook/rules/kiln.md."),
        ("The model '/usr/share/our models/m' is not here (see /etc/models.conf).",
         "The model 'm' is not here (see models.conf)."),
        ("The key 'k' may not use '/v1/registry/runs', see https://example.org/tmp/a.",
         "The key 'k' may not use '/v1/registry/runs', see https://example.org/tmp/a."),
        ("either/or 3/4 of 'it''s' / that", "either/or 3/4 of 'it''s' / that"),
    ],
)  # fmt: skip
def test_messages_are_told_without_paths(store: Store, folder: Path, said: str, told: str) -> None:
    root = str(store.layout.root)
    written = said.replace("{bare_store}", root[1:]).replace("{store}", root)
    assert PublicNames(store).told(written.replace("{folder}", str(folder))) == told


def test_conditions_name_documents_by_the_names_that_answers_give(
    store: Store, folder: Path
) -> None:
    kiln = str(folder / "rules" / "kiln.md")
    (meant,) = PublicNames(store).meant([Condition("document", "=", ("handbook/rules/kiln.md",))])
    assert (meant.operator, meant.values) == ("=", (kiln,))
    (other,) = PublicNames(store).meant([Condition("title", "=", ("handbook/rules/kiln.md",))])
    assert other.values == ("handbook/rules/kiln.md",)


def everything(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from everything(each)
    elif isinstance(value, list):
        for each in value:
            yield from everything(each)
    elif isinstance(value, str):
        yield value


def test_no_answer_of_the_api_shows_a_path_of_the_server(
    client: Client, store: Store, folder: Path, tmp_path: Path
) -> None:
    asked = {"messages": [{"role": "user", "content": "How hot does the kiln fire?"}]}
    answer = client.post("/v1/chat/completions", json=asked).json()
    assert answer["sources"][0]["document"] == "handbook/rules/kiln.md"
    streamed = client.post("/v1/chat/completions", json={**asked, "stream": True}).text
    assert "handbook/rules/kiln.md" in streamed
    found = client.post("/v1/search", json={"query": "locker"}).json()["passages"]
    assert found[0]["document"] == "handbook/papers.zip!/old/fees.md"
    listed = client.get("/v1/documents").json()["data"]
    assert "handbook/hours.md" in [d["source"] for d in listed]
    assert [d["source"] for d in listed if d["state"] == "failed"] == ["handbook/empty.md"]
    chunk = found[0]["chunk_id"]
    for where in ({"document": "handbook/papers.zip!/old/fees.md"},
                  {"source": "handbook/papers.zip!/old/fees.md"},
                  ["document!=handbook/hours.md"]):  # fmt: skip
        narrowed = client.post("/v1/search", json={"query": "locker", "where": where}).json()
        assert narrowed["passages"][0]["chunk_id"] == chunk, where
    runs = client.get("/v1/registry/runs").json()["data"]
    assert json.loads(runs[0]["inputs"]["sources"]) == ["handbook"]
    said = [
        answer,
        streamed,
        found,
        listed,
        runs,
        client.get(f"/v1/sources/{chunk}").json(),
        client.get(f"/v1/answers/{answer['id']}").json(),
        client.get("/v1/registry/models").json(),
        client.get("/v1/registry/datasets").json(),
        client.get("/v1/models").json(),
        client.post("/v1/search", json={"query": "x", "where": {"colour": "x"}}).json(),
        client.get("/readyz").json(),
    ]
    started, handle = store.jobs.start("dataset", {"kind": "dataset", "name": "handbook"})
    with store.jobs.noting(started) as note:
        note(ProgressEvent("read", 1, 2, detail=str(folder / "hours.md")))
    why = f"{folder / 'hours.md'} cannot be read."
    store.jobs.text_file(started.id).write_text(f'File "{Path.cwd()}/x.py"\n{why}\n', "utf-8")
    log = client.get(f"/v1/jobs/{started.id}/log").text
    assert "handbook/hours.md cannot be read." in log
    running = client.get(f"/v1/jobs/{started.id}").json()
    assert running["progress"]["detail"] == "handbook/hours.md"
    store.jobs.finish(started, "failed", error=why, summary=why, outputs={"report": str(folder)})
    os.close(handle)
    said += [
        log,
        running,
        client.get(f"/v1/jobs/{started.id}").json(),
        client.get("/v1/jobs").json(),
    ]
    job = settled(client, upload(client, "bad.pdf", b"%PDF-1.7 nothing").json())
    assert job["state"] == "failed"
    said += [job, client.get("/v1/documents").json()]
    for body in said:
        for text in everything(body):
            for path in (str(tmp_path), "secret-customer", "secret-store", str(Path.cwd())):
                assert path not in text, text
