"""Instruction datasets from the stored chunks: no language model is needed.

Documents are split before any example is made, near-duplicates on one side. Questions come from
the rules of ``questions`` and from cases; the passages around the gold one come from the live
search, in its order and with its mistakes, as many as serving shows. A row never shows a passage
of a document that is held out from its split.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal, Self

from pydantic import Field, model_validator

from pipelines.engines.embedding import Embedder
from pipelines.feature.quality import (
    content_words,
    folded,
    holds,
    located,
    near_duplicate_groups,
    question_key,
    reads_as_english,
    rejection,
)
from pipelines.feature.questions import Casing, Question, Style, kind_of, questions
from store.contract import PromptForm
from store.errors import InputError, StoreEmpty
from store.features import FeatureStore
from store.progress import Progress, ProgressEvent, quiet
from store.store import Store
from store.types import (
    SPLITS,
    Case,
    Chunk,
    DatasetVersion,
    Document,
    InstructionExample,
    Passage,
    Split,
    Value,
    sha256_hex,
)

# A row of a split shows only passages of documents of these splits: what is trained on never
# holds text that is evaluated on, while held-out questions meet the whole collection.
_SHOWN: Mapping[Split, tuple[Split, ...]] = {
    "train": ("train",),
    "validation": ("train", "validation"),
    "test": SPLITS,
}

# Styles from the most to the least natural, and the rounds in which a chunk gives one of each.
_PREFERENCE: tuple[Style, ...] = (
    "quantity", "date", "name", "reason", "condition", "place", "definition", "rule", "object",
    "table", "field", "subject", "heading", "cloze",
)  # fmt: skip
_ROUNDS: tuple[tuple[Style, ...], ...] = (
    ("quantity", "date", "name", "reason", "condition", "rule"),
    ("place", "definition", "object"),
    ("table", "field"),
    ("subject",),
    ("heading",),
    ("cloze",),
)

_LOOKED_THROUGH = 24  # passages asked of the search before those of other splits are left out
_REACHABLE = 20  # a question whose passage the search does not rank above this says too little


class DatasetConfig(Value):
    """How an instruction dataset is built."""

    seed: int = Field(default=7, ge=0, description="Of the split and of every choice.")
    train: float = Field(default=0.7, gt=0, le=1, description="Share of documents to train on.")
    validation: float = Field(
        default=0.1, ge=0, lt=1, description="Share of documents to choose checkpoints by."
    )
    test: float = Field(default=0.2, ge=0, lt=1, description="Share of documents to evaluate on.")
    unanswerable: float = Field(
        default=0.15,
        ge=0,
        le=0.9,
        description="Share of rows whose passages do not hold the answer; the model must say so. "
        "Unanswerable cases beyond it are left out.",
    )
    max_passages: int = Field(
        default=4, ge=1, le=99, description="Passages shown in a row; as many as serving shows."
    )
    questions_per_chunk: int = Field(
        default=5, ge=1, le=50, description="Most synthetic questions from one chunk."
    )
    max_rows: int = Field(
        default=4000, ge=1, description="Most rows in all; documents share them evenly."
    )
    synthetic: Literal["always", "without_cases", "never"] = Field(
        default="always",
        description="Whether questions are written by rule: always, only when no cases are given, "
        "or never.",
    )
    max_cloze_share: float = Field(
        default=0.15,
        ge=0,
        le=1,
        description="Most of the synthetic questions that leave a word out.",
    )
    max_heading_share: float = Field(
        default=0.1, ge=0, le=1, description="Most that ask what a section says."
    )
    near_duplicate: float = Field(
        default=0.7,
        gt=0,
        le=1,
        description="Resemblance (Jaccard, word 5-grams) from which documents share a split.",
    )

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        total = self.train + self.validation + self.test
        if not math.isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError(f"train + validation + test is {total:g}, not 1")
        return self


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question that is to become a row: where its answer stands, if anywhere."""

    kind: Literal["question", "field", "heading", "cloze", "case", "unanswerable"]
    question: str
    answer: str
    document: str
    chunks: tuple[str, ...]
    split: Split
    tag: str  # style, or the case's id
    title: str = ""
    weak: bool = False


