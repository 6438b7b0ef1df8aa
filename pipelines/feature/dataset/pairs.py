"""Preference pairs: a good response and a worse one to the same prompt.

From the rows of an instruction dataset, the worse response is what a passage says that does not
answer the question: of the same kind (a date for a date) and, where there are several, from the
sentence that has most in common with the question. Where nothing shown answers, it is an answer
all the same. From feedback it is what the model had said, against the correction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fti.pipelines.feature.asking.quality import (
    Candidate,
    content_words,
    holds,
    reads_as_english,
    rejection,
)
from fti.pipelines.feature.asking.questions import questions
from fti.pipelines.feature.asking.written_questions import Casing, Question, Style
from fti.pipelines.feature.dataset.asked import Tally, order
from fti.pipelines.feature.dataset.dataset_config import PERSONAL, DatasetConfig, PairsConfig
from fti.pipelines.feature.dataset.duplicates import FrozenQuestions
from fti.pipelines.feature.dataset.masking import masked_pair
from fti.pipelines.feature.dataset.sources.reviewed import Accepted, Review, accepted
from fti.pipelines.feature.dataset.statistics import pair_statistics
from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.prompt_contract import PromptForm, TokenCounter
from fti.store.contracts.requirements import memory, seconds
from fti.store.errors import InputError, IntegrityError, PostconditionFailed
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.store import Store
from fti.store.types import (
    CONTEXT,
    SPLITS,
    DatasetVersion,
    InstructionExample,
    Passage,
    PreferenceExample,
    Split,
    sha256_hex,
)

_KINDS = ("question", "field", "list", "case", "written", "feedback", "unanswerable")
_LIKELY: Mapping[str, tuple[Style, ...]] = {
    "who": ("name", "subject"), "when": ("date",), "where": ("place",), "why": ("reason",),
    "how": ("quantity",),
}  # fmt: skip
_NO_ANSWERS: tuple[Style, ...] = ("heading", "section", "cloze")


PAIRS = PipelineContract("pairs")


@PAIRS.precondition("The source holds instruction rows", raises=InputError)
def of_rows(source: DatasetVersion) -> None:
    """Pairs are made of questions with their answers, not of pairs."""
    if source.kind != "instruction":
        raise InputError(
            f"{source.ref} holds preference pairs itself.",
            hint="Make pairs of the dataset that these come from.",
        )


@PAIRS.precondition("The source's files are as published", raises=IntegrityError)
def as_published(store: Store, source: DatasetVersion) -> None:
    """To the byte: pairs of other rows would be nobody's."""
    store.datasets.require_as_published(source)


@PAIRS.postcondition("Each document is in the split that it has in the source")
def splits_stay(source: DatasetVersion, result: DatasetVersion) -> None:
    """What is held out there is held out here."""
    for split in SPLITS:
        moved = set(result.documents.get(split, ())) - set(source.documents.get(split, ()))
        if moved:
            raise PostconditionFailed(
                f"{result.ref} has {len(moved)} documents in {split!r} that {source.ref} has not."
            )


PAIRS.requires("seconds_p95", "at most", "s", seconds("pairs"))
PAIRS.requires("memory_mb", "at most", "MB", memory("pairs"))


