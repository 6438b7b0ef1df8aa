"""What is different between two dataset versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fti.store.errors import InputError
from fti.store.store import Store
from fti.store.types import (
    SPLITS,
    DatasetVersion,
    InstructionExample,
    PreferenceExample,
    Split,
    Value,
)


class RowSample(Value):
    """A row by its question and what it teaches."""

    id: str
    split: Split
    kind: str
    question: str
    response: str


class DatasetDifference(Value):
    """What the second version has and the first has not, and the other way.

    Rows are told apart by their id, which stands for question, answer and passages. ``changed``
    counts questions that both ask and that have another answer or other passages now; they are
    among ``added`` and ``removed`` too. Documents are named by source where it is known.
    """

    first: str
    second: str
    same_digest: bool
    added: int
    removed: int
    kept: int
    changed: int
    moved_rows: int
    rows: Mapping[str, tuple[int, int]]
    kinds: Mapping[str, tuple[int, int]]
    settings: Mapping[str, tuple[Any, Any]]
    documents_added: tuple[str, ...]
    documents_removed: tuple[str, ...]
    documents_moved: Mapping[str, tuple[str, str]]
    added_samples: tuple[RowSample, ...]
    removed_samples: tuple[RowSample, ...]


def compare(store: Store, first: str, second: str, *, samples: int = 3) -> DatasetDifference:
    """Compare two versions of one kind.

    Args:
        store: theirs.
        first: the version to compare with.
        second: the version that is asked about.
        samples: rows to give of what was added and of what was removed.

    Raises:
        DatasetNotFound: there is no such version; says what there is.
        InputError: one holds instruction rows and the other preference pairs.
        IntegrityError: the files are not as published.
    """
    one, other = store.datasets.get(first), store.datasets.get(second)
    if one.kind != other.kind:
        raise InputError(
            f"{one.ref} is of kind {one.kind} and {other.ref} of kind {other.kind}: their rows "
            "cannot be compared.",
            hint="Choose two of one kind: fti dataset list",
        )
    before, now = _rows(store, one), _rows(store, other)
    added = [row for i, row in now.items() if i not in before]
    removed = [row for i, row in before.items() if i not in now]
    homes, homes_now = _homes(one), _homes(other)
    names = {r.id: r.source for r in store.features.records()}
    return DatasetDifference(
        first=one.ref,
        second=other.ref,
        same_digest=one.digest == other.digest,
        added=len(added),
        removed=len(removed),
        kept=len(now) - len(added),
        changed=len({r.question for r in added} & {r.question for r in removed}),
        moved_rows=sum(i in now and now[i].split != row.split for i, row in before.items()),
        rows={s: (one.rows.get(s, 0), other.rows.get(s, 0)) for s in SPLITS},
        kinds={
            kind: (one.kinds.get(kind, 0), other.kinds.get(kind, 0))
            for kind in sorted({*one.kinds, *other.kinds})
        },
        settings={
            key: (one.settings.get(key), other.settings.get(key))
            for key in sorted({*one.settings, *other.settings})
            if one.settings.get(key) != other.settings.get(key)
        },
        documents_added=tuple(sorted(names.get(d, d) for d in homes_now if d not in homes)),
        documents_removed=tuple(sorted(names.get(d, d) for d in homes if d not in homes_now)),
        documents_moved={
            names.get(d, d): (split, homes_now[d])
            for d, split in sorted(homes.items())
            if d in homes_now and homes_now[d] != split
        },
        added_samples=tuple(map(_sample, added[:samples])),
        removed_samples=tuple(map(_sample, removed[:samples])),
    )


def _rows(
    store: Store, version: DatasetVersion
) -> dict[str, InstructionExample | PreferenceExample]:
    return {row.id: row for split in SPLITS for row in store.datasets.examples(version.ref, split)}


def _homes(version: DatasetVersion) -> dict[str, str]:
    return {document: split for split, ids in version.documents.items() for document in ids}


def _sample(row: InstructionExample | PreferenceExample) -> RowSample:
    response = row.chosen_response if isinstance(row, PreferenceExample) else row.response
    return RowSample(
        id=row.id, split=row.split, kind=row.kind, question=row.question, response=response.strip()
    )
