"""Instruction datasets from the stored documents and from what people gave.

Documents are split before any example is made, near-duplicates on one side. Questions come from
the rules of ``questions``, from cases, from reviewed feedback, from a language model that must
quote, and from imported conversations; the passages around the gold one come from the retriever
that serves, in its order and with its mistakes, as many as serving shows. A row never shows a
passage of a document that is held out from its split, and no row to learn from asks what a frozen
case set asks. The parts are in ``fti.pipelines.feature.dataset``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence

from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.feature.dataset.asked import Asked, Tally, sampled, with_share
from fti.pipelines.feature.dataset.dataset_config import DatasetConfig
from fti.pipelines.feature.dataset.duplicates import FrozenQuestions, decontaminated, unique
from fti.pipelines.feature.dataset.masking import masked_rows
from fti.pipelines.feature.dataset.round_trip import RoundTrip
from fti.pipelines.feature.dataset.rows import RowBuilder, ServingRetriever
from fti.pipelines.feature.dataset.sources.chats import from_chats, load_chats, source_digest
from fti.pipelines.feature.dataset.sources.given import from_cases
from fti.pipelines.feature.dataset.sources.question_writing import Estimate, Writer
from fti.pipelines.feature.dataset.sources.reviewed import Review, accepted
from fti.pipelines.feature.dataset.sources.rules import from_chunks
from fti.pipelines.feature.dataset.splits import apart, split_documents
from fti.pipelines.feature.dataset.statistics import row_statistics
from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.prompt_contract import PromptForm, TokenCounter
from fti.store.contracts.requirements import memory, seconds
from fti.store.errors import EmbedderMismatch, InputError, PostconditionFailed, StoreEmpty
from fti.store.features.feature_store import FeatureStore
from fti.store.features.filters import Where
from fti.store.progress import Progress, quiet
from fti.store.store import Store
from fti.store.types import SPLITS, Case, DatasetVersion, sha256_hex
from fti.store.versioned.casesets import cases_digest

DATASET = PipelineContract("dataset")
#: What a run of ``build_dataset`` keeps whole, since it lies nowhere else: see ``RunLog.attached``.
CASES, REVIEWS = "cases", "reviews"


@DATASET.precondition("The embedder made the store's vectors", raises=EmbedderMismatch)
def same_embedder(store: Store, embedder: Embedder) -> None:
    """The passages around the gold one are those that its search finds."""
    store.features.require_identity(embedder.identity)


@DATASET.precondition("Documents were ingested, or conversations are given", raises=StoreEmpty)
def has_documents(store: Store, imports: Sequence[str]) -> None:
    """There is something to make rows from."""
    if not imports:
        _require_documents(store)


def _require_documents(store: Store) -> None:
    """There is something to make questions from."""
    if not store.features.exists() or not store.features.stats().chunks:
        raise StoreEmpty(
            "There are no documents to build a dataset from.",
            hint="Ingest some first: fti ingest PATH",
        )


@DATASET.postcondition("No document stands in two splits")
def splits_apart(result: DatasetVersion) -> None:
    """What is evaluated on was not trained on."""
    home: dict[str, str] = {}
    for split, documents in result.documents.items():
        for document in documents:
            if home.setdefault(document, split) != split:
                raise PostconditionFailed(
                    f"Document {document!r} stands in the splits {home[document]!r} and {split!r} "
                    f"of {result.ref}."
                )


@DATASET.postcondition("No training row shows a passage of a document that is held out")
def nothing_held_out_is_shown(store: Store, result: DatasetVersion) -> None:
    """Text that is evaluated on never trains, not as a distractor either."""
    held_out = {d for split in ("validation", "test") for d in result.documents.get(split, ())}
    for row in store.datasets.rows(result.ref, "train"):
        other = next((p for p in row.passages if p.document_id in held_out), None)
        if other is not None:
            raise PostconditionFailed(
                f"The training row {row.id!r} of {result.ref} shows {other.source!r}, which is "
                "held out."
            )


DATASET.requires("seconds_p95", "at most", "s", seconds("dataset"))
DATASET.requires("memory_mb", "at most", "MB", memory("dataset"))


@DATASET.enforced
def build_dataset(
    name: str,
    *,
    store: Store,
    embedder: Embedder,
    retriever: Callable[[FeatureStore], ServingRetriever],
    config: DatasetConfig,
    form: PromptForm,
    cases: Sequence[Case] | None = None,
    reviews: Sequence[Review] = (),
    imports: Sequence[str] = (),
    writer: Writer | None = None,
    round_trip: RoundTrip | None = None,
    counter: TokenCounter | None = None,
    tokenizer: str = "",
    at: int | None = None,
    where: Where | None = None,
    frozen_sets: Sequence[str] | None = None,
    progress: Progress = quiet,
) -> DatasetVersion:
    """Make instruction examples from the stored chunks and publish them as the next version.

    The same store, cases, feedback, imports, replies, seed and settings give the same digest. The
    run keeps them, by digest or whole, so that ``fti dataset rebuild`` can make the version again.

    Args:
        name: of the dataset.
        store: where from and where to.
        embedder: the one that made the store's vectors.
        retriever: what finds passages at serving, over a version of the store.
        config: how.
        form: renders ``messages`` and ``response``; fine-tuning composes again from the parts.
        cases: questions with their answers; each follows the split of its document.
        reviews: reviewed feedback; what was accepted becomes rows.
        imports: files, folders or Hub datasets of conversations.
        writer: the language model that writes questions too; None: only the rules do.
        round_trip: asks a reader what the writer wrote, and keeps what it answers alike; None: what
            is written is kept unread.
        counter: counts tokens for the statistics, as the model to train does; None: none are kept.
        tokenizer: which tokenizer that is.
        at: the version of the features to build from; None: what the store holds now.
        where: build from the passages alone for which these conditions hold; the retriever should
            search no others either.
        frozen_sets: versions of case sets that nothing to learn from may ask; None: all there are.
        progress: told as questions become rows.

    Raises:
        InvalidName: ``name`` is not a plain name.
        StoreEmpty: nothing was ingested, and no conversations are given.
        EmbedderMismatch: the store's vectors come from another embedder.
        InputError: no row could be made; says what was left out and why. What a source raises.
    """
    store.datasets.check_name(name)
    version = store.features.version() if at is None else at
    frozen = FrozenQuestions(store.cases, config, frozen_sets) if config.decontaminate else None
    inputs = {
        "features_version": str(version),
        "cases": str(len(cases or ())),
        "cases_digest": "" if cases is None else cases_digest(cases),
        "reviews": str(len(reviews)),
        "reviews_digest": reviews_digest(reviews) if reviews else "",
        "imports": ", ".join(imports),
        "imports_digests": json.dumps({source: source_digest(source) for source in imports}),
        "frozen_cases": ", ".join(frozen.versions) if frozen else "",
        "embedder": embedder.identity.digest,
        "writer": "" if writer is None else writer.identity.model_dump_json(),
        "reader": "" if round_trip is None else round_trip.identity.model_dump_json(),
    }
    settings = config.model_dump(mode="json")
    made_with = settings | {"form": form.model_dump(mode="json")}
    with store.runs.running("dataset", inputs=inputs, settings=made_with) as run:
        if cases is not None:
            store.runs.attach(run.id, CASES, [case.model_dump(mode="json") for case in cases])
        if reviews:
            store.runs.attach(run.id, REVIEWS, [one.model_dump(mode="json") for one in reviews])
        # Conversations may be all there is.
        features = store.features.checkout(version) if store.features.exists() else store.features
        documents = list(features.documents()) if features.exists() else []
        chunks = features.chunks()
        if where and chunks:
            inside = set(features.to_arrow(["id"], where)["id"].to_pylist())
            chunks = [chunk for chunk in chunks if chunk.id in inside]
            named = {chunk.document_id for chunk in chunks}
            documents = [document for document in documents if document.id in named]
        tally = Tally()
        # Before anything that takes long: it may refuse.
        chats = [c for source in imports for c in load_chats(source, tally)]
        split_of = split_documents(documents, config)
        asked: list[Asked] = []
        if cases:
            asked += from_cases(cases, features, split_of, chunks, tally, progress)
        asked += [
            one.asked
            for one in accepted(
                reviews, store=store, split_of=split_of, config=config, form=form, tally=tally
            )
        ]
        asked += from_chats(chats, config, tally)
        if writer is not None:
            by_document = {d.id: d for d in documents}
            asked += writer.write(apart(chunks, split_of), by_document, split_of, tally, progress)
        if config.synthetic == "always" or (config.synthetic == "without_cases" and not cases):
            asked += from_chunks(documents, chunks, split_of, config, tally, progress)
        chats_given = _chats(asked)
        asked = unique(asked, config, tally)
        tally.imported["asked_before"] += chats_given - _chats(asked)
        contaminated: Counter[str] = Counter()
        if frozen:
            chats_given = _chats(asked)
            asked, contaminated = decontaminated(asked, frozen, tally)
            tally.imported["in_frozen_cases"] += chats_given - _chats(asked)
        asked = sampled(with_share(asked, config, tally), config, tally)
        by_id = {c.id: c for c in chunks}
        serving = retriever(features) if features.exists() else None
        builder = RowBuilder(serving, config, form, split_of, by_id, documents, tally)
        if round_trip is not None and serving is not None:
            asked = round_trip.consistent(asked, builder, tally, progress, at=version)
        rows = builder.build(asked, progress)
        tally.imported["used"] = sum(row.kind == "chat" for part in rows.values() for row in part)
        if config.mask:
            rows = masked_rows(rows, config.mask, form, tally)
        if not any(rows.values()):
            raise InputError(
                f"No row could be made from {len(documents)} documents"
                + (f" and {len(cases)} cases" if cases else "")
                + f"; left out: {_counts(tally.left_out) or 'nothing was found'}.",
                hint="Ingest documents with running text, or give cases that they answer.",
            )
        statistics = {
            "filters": tally.filters,
            "frozen_cases": {"sets": frozen.versions if frozen else [], "found": contaminated},
            "masked": dict(sorted(tally.masked.items())),
            "sources": tally.sources,
        }
        if counter is not None:
            statistics |= row_statistics(rows, counter, tokenizer=tokenizer)
        dataset = store.datasets.publish(
            name,
            rows=rows,
            features_version=version,
            embedder=embedder.identity,
            retrieval=None if serving is None else serving.contract,
            prompt_digest=form.digest,
            run_id=run.id,
            settings=settings,
            statistics=statistics,
            documents={
                split: [d.id for d in documents if split_of[d.id] == split] for split in SPLITS
            },
        )
        run.outputs["dataset"] = dataset.ref
        run.metrics.update(
            rows=dict(dataset.rows),
            kinds=dict(dataset.kinds),
            styles=dict(sorted(tally.styles.items())),
            rejected=dict(sorted(tally.rejected.items())),
            cases=dict(sorted(tally.cases.items())),
            sources=tally.sources,
            gold_inserted=tally.gold_inserted,
            filters=tally.filters,
            contaminated=dict(sorted(contaminated.items())),
            masked=dict(sorted(tally.masked.items())),
        )
    return dataset


def reviews_digest(reviews: Sequence[Review]) -> str:
    """sha256 of reviews in their order."""
    return sha256_hex("\n".join(review.model_dump_json() for review in reviews))


def estimate_writing(store: Store, writer: Writer, config: DatasetConfig) -> Estimate:
    """What a language model will take at most to write about the stored passages.

    Raises:
        StoreEmpty: nothing was ingested.
    """
    _require_documents(store)
    documents = list(store.features.documents())
    chunks = apart(store.features.chunks(), split_documents(documents, config))
    return writer.estimate(chunks, {d.id: d for d in documents})


def _chats(asked: Sequence[Asked]) -> int:
    return sum(one.kind == "chat" for one in asked)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counter.most_common(6))
