"""Cases kept unchanged, to measure on now and later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fti.store.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from fti.store.store import Store
    from fti.store.versioned.casesets import CaseSetVersion


def freeze_cases(
    store: Store, name: str, *, file: Path | None = None, dataset: str | None = None
) -> CaseSetVersion:
    """Keep the cases of a file, or of a dataset's test split, as a case set.

    Raises:
        InputError: both are given, or neither.
    """
    from fti.pipelines.inference.evaluating.cases import cases_from_rows, load_cases

    if (file is None) == (dataset is None):
        raise InputError(
            "Name a case file or a dataset, one of the two.",
            hint=f"For example: fti cases freeze {name} CASES.jsonl",
        )
    if file is not None:
        return store.cases.freeze(name, load_cases(file), source=str(file))
    version = store.datasets.get(dataset or "")
    found = cases_from_rows(store.datasets.rows(version.ref, "test"), store.features.records())
    return store.cases.freeze(name, found, source=f"dataset {version.ref}, test split")
