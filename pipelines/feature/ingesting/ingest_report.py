"""What an ingest did, document by document where it matters."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from fti.store.features.validation import FeatureStatistics
from fti.store.types import Value


class NotTaken(Value):
    """A source that gave no passages, and why."""

    source: str
    reason: str


class Warned(Value):
    """A source that was taken, and what of it was not, or only with a reservation."""

    source: str
    reason: str


class IngestReport(Value):
    """What an ingest did.

    Every document is counted once, in ``added``, ``updated``, ``unchanged``, ``failed`` or
    ``empty``. ``skipped`` counts by kind what is not read on purpose: hidden files, formats that
    hold no text, what editors and systems leave behind; members of an archive when it is read.
    ``warnings`` are of documents that were added or updated now: what their readers left out or
    could not tell. Of the failed, ``waiting`` were not tried again: nothing has changed, and it is
    not time yet (``retry_at`` in the ledger). ``near_duplicates`` counts documents of the store
    that are marked as saying nearly the same as another. ``missing`` counts documents whose file is
    gone and that are still served; with ``delete_missing`` they are ``deleted`` instead. ``chunks``
    is how many the store holds now; ``statistics`` is of those that were committed.
    ``removed_versions`` of the features were too many and old (``store.history``).
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    failed: tuple[NotTaken, ...] = ()
    empty: tuple[NotTaken, ...] = ()
    skipped: Mapping[str, int] = Field(default_factory=dict)
    warnings: tuple[Warned, ...] = ()
    waiting: int = 0
    near_duplicates: int = 0
    missing: int = 0
    chunks: int = 0
    embedded_chunks: int = 0
    seconds: float = 0.0
    run: str = ""
    features_version: int = 0
    removed_versions: int = 0
    statistics: FeatureStatistics | None = None

    @property
    def succeeded(self) -> bool:
        """Whether any source was dealt with as asked."""
        counts = self.added + self.updated + self.unchanged + self.deleted
        return counts + len(self.empty) > 0
