"""How long a batch and a dataset would take with 1, 8 and 64 replicas, and what holds them up.

    python -m tests.bench.ray_schedule [--questions 10000] [--passages 2000] [--write costs.json]
    python -m tests.bench.ray_schedule --costs costs.json

The parts are measured first, on this machine and with the demo's documents: a replica of one core
that starts, searches, selects and generates, writes questions; the process that asks, which logs
and keeps; and Ray itself, which hands a batch there and back. A discrete simulation then gives the
batches out to so many replicas on as many cores. Machines that share a disk or a network with
others are not simulated.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

WORKERS = (1, 8, 64)
MOST_ROWS = 4000  # of a dataset, by default
_DEMO = Path(__file__).parents[2] / "app" / "demo"
_GROUP = 8  # questions and windows that costs are measured on together


@dataclass(frozen=True)
class Costs:
    """Seconds, measured; lists hold one figure for each question or window that was asked."""

    start: float  # of a replica, from its process to its weights
    search: Sequence[float]  # embedding, searching and selecting for a question
    generate: Sequence[float]
    write: Sequence[float]  # all questions about a window
    questions_per_window: float
    windows_per_passage: float
    lines: float  # to log and keep a group in a JSONL file
    table: float  # to log and keep it in a LanceDB table
    keep: float  # to keep a batch of replies
    ray: float  # of the asking process, for each batch; 0 where Ray is not installed
    group: int = 32
    batch: int = 8


@dataclass
class Schedule:
    """What came of giving batches out."""

    workers: int
    seconds: float = 0.0
    replicas_busy: float = 0.0
    driver_busy: float = 0.0
    server_busy: float = 0.0
    holds_up: str = ""
    idle: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """Seconds of a replica for a batch, and how many answers it asks of a shared server."""

    seconds: float
    answers: int = 0


def schedule(
    batches: Sequence[Batch],
    workers: int,
    *,
    start: float,
    driver: float,
    server_per_s: float | None = None,
) -> Schedule:
    """Give batches out, in their order, to whichever replica is free; the driver takes them back.

    Args:
        batches: in order.
        workers: replicas; those without a batch are not started.
        start: seconds until a replica can begin; they start at the same time.
        driver: seconds of the process that asks for each batch, one after the other.
        server_per_s: answers per second of a server that all share, first come, first served.
    """
    free = [(start, number) for number in range(min(workers, len(batches)))]
    heapq.heapify(free)
    done: list[float] = []
    server_free = busy = served = 0.0
    for batch in batches:
        at, number = heapq.heappop(free)
        end = at + batch.seconds
        if server_per_s is not None and batch.answers:
            took = batch.answers / server_per_s
            server_free = max(server_free, end) + took
            served += took
            end = server_free
        busy += batch.seconds
        done.append(end)
        heapq.heappush(free, (end, number))
    told = 0.0
    for end in sorted(done):
        told = max(told, end) + driver
    many = min(workers, len(batches))
    made = Schedule(workers, told)
    made.replicas_busy = busy / (many * told)
    made.driver_busy = driver * len(batches) / told
    made.server_busy = served / told
    # What share of the replicas' time is gone in which way.
    last = [end for end, _ in free]
    made.idle = {
        "starting replicas": start / told,
        "the last batches": sum(told - end for end in last) / (many * told),
    }
    made.holds_up = _limit(made)
    return made


def _limit(made: Schedule) -> str:
    """What is busy nearly all the time, or else where the replicas' time goes."""
    shares = {
        "the process that asks": made.driver_busy,
        "the server": made.server_busy,
        "the replicas": made.replicas_busy,
    }
    name, share = max(shares.items(), key=lambda item: item[1])
    if share >= 0.8:
        return name
    idle, most = max(made.idle.items(), key=lambda item: item[1])
    return idle if most > 0.15 else name


def drawn(costs: Sequence[float], count: int, size: int, seed: int) -> list[float]:
    """Seconds of batches of so many, drawn from what was measured of one."""
    rng = random.Random(seed)
    each = [rng.choice(costs) for _ in range(count)]
    return [sum(each[at : at + size]) for at in range(0, count, size)]


def batch_runs(costs: Costs, questions: int, server_per_s: float) -> Iterator[tuple[str, Schedule]]:
    """A batch of questions: weights in each replica, into either output; and one server for all."""
    search = drawn(costs.search, questions, costs.group, 1)
    whole = [a + b for a, b in zip(search, drawn(costs.generate, questions, costs.group, 2),
                                   strict=True)]  # fmt: skip
    for name, put in (("answers, JSONL", costs.lines), ("answers, table", costs.table)):
        for workers in WORKERS:
            yield name, schedule([Batch(s) for s in whole], workers, start=costs.start,
                                 driver=put + costs.ray)  # fmt: skip
    there = [Batch(s, costs.group) for s in search]
    for workers in WORKERS:
        name = f"answers of a server of {server_per_s:g}/s"
        yield name, schedule(there, workers, start=costs.start, driver=costs.lines + costs.ray,
                             server_per_s=server_per_s)  # fmt: skip


