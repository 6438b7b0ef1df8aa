"""The life of the indexes over chunks: made, kept up to date, compacted, measured.

Rows that no index covers yet are still found, by a scan that scores them as the index would; so
indexing lags on purpose and runs when the lag or the number of fragments is worth it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fti.store.files.atomic import read_sealed, write_sealed
from fti.store.lance import memory
from fti.store.lance.library import lancedb
from fti.store.lance.shapes import matrix, matrix_of
from fti.store.progress import Progress, ProgressEvent
from fti.store.types import Value

# optimize() prunes too, and raises half-way when a tagged version is older than the prune age
# (LanceDB 0.40). An age that no version reaches makes it compact and index only.
NEVER = timedelta(days=36500)

#: Chunks from which on an approximate index pays: against an exact search of as many vectors of 384
#: dimensions the index below took 0.47 of the time at 20,000, and as long at 5,000, on one core
#: (``tests/bench/ann.py``). Below, an exact search is quick anyway and finds everything.
ANN_THRESHOLD = 20_000

_MAX_FRAGMENTS = 32
_MAX_LAG = 0.05  # share of rows outside the index
_SCALAR_FROM = 20_000  # rows; below, a scan of an id column takes milliseconds
_SAMPLE = 64  # questions that measure recall
_GROWN = 1.5  # times the rows of the last measurement of recall, from which on it is due again
_SCANNED = 4096  # vectors compared at a time
# IVF with scalar quantisation, rescored: on 20,000 clustered vectors of 384 dimensions it found all
# of the exact top 10, as IVF_PQ and IVF_HNSW_SQ did only with 10 candidates rescored and 70 times
# the time to build (``tests/bench/ann_sweep.json``). Of 100,000 vectors in partitions of 1,024
# rows, 20 probes took 0.7 of the time that 20 of the default's (4,096 rows) did, and found all as
# well; a larger table has a share of its partitions looked at: topics spread over more of them. Of
# a million, a sixth found all and took 1.1 of the time of an eighth, which found 0.975 of the
# answers to the questions of ``measure_recall``, and all near a stored vector.
_PARTITION_ROWS = 1024
# Partitions' centres are found by k-means on a sample, which is held in memory: as many vectors per
# centre as LanceDB takes by default, fewer where that would be many in all, and no fewer than FAISS
# warns about.
_MOST_PER_CENTRE, _LEAST_PER_CENTRE, _MOST_SAMPLED = 256, 39, 8192
_MIN_PROBES = 20
_PROBED = 1 / 6  # of the partitions
_REFINE = 4


class MaintenanceReport(Value):
    """What maintenance found and did. ``recall_at_10`` is the ANN index against exact search."""

    rows: int
    unindexed_rows: int
    optimized: bool
    vector_index: str
    recall_at_10: float | None = None


def ensure_text_index(table: Any) -> None:
    """Make the full-text index where there is none; on an empty table it costs nothing.

    ICU finds the words of any script and splits names such as ``fti.app.get`` and ``max_length`` as
    people search for them; stemming and stop words are English.
    """
    if not has_text_index(table):
        table.create_index(
            "search_text", config=lancedb().index.FTS(base_tokenizer="icu/split"), replace=False
        )


def has_text_index(table: Any) -> bool:
    """Whether words are searched by an index."""
    return any(list(i.columns) == ["search_text"] for i in table.list_indices())


def unindexed_rows(table: Any) -> int:
    """Rows of the chunk table that the full-text index does not cover yet."""
    counts = [
        int(i.num_unindexed_rows or 0)
        for i in table.list_indices()
        if list(i.columns) == ["search_text"]
    ]
    return counts[0] if counts else int(table.count_rows())


def vector_index(table: Any) -> str:
    """The kind of the vector index; "exact" when there is none."""
    kinds = [str(i.index_type) for i in table.list_indices() if list(i.columns) == ["vector"]]
    return kinds[0] if kinds else "exact"


def maintain(
    table: Any,
    *,
    ann_threshold: int,
    recall_file: Path,
    apart: Callable[[], Any],
    progress: Progress,
    thoroughly: bool = False,
) -> MaintenanceReport:
    """Bring the indexes of the chunk table up to date where that pays.

    Args:
        table: an open, writable chunk table.
        ann_threshold: rows from which on vectors are searched by an approximate index.
        recall_file: where the measured recall is kept.
        apart: opens the table for questions whose answers are not worth keeping.
        progress: told before each slow step.
        thoroughly: index every row.
    """
    ensure_text_index(table)
    rows = int(table.count_rows())
    indexed = {tuple(i.columns) for i in table.list_indices()}
    if rows >= _SCALAR_FROM:
        for column in ("id", "document_id"):
            if (column,) not in indexed:
                progress(ProgressEvent("index", 0, None, column))
                with memory.sparing():
                    table.create_index(column, config=lancedb().index.BTree(), replace=False)
    lag = unindexed_rows(table)
    fragments = int(table.stats()["fragment_stats"]["num_fragments"])
    due = lag > (0 if thoroughly else rows * _MAX_LAG) or fragments > _MAX_FRAGMENTS
    if due:
        progress(ProgressEvent("index", 0, None, "text"))
        with memory.sparing():
            table.optimize(cleanup_older_than=NEVER)
    # After compaction, which would write a vector index anew for the rows that it moves.
    built = rows >= ann_threshold and ("vector",) not in indexed
    if built:
        progress(ProgressEvent("index", 0, None, "vector"))
        with memory.sparing():
            _index_vectors(table, rows)
    recall = None
    if built or (("vector",) in indexed and _has_changed(rows, recall_file)):
        progress(ProgressEvent("index", 0, None, "recall"))
        with memory.sparing():
            recall = measure_recall(apart())
        write_sealed(recall_file, {"recall_at_10": recall, "rows": rows, "version": table.version})
    return MaintenanceReport(
        rows=rows,
        unindexed_rows=unindexed_rows(table),
        optimized=due,
        vector_index=vector_index(table),
        recall_at_10=recall,
    )


def _has_changed(rows: int, recall_file: Path) -> bool:
    """Whether the table is so much larger or smaller than when its recall was measured last.

    The partitions are those of the rows that the index was built from: what was measured then does
    not hold for a table of many others.
    """
    try:
        measured = int(read_sealed(recall_file)["rows"])
    except (OSError, ValueError, KeyError, TypeError):
        return True
    return rows >= measured * _GROWN or rows * _GROWN <= measured


def _index_vectors(table: Any, rows: int) -> None:
    config = lancedb().index.IvfSq(
        distance_type="cosine",
        target_partition_size=_PARTITION_ROWS,
        sample_rate=_sample_rate(rows),
    )
    table.create_index("vector", config=config, replace=False)


def _sample_rate(rows: int) -> int:
    """Vectors per partition that its centre is found with; all of them together are bounded."""
    return min(_MOST_PER_CENTRE, max(_LEAST_PER_CENTRE, _MOST_SAMPLED * _PARTITION_ROWS // rows))


def read_recall(recall_file: Path) -> float | None:
    """The recall of the vector index as it was measured last; None where none was kept."""
    try:
        return float(read_sealed(recall_file)["recall_at_10"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def compact(table: Any, *, keep: timedelta = NEVER) -> bool:
    """Merge fragments when there are many; versions older than ``keep`` go."""
    if int(table.stats()["fragment_stats"]["num_fragments"]) <= _MAX_FRAGMENTS:
        return False
    with memory.sparing():
        table.optimize(cleanup_older_than=keep)
    return True


def nearest(table: Any, vector: Any, k: int, *, exact: bool = False) -> Any:
    """A vector query over chunks, by the index where there is one, rescored with full vectors."""
    query = table.search(vector, vector_column_name="vector").distance_type("cosine").limit(k)
    if exact:
        return query.bypass_vector_index()
    partitions = int(table.count_rows()) / _PARTITION_ROWS
    probes = max(_MIN_PROBES, math.ceil(partitions * _PROBED))
    return query.nprobes(probes).refine_factor(_REFINE)


def measure_recall(table: Any, k: int = 10) -> float:
    """Mean share of the exact ``k`` nearest that the index finds.

    Asked are points half-way between two stored vectors: near the data, as questions are, but not
    stored themselves, which any index would find.
    """
    rows = int(table.count_rows())
    rng = np.random.default_rng(0)
    picks = rng.integers(0, rows, size=2 * _SAMPLE).tolist()
    stored = matrix(table.take_offsets(picks).select(["vector"]).to_arrow()["vector"])
    half = len(stored) // 2
    questions = stored[:half] + stored[half : 2 * half]
    shares = []
    for question, exact in zip(questions, nearest_of_all(table, questions, k), strict=True):
        rows_found = nearest(table, question, k).select(["id", "_distance"]).to_arrow()
        shares.append(len(exact & set(rows_found["id"].to_pylist())) / max(1, len(exact)))
    return float(np.mean(shares))


def nearest_of_all(table: Any, questions: NDArray[np.float32], k: int) -> list[set[str]]:
    """Ids of the ``k`` chunks with the largest cosine to each question, by one look at all vectors.

    A search without the index for each question would read the table as often, and hold it.

    Args:
        table: the chunks.
        questions: shape (questions, dimension).
        k: how many.
    """
    best = np.full((len(questions), 0), -np.inf, dtype=np.float32)
    ids = np.empty((len(questions), 0), dtype=object)
    for batch in table.search().select(["id", "vector"]).to_batches(_SCANNED):
        vectors = matrix_of(batch.column("vector"))
        lengths = np.linalg.norm(vectors, axis=1)
        cosines = (questions @ vectors.T) / np.where(lengths > 0, lengths, np.inf)
        of_batch = np.asarray(batch.column("id").to_pylist(), dtype=object)
        best = np.hstack([best, cosines])
        ids = np.hstack([ids, np.broadcast_to(of_batch, cosines.shape)])
        top = np.argpartition(-best, min(k, best.shape[1]) - 1, axis=1)[:, :k]
        best, ids = np.take_along_axis(best, top, axis=1), np.take_along_axis(ids, top, axis=1)
    return [set(row) for row in ids]
