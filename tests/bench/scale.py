"""How the store grows: index build time, recall, latencies, memory and disk by number of chunks.

    python -m tests.bench.scale --out FOLDER [--rows 10000 100000] [--million]

Chunks are synthetic. Vectors lie as those of texts do: topics of very different size (Zipf), each a
cloud of its own width in a space of few dimensions within the many, and some noise in all of them.
Questions are near a stored vector and not stored themselves. Words follow Zipf's law, with some of
each topic. Building, asking and changing run in a process of their own each, so that memory is
theirs alone. ``scale.json`` and ``scale.svg`` in FOLDER have the figures; they compare within one
run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fti.app.reports.charts import PALETTE
from fti.app.reports.markup import Markup, el
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.store.lance.shapes import DocumentUpdate, LedgerEntry
from fti.store.store import Store
from fti.store.types import (
    Chunk,
    Document,
    EmbedderIdentity,
    SourceRecord,
    document_id,
    now,
    sha256_hex,
)
from tests.support.processes import ROOT

DIMENSION, INNER = 384, 48  # of vectors, and of the space that topics differ in
CHUNKS = 20  # of a document
COMMIT = FeatureConfig().batch_chunks  # as an ingest commits them
QUESTIONS = 100
COMMITS = 10  # of one document each, where they are timed
IDENTITY = EmbedderIdentity(
    id="synthetic", weights_sha256="0" * 64, dimension=DIMENSION, max_tokens=256
)


class Vectors:
    """Unit vectors as texts have them."""

    def __init__(self, rows: int, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.topics = max(8, int(rows**0.5))
        basis = self.rng.normal(size=(INNER, DIMENSION)) / np.sqrt(DIMENSION)
        self.basis = basis.astype(np.float32)
        self.centres = self.rng.normal(size=(self.topics, INNER)).astype(np.float32)
        self.widths = self.rng.uniform(0.25, 0.7, self.topics).astype(np.float32)
        weights = 1 / np.arange(1, self.topics + 1)
        self.weights = weights / weights.sum()

    def draw(self, topics: NDArray[np.int64]) -> NDArray[np.float32]:
        """A vector of each of the topics."""
        inner = self.centres[topics] + self.widths[topics, None] * self.rng.normal(
            size=(len(topics), INNER)
        ).astype(np.float32)
        points = inner @ self.basis
        points += 0.02 * self.rng.normal(size=points.shape).astype(np.float32)
        found: NDArray[np.float32] = points / np.linalg.norm(points, axis=1, keepdims=True)
        return found.astype(np.float32)


def documents(rows: int) -> Iterator[list[DocumentUpdate]]:
    """Documents with so many chunks in all, a commit at a time."""
    made = Vectors(rows)
    words = np.array([f"word{n}" for n in range(20_000)])
    law = 1 / np.arange(1, len(words) + 1)
    law /= law.sum()
    for start in range(0, rows, COMMIT):
        count = min(COMMIT, rows - start) // CHUNKS
        topics = made.rng.choice(made.topics, count, p=made.weights)
        vectors = made.draw(np.repeat(topics, CHUNKS))
        chosen = made.rng.choice(words, (count * CHUNKS, 40), p=law)
        yield [
            _document(
                start // CHUNKS + n,
                [
                    f"topic{topic} {' '.join(line)} key{start + n * CHUNKS + c}"
                    for c, line in enumerate(chosen[n * CHUNKS : (n + 1) * CHUNKS])
                ],
                vectors[n * CHUNKS : (n + 1) * CHUNKS],
            )
            for n, topic in enumerate(topics)
        ]


def _document(number: int, texts: list[str], vectors: NDArray[np.float32]) -> DocumentUpdate:
    source = f"synthetic/{number:07}"
    text = "\n\n".join(texts)
    digest = sha256_hex(text)
    key = document_id(source)
    document = Document(
        id=key, source=source, title=source, text=text, content_hash=digest,
        media_type="text/plain",
    )  # fmt: skip
    chunks, at = [], 0
    for ordinal, part in enumerate(texts):
        chunks.append(
            Chunk(id=f"c{key[1:17]}{ordinal:08}", document_id=key, ordinal=ordinal, start=at,
                  end=at + len(part), text=part, content_hash=sha256_hex(part))
        )  # fmt: skip
        at += len(part) + 2
    record = SourceRecord(
        id=key, source=source, title=source, state="indexed", content_hash=digest,
        attempted_hash=digest, settings_digest="s", chunks=len(chunks), attempted_at=now(),
        ingested_at=document.ingested_at,
    )  # fmt: skip
    return DocumentUpdate(document, LedgerEntry(record, source, digest), tuple(chunks), vectors,
                          tuple(texts))  # fmt: skip


def build(folder: Path, rows: int) -> dict[str, Any]:
    """Write the chunks and build all indexes; times and what lies on the disk."""
    features = Store(folder).features
    features.create(IDENTITY)
    began = time.perf_counter()
    for batch in documents(rows):
        features.replace(batch)
    written, write_rss = time.perf_counter(), _rss()
    report = features.maintain(ann_threshold=1000, thoroughly=True)
    indexed = time.perf_counter()
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    return {
        "rows": report.rows,
        "write_s": written - began,
        "index_s": indexed - written,
        "index": report.vector_index,
        "disk_mb": size / 1e6,
        "write_rss_mb": write_rss,
        "build_rss_mb": _rss(),
    }


def edit(folder: Path, rows: int) -> dict[str, Any]:
    """Documents changed in a store that was built, one at a time: what each takes.

    Each loses a chunk, and each line of the ledger gets a new cause, as for a file that failed.
    """
    features = Store(folder).features
    before = itertools.islice(itertools.chain.from_iterable(documents(rows)), COMMITS)
    shorter = [
        replace(u, chunks=u.chunks[:-1], vectors=u.vectors[:-1], search_texts=u.search_texts[:-1])
        for u in before
    ]
    opened = _rss()
    seconds = []
    for update in shorter:
        began = time.perf_counter()
        features.replace([update])
        seconds.append(time.perf_counter() - began)
    noted = time.perf_counter()
    for update in shorter:
        record = update.entry.record.model_copy(update={"cause": "it was looked at"})
        features.note([replace(update.entry, record=record)])
    return {
        "edit_s": float(np.median(seconds)),
        "note_s": (time.perf_counter() - noted) / COMMITS,
        "edit_open_rss_mb": opened,
        "edit_rss_mb": _rss(),
    }


def ask(folder: Path, rows: int) -> dict[str, Any]:
    """Questions of each kind over a store that was built: latencies in ms, recall, memory."""
    from fti.store.lance.indexing import nearest

    features = Store(folder).features
    opened = _rss()
    made = Vectors(rows)
    topics = made.rng.choice(made.topics, QUESTIONS, p=made.weights)
    asked = made.draw(topics)
    table = features._searchable()
    found: dict[str, Any] = {"open_rss_mb": opened}

    def ids(exact: bool) -> list[set[str]]:
        return [
            set(
                nearest(table, v, 10, exact=exact)
                .select(["id", "_distance"])
                .to_arrow()["id"]
                .to_pylist()
            )
            for v in asked
        ]

    words = [f"topic{t} word{made.rng.integers(50, 5000)}" for t in topics]
    for n, text in enumerate(words):
        features.search_hybrid(text, asked[n], 10)
    found["search_rss_mb"] = _rss()  # before what no search of a large table does
    near = ids(exact=False)
    exact_began = time.perf_counter()
    truth = ids(exact=True)
    found["exact_ms"] = (time.perf_counter() - exact_began) / QUESTIONS * 1000
    found["recall@10"] = float(
        np.mean([len(a & b) / len(b) for a, b in zip(near, truth, strict=True)])
    )
    keys = [next(iter(one)) for one in truth]
    turns: dict[str, Callable[[int], Any]] = {
        "vector": lambda n: features.search_vector(asked[n], 10),
        "text": lambda n: features.search_text(words[n], 10),
        "hybrid": lambda n: features.search_hybrid(words[n], asked[n], 10),
        "lookup": lambda n: features.lookup([keys[n]]),
        "scan": lambda n: table.search().where(f"content_hash = '{n}'").limit(1).to_arrow(),
    }
    for name, turn in turns.items():
        seconds = []
        for n in range(QUESTIONS if name != "scan" else 20):
            began = time.perf_counter()
            turn(n)
            seconds.append(time.perf_counter() - began)
        p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1000
        found |= {f"{name}_p50_ms": float(p50), f"{name}_p99_ms": float(p99)}
    return found | {"ask_rss_mb": _rss()}


def _rss() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _in_a_process(step: str, folder: Path, rows: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.scale", "--step", step, "--store", str(folder),
         "--rows", str(rows)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


PANELS = (
    ("index build, s", ("index_s", "write_s")),
    ("query p50, ms", ("vector_p50_ms", "text_p50_ms", "hybrid_p50_ms", "lookup_p50_ms",
                       "exact_ms")),
    ("memory, MB", ("write_rss_mb", "build_rss_mb", "search_rss_mb", "ask_rss_mb",
                    "edit_rss_mb")),
    ("disk, MB", ("disk_mb",)),
    ("recall@10", ("recall@10",)),
)  # fmt: skip


def drawn(found: list[dict[str, Any]]) -> str:
    """A panel per kind of figure over the number of chunks; both axes by powers of ten."""
    width, height, left = 250, 230, 46
    parts: list[Markup] = [el("rect", width=width * len(PANELS), height=height, fill="#fff")]
    rows = np.log10([f["rows"] for f in found])
    across = (rows - rows.min()) / max(1e-9, float(np.ptp(rows)))
    for number, (title, names) in enumerate(PANELS):
        x0 = number * width + left
        values = np.array([[f[name] for f in found] for name in names], dtype=float)
        scaled = values if title.startswith("recall") else np.log10(np.maximum(values, 1e-2))
        low, high = (0.0, 1.0) if title.startswith("recall") else (scaled.min(), scaled.max())
        parts.append(el("text", title, x=x0, y=18, font_size=13, font_weight="bold"))
        for row, (name, line) in enumerate(zip(names, scaled, strict=True)):
            ys = 180 - 110 * (line - low) / max(1e-9, high - low)
            points = " ".join(
                f"{x0 + 150 * x:.1f},{y:.1f}" for x, y in zip(across, ys, strict=True)
            )
            parts.append(el("polyline", points=points, fill="none", stroke=PALETTE[row],
                            stroke_width=2))  # fmt: skip
            said = f"{name.removesuffix('_ms')} {values[row, 0]:.3g} → {values[row, -1]:.3g}"
            parts.append(el("text", said, x=x0, y=34 + 11 * row, font_size=10, fill=PALETTE[row]))
        for x, count in zip(across, found, strict=True):
            parts.append(el("text", f"{count['rows'] / 1000:g}k", x=f"{x0 + 150 * x - 8:.1f}",
                            y=205, font_size=11))  # fmt: skip
    svg = el("svg", el("title", "The store by number of chunks"), *parts,
             xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width * len(PANELS)} {height}",
             width=width * len(PANELS), height=height, font_family="sans-serif")  # fmt: skip
    return svg + "\n"


STEPS = {"build": build, "ask": ask, "edit": edit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--million", action="store_true", help="1,000,000 chunks too")
    parser.add_argument("--out", type=Path, default=Path("scale"))
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        print(json.dumps(STEPS[given.step](given.store, given.rows[0])))
        return
    found = []
    for rows in [*given.rows, *([1_000_000] if given.million else [])]:
        with tempfile.TemporaryDirectory(prefix="fti-scale-") as folder:
            store = Path(folder) / "store"
            figures: dict[str, Any] = {}
            for step in STEPS:
                figures |= _in_a_process(step, store, rows)
        found.append({k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()})
        print(json.dumps(found[-1]), flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "scale.json").write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    (given.out / "scale.svg").write_text(drawn(found), "utf-8")


if __name__ == "__main__":
    main()