def dataset_runs(
    costs: Costs, passages: int, rules: float, again: float
) -> Iterator[tuple[str, Schedule]]:
    """A dataset: written, read again, and made into rows by the process that asks.

    Questions that rules wrote, ``rules`` of all, are searched for and not read. The process that
    asks searches once more for ``again`` of them all.
    """
    windows = round(passages * costs.windows_per_passage)
    rows = min(round(windows * costs.questions_per_window), MOST_ROWS)
    write = [Batch(s) for s in drawn(costs.write, windows, costs.batch, 3)]
    both = list(zip(costs.search, cycle(costs.generate), strict=False))
    took = drawn([a + b for a, b in both], round(rows * (1 - rules)), costs.batch, 4)
    took += drawn(costs.search, round(rows * rules), costs.batch, 5)
    read = [Batch(s) for s in took]
    made_here = statistics.fmean(costs.search) * again * rows
    for workers in WORKERS:
        parts = {
            # Each model is looked at once before its replicas start.
            "write": schedule(write, workers, start=2 * costs.start, driver=costs.keep + costs.ray),
            "read": schedule(read, workers, start=2 * costs.start, driver=costs.keep + costs.ray),
        }
        for name, made in parts.items():
            yield f"dataset, {name}", made
        total = sum(made.seconds for made in parts.values()) + made_here
        rest = Schedule(workers, total)
        rest.driver_busy = made_here / total
        rest.replicas_busy = sum(m.replicas_busy * m.seconds for m in parts.values()) / total
        slowest = max(parts, key=lambda name: parts[name].seconds)
        rest.holds_up = (
            "rows, made by one process"
            if made_here > parts[slowest].seconds
            else f"{slowest}: {parts[slowest].holds_up}"
        )
        yield "dataset, whole", rest


# Measuring


