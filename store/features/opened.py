"""What everything that reads or writes features stands on: the tables, opened at one version."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from fti.store.errors import PostconditionFailed, StoreEmpty, StoreError
from fti.store.files.layout import Layout
from fti.store.lance import shapes
from fti.store.lance.connection import Lance
from fti.store.lance.library import lancedb
from fti.store.lance.remembered import RememberedKeys
from fti.store.types import EmbedderIdentity

if TYPE_CHECKING:
    from lancedb.expr import Expr

#: What to do about a store without documents.
INGEST_HINT = "Ingest documents first: fti ingest PATH"


class OpenedFeatures:
    """The tables of one feature store. Opening is cheap and reads nothing.

    Args:
        layout: where the store lies.
        read_consistency_s: how old, in seconds, a reader's view may be.
        at: a version of the chunks to read as it was; such a store cannot be written.
        documents_at: the version of the documents that belongs to it, where that is known.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        read_consistency_s: float = 0.0,
        at: int | None = None,
        documents_at: int | None = None,
    ) -> None:
        self.layout = layout
        self._lance = Lance(
            layout.features,
            chunks=shapes.CHUNKS,
            max_age=timedelta(seconds=read_consistency_s),
            at=at,
            documents_at=documents_at,
            url=layout.features_url,
            guard=layout.require_writer,
        )
        # What is read off a table at one version, which never changes: each takes a round trip.
        self._passport: tuple[Any, EmbedderIdentity] | None = None
        self._filled: Any = None
        self._remembered: dict[str, RememberedKeys] = {}  # by the embedding cache's name

    def exists(self) -> bool:
        """Whether anything was ever ingested, even if nothing remains."""
        return self._lance.open(shapes.CHUNKS) is not None

    def require_version(self, version: int) -> None:
        """Make sure that readers see a version that was made, or a later one.

        Raises:
            PostconditionFailed: they see an earlier one.
        """
        seen = self.version()
        if seen < version:
            raise PostconditionFailed(
                f"Version {version} of the features was made, and readers see {seen}."
            )

    def version(self) -> int:
        """The version of the chunks as a reader sees them now; 0 when there are none."""
        if self._lance.at is not None:
            return self._lance.at
        table = self._lance.open(self._lance.chunks)
        return int(table.version) if table is not None else 0

    def identity(self) -> EmbedderIdentity | None:
        """Which embedder made the vectors; None before the first ingest."""
        if not self.exists():
            return None
        table = self._snapshot()
        held = self._passport
        if held is None or held[0] is not table:
            self._passport = held = (table, shapes.passport(table.schema))
        return held[1]

    # Inside

    def _snapshot(self) -> Any:
        table = self._lance.snapshot()
        if table is None:
            raise StoreEmpty(f"The store {str(self.layout.root)!r} is empty.", hint=INGEST_HINT)
        return table

    def _chunks_for_writing(self) -> Any:
        table = self._lance.to_change()
        if table is None:
            raise StoreEmpty(f"The store {str(self.layout.root)!r} is empty.", hint=INGEST_HINT)
        return table

    def _refuse_old(self) -> None:
        if self._lance.at is not None:
            raise StoreError(
                f"Version {self._lance.at} of the features is history; it cannot be written."
            )


def one_of(column: str, values: Iterable[str]) -> Expr:
    """The condition that a column holds one of the values, quoted as it must be."""
    return lancedb().expr.col(column).isin(list(values))
