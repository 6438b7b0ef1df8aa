"""Documents of the store that say nearly the same as one that came before them."""

from __future__ import annotations

from itertools import chain

from fti.pipelines.feature.ingesting.resemblance import read_signatures, similar_groups
from fti.store.features.feature_store import FeatureStore
from fti.store.lance.shapes import LedgerEntry


def mark_near_duplicates(features: FeatureStore, *, threshold: float) -> None:
    """Say in the ledger which document each of them resembles.

    Args:
        features: where the documents lie, with a signature each.
        threshold: estimated resemblance from which two are nearly the same.
    """
    ids, kept = features.signatures()
    groups = similar_groups(read_signatures(kept), threshold=threshold)
    alike = [[ids[i] for i in group] for group in groups if len(group) > 1]
    entries = {e.record.id: e for e in features.near_duplicate_lines()}
    entries |= features.entries(key for key in chain(*alike) if key not in entries)
    original: dict[str, str] = {}
    for group in alike:
        records = [entries[key].record for key in group if key in entries]
        # What is marked stays marked; of the others the one that came first is original.
        records.sort(key=lambda r: (bool(r.duplicate_of), r.ingested_at, r.source))
        original |= {r.id: records[0].source for r in records[1:]}
    features.note(
        [
            LedgerEntry(
                e.record.model_copy(update={"duplicate_of": original.get(key, "")}),
                e.file,
                e.file_hash,
                e.file_documents,
            )
            for key, e in entries.items()
            if e.record.duplicate_of != original.get(key, "")
        ]
    )
