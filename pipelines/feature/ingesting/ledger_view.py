"""What the ledger says when an ingest begins, and what that means for each file.

A file is read again when its bytes, the settings or the collection are others than its lines say,
and not before its time where it failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.store.features.feature_store import FeatureStore
from fti.store.features.ledger import LedgerLines
from fti.store.lance.shapes import LedgerEntry
from fti.store.types import SourceRecord, document_id, now

# What failed for a reason that may pass is tried again after a minute, then after twice as long
# each time, at last once a day.
_FIRST_RETRY = timedelta(minutes=1)
_LAST_RETRY = timedelta(days=1)


class LedgerView:
    """The ledger as it was before a run's first batch, seen with the settings of the run.

    Args:
        embedder: part of what must agree for a document to be current.
        config: likewise.
        collection: what documents come into; None leaves them in theirs.
        retry_failed: try again what failed before, although nothing has changed.
    """

    def __init__(
        self,
        embedder: Embedder,
        config: FeatureConfig,
        collection: str | None = None,
        retry_failed: bool = False,
    ) -> None:
        self.collection = collection
        self.digest = config.digest(embedder.identity)
        self.lines = LedgerLines()
        self.broken: frozenset[str] = frozenset()
        self.fresh = False  # whether every file is taken, unchanged or not
        self._taking = config.taking_digest(embedder.identity)
        self._retry_failed = retry_failed
        self._began_at = now()

    def read(self, features: FeatureStore) -> None:
        """Look at the ledger, once what a crash left half written is found."""
        self.broken = features.heal().broken
        self.lines = features.lines()

    def is_unchanged(self, entries: Sequence[LedgerEntry], file_hash: str) -> bool:
        """Whether nothing of a file with these lines and bytes is to be taken."""
        return (
            not self.fresh
            and bool(entries)
            and len(entries) == max(e.file_documents for e in entries)
            and all(
                self.waits(e.record, file_hash)
                if e.record.state == "failed"
                else e.file_hash == file_hash and self.is_current(e.record)
                for e in entries
            )
        )

    def waits(self, record: SourceRecord, file_hash: str) -> bool:
        """Whether a source failed on these bytes, taken in this way, and is not to be tried yet."""
        return (
            record.state == "failed"
            and not self._retry_failed
            and bool(file_hash)
            and record.attempted_hash == file_hash
            and record.attempted_settings == self._taking
            and (record.retry_at is None or record.retry_at > self._began_at)
        )

    def is_current(self, record: SourceRecord) -> bool:
        """Whether a document lies in the store as this run would bring it in."""
        return (
            record.settings_digest == self.digest
            and record.id not in self.broken
            and self.collection in (None, record.collection)
        )

    def collection_of(self, before: SourceRecord | None) -> str:
        """The collection that a document comes into: the one named now, else the one it is in."""
        if self.collection is not None:
            return self.collection
        return before.collection if before else ""

    def served(self, entries: Sequence[LedgerEntry]) -> dict[str, str]:
        """By document id the content that the store holds, be it from before the file failed."""
        return {
            e.record.id: e.record.content_hash
            for e in entries
            if not self.fresh
            and self.is_current(e.record)
            and (e.record.chunks > 0 or e.record.state == "empty")
        }

    def failure(
        self,
        source: str,
        entries: Sequence[LedgerEntry],
        file_hash: str,
        reason: str,
        *,
        transient: bool = False,
        file: str = "",
        file_documents: int = 1,
    ) -> LedgerEntry:
        """The line of a source that could not be taken; it keeps what is still served of it.

        ``file`` is the archive that the source lies in, with so many documents; without it the
        source is itself a file.
        """
        key = document_id(source)
        before = next((e for e in entries if e.record.id == key), None)
        again = before is not None and before.record.attempted_hash == file_hash
        attempts = before.record.attempts + 1 if before and again else 1
        pause = min(_FIRST_RETRY * 2 ** min(attempts - 1, 20), _LAST_RETRY)
        failure = {
            "state": "failed",
            "cause": reason,
            "attempted_hash": file_hash,
            "attempted_at": now(),
            "attempts": attempts,
            "retry_at": now() + pause if transient else None,
            "attempted_settings": self._taking,
        }
        if before:
            record = before.record.model_copy(update=failure)
            count = file_documents if file else before.file_documents
            return LedgerEntry(record, before.file, before.file_hash, count)
        title = source.rsplit("/", 1)[-1]
        record = SourceRecord.model_validate(
            {
                "id": key,
                "source": source,
                "title": title,
                "collection": self.collection or "",
                **failure,
            }
        )
        return LedgerEntry(record, file or source, "", file_documents)
