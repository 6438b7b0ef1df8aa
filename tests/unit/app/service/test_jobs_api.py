"""Jobs over HTTP: who may start them, one at a time, and a process that can be stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from fti.app.service.api import create_app
from fti.app.service.job_starter import Profile
from fti.app.service.service_config import ServiceConfig
from fti.store.progress import ProgressEvent
from fti.store.store import Store
from tests.support.service import Client, assistant_over, filled_store

PROFILE = """\
model: extractive
embedder: {engine: hashing, dimension: 256}
generator: {engine: extractive, min_similarity: 0.1}
"""
BUILD = {"kind": "dataset", "name": "handbook"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path / "store")


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    path = tmp_path / "light.yaml"
    path.write_text(PROFILE, "utf-8")
    return Profile(path)


@pytest.fixture
def client(store: Store, profile: Profile) -> Iterator[Client]:
    with (
        structlog.testing.capture_logs(),
        Client(create_app(assistant_over(store), profile=profile)) as client,
    ):
        yield client


def ended(client: Client, job_id: str) -> dict[str, Any]:
    """The job when its process has ended."""
    deadline = time.monotonic() + 240
    while (job := client.get(f"/v1/jobs/{job_id}").json())["state"] == "running":
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
    return dict(job)


def error(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


@pytest.mark.heavy
def test_a_job_runs_in_a_process_of_its_own_and_leaves_a_log(client: Client) -> None:
    started = client.post("/v1/jobs", json=BUILD)
    assert started.status_code == 202
    job = started.json()
    assert (job["state"], job["kind"], job["asked"]) == ("running", "dataset", BUILD)
    assert client.get("/healthz").status_code == 200
    over = ended(client, job["id"])
    # Three documents of a sentence are too few for three splits; what matters is that it says so.
    assert over["state"] in ("done", "failed")
    assert over["summary"] or over["error"]
    log = client.get(f"/v1/jobs/{job['id']}/log")
    assert log.headers["content-type"].startswith("text/plain")
    assert log.text.startswith("dataset, attempt 1\n")
    assert [j["id"] for j in client.get("/v1/jobs").json()["data"]] == [job["id"]]


@pytest.mark.heavy
def test_a_job_is_stopped_and_taken_up_again(client: Client, store: Store) -> None:
    job = client.post("/v1/jobs", json=BUILD).json()
    stopping = client.post(f"/v1/jobs/{job['id']}/stop")
    assert stopping.status_code == 200
    assert ended(client, job["id"])["state"] == "stopped"
    again = client.post(f"/v1/jobs/{job['id']}/resume")
    assert (again.status_code, again.json()["attempts"]) == (202, 2)
    assert ended(client, job["id"])["state"] in ("done", "failed")


def test_progress_and_losses_are_told_by_step(client: Client, store: Store) -> None:
    record, handle = store.jobs.start("finetune", {"kind": "finetune"})
    with store.jobs.noting(record) as noting:
        noting(ProgressEvent("encode", 3, 9))
        assert client.get(f"/v1/jobs/{record.id}").json()["progress"]["done"] == 3
        for step in range(1, 1001):
            values = {"loss": 1 / step} | ({"validation_loss": 0.5} if step > 900 else {})
            noting(ProgressEvent("finetune", step, 1000, values=values))
    job = client.get(f"/v1/jobs/{record.id}").json()
    assert job["progress"]["values"]["loss"] == 1 / 1000
    steps = [point["step"] for point in job["curve"]]
    assert (steps[0], steps[-1]) == (1, 1000)
    assert len(steps) <= 402
    assert steps == sorted(set(steps))
    assert job["curve"][-1] == {"step": 1000, "loss": 0.001, "validation_loss": 0.5}
    os.close(handle)
    assert client.get(f"/v1/jobs/{record.id}").json()["state"] == "interrupted"


def test_what_cannot_be_started_is_said_at_once(client: Client) -> None:
    def start(**asked: Any) -> Any:
        return client.post("/v1/jobs", json=asked)

    assert error(start(kind="finetune", dataset="none", name="reader")) == (
        404,
        "dataset_not_found",
    )
    assert error(start(kind="evaluate", cases="none")) == (404, "case_set_not_found")
    assert error(start(kind="promote", model="reader/7")) == (404, "model_not_found")
    for wrong in (
        {"kind": "sing"},
        {"name": "handbook"},
        {"kind": "dataset", "name": "../x"},
        {"kind": "dataset", "name": "x", "cases": "/etc/passwd"},
        {"kind": "promote", "model": "reader/1", "force": True},
    ):
        refused = start(**wrong)
        assert refused.status_code == 400, wrong
        assert refused.json()["error"]["message"]
    for path in ("/v1/jobs/j-1", "/v1/jobs/..%2f..", "/v1/jobs/j-20260301-120000-0123ab/log"):
        assert client.get(path).status_code == 404
    assert client.get("/v1/jobs").json()["data"] == []


def test_an_interrupted_job_is_taken_up_when_the_service_starts(
    store: Store, profile: Profile
) -> None:
    record, handle = store.jobs.start("sing", {"kind": "sing"})
    os.close(handle)
    assert store.jobs.get(record.id).state == "interrupted"
    with (
        structlog.testing.capture_logs(),
        Client(create_app(assistant_over(store), profile=profile)) as client,
    ):
        over = ended(client, record.id)
    assert (over["attempts"], over["state"]) == (2, "failed")
    assert "sing" in over["error"]


def test_one_that_dies_again_and_again_is_left_alone(store: Store, profile: Profile) -> None:
    record, handle = store.jobs.start("sing", {"kind": "sing"})
    for _ in range(2):
        os.close(handle)
        record, handle = store.jobs.again(record.id)
    os.close(handle)
    with (
        structlog.testing.capture_logs(),
        Client(create_app(assistant_over(store), profile=profile)) as client,
    ):
        job = client.get(f"/v1/jobs/{record.id}").json()
    assert (job["attempts"], job["state"]) == (3, "interrupted")


# Who may


def with_key(client: Client, key: str) -> Any:
    return lambda method, path, **options: client.request(
        method, path, headers={"Authorization": f"Bearer {key}"}, **options
    )


def test_only_a_key_for_jobs_starts_them(client: Client, store: Store) -> None:
    keys = {
        "whole": store.keys.create("whole")[1],
        "reader": store.keys.create("reader", read_only=True)[1],
        "public": store.keys.create("public", collections=["public"])[1],
        "trainer": store.keys.create("trainer", jobs=True)[1],
    }
    record, handle = store.jobs.start("finetune", {"kind": "finetune"})
    for name in ("whole", "reader"):
        call = with_key(client, keys[name])
        refused = call("POST", "/v1/jobs", json=BUILD)
        assert error(refused) == (403, "jobs_not_allowed")
        assert "--jobs" in refused.json()["error"]["message"]
        for action in ("stop", "resume"):
            assert error(call("POST", f"/v1/jobs/{record.id}/{action}"))[0] == 403
        assert call("GET", f"/v1/jobs/{record.id}").status_code == 200, "it may look"
    assert error(with_key(client, keys["public"])("GET", "/v1/jobs")) == (
        403,
        "outside_collections",
    )
    assert client.post("/v1/jobs", json=BUILD).status_code == 401
    busy = with_key(client, keys["trainer"])("POST", "/v1/jobs", json={**BUILD, "kind": "dataset"})
    assert error(busy) == (409, "job_running"), "it may, when there is room"
    os.close(handle)


def test_without_keys_jobs_are_for_this_machine_alone(store: Store, profile: Profile) -> None:
    config = ServiceConfig(host="0.0.0.0", allow_anonymous=True)
    app = create_app(assistant_over(store), config, profile=profile)
    with structlog.testing.capture_logs(), Client(app) as client:
        assert error(client.post("/v1/jobs", json=BUILD)) == (403, "jobs_not_allowed")
        assert client.get("/v1/jobs").status_code == 200


def test_a_page_of_another_site_starts_nothing(client: Client) -> None:
    refused = client.post("/v1/jobs", json=BUILD, headers={"Origin": "https://evil.example"})
    assert error(refused) == (403, "cross_site")


def test_a_service_without_a_profile_starts_none(store: Store) -> None:
    with structlog.testing.capture_logs(), Client(create_app(assistant_over(store))) as client:
        assert error(client.post("/v1/jobs", json=BUILD)) == (403, "jobs_not_allowed")