def seconds(work: Callable[[], Any]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measured(overrides: Sequence[str]) -> Costs:
    """Every part, with the profile's models on one core."""
    from fti.app.build import build_assistant, build_embedder, build_trained_writer
    from fti.app.settings import load_settings
    from fti.pipelines.engines.embedders.cores import limit_threads
    from fti.pipelines.feature.dataset.rows import passage_of
    from fti.pipelines.feature.dataset.sources.trained_writer import AskedOfWindows, _windows_of
    from fti.pipelines.feature.ingesting.ingest import ingest
    from fti.pipelines.inference.batch.asked_together import AskedTogether
    from fti.pipelines.inference.batch.outputs import open_output
    from fti.store.store import Store

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "store"
        settings = load_settings(None, store=root, overrides=list(overrides))
        store = Store(root)
        told("documents")
        ingest([str(_DEMO / "corpus")], store=store, embedder=build_embedder(settings),
               config=settings.features)  # fmt: skip
        told("a replica's start")
        start = _start(root, overrides)
        assistant = build_assistant(settings, store)
        limit_threads(1)
        lines = (_DEMO / "cases.jsonl").read_text("utf-8").splitlines()
        asked = [json.loads(line)["question"] for line in lines[:: len(lines) // 24]]
        ask = AskedTogether(assistant, "measured")
        ask({"warm": asked[0]})
        answered = []
        for at in range(0, len(asked) - _GROUP + 1, _GROUP):
            told(f"answers {at + _GROUP}")
            answered += ask({f"q{at + n}": q for n, q in enumerate(asked[at : at + _GROUP])})
        timings = [one.answer.timings for one in answered if one.answer is not None]
        rows = [one.row for one in answered] * 2
        outputs = [
            open_output(store, Path(folder) / "a.jsonl", None),
            open_output(store, None, "measured"),
        ]
        put = []
        for out in outputs:
            out.begin(())
            kept = []
            for turn in range(10):
                group = [row.model_copy(update={"id": f"{turn} {n}"})
                         for n, row in enumerate((rows * 2)[: settings.batch.group])]  # fmt: skip
                log = [one.answer for one in (answered * 4)[: len(group)] if one.answer is not None]

                def keep(log: Any = log, out: Any = out, group: Any = group) -> None:
                    store.answers.append_all(log)
                    out.put(group)

                kept.append(seconds(keep))
            put.append(statistics.fmean(kept))
        told("writing")
        documents = {d.id: d for d in store.features.documents()}
        by_passage = [_windows_of(passage_of(c, documents)) for c in store.features.chunks()]
        windows = [w for found in by_passage for w in found]
        writer = build_trained_writer(settings, store, assistant.evidence_embedder)
        write = AskedOfWindows(writer._generator, settings.dataset.writer.questions)
        limit_threads(1)
        some = windows[:: max(1, len(windows) // (2 * _GROUP))][: 2 * _GROUP]
        took, pairs = [], 0
        for at in range(0, len(some), _GROUP):
            began = time.perf_counter()
            made = write(some[at : at + _GROUP])
            took += [(time.perf_counter() - began) / len(some[at : at + _GROUP])] * _GROUP
            pairs += sum(len(found) for found in made.pairs.values())
        results = store.results.under({"what": "measured"})
        keeps = [
            seconds(lambda n=n: results.keep_all([(f"{n} {m}", {"answer": "x" * 60})
                                                  for m in range(_GROUP)]))
            for n in range(20)
        ]  # fmt: skip
        return Costs(
            start=start,
            search=[t.get("retrieve_s", 0.0) + t.get("select_s", 0.0) for t in timings],
            generate=[t["generate_s"] for t in timings if "generate_s" in t],
            write=took,
            questions_per_window=pairs / len(some),
            windows_per_passage=len(windows) / len(by_passage),
            lines=put[0],
            table=put[1],
            keep=statistics.fmean(keeps),
            ray=_ray(),
            group=settings.batch.group,
            batch=settings.dataset.writer.batch,
        )


def _start(root: Path, overrides: Sequence[str]) -> float:
    from tests.support.processes import run_python

    return seconds(
        lambda: run_python(
            "import sys\nfrom pathlib import Path\nfrom fti.app.settings import load_settings\n"
            "from fti.app.operations.replicating import AssistantThere\n"
            "s = load_settings(None, store=Path(sys.argv[1]), overrides=sys.argv[2:])\n"
            "AssistantThere(s, Path(sys.argv[1]), s.model)()\n",
            root,
            *overrides,
        )
    )


def _ray(batches: int = 200) -> float:
    """Seconds of this process for each batch that Ray takes there and back."""
    import importlib.util

    if importlib.util.find_spec("ray") is None:
        return 0.0
    from fti.pipelines.engines.replicas.actors import Replicas
    from fti.pipelines.engines.replicas.cluster import cluster

    told("Ray")
    with cluster():
        times = [
            time.process_time()
            for _ in Replicas(_nothing, doing="do nothing", workers=2).each(["x" * 4000] * batches)
        ]
    return (times[-1] - times[0]) / (batches - 1)


def _nothing() -> Callable[[str], str]:
    return str.upper


def told(what: str) -> None:
    """Say on stderr what is measured."""
    print(f"measuring: {what}", file=sys.stderr, flush=True)


def show(runs: Iterator[tuple[str, Schedule]]) -> None:
    """Print a row for each."""
    print("| work | replicas | seconds | times as fast | replicas busy | asking process busy "
          "| server busy | what holds it up |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    alone: dict[str, float] = {}
    for name, made in runs:
        first = alone.setdefault(name, made.seconds)
        print(
            f"| {name} | {made.workers} | {made.seconds:,.0f} | {first / made.seconds:.1f} "
            f"| {made.replicas_busy:.0%} | {made.driver_busy:.1%} | {made.server_busy:.0%} "
            f"| {made.holds_up} |"
        )


def main() -> None:
    """Measure or read costs, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--passages", type=int, default=2_000)
    parser.add_argument(
        "--server-per-s", type=float, default=20.0, help="answers per second of a shared server"
    )
    parser.add_argument(
        "--rules", type=float, default=0.5, help="share of a dataset's rows that rules wrote"
    )
    parser.add_argument(
        "--again", type=float, default=0.25,
        help="share of them that is searched for once more: unanswerable ones, and those not found",
    )  # fmt: skip
    parser.add_argument("--costs", type=Path, help="read them, and measure nothing")
    parser.add_argument("--write", type=Path, help="write the costs that were measured")
    parser.add_argument("--set", action="append", default=[], help="a setting of the profile")
    options = parser.parse_args()
    if options.costs is not None:
        costs = Costs(**json.loads(options.costs.read_text("utf-8")))
    else:
        costs = measured(options.set)
    if options.write is not None:
        options.write.write_text(json.dumps(asdict(costs)), "utf-8")
    print(
        f"a replica starts in {costs.start:.1f} s; a question takes "
        f"{1000 * statistics.fmean(costs.search):.0f} ms of search and "
        f"{1000 * statistics.fmean(costs.generate):.0f} ms of generation, a window "
        f"{1000 * statistics.fmean(costs.write):.0f} ms of writing; the process that asks takes "
        f"{1000 * costs.lines:.0f} ms for a group into JSONL, {1000 * costs.table:.0f} ms into a "
        f"table, {1000 * costs.keep:.1f} ms for a batch of replies, and Ray {1000 * costs.ray:.0f} "
        "ms for each\n"
    )
    show(batch_runs(costs, options.questions, options.server_per_s))
    print()
    show(dataset_runs(costs, options.passages, options.rules, options.again))


if __name__ == "__main__":
    main()
