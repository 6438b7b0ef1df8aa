"""Documents given to the running service: ingested in the background, listed, deleted."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from fti.app.service.api import create_app
from fti.app.service.documents import plain_name
from fti.app.service.service_config import ServiceConfig
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.store.errors import InvalidName
from fti.store.store import Store
from tests.support.service import Client, assistant_over, filled_store

SHED = b"# Bicycle shed\n\nThe new bicycle shed behind the kiln is turquoise.\n"
QUESTION = "Which colour has the new bicycle shed?"


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path / "store")


@pytest.fixture
def client(store: Store) -> Iterator[Client]:
    with Client(create_app(assistant_over(store))) as client:
        yield client


def upload(client: Client, name: str, content: bytes) -> Any:
    return client.post("/v1/documents", files={"file": (name, content)})


def settled(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    """The job when it is over."""
    deadline = time.monotonic() + 60
    while job["state"] in ("queued", "running"):
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
        job = client.get(f"/v1/documents/jobs/{job['id']}").json()
    return job


def ask(client: Client, question: str = QUESTION) -> dict[str, Any]:
    asked = {"messages": [{"role": "user", "content": question}]}
    answer: dict[str, Any] = client.post("/v1/chat/completions", json=asked).json()
    return answer


def test_an_upload_comes_into_the_collection_that_it_names(client: Client, store: Store) -> None:
    def given(name: str, content: bytes, **form: str) -> dict[str, Any]:
        sent = client.post("/v1/documents", files={"file": (name, content)}, data=form)
        assert sent.status_code == 202, sent.text
        return settled(client, sent.json())

    job = given("shed.md", SHED, collection="sheds")
    assert (job["state"], job["collection"]) == ("done", "sheds")
    shed = client.get(f"/v1/documents/{job['document_id']}").json()
    assert shed["collection"] == "sheds"
    found = client.post("/v1/search", json={"query": "shed", "collection": "sheds"}).json()
    assert {p["document_id"] for p in found["passages"]} == {job["document_id"]}
    given("shed.md", SHED + b"\nIt has a window.\n")
    assert store.features.collections() == {"sheds": (1, 1)}, "without one it stays there"
    files = {"file": ("hut.md", SHED)}
    refused = client.post("/v1/documents", files=files, data={"collection": "../x"})
    assert refused.status_code == 400
    assert "../x" in refused.json()["error"]["message"]


def test_a_failed_document_is_tried_again(client: Client, store: Store) -> None:
    job = settled(client, upload(client, "shed.json", b"{broken").json())
    assert job["state"] == "failed"
    path = f"/v1/documents/{job['document_id']}"
    (failed,) = client.get("/v1/documents", params={"state": "failed"}).json()["data"]
    assert failed["id"] == job["document_id"]
    attempts = {r.id: r.attempts for r in store.features.records()}[failed["id"]]
    again = settled(client, client.post(f"{path}/retry").json())
    assert (again["state"], again["retries"], again["document_id"]) == (
        "failed",
        True,
        failed["id"],
    )
    assert {r.id: r.attempts for r in store.features.records()}[failed["id"]] == attempts + 1
    (store.layout.uploads / "shed.json").write_text('{"text": "The shed is turquoise."}', "utf-8")
    assert settled(client, client.post(f"{path}/retry").json())["state"] == "done"
    refused = client.post(f"{path}/retry")
    assert refused.status_code == 400
    assert "has not failed" in refused.json()["error"]["message"]
    assert client.post("/v1/documents/d-none/retry").status_code == 404


def test_a_document_leads_to_what_came_of_it(client: Client, store: Store) -> None:
    job = settled(client, upload(client, "shed.md", SHED).json())
    answer = ask(client)
    found = client.get(f"/v1/documents/{job['document_id']}/lineage").json()
    assert (found["document_id"], found["state"]) == (job["document_id"], "indexed")
    assert [a["answer"] for a in found["answers"]] == [answer["id"]]
    assert len(found["chunks"]) == 1


def test_corrections_are_listed_and_decided_on(client: Client, store: Store) -> None:
    answer = ask(client)["id"]
    given = {"answer_id": answer, "rating": -1, "correction": "It is green."}
    assert client.post("/v1/feedback", json=given).status_code == 201
    (pending,) = client.get("/v1/corrections", params={"state": "pending"}).json()["data"]
    assert (pending["answer_id"], pending["correction"]) == (answer, "It is green.")
    body = {"decision": "accepted", "answer": "green", "reason": "seen"}
    done = client.post(f"/v1/corrections/{answer}", json=body).json()
    assert (done["state"], done["answer"], done["reason"]) == ("accepted", "green", "seen")
    assert client.get("/v1/corrections", params={"state": "pending"}).json()["data"] == []
    assert [c.text for c in store.answers.corrections("accepted")] == ["green"]
    assert client.post(f"/v1/corrections/{answer}", json={"decision": "maybe"}).status_code == 400
    unknown = client.post("/v1/corrections/a-20260101-000000000000", json=body)
    assert unknown.status_code == 404


def test_an_uploaded_document_is_answered_from_and_deleted_again(
    client: Client, store: Store
) -> None:
    assert "turquoise" not in str(ask(client))
    accepted = upload(client, "shed.md", SHED)
    assert accepted.status_code == 202
    job = settled(client, accepted.json())
    assert (job["state"], job["reason"], job["chunks"]) == ("done", "", 1)
    assert job["documents"] == [job["document_id"]]
    answer = ask(client)
    assert "turquoise" in answer["choices"][0]["message"]["content"]
    assert answer["sources"][0]["document"] == "shed.md"

    listed = client.get("/v1/documents").json()
    assert listed["total"] == 4
    (shed,) = [d for d in listed["data"] if d["uploaded"]]
    assert (shed["id"], shed["name"], shed["state"]) == (job["document_id"], "shed.md", "indexed")
    assert client.get(f"/v1/documents/{shed['id']}").json() == shed
    page = client.get("/v1/documents", params={"limit": 2, "offset": 1}).json()["data"]
    assert page == listed["data"][1:3]

    gone = client.delete(f"/v1/documents/{shed['id']}")
    assert gone.json() == {"id": shed["id"], "object": "document", "deleted": True}
    assert "turquoise" not in str(ask(client)["choices"])
    assert not (store.layout.uploads / "shed.md").exists()
    assert client.get(f"/v1/documents/{shed['id']}").status_code == 404
    assert client.delete(f"/v1/documents/{shed['id']}").status_code == 404


def test_a_document_of_the_same_name_is_replaced_and_a_bad_one_keeps_the_last_good_version(
    client: Client,
) -> None:
    settled(client, upload(client, "shed.md", SHED).json())
    settled(client, upload(client, "shed.md", SHED.replace(b"turquoise", b"crimson")).json())
    assert "crimson" in str(ask(client)["choices"])
    assert client.get("/v1/documents").json()["total"] == 4
    job = settled(client, upload(client, "shed.md", b"\x00\x01\x02\xff\xfe" * 100).json())
    assert job["state"] == "failed"
    assert job["reason"]
    assert "crimson" in str(ask(client)["choices"])
    (failed,) = client.get("/v1/documents", params={"state": "failed"}).json()["data"]
    assert failed["reason"] == job["reason"]


def test_a_document_of_a_folder_is_deleted_from_the_store_alone(
    client: Client, store: Store
) -> None:
    listed = client.get("/v1/documents").json()["data"]
    kiln = next(d for d in listed if d["name"] == "kiln.md")
    assert kiln["uploaded"] is False
    assert client.delete(f"/v1/documents/{kiln['id']}").status_code == 200
    assert store.features.stats().documents == 2


def packed(**members: bytes) -> bytes:
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return kept.getvalue()


def test_an_uploaded_archive_is_read_as_the_command_reads_it(client: Client, store: Store) -> None:
    content = packed(shed_dot_md=SHED, rules__hours_dot_txt=b"The shed is open at noon.")
    job = settled(client, upload(client, "papers.zip", content).json())
    assert (job["state"], job["reason"], job["chunks"]) == ("done", "", 2)
    assert "turquoise" in str(ask(client)["choices"])
    uploaded = [d for d in client.get("/v1/documents").json()["data"] if d["uploaded"]]
    assert [d["source"] for d in uploaded] == [
        "papers.zip!/rules/hours.txt", "papers.zip!/shed.md",
    ]  # fmt: skip
    first, second = (d["id"] for d in uploaded)
    assert client.delete(f"/v1/documents/{first}").status_code == 200
    assert (store.layout.uploads / "papers.zip").exists(), "the other document is of it still"
    assert client.delete(f"/v1/documents/{second}").status_code == 200
    assert not (store.layout.uploads / "papers.zip").exists()


def test_an_archive_of_which_some_cannot_be_read_says_which_and_keeps_the_rest(
    client: Client,
) -> None:
    content = packed(shed_dot_md=SHED, bad_dot_pdf=b"no PDF", program_dot_xyz=b"?")
    job = settled(client, upload(client, "papers.zip", content).json())
    assert (job["state"], job["chunks"]) == ("done", 1)
    assert "bad.pdf: " in job["reason"]
    assert "program.xyz: files ending in '.xyz' are not read" in job["reason"]
    broken = settled(client, upload(client, "broken.zip", content[:40]).json())
    assert broken["state"] == "failed"
    assert "not a whole ZIP archive" in broken["reason"]


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("virus.exe", 400, "extraction"),
        (".hidden.md", 400, "invalid_name"),
        ("..", 400, "invalid_name"),
        ("x" * 300 + ".md", 400, "invalid_name"),
    ],
)
def test_what_cannot_be_kept_is_refused_at_once(
    client: Client, store: Store, name: str, status: int, code: str
) -> None:
    refused = upload(client, name, b"text")
    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
    assert not list(store.layout.uploads.glob("*"))


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("../../etc/passwd.txt", "passwd.txt"),
        ("C:\\Users\\me\\Notes of May.md", "Notes of May.md"),
        ("u\u0308ber.md", "über.md"),
        ("a/b/.../c.md", "c.md"),
    ],
)
def test_a_name_never_leads_out_of_the_folder(sent: str, kept: str) -> None:
    assert plain_name(sent) == kept


@pytest.mark.parametrize("name", ["", "/", "a\nb.md", "\ud800.md", "\u202egpj.md", ".", " "])
def test_a_name_is_plain_text(name: str) -> None:
    with pytest.raises(InvalidName):
        plain_name(name)


def test_uploads_have_a_limit_of_their_own(store: Store) -> None:
    config = ServiceConfig(max_body_bytes=1_000, max_upload_bytes=5_000)
    with Client(create_app(assistant_over(store), config)) as client:
        assert settled(client, upload(client, "a.txt", b"word " * 500).json())["state"] == "done"
        large = upload(client, "b.txt", b"word " * 2_000)
        assert (large.status_code, large.json()["error"]["code"]) == (413, "body_too_large")
        assert not (store.layout.uploads / "b.txt").exists()


def test_a_body_without_a_file_is_a_bad_request(client: Client) -> None:
    for options in (
        {"json": {"file": "x"}},
        {"files": {"other": ("x.md", b"x")}},
        {"content": b""},
    ):
        response = client.post("/v1/documents", **options)
        assert response.status_code == 400
        assert response.json()["error"]["type"] == "invalid_request_error"


def test_jobs_of_another_time_are_unknown(client: Client) -> None:
    missing = client.get("/v1/documents/jobs/j-0")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "job_not_found")


def test_a_service_that_started_empty_answers_from_the_first_upload(tmp_path: Path) -> None:
    with Client(create_app(assistant_over(Store(tmp_path / "store")))) as client:
        assert client.get("/v1/documents").json() == {"object": "list", "total": 0, "data": []}
        assert client.get("/readyz").status_code == 503
        settled(client, upload(client, "shed.md", SHED).json())
        assert client.get("/readyz").status_code == 200
        assert "turquoise" in str(ask(client)["choices"])


def test_who_writes_meanwhile_is_waited_for(client: Client, store: Store) -> None:
    with store.layout.writing("a test"):
        job = upload(client, "shed.md", SHED).json()
        time.sleep(0.3)
        assert client.get(f"/v1/documents/jobs/{job['id']}").json()["state"] == "running"
    assert settled(client, job)["state"] == "done"


class Slow(HashingEmbedder):
    """Takes a while for each batch."""

    def embed_documents(self, texts: Sequence[str]) -> Any:
        time.sleep(0.2)
        return super().embed_documents(texts)


def slow_client(store: Store, **limits: Any) -> Client:
    assistant = assistant_over(store)
    assistant.retriever.embedder = Slow()
    features = FeatureConfig(embed_batch=8)
    app = create_app(assistant, ServiceConfig(**limits), features=features)
    return Client(app)


def wide(columns: int = 20_000) -> bytes:
    names = ",".join(f"column{n}" for n in range(columns))
    return f"{names}\n{','.join(map(str, range(columns)))}\n".encode()


def test_an_upload_that_takes_long_lets_others_go_first_and_comes_to_an_end(store: Store) -> None:
    with slow_client(store, upload_turn_s=0.5) as client:
        long = upload(client, "wide.csv", wide()).json()
        short = [upload(client, f"{n}.md", SHED).json() for n in range(3)]
        ended = [settled(client, job) for job in short]
        assert [job["state"] for job in ended] == ["done"] * 3
        assert client.get(f"/v1/documents/jobs/{long['id']}").json()["state"] in (
            "queued", "running",
        )  # fmt: skip
        done = settled(client, long)
    assert (done["state"], done["reason"]) == ("done", "")
    assert done["chunks"] > 100


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"max_upload_passages": 20}, "becomes more than 20 passages"),
        ({"upload_timeout_s": 1}, "took longer than 1 s"),
    ],
)
def test_an_upload_is_bounded_in_time_and_in_what_it_becomes(
    store: Store, limits: dict[str, Any], why: str
) -> None:
    with slow_client(store, **limits) as client:
        failed = settled(client, upload(client, "wide.csv", wide()).json())
        assert failed["state"] == "failed"
        assert why in failed["reason"]
        assert "fti ingest" in failed["reason"]
        assert settled(client, upload(client, "shed.md", SHED).json())["state"] == "done"


def test_the_log_names_no_document(client: Client, logged: list[Any]) -> None:
    settled(client, upload(client, "secret-plans.md", SHED).json())
    assert any(line["event"] == "document_ingested" for line in logged)
    assert "secret-plans" not in str(logged)
    assert "turquoise" not in str(logged)


def test_a_text_in_place_of_a_file_is_told_so(client: Client) -> None:
    sent = client.post("/v1/documents", data={"file": "no file"})
    error = sent.json()["error"]
    assert (sent.status_code, error["param"]) == (400, "file")
    assert error["message"] == "file: is a text and no file; send it with a filename"