@PAIRS.enforced
def build_pairs(
    name: str,
    *,
    source: DatasetVersion,
    store: Store,
    config: PairsConfig,
    form: PromptForm,
    reviews: Sequence[Review] = (),
    counter: TokenCounter | None = None,
    tokenizer: str = "",
    progress: Progress = quiet,
) -> DatasetVersion:
    """Make preference pairs from a dataset's rows and publish them as a version of their own.

    Pairs are in the split of the row that they come from. The same rows, feedback, seed and
    settings give the same digest.

    Args:
        name: of the preference dataset.
        source: instruction rows, with the split of their documents.
        store: where from and where to.
        config: how.
        form: renders prompts and responses.
        reviews: reviewed feedback; accepted corrections become pairs.
        counter: counts tokens for the statistics; None: none are kept.
        tokenizer: which tokenizer that is.
        progress: told as rows become pairs.

    Raises:
        InputError: ``source`` holds pairs itself, or no pair could be made.
        AnswerNotFound: a reviewed answer was not logged.
    """
    rows = [row for split in SPLITS for row in store.datasets.rows(source.ref, split)]
    settings = config.model_dump(mode="json") | {"source": source.ref}
    inputs = {"dataset": source.ref, "dataset_digest": source.digest, "reviews": str(len(reviews))}
    store.datasets.check_name(name)
    with store.runs.running("dataset", pipeline="pairs", inputs=inputs, settings=settings) as run:
        tally = Tally()
        mask = [kind for kind in PERSONAL if kind in source.settings.get("mask", ())]
        pairs = [*_corrected(source, store, form, reviews, tally)]
        pairs += _from_rows(rows, config, form, tally, progress)
        pairs = _sampled(pairs, config, tally)
        if mask:
            pairs = [masked_pair(pair, mask, form, tally.masked) for pair in pairs]
        if not pairs:
            raise InputError(
                f"No preference pair could be made from {len(rows)} rows of {source.ref} and "
                f"{len(reviews)} reviewed verdicts.",
                hint="Rows need a second passage with an answer of its own: raise "
                "prompt.max_passages and build the dataset again.",
            )
        by_split: dict[Split, list[PreferenceExample]] = {
            split: [p for p in pairs if p.split == split] for split in SPLITS
        }
        statistics = {
            "filters": tally.filters,
            "feedback": dict(sorted(tally.feedback.items())),
            "masked": dict(sorted(tally.masked.items())),
        }
        if counter is not None:
            statistics |= pair_statistics(by_split, counter, tokenizer=tokenizer)
        version = store.datasets.publish(
            name,
            rows=by_split,
            features_version=source.features_version,
            embedder=source.embedder,
            retrieval=source.retrieval,
            prompt_digest=form.digest,
            run_id=run.id,
            settings=settings,
            statistics=statistics,
            documents={split: source.documents.get(split, ()) for split in SPLITS},
        )
        run.outputs["dataset"] = version.ref
        run.metrics.update(
            rows=dict(version.rows), kinds=dict(version.kinds), filters=tally.filters,
            feedback=dict(sorted(tally.feedback.items())),
        )  # fmt: skip
    return version


def _corrected(
    source: DatasetVersion,
    store: Store,
    form: PromptForm,
    reviews: Sequence[Review],
    tally: Tally,
) -> Iterator[PreferenceExample]:
    """What was corrected against what had been said."""
    split_of = {document: split for split in SPLITS for document in source.documents.get(split, ())}
    config = DatasetConfig.model_validate(
        {k: v for k, v in source.settings.items() if k in DatasetConfig.model_fields}
    )
    frozen = FrozenQuestions(store.cases, config) if config.decontaminate else None
    for one in accepted(
        reviews, store=store, split_of=split_of, config=config, form=form, tally=tally
    ):
        asked = one.asked
        if not one.corrected or _says_the_same(one):
            tally.feedback["nothing_corrected"] += 1
            continue
        if frozen and asked.split != "test" and frozen.asks(asked):
            tally.feedback["in_frozen_cases"] += 1
            continue
        yield _pair(
            "correction", asked.question, asked.shown or (), asked.split, (asked.document,), form,
            chosen=(asked.answer, asked.cited), rejected=(one.said, one.said_cited),
            chunks=asked.chunks,
        )  # fmt: skip


def _says_the_same(one: Accepted) -> bool:
    return content_words(one.asked.answer) == content_words(one.said)


def _from_rows(
    rows: Sequence[InstructionExample],
    config: PairsConfig,
    form: PromptForm,
    tally: Tally,
    progress: Progress,
) -> list[PreferenceExample]:
    """Pairs whose worse side a passage suggests."""
    texts = {p.chunk_id: p.text for row in rows for p in row.passages}
    casing = Casing.of("\n\n".join(texts.values()))
    written: dict[str, list[Question]] = {}
    able = [row for row in rows if row.kind in _KINDS and not row.history]
    tally.filtered("kind_with_an_answer", len(rows), len(able))
    found: list[PreferenceExample] = []
    for number, row in enumerate(able, start=1):
        progress(ProgressEvent("pairs", number, len(able), row.question))
        for passage in row.passages:
            if passage.chunk_id not in written:
                written[passage.chunk_id] = _answers_in(passage, casing)
        wrong = _wrong(row, written, config)
        if wrong is None:
            continue
        answer, position = wrong
        found.append(
            _pair(
                "wrong_passage" if row.answer else "unsupported",
                row.question, row.passages, row.split, row.documents, form,
                chosen=(row.answer, row.citations), rejected=(answer, (position,)),
                chunks=row.chunk_ids,
            )
        )  # fmt: skip
    tally.filtered("another_passage_answers", len(able), len(found))
    return found


