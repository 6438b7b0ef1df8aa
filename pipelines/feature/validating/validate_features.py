"""What landed against what is expected of it: found by pandera, counted, kept as a run.

It runs after an ingest and changes nothing: what an ingest must never store is refused there
(``store.features.validation``). This tells whether a corpus as a whole is what it should be, before
datasets and models are made of it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fti.pipelines.feature.validating.expectations import (
    EVERY,
    Expectations,
    ExpectationsConfig,
    FrameName,
    schema_of,
)
from fti.pipelines.feature.validating.feature_frames import Landed
from fti.pipelines.feature.validating.validation_report import Example, Finding, ValidationReport
from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.requirements import hours_since, seconds
from fti.store.errors import ConfigError, PostconditionFailed, StoreEmpty
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.store import Store
from fti.store.types import now

if TYPE_CHECKING:
    import pandas as pd

_EXAMPLES = 5
_SHOWN = 120  # characters of a value

VALIDATE = PipelineContract("validate")


@VALIDATE.precondition("Something was ingested", raises=StoreEmpty)
def has_landed(store: Store) -> None:
    """Of nothing, every expectation of each document would hold."""
    if not store.features.exists():
        raise StoreEmpty(
            f"The store {str(store.layout.root)!r} holds no documents to validate.",
            hint="Fill it with: fti ingest FOLDER",
        )


@VALIDATE.precondition("What is expected can be read", raises=ConfigError)
def can_be_read(config: ExpectationsConfig) -> None:
    """Every schema of it, before any document is looked at."""
    for collection, expected in config.read().items():
        for frame, written in expected.schemas():
            schema_of(collection, frame, written)


@VALIDATE.postcondition("What is called broken is broken by more than is tolerated")
def broken_is_broken(result: ValidationReport) -> None:
    """And counted once."""
    for one in result.findings:
        if one.broken != (one.share > one.tolerated):
            raise PostconditionFailed(
                f"{one.check!r} of {one.column!r} is called {'broken' if one.broken else 'kept'} "
                f"with {one.rows} of {one.of} rows, and {one.tolerated:.0%} are tolerated."
            )
    if result.broken != sum(one.broken for one in result.findings):
        raise PostconditionFailed(
            f"{result.broken} expectations are called broken, and "
            f"{sum(one.broken for one in result.findings)} findings are."
        )


VALIDATE.requires("age_h", "at most", "h", hours_since("validate"))
VALIDATE.requires("seconds_p95", "at most", "s", seconds("validate"))


@VALIDATE.enforced
def validate_features(
    *, store: Store, config: ExpectationsConfig, progress: Progress = quiet
) -> ValidationReport:
    """Hold the served features to the expectations, by collection, and keep what was found.

    Args:
        store: whose features; they are read as they are now.
        config: what is expected.
        progress: told after each frame.

    Raises:
        StoreEmpty: nothing was ingested.
        ConfigError: nothing is expected, or what is cannot be read.
    """
    began = time.monotonic()
    expected = config.read()
    version = store.features.version()
    settings = {"expectations": {n: one.model_dump(mode="json") for n, one in expected.items()}}
    inputs = {"features_version": str(version), "file": str(config.file or "")}
    with store.runs.running("validate", inputs=inputs, settings=settings) as run:
        landed = Landed(store.features.checkout(version), now())
        findings: list[Finding] = []
        warned: list[str] = []
        for number, (collection, one) in enumerate(expected.items()):
            progress(ProgressEvent("validate", number, len(expected), collection))
            findings += _of_collection(collection, one, landed, warned)
        progress(ProgressEvent("validate", len(expected), len(expected)))
        stats = landed.collection(None).iloc[0]
        report = ValidationReport(
            at=now(),
            features_version=version,
            documents=int(stats["documents"]),
            chunks=int(stats["chunks"]),
            expectations=sum(_count(s) for one in expected.values() for _, s in one.schemas()),
            broken=sum(finding.broken for finding in findings),
            findings=tuple(sorted(findings, key=lambda f: (not f.broken, -f.share))),
            warnings=tuple(warned),
            seconds=round(time.monotonic() - began, 3),
            run=run.id,
        )
        store.runs.attach(run.id, "findings", [f.model_dump(mode="json") for f in report.findings])
        run.metrics.update(
            report.model_dump(mode="json", exclude={"run", "findings", "warnings", "at"})
        )
        run.status = "partial" if report.broken else "done"
    return report


def _of_collection(
    name: str, expected: Expectations, landed: Landed, warned: list[str]
) -> Iterator[Finding]:
    collection = None if name == EVERY else name
    if collection is not None and collection not in landed.collections():
        yield Finding(
            collection=name, frame="collection", column="", check="there is such a collection",
            rows=1, of=1, tolerated=0.0, broken=True,
            examples=(Example(source=f"collection {name}", value="no source is in it"),),
        )  # fmt: skip
        return
    for frame, written in expected.schemas():
        rows: pd.DataFrame = getattr(landed, frame)(collection)
        schema = schema_of(name, frame, written)
        tolerated = 0.0 if frame == "collection" else expected.tolerated
        yield from _broken_by(rows, schema, name, frame, tolerated, warned)


def _broken_by(
    rows: pd.DataFrame,
    schema: Any,
    collection: str,
    frame: FrameName,
    tolerated: float,
    warned: list[str],
) -> Iterator[Finding]:
    """The checks that rows fail, as pandera tells them all at once."""
    from pandera.errors import SchemaErrors

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            schema.validate(rows, lazy=True)
            failures: list[dict[str, Any]] = []
        except SchemaErrors as error:
            failures = error.failure_cases.to_dict("records")
    warned += [f"{collection}, {frame}: {one.message}" for one in caught]
    uncoerced = {f["column"] for f in failures if str(f["check"]).startswith("coerce_dtype")}
    by_check: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for failure in failures:
        column, check = _text(failure["column"]), str(failure["check"])
        # What is of a wrong type is said once, and no check of its value can be made.
        of_wrong_type = failure["column"] in uncoerced and not check.startswith("coerce_dtype")
        if of_wrong_type and (check.startswith("dtype(") or _place(failure) is None):
            continue
        if check == "column_in_dataframe":
            column, check = str(failure["failure_case"]), "the column is there"
        by_check.setdefault((column, check), []).append(failure)
    for (column, check), failed in by_check.items():
        places = {_place(failure) for failure in failed}
        count = len(rows) if None in places else len(places)
        share = count / len(rows) if len(rows) else 1.0
        yield Finding(
            collection=collection,
            frame=frame,
            column=column,
            check=check,
            rows=count,
            of=len(rows),
            tolerated=tolerated,
            broken=share > tolerated,
            examples=tuple(_example(rows, failure) for failure in failed[:_EXAMPLES]),
        )


def _place(failure: Mapping[str, Any]) -> int | None:
    """The row that fails; None where it is the column."""
    found = failure["index"]
    return None if found is None or found != found else int(found)


def _example(rows: pd.DataFrame, failure: Mapping[str, Any]) -> Example:
    place = _place(failure)
    source = "all" if place is None else str(rows["source"].iloc[place])
    return Example(source=source, value=_text(failure["failure_case"])[:_SHOWN] or "missing")


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)


def _count(schema: Mapping[str, Any]) -> int:
    columns = schema.get("columns") or {}
    of_columns = sum(1 + len(column.get("checks") or ()) for column in columns.values())
    return of_columns + len(schema.get("checks") or ())
