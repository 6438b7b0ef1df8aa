"""Ingests, batches and datasets on Ray: what one process makes, and what dies is made good."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from fti.store.errors import EngineError, InputError
from tests.e2e.conftest import Fti
from tests.support.chat_server import Server, says, serving
from tests.support.mixed_documents import mixed_documents
from tests.support.processes import run_python
from tests.support.ray_cluster import RayCluster, ray_cluster

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

ASKED = 20
RAY = ("--executor", "ray", "--workers", "2")

#: One server generates for all: two replicas, each with one request in flight.
PROFILE = """\
embedder: {{engine: hashing, dimension: 256}}
generator:
  engine: openai
  id: scripted
  server: {{base_url: {url}, context_tokens: 4096, concurrency: 1}}
prompt: {{max_prompt_tokens: 800, max_new_tokens: 64}}
inference: {{retrieval: {{min_similarity: 0.05}}}}
batch: {{group: 2}}
dataset: {{writer: {{batch: 1, questions: 2}}}}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """One for all tests here: it takes seconds to start."""
    with ray_cluster(2, gpus=2) as started:
        yield started


@dataclass
class Model:
    """What the server was asked, by question or passage, and how many asked at once."""

    server: Server
    asked: Counter[str]
    at_once: int = 0
    most_at_once: int = 0
    seconds: float = 0.0