@dataclass
class _Tally:
    """What became of what was considered, for the run's metrics."""

    rejected: Counter[str] = field(default_factory=Counter)
    styles: Counter[str] = field(default_factory=Counter)
    cases: Counter[str] = field(default_factory=Counter)
    gold_inserted: int = 0


def build_dataset(
    name: str,
    *,
    store: Store,
    embedder: Embedder,
    config: DatasetConfig,
    form: PromptForm,
    cases: Sequence[Case] | None = None,
    progress: Progress = quiet,
) -> DatasetVersion:
    """Make instruction examples from the stored chunks and publish them as the next version.

    The same store, cases, seed and settings give the same digest.

    Args:
        name: of the dataset.
        store: where from and where to.
        embedder: the one that made the store's vectors.
        config: how.
        form: renders ``messages`` and ``response``; fine-tuning composes again from the parts.
        cases: questions with their answers; each follows the split of its document.
        progress: told as questions become rows.

    Raises:
        StoreEmpty: nothing was ingested.
        EmbedderMismatch: the store's vectors come from another embedder.
        InputError: no row could be made; says what was left out and why.
    """
    store.features.require_identity(embedder.identity)
    version = store.features.version()
    inputs = {"features_version": str(version), "cases": str(len(cases or ()))}
    settings = config.model_dump(mode="json")
    with store.runs.running("dataset", inputs=inputs, settings=settings) as run:
        if version == 0:
            raise StoreEmpty(
                "There are no documents to build a dataset from.",
                hint="Ingest some first: fti ingest PATH",
            )
        features = store.features.checkout(version)
        documents = list(features.documents())
        chunks = features.chunks()
        if not chunks:
            raise StoreEmpty(
                "There are no documents to build a dataset from.",
                hint="Ingest some first: fti ingest PATH",
            )
        tally = _Tally()
        split_of = split_documents(documents, config)
        asked: list[_Asked] = []
        if cases:
            asked += _from_cases(cases, features, split_of, chunks, tally, progress)
        if config.synthetic == "always" or (config.synthetic == "without_cases" and not cases):
            asked += _from_chunks(documents, chunks, split_of, config, tally, progress)
        asked = _sampled(_with_share(asked, config, tally), config)
        builder = _Rows(
            features, embedder, config, form, split_of, {c.id: c for c in chunks}, documents, tally
        )
        rows = builder.build(asked, progress)
        if not any(rows.values()):
            raise InputError(
                f"No row could be made from {len(documents)} documents"
                + (f" and {len(cases)} cases" if cases else "")
                + f"; left out: {_counts(tally.rejected + tally.cases) or 'nothing was found'}.",
                hint="Ingest documents with running text, or give cases that they answer.",
            )
        dataset = store.datasets.publish(
            name,
            rows=rows,
            features_version=version,
            embedder=embedder.identity,
            prompt_digest=form.digest,
            run_id=run.id,
            settings=settings,
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
            gold_inserted=tally.gold_inserted,
        )
    return dataset


