"""Puts passages around questions: those that serving retrieves, in its order, with its mistakes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from fti.pipelines.feature.asking.quality import folded, holds
from fti.pipelines.feature.dataset.asked import GIVEN, Asked, Tally, order
from fti.pipelines.feature.dataset.dataset_config import DatasetConfig
from fti.pipelines.feature.dataset.splits import SHOWN
from fti.store.contracts.prompt_contract import PromptForm
from fti.store.page_starts import passage_metadata
from fti.store.progress import Progress, ProgressEvent
from fti.store.types import (
    SPLITS,
    Chunk,
    Document,
    InstructionExample,
    Passage,
    RetrievalContract,
    Split,
    sha256_hex,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LOOKED_THROUGH = 24  # passages asked for where those that serving retrieves do not do
_REACHABLE = 20  # a question whose passage the search does not rank above this says too little


class Found(Protocol):
    """What a retriever gives back."""

    @property
    def passages(self) -> tuple[Passage, ...]:
        """Best first."""
        ...


class ServingRetriever(Protocol):
    """The retriever of the inference pipelines, which this package may not import.

    Rows come from the very one that serves, under the profile's settings: whoever builds a dataset
    hands it over.
    """

    @property
    def contract(self) -> RetrievalContract:
        """How it finds passages."""
        ...

    def embed(self, queries: Sequence[str]) -> Sequence[NDArray[np.float32] | None]:
        """Vectors for ``retrieve``."""
        ...

    def retrieve(
        self,
        query: str,
        k: int | None = None,
        *,
        vector: NDArray[np.float32] | None = None,
        keep: Callable[[Passage], bool] | None = None,
    ) -> Found:
        """What a model would be given for a question, were the store without what is not kept."""
        ...

    def in_context(self, passages: Sequence[Passage]) -> tuple[Passage, ...]:
        """Passages as a model is given them."""
        ...


class RowBuilder:
    """Makes rows of questions.

    Args:
        retriever: what serves, over the version of the store to search; None where there are no
            documents, and every row brings its own passages or none.
        config: how.
        form: renders messages and response.
        split_of: split of each document.
        chunks: by id.
        documents: the store's.
        tally: told what became of the questions.
    """

    def __init__(
        self,
        retriever: ServingRetriever | None,
        config: DatasetConfig,
        form: PromptForm,
        split_of: Mapping[str, Split],
        chunks: Mapping[str, Chunk],
        documents: Sequence[Document],
        tally: Tally,
    ) -> None:
        self.retriever = retriever
        self.config = config
        self.form = form
        self.split_of = split_of
        self.chunks = chunks
        self.documents = {d.id: d for d in documents}
        self.tally = tally
        self._shown: dict[tuple[str, Split], list[Passage]] = {}
        self._asked = ""
        self._vector: NDArray[np.float32] | None = None

    def build(
        self, asked: Sequence[Asked], progress: Progress
    ) -> dict[Split, list[InstructionExample]]:
        """Rows by split, in the order asked."""
        rows: dict[Split, list[InstructionExample]] = {split: [] for split in SPLITS}
        withheld = self._withheld(asked)
        ids: set[str] = set()
        self.tally.filtered("reachable", len(asked), len(asked))
        for number, one in enumerate(asked, start=1):
            progress(ProgressEvent("rows", number, len(asked), one.question))
            row = self._row(one, withhold=id(one) in withheld)
            if row is None or row.id in ids:
                continue
            ids.add(row.id)
            self.tally.styles[one.tag if one.kind not in GIVEN else one.kind] += 1
            rows[row.split].append(row)
        return rows

    def shown(self, one: Asked) -> list[Passage]:
        """What serving would retrieve for a question, were the store without what is held out.

        It shows the first ``max_passages`` of them.
        """
        return self._retrieved(_asked(one), one.split)

    def remember(self, one: Asked, found: Sequence[Passage]) -> None:
        """Note what was retrieved for a question, until its row is made."""
        self._shown[_asked(one), one.split] = list(found)

    def _withheld(self, asked: Sequence[Asked]) -> set[int]:
        """Which questions lose their passage, so that the share of unanswerable rows is met."""
        want = round(self.config.unanswerable * sum(a.kind != "chat" for a in asked))
        want -= sum(not a.answer for a in asked)
        # A left-out word or a section's name asks about the very passage that would be gone.
        kinds = ("question", "field", "list", "case", "written")
        able = [a for a in asked if a.kind in kinds and not a.weak]
        able.sort(key=lambda a: order(self.config.seed + 1, a.question))
        return {id(a) for a in able[: max(0, want)]}

    def _row(self, one: Asked, *, withhold: bool) -> InstructionExample | None:
        if one.shown is not None:
            return self._made(one, one.question, one.answer, one.shown, one.cited, one.chunks)
        question = _asked(one)
        found = self._retrieved(question, one.split)
        if one.kind == "unanswerable":
            return self._made(one, question, "", found[: self.config.max_passages], (), ())
        reached = self._reached(question, one, found)
        if not reached and one.kind in ("question", "field", "list") and not one.weak:
            # As people do who get nothing: say what it is about.
            question = _with_title(one.question, one.title)
            found = self._retrieved(question, one.split)
            reached = self._reached(question, one, found)
        if not reached and one.kind not in ("case", "cloze"):
            self.tally.filtered("reachable", 0, -1)
            return None
        if withhold:
            further = self._retrieved(question, one.split, further=True)
            shown = [p for p in further if not holds(p.text, one.answer)]
            shown = [p for p in shown if not self._covers(p, one)]
            shown = shown[: self.config.max_passages]
            if not shown:
                self.tally.filtered("something_else_to_show", 1, 0)
                return None
            return self._made(one, question, "", shown, (), one.chunks)
        shown = found[: self.config.max_passages]
        first = next((n for n, p in enumerate(shown, start=1) if self._holds(p, one)), None)
        if first is None:
            self.tally.gold_inserted += 1
            passage = self._in_context(passage_of(self.chunks[one.chunks[0]], self.documents))
            place = int(order(self.config.seed, question), 16) % self.config.max_passages
            shown = shown[: self.config.max_passages - 1]
            place = min(place, len(shown))
            shown.insert(place, passage)
            first = place + 1
        cited = (shown[first - 1].chunk_id,)
        return self._made(one, question, one.answer, shown, (first,), cited)

    def _retrieved(self, question: str, split: Split, *, further: bool = False) -> list[Passage]:
        """What serving would retrieve if the store held only what this split may show.

        Args:
            question: what is asked.
            split: of the row.
            further: go on beyond what serving retrieves, in the same order.
        """
        assert self.retriever is not None, "a question about documents needs a retriever"
        if not further and (known := self._shown.pop((question, split), None)) is not None:
            return known
        allowed = SHOWN[split]
        agreed = self.retriever.contract
        # As many as ``Assistant`` asks for.
        k = max(agreed.k, self.config.max_passages)
        if further:
            # Not beyond the candidates, within which a list begins every longer one.
            enough = max(_LOOKED_THROUGH, self.config.max_passages * 2 + 2)
            k = max(k, min(enough, agreed.candidates))
        if question != self._asked:
            self._asked, (self._vector,) = question, self.retriever.embed([question])
        found = self.retriever.retrieve(
            question,
            k,
            vector=self._vector,
            keep=lambda p: self.split_of.get(p.document_id) in allowed,
        )
        return list(found.passages)

    def _reached(self, question: str, one: Asked, found: Sequence[Passage]) -> bool:
        """Whether the gold passage is ranked so high that the question says what it is about."""
        if any(self._holds(p, one) for p in found):
            return True
        further = self._retrieved(question, one.split, further=True)[:_REACHABLE]
        return any(self._holds(p, one) for p in further)

    def _in_context(self, passage: Passage) -> Passage:
        assert self.retriever is not None, "a question about documents needs a retriever"
        return self.retriever.in_context([passage])[0]

    def _covers(self, passage: Passage, one: Asked) -> bool:
        """Whether a passage is a gold chunk, or the section around one."""
        if passage.chunk_id in one.chunks:
            return True
        return any(
            chunk.document_id == passage.document_id
            and passage.start <= chunk.start
            and chunk.end <= passage.end
            for chunk in (self.chunks[name] for name in one.chunks if name in self.chunks)
        )

    def _holds(self, passage: Passage, one: Asked) -> bool:
        """Whether a passage is the gold one, or an overlapping one that holds the same words."""
        if self._covers(passage, one):
            return True
        if passage.document_id != one.document or one.kind == "case":
            return False
        if one.kind == "written":
            return folded(one.evidence) in folded(passage.text)
        gold = self.chunks[one.chunks[0]]
        start = folded(gold.text).find(one.answer)
        around = folded(gold.text)[max(0, start - 30) : start + len(one.answer) + 10]
        return bool(one.answer) and around in folded(passage.text)

    def _made(
        self,
        one: Asked,
        question: str,
        answer: str,
        shown: Sequence[Passage],
        citations: tuple[int, ...],
        chunks: tuple[str, ...],
    ) -> InstructionExample:
        passages = tuple(_ranked(shown))
        kind = one.kind if answer else "unanswerable"
        identity = "\n".join(
            (
                kind,
                one.tag,
                *(f"{m.role}: {m.content}" for m in one.history),
                question,
                answer,
                *(p.chunk_id for p in passages),
            )
        )
        return InstructionExample(
            id="x" + sha256_hex(identity)[:20],
            kind=kind,
            style="" if one.kind in GIVEN else one.tag,
            question=question,
            answer=answer,
            evidence=one.evidence,
            history=one.history,
            passages=passages,
            citations=citations,
            response=self.form.response(answer, citations),
            messages=self.form.messages(question, passages, one.history),
            split=one.split,
            documents=(one.document,) if one.document else (),
            chunk_ids=chunks,
        )


def passage_of(chunk: Chunk, documents: Mapping[str, Document]) -> Passage:
    """A chunk as the search would give it back."""
    document = documents[chunk.document_id]
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
        metadata=passage_metadata(document.metadata, chunk.start, chunk.end, context=chunk.context),
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


def _asked(one: Asked) -> str:
    """A question as it is searched for: one that says too little by itself, with the title."""
    return _with_title(one.question, one.title) if one.weak else one.question


def _with_title(question: str, title: str) -> str:
    """The question with the name of what it is about."""
    name = re.sub(r"[\"“”?]", "", folded(title))
    if not name or name.casefold() in question.casefold():
        return question
    return f'{question.rstrip("?")} according to "{name}"?'
