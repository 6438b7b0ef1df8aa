"""Questions with the passage that answers them and passages that nearly do: rows for an embedder.

The hard negatives are what the live search puts near a question and what does not answer it: the
mistakes that training is to unlearn. A passage that holds the answer is no negative, and neither is
one that is as near to the question as the right one, which may well be right too (the margin
relative to the positive of de Souza P. Moreira et al., "NV-Retriever: Improving text embedding
models with effective hard-negative mining", 2024). Rows never show a passage of a document that is
held out from their split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import Field

from fti.pipelines.feature.asking.quality import holds
from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.prompt_contract import PromptForm
from fti.store.contracts.requirements import memory, seconds
from fti.store.errors import EmbedderMismatch, InputError, IntegrityError, PostconditionFailed
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.store import Store
from fti.store.types import (
    SPLITS,
    DatasetVersion,
    EmbedderIdentity,
    InstructionExample,
    Passage,
    Split,
    Value,
    sha256_hex,
)

#: The live search: for each question its passages, best first, at most so many.
Search = Callable[[Sequence[str], int], Sequence[Sequence[Passage]]]

_BATCH = 64  # questions searched together
_SEARCHED: Mapping[Split, tuple[Split, ...]] = {
    "train": ("train",),
    "validation": ("train", "validation"),
}


class NegativesConfig(Value):
    """How hard negatives are chosen."""

    count: int = Field(
        default=2, ge=1, le=20, description="Hard negatives of a question; fewer where fewer are."
    )
    depth: int = Field(
        default=30, ge=2, le=1000, description="Passages of the live search looked through."
    )
    margin: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="How far below the right passage's similarity to the question a negative's "
        "must lie, as a share of it.",
    )


NEGATIVES = PipelineContract("negatives")


@NEGATIVES.precondition("The store's vectors are this embedder's", raises=EmbedderMismatch)
def same_embedder(store: Store, embedder: EmbedderIdentity) -> None:
    """What is near to a question is known of these vectors alone."""
    store.features.require_identity(embedder)


@NEGATIVES.precondition("The source's files are as published", raises=IntegrityError)
def as_published(store: Store, source: DatasetVersion) -> None:
    """To the byte."""
    store.datasets.require_as_published(source)


@NEGATIVES.postcondition("Each row shows one right passage first, and negatives that do not answer")
def negatives_are_wrong(store: Store, result: DatasetVersion) -> None:
    """A negative that holds the answer would teach the embedder the contrary."""
    for split in SPLITS:
        for row in store.datasets.rows(result.ref, split):
            if row.citations != (1,) or len(row.passages) < 2:
                raise PostconditionFailed(
                    f"The row {row.id} of {result.ref} cites {row.citations} of "
                    f"{len(row.passages)} passages, not the first of several."
                )
            if any(holds(passage.text, row.answer) for passage in row.passages[1:]):
                raise PostconditionFailed(
                    f"A negative of the row {row.id} of {result.ref} holds the answer."
                )


NEGATIVES.requires("seconds_p95", "at most", "s", seconds("negatives"))
NEGATIVES.requires("memory_mb", "at most", "MB", memory("negatives"))


@NEGATIVES.enforced
def mine_negatives(
    name: str,
    source: DatasetVersion,
    *,
    store: Store,
    search: Search,
    embedder: EmbedderIdentity,
    retrieval: Mapping[str, Any],
    form: PromptForm,
    config: NegativesConfig,
    progress: Progress = quiet,
) -> DatasetVersion:
    """Publish the answerable training and validation rows of a dataset with mined negatives.

    In each row the first passage is the right one and the others are the negatives. Where the
    newest version of ``name`` was made of the very same, it is returned instead.

    Args:
        name: of the dataset to publish.
        source: whose questions; each cites the passage that answers it.
        store: where from and where to.
        search: finds passages as serving does.
        embedder: the one behind ``search``.
        retrieval: settings of ``search``, for the record.
        form: renders the rows' messages.
        config: how.
        progress: told as questions are searched.

    Raises:
        InputError: no training question has a right passage and a hard negative.
    """
    version = store.features.version()
    settings: dict[str, Any] = {
        **config.model_dump(mode="json"),
        "from": source.ref,
        "from_digest": source.digest,
        "retrieval": dict(retrieval),
    }
    key = sha256_hex(
        "\n".join(("1", str(version), embedder.digest, repr(sorted(settings.items()))))
    )
    there, _ = store.datasets.survey()
    known = [d for d in there if d.name == name and d.settings.get("key") == key]
    if known:
        return known[-1]
    inputs = {
        "dataset": source.ref,
        "dataset_digest": source.digest,
        "features_version": str(version),
    }
    store.datasets.check_name(name)
    with store.runs.running(
        "dataset", pipeline="negatives", inputs=inputs, settings=settings
    ) as run:
        split_of: dict[str, Split] = {
            document: split for split in SPLITS for document in source.documents.get(split, ())
        }
        left_out: Counter[str] = Counter()
        rows: dict[Split, list[InstructionExample]] = {}
        for split, allowed in _SEARCHED.items():
            asked = list(_answerable(store, source, split, left_out))
            rows[split] = []
            for at in range(0, len(asked), _BATCH):
                some = asked[at : at + _BATCH]
                found = search([row.question for row in some], config.depth)
                for row, passages in zip(some, found, strict=True):
                    near = [p for p in passages if split_of.get(p.document_id) in allowed]
                    negatives = hard_negatives(row, near, config)
                    if not negatives:
                        left_out["no_hard_negative"] += 1
                        continue
                    rows[split].append(_with(row, negatives, form))
                progress(ProgressEvent("negatives", at + len(some), len(asked), split))
        if not rows["train"]:
            reasons = ", ".join(f"{why} {n}" for why, n in left_out.most_common())
            raise InputError(
                f"The dataset {source.ref} leaves no question to train an embedder on"
                + (f" (left out: {reasons})." if reasons else ": its training split is empty."),
                hint="Ingest more documents, or build it from more cases: "
                f"fti dataset build {source.name} --cases CASES.jsonl",
            )
        dataset = store.datasets.publish(
            name,
            rows=rows,
            features_version=version,
            embedder=embedder,
            prompt_digest=form.digest,
            run_id=run.id,
            settings=settings | {"key": key},
            documents={split: source.documents.get(split, ()) for split in SPLITS},
        )
        run.outputs["dataset"] = dataset.ref
        run.metrics.update(rows=dict(dataset.rows), left_out=dict(sorted(left_out.items())))
    return dataset


def hard_negatives(
    row: InstructionExample, found: Sequence[Passage], config: NegativesConfig
) -> list[Passage]:
    """The passages nearest to a question that do not answer it, best first.

    Args:
        row: a question with the passages it cites.
        found: what the search found, best first.
        config: how many, and how far from the right passage.
    """
    right = {row.passages[number - 1].chunk_id for number in row.citations} | set(row.chunk_ids)
    known = [p.similarity for p in found if p.chunk_id in right and p.similarity is not None]
    bound = max(known) * (1 - config.margin) if known else None
    chosen: list[Passage] = []
    for passage in found:
        if passage.chunk_id in right or holds(passage.text, row.answer):
            continue
        if bound is not None and passage.similarity is not None and passage.similarity > bound:
            continue
        chosen.append(passage)
        if len(chosen) == config.count:
            break
    return chosen


def _answerable(
    store: Store, source: DatasetVersion, split: Split, left_out: Counter[str]
) -> Sequence[InstructionExample]:
    rows = []
    for row in store.datasets.rows(source.ref, split):
        if not row.answer or not row.citations:
            left_out["unanswerable"] += 1
        elif row.kind == "cloze":  # a sentence with a gap asks for its own words
            left_out["cloze"] += 1
        else:
            rows.append(row)
    return rows


def _with(
    row: InstructionExample, negatives: Sequence[Passage], form: PromptForm
) -> InstructionExample:
    right = row.passages[row.citations[0] - 1]
    passages = tuple(
        # Scores are rounded, so that the last bits of a sum change no digest.
        p.model_copy(
            update={
                "rank": rank,
                "score": round(p.score, 5),
                "similarity": None if p.similarity is None else round(p.similarity, 4),
                "text_score": None if p.text_score is None else round(p.text_score, 3),
            }
        )
        for rank, p in enumerate((right, *negatives), start=1)
    )
    identity = "\n".join(("pair", row.id, *(p.chunk_id for p in passages)))
    return row.model_copy(
        update={
            "id": "x" + sha256_hex(identity)[:20],
            "passages": passages,
            "citations": (1,),
            "response": form.response(row.answer, (1,)),
            "messages": form.messages(row.question, passages),
        }
    )