@pytest.fixture
def model() -> Iterator[Model]:
    """A chat server that answers by the question, and writes questions about passages."""
    with serving() as server:
        state = Model(server, Counter())
        server.repeats = True

        def reply(_: Server, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
            prompt = body["messages"][-1]["content"]
            with server.lock:
                state.asked[_subject(prompt)] += 1
                state.at_once += 1
                state.most_at_once = max(state.most_at_once, state.at_once)
            time.sleep(state.seconds)
            says(_written(prompt) or _read(prompt))(server, handler, body)
            with server.lock:
                state.at_once -= 1

        server.responses = [reply]
        yield state


def _subject(prompt: str) -> str:
    """What tells a prompt from the others: the number of its question, or its passage."""
    passage = re.search(r"Passage: (.*)", prompt)
    found = re.search(r"the (\d+)\. time", prompt)
    return passage[1] if passage else found[1] if found else prompt


def _written(prompt: str) -> str:
    """Questions about a passage, quoted as asked; "" where none are asked for."""
    found = re.findall(r"(The \w+) holds (\d+ trays)", prompt)
    if "You write reading tests" not in prompt:
        return ""
    lines = [
        {"question": f"How many trays are there in {name.lower()}?", "answer": trays,
         "quote": f"{name} holds {trays}."}
        for name, trays in found[:2]
    ]  # fmt: skip
    return "\n".join(map(json.dumps, lines))


def _read(prompt: str) -> str:
    """What the passages say to a question about a machine, or that it is fired for its number."""
    asked = re.search(r"Question: .*the (\w+)", prompt)
    name = asked[1] if asked else ""
    said = re.search(rf"The {name} is fired on (day \d+)", prompt)
    return f"{said[1]} [1]" if said else f"It is fired for {_subject(prompt)} [1]"


@pytest.fixture
def here(fti: Fti, model: Model, cluster: RayCluster, tmp_path: Path) -> Fti:
    """The command with that model and that cluster, and documents in its store."""
    profile = tmp_path / "remote.yaml"
    profile.write_text(PROFILE.format(url=model.server.url), "utf-8")
    docs = tmp_path / "docs"
    docs.mkdir()
    for n, name in enumerate(("kiln", "oven", "loom", "lathe", "press", "plane")):
        text = f"# {name}\n\nThe {name} holds {20 + n} trays. The {name} is fired on day {n}.\n"
        (docs / f"{name}.md").write_text(text, "utf-8")
    command = replace(fti, env={"FTI_CONFIG": str(profile), **cluster.env})
    command.run("ingest", str(docs))
    lines = [f"q{n:02},When is the kiln fired for the {n}. time?" for n in range(ASKED)]
    (command.home / "q.csv").write_text("id,question\n" + "\n".join(lines) + "\n", "utf-8")
    return command


def _rows(path: Path) -> dict[str, str]:
    """Rows by key, without what differs between any two runs: ids and seconds."""
    rows = {}
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        assert row["id"] not in rows, f"{row['id']} twice"
        for name in ("answer_id", "run", "seconds"):
            del row[name]
        rows[row["id"]] = json.dumps(row, sort_keys=True)
    return rows


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _until(ready: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "never got so far"
        time.sleep(0.02)


def test_two_replicas_share_a_server_and_make_the_rows_of_one_process(
    here: Fti, model: Model
) -> None:
    alone = here.run("batch", "q.csv", "--out", "local.jsonl")
    assert model.most_at_once == 1
    model.asked.clear()
    model.seconds = 0.05

    shared = here.run("batch", "q.csv", "--out", "ray.jsonl", *RAY, timeout=300)

    assert model.most_at_once == 2, "both asked, and neither more than its settings say"
    assert set(model.asked.values()) == {1}
    assert len(model.asked) == ASKED
    assert _rows(here.home / "ray.jsonl") == _rows(here.home / "local.jsonl")
    same = ("done", "failed", "skipped", "prompt_tokens", "completion_tokens")
    assert [shared[name] for name in same] == [alone[name] for name in same]
    # Rows are as current as those of one process, for either.
    again = here.run("batch", "q.csv", "--out", "ray.jsonl")
    assert (again["done"], again["skipped"]) == (0, ASKED)
    first = json.loads((here.home / "ray.jsonl").read_text("utf-8").splitlines()[0])
    assert "kiln.md" in json.dumps(here.run("trace", first["answer_id"])), "answers are logged"


def test_a_worker_that_is_killed_costs_no_row(here: Fti, model: Model, cluster: RayCluster) -> None:
    model.seconds = 0.2
    out = here.home / "a.jsonl"
    process = here.start("batch", "q.csv", "--out", "a.jsonl", *RAY, "--json")
    _until(lambda: _lines(out) >= 2 and len(cluster.replicas()) == 2)
    os.kill(cluster.replicas()[0], signal.SIGKILL)
    said, noise = process.communicate(timeout=300)

    assert process.returncode == 0, noise
    assert len(said.splitlines()) == 1, "what Ray tells of workers stays off stdout"
    report = json.loads(said)
    assert (report["done"], report["failed"]) == (ASKED, 0)
    assert len(_rows(out)) == ASKED
    twice = [subject for subject, times in model.asked.items() if times > 1]
    assert len(twice) <= 2, "asked again is no more than the group that it had in hand"


def test_a_driver_that_is_killed_goes_on_where_it_was(
    here: Fti, model: Model, cluster: RayCluster
) -> None:
    model.seconds = 0.2
    out = here.home / "a.jsonl"
    process = here.start("batch", "q.csv", "--out", "a.jsonl", *RAY, "--json")
    here.kill_started_when(process, lambda: _lines(out) >= 4, timeout=240)
    _until(lambda: not cluster.replicas())
    kept = _rows(out)
    asked = Counter(model.asked)

    report = here.run("batch", "q.csv", "--out", "a.jsonl", *RAY, timeout=300)

    assert report["skipped"] == len(kept) >= 4
    assert report["done"] == ASKED - len(kept)
    rows = _rows(out)
    assert sorted(rows) == [f"q{n:02}" for n in range(ASKED)]
    assert {key: rows[key] for key in kept} == kept, "what was kept stays as it was"
    again = [s for s in asked if model.asked[s] > asked[s]]
    assert len(again) <= 4, "of the groups in hand, one each, and no others"


def test_a_dataset_has_the_rows_of_one_process_and_goes_on_after_a_kill(
    here: Fti, model: Model, cluster: RayCluster
) -> None:
    words = ("dataset", "build", "d", "--write")
    alone = here.run(*words)
    assert alone["kinds"]["written"] >= 4
    passages = dict(model.asked)
    assert set(passages.values()) == {1}
    for kept in (here.home / "store" / "results").iterdir():
        kept.unlink()
    model.asked.clear()
    model.seconds = 0.4

    process = here.start(*words, *RAY, "--json")
    results = here.home / "store" / "results"
    here.kill_started_when(process, lambda: any(map(_lines, results.iterdir())), timeout=240)
    _until(lambda: not cluster.replicas())
    written = sum(map(_lines, results.iterdir()))
    assert 1 <= written < len(passages)
    before = Counter(model.asked)
    shared = here.run(*words, *RAY, timeout=300)

    assert shared["digest"] == alone["digest"], "byte for byte"
    assert shared["rows"] == alone["rows"]
    assert set(model.asked) == set(passages)
    again = [passage for passage in before if model.asked[passage] > before[passage]]
    assert len(again) <= len(before) - written, "what was kept is not written about again"


def test_the_built_in_writer_and_its_reader_are_replicas_with_weights(
    here: Fti, model: Model
) -> None:
    words = (
        "dataset", "build", "d", "--questions", "model",
        "--set", "dataset.writer.max_passages=2",
    )  # fmt: skip
    one = ("--executor", "ray", "--workers", "1")  # loading weights is what takes long here
    alone = here.run(*words, timeout=300)
    for kept in (here.home / "store" / "results").iterdir():
        kept.unlink()
    model.asked.clear()
    shared = here.run(*words, *one, timeout=300)
    assert sum(model.asked.values()) >= 1, "the reader was asked"
    assert shared["digest"] == alone["digest"]


def test_what_cannot_be_is_said_before_ray_starts(here: Fti) -> None:
    for words, message in (
        (("batch", "q.csv", "--out", "a.jsonl", "--workers", "2"), "--workers 2 is for replicas"),
        (("batch", "--follow", "--out", "-", "--executor", "ray"), "answered as it comes"),
        (("dataset", "build", "d", *RAY), "none is to write"),
        (("dataset", "build", "d", "--write", "--workers", "2"), "--workers 2 is for replicas"),
    ):
        refused = here.run(*words, code=InputError.exit_code)
        assert message in refused["error"]["message"]
        assert refused["error"]["hint"]
    nobody = replace(here, env=here.env | {"RAY_ADDRESS": "127.0.0.1:1"})
    unreached = nobody.run("batch", "q.csv", "--out", "a.jsonl", *RAY, code=EngineError.exit_code)
    assert "'127.0.0.1:1'" in unreached["error"]["message"]
    assert "ray start" in unreached["error"]["hint"]
    assert not (here.home / "a.jsonl").exists()


@dataclass(frozen=True)
class Trouble:
    """What does odd things with its batches, as told. ``marks`` is a folder that all see."""

    marks: str

    def __call__(self) -> Callable[[str], str]:
        if self.marks == "refuses":
            raise EngineError("no memory left on the card", hint="Set a smaller batch.")
        return self.work

    def work(self, batch: str) -> str:
        mark = Path(self.marks) / f"{batch}-{os.getpid()}"
        mark.touch()
        tried = len(list(Path(self.marks).glob(f"{batch}-*")))
        if batch == "dies always" or (batch == "dies once" and tried == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if batch == "sees":
            time.sleep(0.3)  # that both have some of them
            return os.environ.get("CUDA_VISIBLE_DEVICES", "none")
        if batch == "is too large":
            raise MemoryError
        if batch == "fails":
            raise EngineError("the model broke off", hint="Ask less.")
        return f"{batch} done"


def try_out(
    batches: Sequence[str], marks: str, *, workers: int | None = 2, gpu: bool = False
) -> dict[str, Any]:
    """What two replicas make of batches, and the error that ends them."""
    from fti.pipelines.engines.replicas.actors import Replicas

    done: list[str] = []
    replicas = Replicas(Trouble(marks), doing="try it", workers=workers, gpu=gpu)
    try:
        done += [made for _, made in replicas.each(batches)]
    except EngineError as error:
        return {"done": sorted(done), "error": error.message, "hint": error.hint}
    return {"done": sorted(done)}


SCRIPT = """
import json, os, sys
from fti.pipelines.engines.replicas.cluster import cluster
from tests.e2e.test_ray import try_out
print("first", flush=True)
with cluster():
    tried = {
        "once": try_out(["a", "dies once", "b", "c"], sys.argv[1]),
        "always": try_out(["dies always"], sys.argv[2]),
        "large": try_out(["is too large"], sys.argv[1]),
        "fails": try_out(["fails"], sys.argv[1]),
        "refuses": try_out(["a"], "refuses"),
        "gpus": try_out(["sees"] * 8, sys.argv[1], workers=None, gpu=True),
    }
print(json.dumps(tried))
"""


def test_actors_that_die_and_what_they_raise(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, always = tmp_path / "once", tmp_path / "always"
    once.mkdir()
    always.mkdir()
    for name, value in cluster.env.items():
        monkeypatch.setenv(name, value)

    lines = run_python(SCRIPT, once, always).splitlines()

    assert len(lines) == 2, "what Ray tells of workers stays off stdout"
    tried = json.loads(lines[-1])
    assert set(tried["gpus"]["done"]) == {"0", "1"}, "a replica for each GPU, and each its own"
    assert tried["once"] == {"done": ["a done", "b done", "c done", "dies once done"]}
    assert len(list(once.glob("dies once-*"))) == 2
    assert tried["always"]["done"] == []
    assert "died 4 times while it was to try it" in tried["always"]["error"]
    assert "--workers" in tried["always"]["hint"]
    assert len(list(always.iterdir())) == 4, "it is not tried for ever"
    assert "ran out of memory" in tried["large"]["error"]
    assert "--workers" in tried["large"]["hint"]
    assert tried["fails"] | {"done": []} == {
        "done": [], "error": "the model broke off", "hint": "Ask less.",
    }  # fmt: skip
    assert tried["refuses"] == {
        "done": [], "error": "no memory left on the card", "hint": "Set a smaller batch.",
    }  # fmt: skip


INGESTS = """
import json, sys
from pathlib import Path
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.replicas.cluster import cluster
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.store.errors import EngineError
from fti.store.store import Store
from tests.support.mixed_documents import CONFIG, Broken, content

root, docs = Path(sys.argv[1]), Path(sys.argv[2])

def take(name, embedder=None, **options):
    store = Store(root / name)
    embedder = embedder or HashingEmbedder(64)
    report = ingest([str(docs)], store=store, embedder=embedder, config=CONFIG, **options)
    return store, [report.added, report.updated, report.unchanged, len(report.failed),
                   len(report.empty), report.embedded_chunks]

def on_ray():
    return take("ray", executor="ray", workers=2)

local, first = take("local")
connected = cluster()
connected.__enter__()  # one for all; each would start its own
store, report = on_ray()
try:
    take("broken", Broken(64), executor="ray", workers=1)
except EngineError as error:
    broken = [error.message, error.hint]
name = next(n for n in store.features._lance.names() if n.startswith("vectors_"))
versions = len(store.features._lance.open(name).list_versions())
equal = content(local) == content(store)
again = on_ray()[1]
(docs / "00.md").write_text("# Page 0\\n\\nThe kiln 0 is cold now.\\n", "utf-8")
edited = on_ray()[1]
connected.__exit__(None, None, None)
print(json.dumps({"local": first, "ray": report, "equal": equal, "versions": versions,
                  "again": again, "edited": edited, "broken": broken}))
"""


def test_an_ingest_leaves_the_store_that_one_process_leaves(tmp_path: Path) -> None:
    """On a cluster that the process starts itself, as where no address names one."""
    for package in ("ray", "lance"):
        pytest.importorskip(package)
    docs = mixed_documents(tmp_path / "docs")

    said = json.loads(run_python(INGESTS, tmp_path, docs).splitlines()[-1])

    assert said["equal"]
    assert said["ray"] == said["local"]
    assert said["local"][:5] == [16, 0, 0, 2, 1]
    assert said["versions"] == 2  # the empty table, and one commit of all fragments
    assert said["again"] == [0, 0, 16, 2, 1, 0]
    assert said["edited"] == [0, 1, 15, 2, 1, 1]
    assert said["broken"] == ["no memory left on the card", "Set a smaller batch."]
