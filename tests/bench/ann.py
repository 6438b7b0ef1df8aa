"""From how many chunks on an approximate index pays, and which finds what an exact search does.

    python -m tests.bench.ann [--rows 10000 30000 100000] [--dimension 384] [--out FILE.json]

Vectors are drawn around centres, as texts lie around topics. Each index is built, and asked with
several numbers of probes and of candidates to rescore; a setting counts when it finds 0.98 of the
exact ten nearest. Latencies are medians of one process and compare within one run only: an index
pays where its quickest such setting is quicker than the exact search of the same table.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

WANTED = 0.98
QUESTIONS = 40


def vectors(rows: int, dimension: int, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors around ``rows / 50`` centres."""
    centres = rng.normal(size=(max(1, rows // 50), dimension))
    points = centres[rng.integers(0, len(centres), rows)]
    points = points + 0.6 * rng.normal(size=points.shape)
    found: np.ndarray = points / np.linalg.norm(points, axis=1, keepdims=True)
    return found.astype(np.float32)


def sweep(rows: int, dimension: int) -> list[dict[str, Any]]:
    """Every setting on a table of so many rows."""
    import lancedb
    import pyarrow as pa
    from lancedb.index import HnswSq, IvfFlat, IvfPq, IvfSq

    rng = np.random.default_rng(3)
    stored = vectors(rows, dimension, rng)
    picks = rng.integers(0, rows, size=(2, QUESTIONS))
    asked = stored[picks[0]] + stored[picks[1]] * 0.3
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        column = pa.FixedSizeListArray.from_arrays(pa.array(stored.ravel()), dimension)
        data = pa.table({"id": pa.array(range(rows)), "vector": column})
        table = lancedb.connect(folder).create_table("t", data)

        def ask(**options: int) -> tuple[list[set[int]], float]:
            answers, seconds = [], []
            for question in asked:
                query = table.search(question).distance_type("cosine").limit(10)
                for name, value in options.items():
                    query = getattr(query, name)(value)
                started = time.perf_counter()
                answers.append(set(query.select(["id", "_distance"]).to_arrow()["id"].to_pylist()))
                seconds.append(time.perf_counter() - started)
            return answers, float(np.median(seconds)) * 1000

        ask()  # the first questions read the file
        exact, exact_ms = ask()
        found.append({"rows": rows, "index": "exact", "recall": 1.0, "ms": exact_ms, "ratio": 1.0})
        for kind in (IvfFlat, IvfSq, IvfPq, HnswSq):
            started = time.perf_counter()
            table.create_index("vector", config=kind(distance_type="cosine"), replace=True)
            built = time.perf_counter() - started
            for probes in (10, 20, 40):
                for refine in (None,) if kind is IvfFlat else (1, 4, 10):
                    options = {"nprobes": probes} | ({"refine_factor": refine} if refine else {})
                    answers, ms = ask(**options)
                    shared = [len(a & b) / 10 for a, b in zip(answers, exact, strict=True)]
                    found.append({
                        "rows": rows, "index": kind.__name__, "probes": probes, "refine": refine,
                        "recall": round(float(np.mean(shared)), 4), "ms": ms,
                        "ratio": round(ms / exact_ms, 3), "build_s": round(built, 1),
                    })  # fmt: skip
    return found


def main() -> None:
    """Sweep every size, print what pays."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    everything = []
    for rows in options.rows:
        found = sweep(rows, options.dimension)
        everything += found
        good = sorted((f for f in found if f["recall"] >= WANTED), key=lambda f: f["ms"])
        print(f"{rows} rows, exact {found[0]['ms']:.1f} ms; at recall@10 of {WANTED} or more:")
        for row in good[:5]:
            print(
                f"  {row['index']:8} {row.get('probes', ''):>3} probes, refine "
                f"{row.get('refine')}: recall {row['recall']:.3f}, {row['ratio']:.2f} of exact"
            )
    if options.out:
        lines = ",\n".join(json.dumps(row) for row in as_ratios(everything))
        options.out.write_text(f"[\n{lines}\n]\n", "utf-8")


def as_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without times of one machine: building is compared with IvfSq."""
    base = {row["rows"]: row["build_s"] for row in rows if row["index"] == "IvfSq"}
    return [
        {name: value for name, value in row.items() if name not in ("ms", "build_s")}
        | (
            {"build_ratio": round(row["build_s"] / max(base[row["rows"]], 0.1), 1)}
            if "build_s" in row
            else {}
        )
        for row in rows
    ]


if __name__ == "__main__":
    main()
