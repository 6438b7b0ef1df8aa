"""What one process of the soak does, over and over, until it is killed.

    python -m tests.soak.roles ROLE FOLDER SEED

Each turn prints a JSON line: what was done, how long it took, and what went wrong. That somebody
else holds a lock is no fault.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.extractive import ExtractiveGenerator
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.inference.inference_config import InferenceConfig, RetrievalConfig
from fti.store.errors import FtiError, StoreEmpty, StoreLocked
from fti.store.features import history
from fti.store.store import Store
from fti.store.streams.stream_config import StreamConfig

WORDS = "kiln glaze wheel clay shelf locker bench lathe saw drill anvil forge loom dye".split()
QUESTIONS = 40
STREAM, GROUP = "soak", "soak"


def sentence(rng: random.Random, tag: str) -> str:
    """Some words, and a tag that is in no other text."""
    return f"The {rng.choice(WORDS)} {tag} stands beside the {rng.choice(WORDS)} number {tag}."


def page(rng: random.Random, tag: str) -> str:
    """A few paragraphs."""
    return f"# Page {tag}\n\n" + "\n\n".join(
        " ".join(sentence(rng, f"{tag}x{n}x{i}") for i in range(6))
        for n in range(rng.randint(1, 5))
    )


class Work:
    """The store and what is needed around it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.rng = random.Random(seed)
        self.seed = seed
        self.store = Store(folder / "store")
        self.embedder = HashingEmbedder(64)
        # What hours are to a store, minutes are to a soak.
        history.SHORTEST_AGE = timedelta(minutes=2)
        self.config = FeatureConfig(
            stream=StreamConfig(reconnect_s=1),
            retention=history.RetentionConfig(versions=200, hours=0),
        )

    # Each of these is one turn.

    def files(self) -> dict[str, Any]:
        """Add, change and delete files, then bring the store up to date."""
        from fti.pipelines.feature.ingesting.ingest import ingest

        docs = self.folder / "docs"
        there = sorted(docs.glob("*.md"))
        for _ in range(self.rng.randint(1, 8)):
            path = docs / f"page-{self.rng.randint(0, 150):03}.md"
            path.write_text(page(self.rng, f"{path.stem}v{self.rng.randint(0, 10**6)}"), "utf-8")
        for path in self.rng.sample(there, min(len(there), self.rng.randint(0, 4))):
            path.unlink(missing_ok=True)
        done = ingest([str(docs)], store=self.store, embedder=self.embedder, config=self.config,
                      delete_missing=True)  # fmt: skip
        return {"changed": done.added + done.updated + done.deleted, "failed": len(done.failed)}

    def query(self) -> dict[str, Any]:
        """Searches of each kind, and an answer."""
        from fti.pipelines.inference.answering.retrieve import Retriever

        retriever = Retriever(self.store.features, self.embedder)
        found = 0
        for mode in ("vector", "text", "hybrid"):
            passages = retriever.search(" ".join(self.rng.sample(WORDS, 2)), 5, mode)
            found += len(passages)
        answer = self.assistant().answer(f"Where does the {self.rng.choice(WORDS)} stand?")
        return {"found": found, "answer": answer.id}

    def batch(self) -> dict[str, Any]:
        """Answers for a table of questions, into one file."""
        from fti.pipelines.inference.batch.answer_table import answer_batch
        from fti.pipelines.inference.batch.outputs import open_output

        rows = [{"id": str(n), "question": f"Where does the {WORDS[n % len(WORDS)]} stand?"}
                for n in range(QUESTIONS)]  # fmt: skip
        done = answer_batch(rows, assistant=self.assistant(), store=self.store,
                            out=open_output(self.store, self.folder / "answers.jsonl", None),
                            keep_outdated=self.rng.random() < 0.7)  # fmt: skip
        return {"done": done.done, "failed": done.failed, "skipped": done.skipped}

    def promote(self) -> dict[str, Any]:
        """Publish a version, promote it, now and then roll back, and let the old ones go."""
        from tests.support.values import a_contract, publish_adapter

        files = self.folder / f"adapter-{self.seed}"
        files.mkdir(exist_ok=True)
        (files / "card.md").write_text(f"seed {self.seed}, {time.time()}", "utf-8")
        version = publish_adapter(self.store, files, a_contract())
        models = self.store.models
        models.promote(version.name, version.version, "champion", reason="soak")
        if self.rng.random() < 0.3 and len(models.history(version.name, "champion")) > 2:
            models.rollback(version.name, "champion", reason="soak")
        return {"version": version.version}

    def backup(self) -> dict[str, Any]:
        """Back the store up, and look at the newest backup."""
        from fti.store.files.places import Place
        from fti.store.upkeep.backup import back_up, check, find_backup

        place = Place(str(self.folder / "backups"))
        done = back_up(self.store.layout, place, lock_timeout_s=10)
        problems = check(place, find_backup(place, done.backup))
        time.sleep(10)
        return {"new_bytes": done.new_bytes, "problems": problems}

    def assistant(self) -> Any:
        """The extractive baseline over the store."""
        from fti.pipelines.inference.answering.answer import Assistant
        from tests.support.values import a_contract

        generator = ExtractiveGenerator(self.embedder, min_similarity=0.1)
        contract = a_contract(base=generator.identity, embedder=self.embedder.identity,
                              max_prompt_tokens=400, max_passages=3)  # fmt: skip
        config = InferenceConfig(retrieval=RetrievalConfig(min_similarity=0.05))
        return Assistant(self.store, self.embedder, None, generator, contract, config)

    def stream(self) -> None:
        """Follow the Redis stream until killed or told to stop; a line per commit."""
        import signal
        import threading

        from fti.pipelines.feature.streaming.follow import follow
        from fti.store.streams.record_streams import RedisStream

        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
        address = (self.folder / "redis.address").read_text("utf-8")
        follow(
            RedisStream(address, stream=STREAM, group=GROUP, consumer="one",
                        config=self.config.stream),
            store=self.store, embedder=self.embedder, config=self.config, stop=stop,
            on_batch=lambda batch: say(
                {"records": batch.records, "failed": len(batch.failed),
                 "freshness": batch.freshness and batch.freshness.model_dump()}, batch.seconds),
        )  # fmt: skip


def say(done: dict[str, Any], seconds: float, *, waited: bool = False, error: str = "") -> None:
    """A turn on stdout."""
    print(
        json.dumps(
            {
                "done": done,
                "seconds": round(seconds, 3),
                "waited": waited,
                "error": error,
                "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
        ),
        flush=True,
    )


def main(role: str, folder: str, seed: str) -> None:
    work = Work(Path(folder), int(seed))
    if role == "stream":
        say({"ready": True}, 0.0, waited=True)
        while True:
            try:
                work.stream()
            except StoreLocked:
                say({}, 0.0, waited=True)
                continue
            return
    turn: Callable[[], dict[str, Any]] = getattr(work, role)
    say({"ready": True}, 0.0, waited=True)
    while True:
        began = time.monotonic()
        try:
            say(turn(), time.monotonic() - began)
        except (StoreLocked, StoreEmpty):
            say({}, time.monotonic() - began, waited=True)
        except FtiError as error:
            say({}, time.monotonic() - began, error=f"{error.code}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
