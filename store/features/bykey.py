"""Rows of a table by their key, without a search.

Where each key lies is read once for a version of the table and kept in memory. With pylance (extra
``maintenance``) rows are then taken from the files themselves, which costs a third of LanceDB's way
through a query plan.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

from fti.store.features import search
from fti.store.features.opened import one_of

#: Keys whose places are remembered: about 20 MB.
MOST = 100_000


class RowsByKey:
    """The rows of one version of a table.

    Args:
        table: at that version.
        address: where it lies, as other tools open it.
        columns: what is read of each row.
    """

    def __init__(self, table: Any, address: str, columns: Sequence[str]) -> None:
        self._table = table
        self._columns = list(columns)
        self._take: Callable[[list[int]], list[dict[str, Any]]] | None = None
        self._places: dict[str, int] = {}
        if table.count_rows() <= MOST:
            self._take = self._by_offset(address) if has_pylance() else self._by_row_id()

    def rows(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """The rows that are there of these ids, each once."""
        wanted = list(dict.fromkeys(keys))
        if self._take is None:
            query = self._table.search().where(one_of("id", wanted)).limit(len(wanted))
            return search.rows(query.select(self._columns))
        found = [self._places[key] for key in wanted if key in self._places]
        return self._take(found) if found else []

    def _by_offset(self, address: str) -> Callable[[list[int]], list[dict[str, Any]]]:
        import lance

        dataset = lance.dataset(address, version=int(self._table.version))
        ids = dataset.to_table(columns=["id"])["id"].to_pylist()
        self._places = {key: at for at, key in enumerate(ids)}

        def take(places: list[int]) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = dataset.take(places, columns=self._columns).to_pylist()
            return found

        return take

    def _by_row_id(self) -> Callable[[list[int]], list[dict[str, Any]]]:
        ids = self._table.search().select(["id"]).with_row_id(True).to_arrow()
        pairs = zip(ids["id"].to_pylist(), ids["_rowid"].to_pylist(), strict=True)
        self._places = dict(pairs)
        return lambda places: search.rows(self._table.take_row_ids(places).select(self._columns))


def has_pylance() -> bool:
    """Whether the files of tables can be read beside LanceDB."""
    return importlib.util.find_spec("lance") is not None
