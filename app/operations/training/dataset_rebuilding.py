"""A dataset version built once more from what its run recorded, and compared row by row.

The building happens in a scratch store beside the features, cases, answers and replies of the real
one: nothing is published, and nothing is left behind.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fti.app.operations.training.rebuild_contract import REBUILD_DATASET, Difference, Rebuild
from fti.app.operations.training.rebuilding import other_versions
from fti.app.settings import Settings
from fti.store.errors import ContractError, IntegrityError, StoreError
from fti.store.progress import Progress
from fti.store.store import Store
from fti.store.types import SPLITS, Case, ModelIdentity, RetrievalContract

if TYPE_CHECKING:
    from fti.app.build import Engines
    from fti.pipelines.feature.dataset.round_trip import RoundTrip
    from fti.pipelines.feature.dataset.sources.question_writing import Writer
    from fti.pipelines.feature.dataset.sources.reviewed import Review
    from fti.pipelines.inference.answering.retrieve import Retriever
    from fti.store.features.feature_store import FeatureStore
    from fti.store.features.filters import Condition
    from fti.store.types import DatasetVersion, Run

_NO_RERANKER = ModelIdentity(id="none")


@REBUILD_DATASET.enforced
def rebuild_dataset(settings: Settings, store: Store, ref: str, *, progress: Progress) -> Rebuild:
    """Build a version again from its features, cases, reviews, imports, replies and settings.

    Args:
        settings: the profile: it must name the embedder, reranker and writer of the version.
        store: where the version, its run and what it was made from lie.
        ref: the version.
        progress: told as questions become rows.

    Raises:
        DatasetNotFound, RunNotFound, VersionNotFound, CaseSetNotFound: something that it was made
            from is gone.
        IntegrityError: an imported file, or what the run kept, is not as it was then.
        ContractError: the profile's embedder, reranker or writer is another one.
        StoreError: an fti built it that did not keep what is needed, or it holds pairs.
    """
    inputs = {"dataset": ref}
    with store.runs.running("rebuild", pipeline="rebuild-dataset", inputs=inputs) as run:
        report = _again(settings, store, ref, progress)
        run.metrics.update(report.model_dump(mode="json", include={"equal", "seconds"}))
        run.status = "done" if report.equal else "partial"
    return report


def _again(settings: Settings, store: Store, ref: str, progress: Progress) -> Rebuild:
    from fti.app.build import Engines
    from fti.pipelines.feature.dataset.dataset_config import DatasetConfig
    from fti.pipelines.feature.dataset.instructions import build_dataset
    from fti.store.contracts.prompt_contract import PromptForm
    from fti.store.store import Store as Scratch

    version = store.datasets.get(ref)
    run = store.runs.get(version.run_id)
    _require_rebuildable(version, run)
    try:
        config = DatasetConfig.model_validate(dict(version.settings))
        form = PromptForm.model_validate(run.settings["form"])
    except ValidationError as error:
        first = error.errors()[0]
        raise StoreError(
            f"The settings that {version.ref} was built with are not understood: "
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}.",
            hint=f"Rebuild it with the fti that built it, version {run.code_version}.",
        ) from error
    engines = Engines(settings)
    _require_same(version, "embedder", version.embedder.model_dump(),
                  engines.embedder.identity.model_dump())  # fmt: skip
    _require_imports(version, run)
    cases, reviews = _cases(store, version, run), _reviews(store, version, run)
    writer, reader = _writer(settings, store, version, run, engines)
    retriever = _retriever(version, engines)
    began = time.monotonic()
    store.layout.checkpoints.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store.layout.checkpoints, prefix="rebuild-") as folder:
        scratch = Scratch(Path(folder))
        scratch.features, scratch.cases = store.features, store.cases
        scratch.answers, scratch.results = store.answers, store.results
        again = build_dataset(
            version.name,
            store=scratch,
            embedder=engines.embedder,
            retriever=retriever,
            config=config,
            form=form,
            cases=cases,
            reviews=reviews,
            imports=list(json.loads(run.inputs["imports_digests"])),
            writer=writer,
            round_trip=reader,
            at=version.features_version,
            where=_where(version),
            frozen_sets=[name for name in run.inputs["frozen_cases"].split(", ") if name],
            progress=progress,
        )
        differences = tuple(_differences(store, version, scratch, again))
        made = {entry.path: entry.sha256 for entry in again.files}
        files = {entry.path: made.get(entry.path) == entry.sha256 for entry in version.files}
    return Rebuild(
        ref=version.ref,
        equal=again.digest == version.digest,
        inputs={
            "features_version": str(version.features_version),
            "embedder": version.embedder.id,
            "run": run.id,
            "seed": str(config.seed),
            **{
                name: run.inputs[name]
                for name in (
                    "cases_digest",
                    "reviews_digest",
                    "imports",
                    "frozen_cases",
                    "writer",
                    "reader",
                )
                if run.inputs.get(name)
            },
        },
        differences=differences,
        circumstances=tuple(other_versions(run)),
        files=files,
        seconds=round(time.monotonic() - began, 3),
    )


def _require_rebuildable(version: DatasetVersion, run: Run) -> None:
    if version.kind != "instruction":
        raise StoreError(
            f"{version.ref} holds pairs, which are made of the rows of "
            f"{run.inputs.get('dataset', 'a dataset')}.",
            hint=f"Rebuild that: fti dataset rebuild {run.inputs.get('dataset', 'NAME/N')}",
        )
    if "form" not in run.settings or "cases_digest" not in run.inputs:
        raise StoreError(
            f"{version.ref} was built by an fti (version {run.code_version or 'unknown'}) that "
            "kept counts of its cases and reviews, and not these themselves.",
            hint=f"Build its next version: fti dataset build {version.name}",
        )


def _require_same(
    version: DatasetVersion, what: str, recorded: Mapping[str, Any], loaded: Mapping[str, Any]
) -> None:
    faults = [
        f"{key}: recorded {recorded.get(key)!r}, loaded {loaded.get(key)!r}"
        for key in dict.fromkeys((*recorded, *loaded))
        if recorded.get(key) != loaded.get(key)
    ]
    if faults:
        raise ContractError(
            f"{version.ref} was built with another {what} than the profile's: {'; '.join(faults)}.",
            hint="Rebuild it with the profile that it was built with.",
        )


def _require_imports(version: DatasetVersion, run: Run) -> None:
    from fti.pipelines.feature.dataset.sources.chats import source_digest

    for source, digest in json.loads(run.inputs["imports_digests"]).items():
        if source_digest(source) != digest:
            raise IntegrityError(
                f"{source!r}, which {version.ref} was built from, is not as it was then, or gone.",
                hint="Put the file back, or build the next version: "
                f"fti dataset build {version.name}",
            )


def _cases(store: Store, version: DatasetVersion, run: Run) -> list[Case] | None:
    from fti.pipelines.feature.dataset.instructions import CASES
    from fti.store.versioned.casesets import cases_digest

    if not run.inputs["cases_digest"]:
        return None
    cases = [Case.model_validate(row) for row in store.runs.attached(run.id, CASES)]
    if cases_digest(cases) != run.inputs["cases_digest"]:
        raise IntegrityError(
            f"The cases that run {run.id} kept of {version.ref} are not as it kept them.",
            hint="Restore the run from a backup.",
        )
    return cases


def _reviews(store: Store, version: DatasetVersion, run: Run) -> list[Review]:
    from fti.pipelines.feature.dataset.instructions import REVIEWS, reviews_digest
    from fti.pipelines.feature.dataset.sources.reviewed import Review

    if not run.inputs["reviews_digest"]:
        return []
    reviews = [Review.model_validate(row) for row in store.runs.attached(run.id, REVIEWS)]
    if reviews_digest(reviews) != run.inputs["reviews_digest"]:
        raise IntegrityError(
            f"The reviews that run {run.id} kept of {version.ref} are not as it kept them.",
            hint="Restore the run from a backup.",
        )
    return reviews


def _writer(
    settings: Settings, store: Store, version: DatasetVersion, run: Run, engines: Engines
) -> tuple[Writer | None, RoundTrip | None]:
    """What wrote questions then, and what read them again."""
    from fti.app.build import build_writer
    from fti.app.operations.training.dataset_building import writer_and_reader
    from fti.pipelines.engines.weights import BUILTIN_WRITER
    from fti.pipelines.feature.dataset.dataset_config import DatasetConfig

    if not run.inputs["writer"]:
        return None, None
    config = DatasetConfig.model_validate(dict(version.settings))
    settings = settings.model_copy(update={"dataset": config})
    recorded = json.loads(run.inputs["writer"])
    writer: Writer
    reader = None
    if recorded["id"] == BUILTIN_WRITER:
        writer, reader = writer_and_reader(settings, store, engines)
    else:
        writer = build_writer(settings, store, engines.embedder)
    _require_same(version, "writer", recorded, writer.identity.model_dump(mode="json"))
    if reader is not None:
        read_by = json.loads(run.inputs.get("reader") or "{}")
        _require_same(version, "reader", read_by, reader.identity.model_dump(mode="json"))
    return writer, reader


def _where(version: DatasetVersion) -> tuple[Condition, ...]:
    from fti.app.operations.training.dataset_building import documents_of

    agreed = version.retrieval
    return () if agreed is None else documents_of(agreed.collection, agreed.where)


def _retriever(version: DatasetVersion, engines: Engines) -> Callable[[FeatureStore], Retriever]:
    """What makes the retriever of then over a version of the features."""
    from fti.pipelines.inference.answering.retrieve import Retriever
    from fti.pipelines.inference.inference_config import RetrievalConfig

    agreed: RetrievalContract | None = version.retrieval
    config = RetrievalConfig()
    if agreed is not None:
        loaded = engines.reranker
        _require_same(
            version,
            "reranker",
            (agreed.reranker or _NO_RERANKER).model_dump(),
            (loaded.identity if loaded else _NO_RERANKER).model_dump(),
        )
        held = agreed.model_dump(exclude={"reranker"})
        config = RetrievalConfig(**held)

    def over(features: FeatureStore) -> Retriever:
        return Retriever(features, engines.embedder, engines.reranker, config)

    return over


def _differences(
    store: Store, version: DatasetVersion, scratch: Store, again: DatasetVersion
) -> Iterator[Difference]:
    """The first row of each split that is otherwise, and how many rows there are."""
    for split in SPLITS:
        before = list(store.datasets.rows(version.ref, split))
        after = list(scratch.datasets.rows(again.ref, split))
        for number, (one, other) in enumerate(zip(before, after, strict=False), start=1):
            if one != other:
                ours, theirs = one.model_dump(mode="json"), other.model_dump(mode="json")
                field = next(key for key in ours if ours[key] != theirs[key])
                yield Difference(
                    what=f"{split} row {number}: {field}",
                    recorded=ours[field],
                    rebuilt=theirs[field],
                )
                break
        if len(before) != len(after):
            yield Difference(what=f"{split} rows", recorded=len(before), rebuilt=len(after))
