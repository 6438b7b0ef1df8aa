"""Lineage, both ways: from an answer to what made it, from a document to what came of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

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
    AbstentionReason,
    Answer,
    Case,
    DatasetVersion,
    Feedback,
    ModelIdentity,
    Passage,
    Sampling,
    Split,
    Value,
    document_id,
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
    """How an answer came to be."""

    answer: str
    created_at: datetime
    question: str
    asked: str = ""
    text: str
    abstained: bool
    abstention_reason: AbstentionReason | None
    finish_reason: str
    asked_by: str = ""
    features_version: int
    features_now: int
    model: ModelLineage
    passages: tuple[PassageLineage, ...]
    sampling: Sampling = Sampling()
    timings: dict[str, float]
    feedback: tuple[Feedback, ...] = ()


class ChunkLineage(Value):
    """A chunk as it lies in the store now."""

    chunk_id: str
    section: str
    start: int
    end: int


class DatasetUse(Value):
    """A dataset version that a document is in, and on which side of the split."""

    ref: str
    split: Split


class ModelUse(Value):
    """A model version made with a document: trained on it, or with it on a held-out side.

    ``dataset`` is the model's own or that of a version it goes back to; ``aliases`` point at it.
    """

    ref: str
    dataset: str
    split: Split
    aliases: tuple[str, ...] = ()


class AnswerUse(Value):
    """An answer that was shown passages of a document, and the batch or evaluation it is of."""

    answer: str
    created_at: datetime
    question: str
    cited: bool
    run: str = ""


class Rebuild(Value):
    """Something that would have to be made anew without a document, why, and by which command."""

    ref: str
    why: str
    command: str


class DocumentLineage(Value):
    """What came of a document. ``state`` is the ledger's, or "deleted".

    ``rebuild`` is what would have to be made anew to be without it, in the order to do so.
    """

    source: str
    document_id: str
    title: str = ""
    state: str
    cause: str = ""
    chunks: tuple[ChunkLineage, ...] = ()
    datasets: tuple[DatasetUse, ...] = ()
    models: tuple[ModelUse, ...] = ()
    answers: tuple[AnswerUse, ...] = ()
    case_sets: tuple[str, ...] = ()
    rebuild: tuple[Rebuild, ...] = ()


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


def ancestry(store: Store, ref: str) -> list[ModelVersion]:
    """A model version and those that its training went on from, newest first."""
    found: list[ModelVersion] = []
    following: str | None = ref
    while following:
        found.append(store.models.get(following))
        following = found[-1].parent
    return found


def trace_document(store: Store, reference: str) -> DocumentLineage:
    """Follow a document to its chunks, datasets, models and answers.

    Args:
        store: the store.
        reference: source, id or the end of the path. A deleted document is found by its exact
            source or id, or by the source as an answer names it.

    Raises:
        DocumentNotFound: nothing is known of such a document, or several match.
    """
    found = store.features.find_document(reference)
    if len(found) == 1:
        identity, source = found[0].id, found[0].source
    elif found:
        raise DocumentNotFound(
            f"{reference!r} means {len(found)} documents.",
            hint="Say which: " + ", ".join(r.source for r in found[:5]),
        )
    else:
        identity, source = _gone(store, reference)
    datasets = [
        DatasetUse(ref=dataset.ref, split=split)
        for dataset in store.datasets.list()
        for split, ids in dataset.documents.items()
        if identity in ids
    ]
    splits = {use.ref: use.split for use in datasets}
    answers = [
        AnswerUse(
            answer=a.id,
            created_at=a.created_at,
            question=a.question,
            cited=any(c.document_id == identity for c in a.citations),
            run=a.run_id,
        )
        for a in store.answers.by_document(identity)
    ]
    models = [
        ModelUse(
            ref=model.ref,
            dataset=maker.dataset,
            split=splits[maker.dataset],
            aliases=tuple(
                sorted(a for a, n in store.models.aliases(model.name).items() if n == model.version)
            ),
        )
        for model in store.models.list()
        for maker in ancestry(store, model.ref)
        if maker.dataset in splits
    ]
    case_sets = [
        version.ref
        for version in store.cases.list()
        if any(_means(case, source) for case in store.cases.cases(version.ref))
    ]
    record = next((r for r in store.features.records() if r.id == identity), None)
    if record is None and not datasets and not answers:
        store.features.document(reference)  # raises, naming near sources
        raise DocumentNotFound(f"No document {reference!r} was ingested.")
    return DocumentLineage(
        source=source,
        document_id=identity,
        title=record.title if record else "",
        state=record.state if record else "deleted",
        cause=record.cause if record else "",
        chunks=tuple(
            ChunkLineage(chunk_id=c.id, section=" > ".join(c.section), start=c.start, end=c.end)
            for c in store.features.chunks(identity)
        ),
        datasets=tuple(datasets),
        models=tuple(models),
        answers=tuple(answers),
        case_sets=tuple(case_sets),
        rebuild=tuple(_rebuilding(datasets, models, case_sets)),
    )


def _means(case: Case, source: str) -> bool:
    named = [name for name in (case.document, *case.relevant) if name]
    return any(source == name or source.endswith("/" + name.removeprefix("./")) for name in named)


def _rebuilding(
    datasets: Sequence[DatasetUse], models: Sequence[ModelUse], case_sets: Sequence[str]
) -> Iterator[Rebuild]:
    """What rests on a document: what was trained on it, and what was measured with it."""
    for ref in case_sets:
        name = ref.partition("/")[0]
        yield Rebuild(
            ref=f"cases {ref}",
            why="it asks for this document",
            command=f"fti cases freeze {name} CASES.jsonl",
        )
    for use in datasets:
        name = use.ref.partition("/")[0]
        yield Rebuild(
            ref=f"dataset {use.ref}",
            why=f"its {use.split} rows are made from this document",
            command=f"fti dataset build {name}",
        )
    seen: set[str] = set()
    for model in models:
        if model.ref in seen:
            continue
        seen.add(model.ref)
        name, data = model.ref.partition("/")[0], model.dataset.partition("/")[0]
        aimed = "".join(f", serves as {name}@{alias}" for alias in model.aliases)
        trained = any(m.split != "test" for m in models if m.ref == model.ref)
        yield Rebuild(
            ref=f"model {model.ref}",
            why=("trained on it" if trained else "measured with it, not trained on it") + aimed,
            command=f"fti finetune {data} --name {name}"
            if trained
            else f"fti evaluate CASES --model {model.ref}",
        )


def _gone(store: Store, reference: str) -> tuple[str, str]:
    """Id and source of a document that is served no more."""
    record = next((r for r in store.features.records() if reference in (r.id, r.source)), None)
    if record is not None:
        return record.id, record.source
    identities = {reference, document_id(reference)}
    for answer in store.answers.list():
        for passage in answer.passages:
            if passage.document_id in identities or passage.source.endswith("/" + reference):
                return passage.document_id, passage.source
    known = {i for d in store.datasets.list() for ids in d.documents.values() for i in ids}
    match = sorted(identities & known)
    return (match[0], reference) if match else (document_id(reference), reference)


class Span(Value):
    """A stretch of a text, in characters."""

    start: int
    end: int


class SourceView(Value):
    """What a citation points at.

    ``text`` is the passage as the answer was shown it, or as it stands now when no answer is
    named. ``quotes`` are the stretches of ``text`` that the answer repeats word for word;
    ``start``/``end`` place ``text`` in the document. ``before`` and ``after`` are what stands
    around it there; they are empty where the document no longer holds it.
    """

    chunk_id: str
    document_id: str
    document: str
    title: str
    section: tuple[str, ...]
    standing: Standing
    start: int
    end: int
    text: str
    quotes: tuple[Span, ...] = ()
    before: str = ""
    after: str = ""


def trace_source(
    store: Store,
    chunk_id: str,
    answer_id: str = "",
    *,
    around: int = 400,
    visible: Visible = everybodys,
) -> SourceView:
    """Look up what a citation points at.

    Args:
        store: where answers and documents lie.
        chunk_id: of the citation.
        answer_id: the answer that cites it: then the passage is found even when its document was
            changed or deleted since.
        around: how many characters of the document to give on either side.
        visible: which answers there are for whoever looks.

    Raises:
        AnswerNotFound: no such answer was logged.
        DocumentNotFound: there is no such chunk now, or the answer was not shown it.
    """
    quotes: tuple[Span, ...] = ()
    if answer_id:
        answer = store.answers.get(answer_id, visible=visible)
        passage = next((p for p in answer.passages if p.chunk_id == chunk_id), None)
        if passage is None:
            shown = ", ".join(p.chunk_id for p in answer.passages) or "none"
            raise DocumentNotFound(
                f"The answer {answer_id!r} was not shown the passage {chunk_id!r}.",
                hint=f"It was shown: {shown}.",
            )
        said = {c.quote for c in answer.citations if c.chunk_id == chunk_id and c.quote}
        places = sorted((passage.text.find(quote), len(quote)) for quote in said)
        quotes = tuple(Span(start=at, end=at + length) for at, length in places if at >= 0)
        document_id_, title, source = passage.document_id, passage.title, passage.source
        text, start, section = passage.text, passage.start, passage.section
    else:
        chunk, title, source = store.features.chunk(chunk_id)
        document_id_, text, start, section = (
            chunk.document_id, chunk.text, chunk.start, chunk.section,
        )  # fmt: skip
    standing, before, after = "deleted", "", ""
    with contextlib.suppress(DocumentNotFound):
        whole = store.features.document(document_id_).text
        at = start if whole.startswith(text, start) else whole.find(text)
        standing = "changed" if at < 0 else "stands"
        if at >= 0:
            start = at
            before = whole[max(0, at - around) : at]
            after = whole[at + len(text) : at + len(text) + around]
    return SourceView.model_validate(
        {
            "chunk_id": chunk_id,
            "document_id": document_id_,
            "document": source,
            "title": title,
            "section": section,
            "standing": standing,
            "start": start,
            "end": start + len(text),
            "text": text,
            "quotes": quotes,
            "before": before,
            "after": after,
        }
    )
