"""From an answer to what made it: the passages, the model, the dataset behind the model."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from fti.store.answer_types import AbstentionReason, Answer, Feedback, Sampling, Thresholds
from fti.store.errors import (
    DatasetNotFound,
    DocumentNotFound,
    IntegrityError,
    ModelNotFound,
    RunNotFound,
)
from fti.store.logs.answers import Visible, everybodys
from fti.store.types import (
    SPLITS,
    DatasetVersion,
    ModelIdentity,
    Passage,
    RetrievalContract,
    Split,
    Value,
)

if TYPE_CHECKING:
    from fti.store.store import Store
    from fti.store.versioned.model_version import ModelVersion

Standing = Literal["stands", "changed", "deleted"]


class PassageLineage(Value):
    """A passage that an answer was shown.

    ``standing``: its text ``stands`` in the document as it is now, the document was ``changed``
    so that it does not, or it was ``deleted``.
    """

    number: int
    cited: bool
    quote: str = ""
    source: str
    title: str
    standing: Standing
    chunk_id: str
    document_id: str
    start: int
    end: int
    text: str
    similarity: float | None = None


class DatasetDocument(Value):
    """A document that a dataset version was made from, and the chunks that its rows rest on.

    ``state`` is the ledger's now, or "deleted"; the name of a deleted document is known only where
    a row shows a passage of it.
    """

    document_id: str
    source: str
    split: Split
    state: str
    chunks: tuple[str, ...] = ()


class DatasetLineage(Value):
    """The dataset version behind a model."""

    ref: str
    digest: str = ""
    features_version: int = 0
    documents: int = 0
    run: str = ""
    made_from: tuple[DatasetDocument, ...] = ()
    damaged: str = ""


class ModelLineage(Value):
    """The model that answered. For ``base`` there is no training behind it."""

    ref: str
    base: ModelIdentity
    contract_digest: str
    created_at: datetime | None = None
    run: str = ""
    dataset: DatasetLineage | None = None
    parent: str | None = None
    missing: str = ""


class AnswerLineage(Value):
    """How an answer came to be, and the settings that made it.

    ``asked_by`` is the run that asked, ``key`` the id of the API key. What an earlier fti did not
    log of the settings is empty.
    """

    answer: str
    created_at: datetime
    question: str
    asked: str = ""
    text: str
    abstained: bool
    abstention_reason: AbstentionReason | None
    finish_reason: str
    asked_by: str = ""
    key: str = ""
    collections: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    code_version: str = ""
    warnings: tuple[str, ...] = ()
    features_version: int
    features_now: int
    model: ModelLineage
    passages: tuple[PassageLineage, ...]
    retrieval: RetrievalContract | None = None
    thresholds: Thresholds | None = None
    engine: Mapping[str, Any] = Field(default_factory=dict)
    sampling: Sampling = Sampling()
    timings: dict[str, float]
    feedback: tuple[Feedback, ...] = ()


def trace_answer(store: Store, answer_id: str, *, visible: Visible = everybodys) -> AnswerLineage:
    """Follow an answer back to its model, dataset, run and passages.

    Args:
        store: the store.
        answer_id: the answer.
        visible: which answers there are for whoever looks.

    Raises:
        AnswerNotFound: no such answer was logged.
    """
    answer = store.answers.get(answer_id, visible=visible)
    quotes = {c.chunk_id: c.quote for c in answer.citations}
    return AnswerLineage(
        answer=answer.id,
        created_at=answer.created_at,
        question=answer.question,
        asked=answer.asked,
        text=answer.text,
        abstained=answer.abstained,
        abstention_reason=answer.abstention_reason,
        finish_reason=answer.finish_reason,
        asked_by=answer.run_id,
        key=answer.key,
        collections=answer.collections,
        where=answer.where,
        code_version=answer.code_version,
        warnings=answer.warnings,
        features_version=answer.features_version,
        features_now=store.features.version(),
        model=_model(store, answer),
        passages=tuple(
            PassageLineage(
                number=number,
                cited=p.chunk_id in quotes,
                quote=quotes.get(p.chunk_id, ""),
                source=p.source,
                title=p.heading,
                standing=_standing(store, p),
                chunk_id=p.chunk_id,
                document_id=p.document_id,
                start=p.start,
                end=p.end,
                text=p.text,
                similarity=p.similarity,
            )
            for number, p in enumerate(answer.passages, start=1)
        ),
        retrieval=answer.retrieval,
        thresholds=answer.thresholds,
        engine=answer.engine,
        sampling=answer.sampling,
        timings=dict(answer.timings),
        feedback=tuple(store.answers.feedback_of(answer.id)),
    )


def _standing(store: Store, passage: Passage) -> Standing:
    try:
        document = store.features.document(passage.document_id)
    except DocumentNotFound:
        return "deleted"
    return "stands" if passage.text in document.text else "changed"


def _model(store: Store, answer: Answer) -> ModelLineage:
    bare = ModelLineage(ref=answer.model, base=answer.base, contract_digest=answer.contract_digest)
    if "/" not in answer.model:  # base or extractive: no version of ours
        return bare
    try:
        version = store.models.get(answer.model)
    except ModelNotFound as error:  # removed from the registry since
        return bare.model_copy(update={"missing": error.message})
    return bare.model_copy(
        update={
            "created_at": version.created_at,
            "run": _run(store, version.run_id),
            "dataset": _dataset(store, version),
            "parent": version.parent,
        }
    )


def _run(store: Store, run_id: str) -> str:
    try:
        return store.runs.get(run_id).id
    except RunNotFound:
        return ""


def _dataset(store: Store, version: ModelVersion) -> DatasetLineage:
    try:
        dataset = store.datasets.get(version.dataset)
    except DatasetNotFound:  # removed since; the model still says what it was
        return DatasetLineage(ref=version.dataset, digest=version.dataset_digest)
    return DatasetLineage(
        ref=dataset.ref,
        digest=dataset.digest,
        features_version=dataset.features_version,
        documents=len({d for ids in dataset.documents.values() for d in ids}),
        run=dataset.run_id,
        **_made_from(store, dataset),
    )


def _made_from(store: Store, dataset: DatasetVersion) -> dict[str, Any]:
    """The documents of a dataset, with the chunks that its rows name."""
    chunks: dict[str, dict[str, None]] = {}
    sources: dict[str, str] = {}
    damaged = ""
    try:
        for split in SPLITS:
            for row in store.datasets.rows(dataset.ref, split):
                shown = {p.chunk_id: p.document_id for p in row.passages}
                sources |= {p.document_id: p.source for p in row.passages}
                for chunk in row.chunk_ids:
                    one = row.documents[0] if len(row.documents) == 1 else ""
                    owner = one or shown.get(chunk, "")
                    chunks.setdefault(owner, {})[chunk] = None
    except IntegrityError as error:
        damaged = error.message
    records = {record.id: record for record in store.features.records()}
    made_from = tuple(
        DatasetDocument(
            document_id=key,
            source=records[key].source if key in records else sources.get(key, ""),
            split=split,
            state=records[key].state if key in records else "deleted",
            chunks=tuple(chunks.get(key, ())),
        )
        for split in SPLITS
        for key in dataset.documents.get(split, ())
    )
    return {"made_from": made_from, "damaged": damaged}