def split_documents(documents: Sequence[Document], config: DatasetConfig) -> dict[str, Split]:
    """Which split each document is in, by id.

    Documents are put in an order by a hash of the seed, file name and title (not the folder, so
    that the same collection elsewhere splits alike), and cut where the shares end: a document that
    comes to a collection moves few others. Near-duplicates go where the first of them goes.
    Every split with a share gets a document while there are enough; training first, then test.
    """
    groups = near_duplicate_groups([d.text for d in documents], threshold=config.near_duplicate)
    seen: Counter[str] = Counter()
    place: dict[str, str] = {}
    for document in sorted(documents, key=lambda d: (d.content_hash, d.source)):
        key = f"{PurePosixPath(document.source).name}\n{document.title}"
        place[document.id] = sha256_hex(f"{config.seed}\n{key}\n{seen[key]}")
        seen[key] += 1
    ordered = sorted(
        ([documents[i].id for i in group] for group in groups),
        key=lambda group: min(place[document] for document in group),
    )
    parts: dict[Split, list[list[str]]] = {split: [] for split in SPLITS}
    passed = 0
    for group in ordered:
        middle = (passed + len(group) / 2) / len(documents)
        passed += len(group)
        split: Split = "train" if middle < config.train else "test"
        if split == "test" and (middle < config.train + config.validation or not config.test):
            split = "validation"
        parts[split].append(group)
    if not parts["train"]:
        parts["train"].append((parts["validation"] or parts["test"]).pop(0))
    wanted: dict[Split, float] = {"test": config.test, "validation": config.validation}
    for split, share in wanted.items():
        if share and not parts[split]:
            other = max(SPLITS, key=lambda s: len(parts[s]))
            if len(parts[other]) > 1:
                parts[split].append(parts[other].pop())
            elif split == "test" and parts["validation"]:
                parts[split].append(parts["validation"].pop())
    return {document: s for s in SPLITS for group in parts[s] for document in group}


# Questions


