"""The chunks of one version in memory, for searches that go on.

LanceDB finds the nearest of a few thousand vectors in the time that it takes to plan a query, and
plans one to read the rows of what words found. Held here, vectors are compared and rows are taken
in a tenth of that time. Words are still found by LanceDB's index.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fti.store.lance import indexing
from fti.store.lance.shapes import PASSAGE_COLUMNS, matrix
from fti.store.lance.word_query import best_by_words

#: Bytes of vectors up to which a table is held, 20,000 chunks of 384 dimensions. Their texts take
#: about half as much again. Beyond, an index finds them as quickly.
MOST_BYTES = 32 << 20

#: Chunks that are read in the time that one search by LanceDB takes longer than one here. Held is
#: what was searched so often that reading it would have cost no more: a command asks once, and a
#: store that is written to all the time is another version after a few searches.
_READ_AT_ONCE = 500

Row = dict[str, Any]


def cosine(
    vectors: NDArray[np.float32],
    query: NDArray[np.float32],
    known_lengths: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Cosine of each row with the query, from -1 to 1; 0 where either has no length.

    A product for each row by itself: equal vectors then have equal cosines wherever they lie and
    whatever else is compared, and no threads wait for one another, as those of one product of all
    rows do.

    Args:
        vectors: a row for each.
        query: of the same dimension.
        known_lengths: the rows' ``lengths``, where they are known.
    """
    of_rows = lengths(vectors) if known_lengths is None else known_lengths
    both = of_rows * lengths(query)
    safe = np.where(both > 0, both, np.float32(1.0))
    found: NDArray[np.float32] = np.where(both > 0, np.vecdot(vectors, query) / safe, 0.0)
    return found.clip(-1.0, 1.0).astype(np.float32)


def lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The Euclidean length of a vector, or of each row."""
    found: NDArray[np.float32] = np.sqrt(np.vecdot(vectors, vectors))
    return found


class HeldChunks:
    """All rows of a table of chunks at one version.

    Args:
        table: at that version; what it says must not change.
    """

    def __init__(self, table: Any) -> None:
        self._table = table
        columns = [*PASSAGE_COLUMNS, "vector"]
        read = table.search().select(columns).with_row_id(True).to_arrow()
        self._vectors = np.ascontiguousarray(matrix(read["vector"]))
        self._lengths = lengths(self._vectors)
        # In one block: a row is then taken without looking for the part that it lies in.
        self._rows = read.select(list(PASSAGE_COLUMNS)).combine_chunks()
        self._places = {key: at for at, key in enumerate(read["_rowid"].to_pylist())}

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def dimension(self) -> int:
        """Of the vectors."""
        return int(self._vectors.shape[1])

    def nearest(self, vector: NDArray[np.float32], k: int) -> list[Row]:
        """The rows nearest to a vector by cosine, with their ``similarity``; not in order.

        Those whose own vector has no direction are near nothing, and left out.
        """
        similarities = cosine(self._vectors, vector, self._lengths)
        similarities[self._lengths == 0] = -np.inf
        best = np.argpartition(-similarities, k - 1)[:k] if k < len(similarities) else None
        places = np.arange(len(similarities)) if best is None else best
        places = places[np.isfinite(similarities[places])]
        return self._taken(places, similarity=similarities[places])

    def matching(
        self, text: str, k: int, *, compared_with: NDArray[np.float32] | None = None
    ) -> list[Row]:
        """The rows that hold words of a text, with their ``text_score``; not in order.

        With a vector also their ``similarity`` to it.
        """
        found = best_by_words(self._table, text, k)
        places = np.array([self._places[key] for key in found["_rowid"].to_pylist()], np.int64)
        more: dict[str, Any] = {"text_score": found["_score"].to_numpy()}
        if compared_with is not None:
            more["similarity"] = cosine(self._vectors[places], compared_with, self._lengths[places])
        return self._taken(places, **more)

    def _taken(self, places: NDArray[np.int64], **more: NDArray[Any]) -> list[Row]:
        rows: list[Row] = self._rows.take(places).to_pylist()
        for name, values in more.items():
            for row, value in zip(rows, values.tolist(), strict=True):
                row[name] = value
        return rows


class Holding:
    """Which version of the chunks is held, if any: the one that is being searched often enough."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._table: Any = None
        self._searches = 0
        self._worth: int | None = None  # searches from which on; None: never
        # In one, so that threads see a table with its own chunks.
        self._held: tuple[Any, HeldChunks] | None = None

    def of(self, table: Any) -> HeldChunks | None:
        """The table's chunks where they are held; counts this search of them.

        Nobody waits for another to read them: whoever comes meanwhile searches by LanceDB.

        Args:
            table: at a version; another object for another version.
        """
        held = self._held
        if held is not None and held[0] is table:
            return held[1]
        if not self._lock.acquire(blocking=False):
            return None
        try:
            return self._read(table)
        finally:
            self._lock.release()

    def _read(self, table: Any) -> HeldChunks | None:
        if table is not self._table:
            self._table, self._searches, self._held = table, 0, None
            self._worth = _worth(table)
        self._searches += 1
        if self._worth is None or self._searches <= self._worth:
            return None
        held = HeldChunks(table)
        self._held = (table, held)
        return held


def _worth(table: Any) -> int | None:
    """Searches from which on a table is worth holding; None where it is too large."""
    rows, dimension = int(table.count_rows()), table.schema.field("vector").type.list_size
    if rows * dimension * 4 > MOST_BYTES or indexing.vector_index(table) != "exact":
        return None
    return 1 + rows // _READ_AT_ONCE
