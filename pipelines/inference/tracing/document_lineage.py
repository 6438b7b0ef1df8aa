"""From a document to what came of it, and what would have to be made anew without it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from fti.store.errors import DocumentNotFound
from fti.store.logs.answers import Visible, everybodys
from fti.store.types import Case, Split, Value, document_id, nfc

if TYPE_CHECKING:
    from fti.store.store import Store


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


def trace_document(
    store: Store, reference: str, *, visible: Visible = everybodys
) -> DocumentLineage:
    """Follow a document to its chunks, datasets, models and answers.

    Args:
        store: the store.
        reference: source, id or the end of the path. A deleted document is found by its exact
            source or id, or by the source as an answer names it.
        visible: which answers there are for whoever looks; others are not named.

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
        if visible(a)
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
        for maker in store.models.ancestry(model.ref)
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
    source, named = nfc(source), [nfc(name) for name in named]
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
    meant = nfc(reference)
    for record in store.features.records():
        if reference == record.id or meant == nfc(record.source):
            return record.id, record.source
    identities = {reference, document_id(reference)}
    for answer in store.answers.list():
        for passage in answer.passages:
            named = nfc(passage.source)
            if passage.document_id in identities or named == meant or named.endswith("/" + meant):
                return passage.document_id, passage.source
    known = {i for d in store.datasets.list() for ids in d.documents.values() for i in ids}
    match = sorted(identities & known)
    return (match[0], reference) if match else (document_id(reference), reference)
