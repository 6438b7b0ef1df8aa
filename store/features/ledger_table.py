"""The ledger as a table: a row per source, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fti.store.features.ledger import LedgerReader
from fti.store.tabular.value_tables import also_pandas, table_of_values
from fti.store.tabular.where import Where
from fti.store.types import SourceRecord

if TYPE_CHECKING:
    import pyarrow as pa


class LedgerTable:
    """The ledger of a feature store, for data frames."""

    def __init__(self, features: LedgerReader) -> None:
        self._features = features

    def to_arrow(
        self, columns: Sequence[str] | None = None, where: Where | None = None
    ) -> pa.Table:
        """The ledger as an Arrow table, in order of source; no rows before the first ingest.

        Args:
            columns: some of the fields of ``SourceRecord``; all without.
            where: only sources for which these conditions hold, as ``state=failed``; see
                ``tabular.value_tables``.

        Raises:
            InputError, InvalidFilter: a column or a condition does not exist.
        """
        records = self._features.records()
        return table_of_values(records, SourceRecord, columns=columns, where=where)

    to_pandas = also_pandas(to_arrow)
