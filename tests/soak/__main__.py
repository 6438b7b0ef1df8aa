"""Ingest, delete, stream, query, promote, batch and back up at once, with random kill -9 of each.

    python -m tests.soak --minutes 20 --out FOLDER [--seed 0]

At the end everything is run once more undisturbed, and the store must be what the sources say:
every file and every record as it last was, one answer a question, every published version whole,
every backup readable. Versions of the features beyond 200 go once they are two minutes old, where
by default it is 1,000 and an hour. ``soak.json`` and ``soak.svg`` in FOLDER have the figures:
turns, kills, waits, errors, and how files, bytes and memory grew. Exits with 1 when anything is
wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fti.app.reports.charts import PALETTE
from fti.app.reports.markup import el
from fti.store.files.places import file_sizes
from tests.soak.roles import GROUP, QUESTIONS, STREAM, Work, page
from tests.support.processes import ROOT
from tests.support.redis import redis_server

ROLES = ("files", "stream", "query", "promote", "batch", "backup")
RATE = 10  # records a second
SOURCES = 400  # that records are about


@dataclass
class Role:
    """One kind of process, as it comes and goes."""

    name: str
    folder: Path
    rng: random.Random
    mean_life_s: float
    turns: int = 0
    waits: int = 0
    kills: int = 0
    deaths: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    rss_mb: list[int] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)

    def run(self, stop: threading.Event) -> None:
        """Start it, kill it after a while, and start it again."""
        while not stop.is_set():
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.soak.roles", self.name, str(self.folder),
                 str(self.rng.randint(0, 10**9))],
                cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            self.ready.clear()
            reader = threading.Thread(target=self._read, args=(process,))
            reader.start()
            # Its life begins when it is ready: a busy machine must not kill every child.
            while process.poll() is None and not self.ready.wait(0.1) and not stop.is_set():
                continue
            until = time.monotonic() + self.rng.expovariate(1 / self.mean_life_s) + 0.5
            while process.poll() is None and time.monotonic() < until and not stop.is_set():
                time.sleep(0.05)
            if process.poll() is None:
                process.kill()
                self.kills += 1
            else:
                assert process.stderr is not None
                self.deaths.append(process.stderr.read()[-2000:])
            process.wait()
            reader.join()
            assert process.stderr is not None
            process.stderr.close()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                turn = json.loads(line)
            except ValueError:  # cut by the kill
                continue
            if turn["done"].get("ready"):
                self.ready.set()
                continue
            self.turns += not turn["waited"]
            self.waits += turn["waited"]
            self.rss_mb.append(turn["rss_mb"])
            if turn["error"]:
                self.errors.append(turn["error"])
            done = turn["done"]
            if done.get("problems") or (self.name in ("files", "batch") and done.get("failed")):
                self.errors.append(json.dumps(done))
            if done.get("freshness"):
                self.lags += [done["freshness"]["p50_s"], done["freshness"]["max_s"]]
        process.stdout.close()


def produce(client: Any, stop: threading.Event, rng: random.Random, last: dict[str, str]) -> None:
    """Records into Redis at the rate; what each source said last."""
    due = time.monotonic()
    while not stop.is_set():
        source = f"ticket/{rng.randint(0, SOURCES)}"
        gone = rng.random() < 0.1
        text = "" if gone else page(rng, f"t{rng.randint(0, 10**9)}")
        said = {"source": source, **({"deleted": True} if gone else {"text": text})}
        client.xadd(STREAM, {"record": json.dumps(said)})
        last[source] = text
        if rng.random() < 0.02:
            client.xadd(STREAM, {"record": "no record"})
        due += 1 / RATE
        time.sleep(max(0.0, due - time.monotonic()))


def measure(folder: Path) -> dict[str, float]:
    """How large the store is, and of that the features.

    Published models, runs and answers are records: there are as many as were made.
    """
    sizes = list(file_sizes(folder / "store"))
    features = list(file_sizes(folder / "store" / "features"))
    versions = len(list((folder / "store" / "features").glob("*.lance/_versions/*")))
    return {
        "files": len(sizes),
        "mb": round(sum(sizes) / 1e6, 2),
        "feature_files": len(features),
        "feature_mb": round(sum(features) / 1e6, 2),
        "versions": versions,
    }


def settle(work: Work, client: Any, last: dict[str, str]) -> list[str]:
    """Run everything once more undisturbed; a line per thing that is not as the sources say."""
    import signal as signals

    from fti.store.upkeep.checking import check_store

    follower = subprocess.Popen(
        [sys.executable, "-m", "tests.soak.roles", "stream", str(work.folder), "1"],
        cwd=ROOT, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 300
    while time.monotonic() < until:
        (group,) = client.xinfo_groups(STREAM)
        if not group["pending"] and not group["lag"]:
            break
        time.sleep(0.5)
    else:
        follower.kill()
        follower.wait()
        return ["the stream was not followed to its end within 300 s"]
    follower.send_signal(signals.SIGTERM)
    follower.wait()
    steady = Work(work.folder, 0)
    done = steady.files()
    wrong = [f"the ingest at the end: {done}"] if done["failed"] else []
    done = steady.batch()
    if done["failed"]:
        wrong.append(f"the batch at the end: {done}")
    rows = [json.loads(x) for x in (work.folder / "answers.jsonl").read_text("utf-8").splitlines()]
    if sorted(r["id"] for r in rows) != sorted(str(n) for n in range(QUESTIONS)):
        wrong.append(f"{len(rows)} answers to {QUESTIONS} questions")
    texts = {d.source: d.text for d in steady.store.features.documents()}
    expected = {s: t.strip() for s, t in last.items() if t}
    expected |= {str(p): p.read_text("utf-8").strip() for p in (work.folder / "docs").glob("*.md")}
    for source in sorted(texts.keys() | expected.keys()):
        if texts.get(source, "").strip() != expected.get(source, ""):
            kind = "lost" if source not in texts else "left" if source not in expected else "other"
            wrong.append(f"{kind}: {source}")
    if not list(steady.store.rejected.list()):
        wrong.append("no rejected record was kept")
    wrong += [f"{p.where}: {p.problem}" for p in check_store(steady.store).problems]
    return wrong


def drawn(samples: list[dict[str, float]]) -> str:
    """Files, megabytes and versions of the features over time, each as a share of its largest."""
    width, height, names = 640, 260, ("feature_files", "feature_mb", "versions")
    end = max(s["minute"] for s in samples) or 1
    parts = [el("rect", width=width, height=height, fill="#fff")]
    for colour, name in zip(PALETTE, names, strict=False):
        top = max(s[name] for s in samples) or 1
        points = " ".join(
            f"{50 + 560 * s['minute'] / end:.1f},{220 - 180 * s[name] / top:.1f}" for s in samples
        )
        parts.append(el("polyline", points=points, fill="none", stroke=colour, stroke_width=2))
        x = 50 + 190 * names.index(name)
        parts.append(el("text", f"{name}: at most {top:g}", x=x, y=22, fill=colour, font_size=13))
    parts.append(el("text", f"{end:.0f} minutes", x=540, y=245, font_size=12))
    svg = el("svg", el("title", "How the store grew"), *parts, xmlns="http://www.w3.org/2000/svg",
             viewBox=f"0 0 {width} {height}", width=width, height=height,
             font_family="sans-serif")  # fmt: skip
    return svg + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--out", type=Path, default=Path("soak"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mean-life", type=float, default=15, help="seconds until a kill")
    given = parser.parse_args()
    rng = random.Random(given.seed)
    given.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as owned:
        import redis

        address = owned.enter_context(redis_server())
        folder = Path(owned.enter_context(tempfile.TemporaryDirectory(prefix="fti-soak-")))
        client = owned.enter_context(redis.Redis.from_url(address))
        (folder / "redis.address").write_text(address, "utf-8")
        (folder / "docs").mkdir()
        client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        work = Work(folder, given.seed)
        work.files()  # something to ask from the beginning
        stop, last = threading.Event(), {}
        roles = [Role(name, folder, random.Random(rng.random()), given.mean_life) for name in ROLES]
        threads = [threading.Thread(target=role.run, args=(stop,)) for role in roles]
        threads.append(
            threading.Thread(target=produce, args=(client, stop, random.Random(rng.random()), last))
        )
        began = time.monotonic()
        for thread in threads:
            thread.start()
        samples: list[dict[str, float]] = []
        while (passed := time.monotonic() - began) < given.minutes * 60:
            samples.append({"minute": round(passed / 60, 2), **measure(folder)})
            time.sleep(min(5.0, given.minutes * 6))
        stop.set()
        for thread in threads:
            thread.join()
        wrong = settle(work, client, last)
        samples.append({"minute": round((time.monotonic() - began) / 60, 2), **measure(folder)})
        if wrong:
            kept = given.out / "store"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(folder, kept, ignore=shutil.ignore_patterns("socket"))
    errors = Counter(f"{r.name}: {e[:200]}" for r in roles for e in r.errors)
    deaths = [f"{r.name}: {d}" for r in roles for d in r.deaths]
    found = {
        "minutes": given.minutes,
        "seed": given.seed,
        "records": len(last),
        "roles": {
            r.name: {
                "turns": r.turns, "waits": r.waits, "kills": r.kills,
                "rss_mb_first": r.rss_mb[0] if r.rss_mb else None,
                "rss_mb_most": max(r.rss_mb, default=None),
            }
            for r in roles
        },
        "freshness_max_s": max((x for r in roles for x in r.lags), default=None),
        "errors": dict(errors),
        "deaths": deaths,
        "wrong_at_the_end": wrong,
        "first": samples[0], "last": samples[-1], "samples": samples,
    }  # fmt: skip
    (given.out / "soak.json").write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    (given.out / "soak.svg").write_text(drawn(samples), "utf-8")
    print(json.dumps({k: v for k, v in found.items() if k != "samples"}, indent=2))
    return 1 if wrong or errors or deaths else 0


if __name__ == "__main__":
    sys.exit(main())
