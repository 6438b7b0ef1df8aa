"""Two machines at work on one bucket: one trains and promotes, the other serves; both are killed.

A machine is a folder with its own processes. They share nothing but the bucket.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fti.store.files.places import Place
from fti.store.store import Store
from tests.e2e.conftest import COMMAND_WITH_MODELS, TINY_PROFILE, Fti
from tests.e2e.test_serve import address_of
from tests.support.buckets import a_bucket
from tests.support.processes import ROOT

pytestmark = pytest.mark.heavy

#: ``fti`` that is killed at a call of ``Place`` about a key: before it, or once it is done.
KILLED = """
import os, signal, sys
from fti.app.cli import app
from fti.store.files.places import Place

name, part, nth, when = sys.argv[1:5]
sys.argv = ["fti", *sys.argv[5:]]
real, done = getattr(Place, name), 0

def call(self, key, *args):
    global done
    done += part in key
    last = part in key and done == int(nth)
    if last and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    found = real(self, key, *args)
    if last:
        os.kill(os.getpid(), signal.SIGKILL)
    return found

setattr(Place, name, call)
app()
"""


def killed(machine: Fti, name: str, part: str, nth: int, when: str, *words: str) -> None:
    """Run a command of a machine that dies at the ``nth`` call of this kind."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, name, part, str(nth), when, *words],
        cwd=machine.home,
        env=machine.environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, (done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module", params=["s3", "gs"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the bucket."""
    with a_bucket(request.param, tmp_path_factory.mktemp("bucket")) as where:
        yield f"{where}/team"


@pytest.fixture
def machines(url: str, tiny_lm: Path, tmp_path: Path) -> tuple[Fti, Fti]:
    """Two folders with one profile: a tiny real model to train, and vectors without weights."""
    profile = tmp_path / "tiny.yaml"
    profile.write_text(
        TINY_PROFILE.format(model=tiny_lm) + "training: {epochs: 1, max_steps: 3}\n"
        "service: {alias_poll_s: 0.2, read_consistency_s: 0.2}\n",
        "utf-8",
    )
    made = []
    for name in ("trainer", "server"):
        (tmp_path / name).mkdir()
        made.append(Fti(tmp_path / name, {"FTI_CONFIG": str(profile)}, COMMAND_WITH_MODELS))
    return made[0], made[1]


def asked(address: str, key: str = "") -> dict[str, Any]:
    """An answer of a service."""
    question = {"role": "user", "content": "Who may use the table saw?"}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    reply = httpx.post(
        f"{address}/v1/chat/completions",
        json={"messages": [question]},
        headers=headers,
        timeout=60,
    )
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def served_by(store: Store, address: str, ref: str, *, within_s: float = 60.0) -> list[str]:
    """Ask until a version answers; ids of all answers, which another machine reads in the log."""
    ids, deadline = [], time.monotonic() + within_s
    while True:
        ids.append(str(asked(address)["id"]))
        if store.answers.get(ids[-1]).model == ref:
            return ids
        assert time.monotonic() < deadline, f"{ref} never answered"


@pytest.mark.timeout(900)
def test_one_machine_trains_and_promotes_what_another_serves(
    machines: tuple[Fti, Fti], url: str
) -> None:
    trainer, server = machines
    assert not trainer.run("store", "place", url)["joined"]
    assert server.run("store", "place", url)["joined"]
    corpus = ROOT / "app" / "demo" / "corpus"
    taken = trainer.run("ingest", str(corpus / "members"), str(corpus / "machines"))
    assert taken["failed"] == []
    trainer.run("dataset", "build", "handbook")

    # Killed while it puts the version into the bucket: it was never there, and is made again.
    tune = ("finetune", "handbook", "--name", "reader")
    killed(trainer, "put", "files/", 3, "before", *tune)
    assert server.run("models", "list")["models"] == []
    assert [r.status for r in Store(server.home / "store").runs.list("finetune")] == ["failed"]
    first = trainer.run(*tune)["version"]
    killed(trainer, "create", "models/reader/", 1, "after", *tune)  # once its manifest is there
    second = server.run("models", "list")["models"][-1]["version"]
    assert second > first
    assert trainer.run("models", "verify")["ok"]

    def promote(number: int, alias: str = "champion") -> tuple[str, ...]:
        words = ("models", "promote", f"reader/{number}", "--alias", alias, "--force")
        return (*words, "--reason", f"try {number}")

    trainer.run(*promote(first))
    serving = server.start("serve", "--port", "0", "--model", "reader@champion")
    try:
        address = address_of(serving)
        log = Store(trainer.home / "store")
        ids = served_by(log, address, f"reader/{first}")

        # Killed before the alias moved: it did not, and the next one is not kept from it.
        killed(trainer, "create", "aliases.json", 1, "before", *promote(second))
        assert server.run("models", "list")["models"][-1]["aliases"] == []
        ids += served_by(log, address, f"reader/{first}")
        # Killed once it had: it did.
        killed(trainer, "create", "aliases.json", 1, "after", *promote(second))
        ids += served_by(log, address, f"reader/{second}")
        history = log.models.history("reader", "champion")
        assert [(c.to_version, c.reason) for c in history] == [
            (first, f"try {first}"), (second, f"try {second}"),
        ]  # fmt: skip
        assert server.run("models", "rollback", "reader")["version"] == first
        ids += served_by(log, address, f"reader/{first}")
        trainer.run(*promote(second))
        ids += served_by(log, address, f"reader/{second}")

        # Documents, keys and verdicts of one machine are the other's.
        note = trainer.home / "note.md"
        note.write_text("# Heron\n\nThe heron gate opens at dawn.\n", "utf-8")
        trainer.run("ingest", str(note))
        assert server.run("search", "heron gate", "--mode", "text")["passages"]
        made = trainer.run("keys", "create", "somebody")
        deadline = time.monotonic() + 30
        while httpx.get(f"{address}/v1/models").status_code != 401:
            assert time.monotonic() < deadline, "the key was never asked for"
        ids.append(str(asked(address, made["key"])["id"]))
    finally:
        serving.kill()
        serving.communicate()

    # What was answered before the service was killed is in the log, once.
    logged = [answer.id for answer in log.answers.list()]
    assert sorted(logged) == sorted(ids)
    lineage = trainer.run("trace", ids[-2])
    assert f"reader/{second}" in str(lineage)
    for machine in machines:
        assert machine.run("store", "verify")["problems"] == []
        assert [*Path(machine.home / "store").glob("models")] == []
    assert Place(url).sizes("models"), "they lie in the bucket"
    # Without the folder of a machine nothing is lost.
    fresh = Fti(server.home.parent / "fresh", server.env, COMMAND_WITH_MODELS)
    fresh.home.mkdir()
    assert fresh.run("store", "place", url)["joined"]
    assert (
        fresh.run("ask", "Who may use the table saw?", "--model", "reader@champion")["model"]
        == f"reader/{second}"
    )