def _from_chunks(
    documents: Sequence[Document],
    chunks: Sequence[Chunk],
    split_of: Mapping[str, Split],
    config: DatasetConfig,
    tally: _Tally,
    progress: Progress,
) -> list[_Asked]:
    """The questions that the rules write, the good ones, a few of each chunk."""
    homes: dict[str, set[Split]] = defaultdict(set)
    for chunk in chunks:
        homes[chunk.content_hash].add(split_of[chunk.document_id])
    by_document: dict[str, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        by_document[chunk.document_id].append(chunk)
    casing = _casing(documents)
    asked: list[_Asked] = []
    known: set[str] = set()
    for number, document in enumerate(documents, start=1):
        english = reads_as_english(document.text)
        used: set[tuple[str, str]] = set()
        headings = frozenset(s for c in by_document[document.id] for s in c.section)
        for chunk in by_document[document.id]:
            # The same passage in documents of two splits would carry evaluation into training.
            if len(homes[chunk.content_hash]) > 1:
                tally.rejected["passage_in_two_splits"] += 1
                continue
            written = questions(
                chunk.text,
                title=document.title,
                section=chunk.section,
                casing=casing,
                headings=headings,
                english=english,
            )
            good = []
            for question in written:
                reason = rejection(question.question, question.answer, question.evidence)
                key = question_key(question.question)
                if not reason and key in known:
                    reason = "duplicate"
                if reason:
                    tally.rejected[reason] += 1
                    continue
                known.add(key)
                good.append(question)
            for question in _chosen(good, config, used):
                asked.append(
                    _Asked(
                        kind=kind_of(question.style),
                        question=question.question,
                        answer=question.answer,
                        document=document.id,
                        chunks=(chunk.id,),
                        split=split_of[document.id],
                        tag=question.style,
                        title=document.title,
                        weak=question.weak,
                    )
                )
        progress(ProgressEvent("questions", number, len(documents), document.title))
    return _within_shares(asked, config)


def _casing(documents: Sequence[Document]) -> Casing:
    read = [Casing.of(document.text) for document in documents]
    return Casing(
        proper=frozenset().union(*(c.proper for c in read)),
        common=frozenset().union(*(c.common for c in read)),
    )


def _chosen(
    found: Sequence[Question], config: DatasetConfig, used: set[tuple[str, str]]
) -> list[Question]:
    """A few of a chunk's questions, style by style, no sentence and answer twice."""
    left: dict[int, list[Question]] = {}
    for number, styles in enumerate(_ROUNDS):
        of_round = [q for q in found if q.style in styles]
        left[number] = sorted(
            of_round, key=lambda q: (_PREFERENCE.index(q.style), _order(config.seed, q.question))
        )
    chosen: list[Question] = []
    evidence: Counter[str] = Counter()
    while any(left.values()) and len(chosen) < config.questions_per_chunk:
        for number in left:
            while left[number]:
                question = left[number].pop(0)
                key = (question.evidence, question.answer)
                if key in used or evidence[question.evidence] >= 2:
                    continue
                used.add(key)
                evidence[question.evidence] += 1
                chosen.append(question)
                break
            if len(chosen) >= config.questions_per_chunk:
                break
    return chosen


def _within_shares(asked: list[_Asked], config: DatasetConfig) -> list[_Asked]:
    """Drop questions of the less natural kinds beyond their shares."""
    limited = {"cloze": config.max_cloze_share, "heading": config.max_heading_share}
    free = sum(a.kind not in limited for a in asked)
    kept = [a for a in asked if a.kind not in limited]
    remaining = max(0.0, 1.0 - sum(limited.values()))
    # When only such questions could be written there is nothing to keep a share of.
    total = free / remaining if free and remaining else len(asked)
    for kind, share in limited.items():
        room = int(total * share) if free else len(asked)
        of_kind = sorted(
            (a for a in asked if a.kind == kind), key=lambda a: _order(config.seed, a.question)
        )
        kept += of_kind[:room]
    places = {id(a): n for n, a in enumerate(asked)}
    return sorted(kept, key=lambda a: places[id(a)])


def _from_cases(
    cases: Sequence[Case],
    features: FeatureStore,
    split_of: Mapping[str, Split],
    chunks: Sequence[Chunk],
    tally: _Tally,
    progress: Progress,
) -> list[_Asked]:
    """Cases whose document is in the store and, where they have answers, holds one."""
    by_document: dict[str, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        by_document[chunk.document_id].append(chunk)
    found: dict[str, str] = {}
    asked: list[_Asked] = []
    for number, case in enumerate(cases, start=1):
        progress(ProgressEvent("cases", number, len(cases), case.id))
        references = [case.document] if case.document else _judged(case)
        for reference in references:
            if reference not in found:
                matches = [r.id for r in features.find_document(reference) if r.id in split_of]
                found[reference] = matches[0] if len(matches) == 1 else ""
        documents = [found[r] for r in references if found[r]]
        if not documents:
            tally.cases["document_not_found" if references else "no_document"] += 1
            continue
        if not case.answerable:
            if case.relevant:  # a judged query without a written answer teaches no answer
                tally.cases["no_answer"] += 1
                continue
            tally.cases["used"] += 1
            asked.append(
                _Asked(
                    kind="unanswerable", question=case.question.strip(), answer="",
                    document=documents[0], chunks=(), split=split_of[documents[0]], tag=case.id,
                )
            )  # fmt: skip
            continue
        for document in documents:
            holding = [c for c in by_document[document] if located(c.text, case.answers)]
            if holding:
                best = max(holding, key=lambda c: (_shared(case.question, c), -c.ordinal))
                tally.cases["used"] += 1
                asked.append(
                    _Asked(
                        kind="case",
                        question=case.question.strip(),
                        answer=located(best.text, case.answers),
                        document=document,
                        chunks=(best.id, *(c.id for c in holding if c.id != best.id)),
                        split=split_of[document],
                        tag=case.id,
                    )
                )
                break
        else:
            tally.cases["answer_not_found"] += 1
    return asked


def _judged(case: Case) -> list[str]:
    graded = [(grade, source) for source, grade in case.relevant.items() if grade > 0]
    return [source for _, source in sorted(graded, key=lambda pair: (-pair[0], pair[1]))]


def _shared(question: str, chunk: Chunk) -> int:
    there = set(content_words(" ".join((*chunk.section, chunk.text))))
    return sum(word in there for word in set(content_words(question)))


def _with_share(asked: Sequence[_Asked], config: DatasetConfig, tally: _Tally) -> list[_Asked]:
    """No more unanswerable cases than their share: a model that mostly abstains is no use."""
    unanswerable = [a for a in asked if a.kind == "unanswerable"]
    room = round((len(asked) - len(unanswerable)) * config.unanswerable / (1 - config.unanswerable))
    unanswerable.sort(key=lambda a: _order(config.seed, a.question))
    left_out = {id(a) for a in unanswerable[room:]}
    if left_out:
        tally.cases["used"] -= len(left_out)
        tally.cases["unanswerable_beyond_share"] = len(left_out)
    return [a for a in asked if id(a) not in left_out]


def _sampled(asked: Sequence[_Asked], config: DatasetConfig) -> list[_Asked]:
    """At most ``max_rows``, cases first, documents in turn."""
    cases = [a for a in asked if a.tag and a.kind in ("case", "unanswerable")]
    written = [a for a in asked if a.kind not in ("case", "unanswerable")]
    kept: list[_Asked] = []
    for part in (cases, written):
        by_document: dict[str, list[_Asked]] = defaultdict(list)
        for one in part:
            by_document[one.document].append(one)
        ranked = [
            (rank, _order(config.seed, one.question), one)
            for of_document in by_document.values()
            for rank, one in enumerate(
                sorted(of_document, key=lambda a: _order(config.seed, a.question))
            )
        ]
        ranked.sort(key=lambda item: item[:2])
        kept += [one for _, _, one in ranked[: max(0, config.max_rows - len(kept))]]
    places = {id(a): n for n, a in enumerate(asked)}
    return sorted(kept, key=lambda a: places[id(a)])


def _order(seed: int, text: str) -> str:
    return sha256_hex(f"{seed}\n{text}")


# Rows


class _Rows:
    """Puts passages around questions."""

    def __init__(
        self,
        features: FeatureStore,
        embedder: Embedder,
        config: DatasetConfig,
        form: PromptForm,
        split_of: Mapping[str, Split],
        chunks: Mapping[str, Chunk],
        documents: Sequence[Document],
        tally: _Tally,
    ) -> None:
        self.features = features
        self.embedder = embedder
        self.config = config
        self.form = form
        self.split_of = split_of
        self.chunks = chunks
        self.documents = {d.id: d for d in documents}
        self.tally = tally

    def build(
        self, asked: Sequence[_Asked], progress: Progress
    ) -> dict[Split, list[InstructionExample]]:
        """Rows by split, in the order asked."""
        rows: dict[Split, list[InstructionExample]] = {split: [] for split in SPLITS}
        withheld = self._withheld(asked)
        ids: set[str] = set()
        for number, one in enumerate(asked, start=1):
            progress(ProgressEvent("rows", number, len(asked), one.question))
            row = self._row(one, withhold=id(one) in withheld)
            if row is None or row.id in ids:
                continue
            ids.add(row.id)
            self.tally.styles[
                one.tag if one.kind not in ("case", "unanswerable") else one.kind
            ] += 1
            rows[row.split].append(row)
        return rows

    def _withheld(self, asked: Sequence[_Asked]) -> set[int]:
        """Which questions lose their passage, so that the share of unanswerable rows is met."""
        want = round(self.config.unanswerable * len(asked))
        want -= sum(a.kind == "unanswerable" for a in asked)
        # A left-out word or a section's name asks about the very passage that would be gone.
        able = [a for a in asked if a.kind in ("question", "field", "case") and not a.weak]
        able.sort(key=lambda a: _order(self.config.seed + 1, a.question))
        return {id(a) for a in able[: max(0, want)]}

    def _row(self, one: _Asked, *, withhold: bool) -> InstructionExample | None:
        question = _with_title(one.question, one.title) if one.weak else one.question
        found = self._search(question, one.split)
        if one.kind == "unanswerable":
            return self._made(one, question, "", found[: self.config.max_passages], (), ())
        gold = [p for p in found if self._holds(p, one)]
        reachable = bool(gold) and gold[0].rank <= _REACHABLE
        if not reachable and one.kind in ("question", "field") and not one.weak:
            # As people do who get nothing: say what it is about.
            question = _with_title(one.question, one.title)
            found = self._search(question, one.split)
            gold = [p for p in found if self._holds(p, one)]
            reachable = bool(gold) and gold[0].rank <= _REACHABLE
        if not reachable and one.kind not in ("case", "cloze"):
            self.tally.rejected["not_reachable"] += 1
            return None
        if withhold:
            shown = [p for p in found if not holds(p.text, one.answer)]
            shown = [p for p in shown if p.chunk_id not in one.chunks]
            shown = shown[: self.config.max_passages]
            if not shown:
                self.tally.rejected["nothing_else_to_show"] += 1
                return None
            return self._made(one, question, "", shown, (), one.chunks)
        shown = found[: self.config.max_passages]
        first = next((n for n, p in enumerate(shown, start=1) if self._holds(p, one)), None)
        if first is None:
            self.tally.gold_inserted += 1
            passage = self._passage(one.chunks[0])
            place = int(_order(self.config.seed, question), 16) % self.config.max_passages
            shown = shown[: self.config.max_passages - 1]
            place = min(place, len(shown))
            shown.insert(place, passage)
            first = place + 1
        cited = (shown[first - 1].chunk_id,)
        return self._made(one, question, one.answer, shown, (first,), cited)

    def _search(self, question: str, split: Split) -> list[Passage]:
        """What the search finds for a question among what this split may show, in its order."""
        vector = self.embedder.embed_query(question)
        allowed = _SHOWN[split]
        enough = min(self.config.max_passages * 2 + 2, len(self.chunks))
        k = max(_LOOKED_THROUGH, enough)
        while True:
            found = self.features.search_hybrid(question, vector, k)
            kept = [p for p in found if self.split_of.get(p.document_id) in allowed]
            if len(kept) >= enough or len(found) < k or k >= len(self.chunks):
                return kept
            k = min(k * 4, len(self.chunks))

    def _holds(self, passage: Passage, one: _Asked) -> bool:
        """Whether a passage is the gold one, or an overlapping one that holds the same words."""
        if passage.chunk_id in one.chunks:
            return True
        if passage.document_id != one.document or one.kind == "case":
            return False
        gold = self.chunks[one.chunks[0]]
        start = folded(gold.text).find(one.answer)
        around = folded(gold.text)[max(0, start - 30) : start + len(one.answer) + 10]
        return bool(one.answer) and around in folded(passage.text)

    def _passage(self, chunk_id: str) -> Passage:
        chunk = self.chunks[chunk_id]
        document = self.documents[chunk.document_id]
        return Passage(
            rank=1,
            chunk_id=chunk.id,
            document_id=chunk.document_id,
            title=document.title,
            source=document.source,
            section=chunk.section,
            start=chunk.start,
            end=chunk.end,
            text=chunk.text,
            metadata=document.metadata,
        )

    def _made(
        self,
        one: _Asked,
        question: str,
        answer: str,
        shown: Sequence[Passage],
        citations: tuple[int, ...],
        chunks: tuple[str, ...],
    ) -> InstructionExample:
        passages = tuple(_ranked(shown))
        kind = one.kind if answer else "unanswerable"
        identity = "\n".join((kind, one.tag, question, answer, *(p.chunk_id for p in passages)))
        return InstructionExample(
            id="x" + sha256_hex(identity)[:20],
            kind=kind,
            question=question,
            answer=answer,
            passages=passages,
            citations=citations,
            response=self.form.response(answer, citations),
            messages=self.form.messages(question, passages),
            split=one.split,
            documents=(one.document,),
            chunk_ids=chunks,
        )


def _ranked(shown: Iterable[Passage]) -> Iterable[Passage]:
    """Passages renumbered; scores rounded, so that the last bits of a sum change no digest."""
    for rank, passage in enumerate(shown, start=1):
        yield passage.model_copy(
            update={
                "rank": rank,
                "score": round(passage.score, 5),
                "similarity": None if passage.similarity is None else round(passage.similarity, 4),
                "text_score": None if passage.text_score is None else round(passage.text_score, 3),
            }
        )


def _with_title(question: str, title: str) -> str:
    """The question with the name of what it is about."""
    name = re.sub(r"[\"“”?]", "", folded(title))
    if not name or name.casefold() in question.casefold():
        return question
    return f'{question.rstrip("?")} according to "{name}"?'


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counter.most_common(6))