def _answers_in(passage: Passage, casing: Casing) -> list[Question]:
    """Questions that a passage answers, good ones, with their answers."""
    found = questions(
        passage.text, title=passage.title, section=passage.section, casing=casing,
        english=reads_as_english(passage.text), context=passage.metadata.get(CONTEXT, ""),
    )  # fmt: skip
    return [
        q
        for q in found
        if q.style not in _NO_ANSWERS
        and not rejection(Candidate(q.question, q.answer, q.evidence, passage=passage.text))
    ]


def _wrong(
    row: InstructionExample, written: Mapping[str, Sequence[Question]], config: PairsConfig
) -> tuple[str, int] | None:
    """An answer from a passage that does not answer the row's question, and the position of it."""
    likely = (row.style,) if row.style else _LIKELY.get(row.question.split()[0].casefold(), ())
    asked = set(content_words(row.question))
    best: tuple[tuple[bool, int, str], str, int] | None = None
    for position, passage in enumerate(row.passages, start=1):
        if position in row.citations or (row.answer and holds(passage.text, row.answer)):
            continue
        for question in written[passage.chunk_id]:
            answer = question.answer
            if row.answer and (holds(answer, row.answer) or holds(row.answer, answer)):
                continue
            if holds(row.question, answer) or (likely and question.style not in likely):
                continue
            shared = len(asked & set(content_words(question.evidence)))
            rank = (shared > 0, shared, order(config.seed, row.id + question.question))
            if best is None or rank > best[0]:
                best = rank, answer, position
    return None if best is None else (best[1], best[2])


def _pair(
    kind: str,
    question: str,
    passages: Sequence[Passage],
    split: Split,
    documents: tuple[str, ...],
    form: PromptForm,
    *,
    chosen: tuple[str, tuple[int, ...]],
    rejected: tuple[str, tuple[int, ...]],
    chunks: tuple[str, ...],
) -> PreferenceExample:
    identity = "\n".join((kind, question, chosen[0], rejected[0], *(p.chunk_id for p in passages)))
    return PreferenceExample.model_validate(
        {
            "id": "p" + sha256_hex(identity)[:20],
            "kind": kind,
            "question": question,
            "passages": tuple(passages),
            "chosen": chosen[0],
            "chosen_citations": chosen[1],
            "chosen_response": form.response(*chosen),
            "rejected": rejected[0],
            "rejected_citations": rejected[1],
            "rejected_response": form.response(*rejected),
            "messages": form.messages(question, passages),
            "split": split,
            "documents": documents,
            "chunk_ids": chunks,
        }
    )


def _sampled(
    pairs: Sequence[PreferenceExample], config: PairsConfig, tally: Tally
) -> list[PreferenceExample]:
    """One pair of each id, those of abstention within their share, at most so many."""
    unique = list({pair.id: pair for pair in pairs}.values())
    answering = [p for p in unique if p.chosen]
    abstaining = [p for p in unique if not p.chosen]
    abstaining.sort(key=lambda p: order(config.seed, p.id))
    room = len(abstaining)
    if config.unsupported < 1:
        room = round(len(answering) * config.unsupported / (1 - config.unsupported))
    within = {p.id for p in (*answering, *abstaining[:room])}
    tally.filtered("share_of_abstention", len(unique), len(within))
    # What people corrected goes first.
    ranked = sorted(
        (p for p in unique if p.id in within),
        key=lambda p: (p.kind != "correction", order(config.seed, p.id)),
    )
    kept = {p.id for p in ranked[: config.max_pairs]}
    tally.filtered("max_pairs", len(within), len(kept))
    return [p for p in unique if p.id in kept]
