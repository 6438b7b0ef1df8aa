"""Keeps a written question where the reader, asked it as serving would, says the same answer.

Round-trip consistency (Alberti et al., "Synthetic QA Corpora Generation with Roundtrip
Consistency", ACL 2019): a question that a reader answers otherwise than the one who wrote it is
mostly a bad one, or asks about something else. The reader is the model that serves now, under its
contract, before the passages that its retriever finds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.engines.evidence import Remembering, nearest_sentences
from fti.pipelines.engines.generator import Generation, GenerationRequest, Generator
from fti.pipelines.engines.replicas.actors import Executor, InProcess
from fti.pipelines.feature.dataset.asked import Asked, Tally
from fti.pipelines.feature.dataset.dataset_config import DatasetConfig
from fti.store.contracts.prompt_contract import Contract
from fti.store.errors import EngineError, GenerationFailed, QuestionTooLong
from fti.store.logs.results import CaseResults, KeptRows
from fti.store.progress import Progress, ProgressEvent
from fti.store.proof.squad import overlap
from fti.store.types import ModelIdentity, Passage, Split, sha256_hex

#: Overlap of words (F1) from which two answers are the same.
SAME = 0.6
_MARKER = re.compile(r"\s*\[\d+\]")

Shown = Callable[[Asked], Sequence[Passage]]


@dataclass(frozen=True, slots=True)
class Said:
    """What the reader says to a question: "" for a refusal and for what it cannot be asked.

    ``key`` is what it is kept under, empty where there is nothing to keep; ``shown`` is
    what was retrieved for it, of which the reader was shown a part.
    """

    answer: str
    key: str
    shown: tuple[Passage, ...]


class AskedOfReader:
    """Asks a reader several written questions together; keeps nothing.

    Args:
        generator: the reader.
        contract: what it serves under.
        embedder: selects the evidence, where the contract asks for that.
        kept: its answers of earlier builds, by key; they are not asked for again.
        shown: what serving would retrieve for a question.
    """

    def __init__(
        self,
        generator: Generator,
        contract: Contract,
        embedder: Embedder,
        kept: Callable[[str], Mapping[str, Any] | None],
        shown: Shown,
    ) -> None:
        self._generator, self._contract = generator, contract
        self._embedder = Remembering(embedder)
        self._kept, self._shown = kept, shown

    def __call__(self, batch: Sequence[Asked]) -> list[Said]:
        """What it says to each; those that no model wrote are searched for, and not asked."""
        shown = [tuple(self._shown(one)) for one in batch]
        prompts: dict[str, tuple[GenerationRequest, int]] = {}
        answers: dict[str, str] = {"": ""}
        keys: list[str] = []
        for one, passages in zip(batch, shown, strict=True):
            request = self._request(one, passages) if one.kind == "written" else None
            key = "" if request is None else _key(request[0])
            keys.append(key)
            if request is None:
                continue
            kept = self._kept(key)
            if kept is None:
                prompts[key] = request
            else:
                answers[key] = kept.get("answer", "")
        made = self._generated([request for request, _ in prompts.values()])
        for (key, (_, count)), generation in zip(prompts.items(), made, strict=True):
            parsed = self._contract.form.parse(generation.text if generation else "", count)
            answers[key] = "" if parsed.abstained else _MARKER.sub("", parsed.text).strip()
        return [
            Said(answers[key], key if key in prompts else "", passages)
            for key, passages in zip(keys, shown, strict=True)
        ]

    def _generated(self, requests: Sequence[GenerationRequest]) -> list[Generation | None]:
        if not requests:
            return []
        try:
            return list(self._generator.generate(requests))
        except (GenerationFailed, QuestionTooLong):
            # One of them failed, and took the others with it: each by itself.
            return [self._alone(request) for request in requests]

    def _alone(self, request: GenerationRequest) -> Generation | None:
        try:
            return self._generator.generate([request])[0]
        except (GenerationFailed, QuestionTooLong, EngineError):
            return None

    def _request(
        self, one: Asked, passages: Sequence[Passage]
    ) -> tuple[GenerationRequest, int] | None:
        contract = self._contract
        shown = passages[: contract.max_passages]
        if contract.evidence_sentences and shown:
            shown = nearest_sentences(
                one.question,
                shown,
                self._embedder,
                count=contract.evidence_sentences,
                choice=contract.evidence_choice,
            )
        try:
            fitted = contract.fit(one.question, shown, counter=self._generator.counter)
        except QuestionTooLong:
            return None
        request = GenerationRequest(
            messages=fitted.messages,
            question=one.question,
            passages=fitted.passages,
            max_new_tokens=contract.max_new_tokens,
            refusal=contract.form.response(""),
            refuse_above=contract.refuse_above,
        )
        return request, len(fitted.passages)


class ShowsPassages(Protocol):
    """What of a ``RowBuilder`` is asked here."""

    config: DatasetConfig
    split_of: Mapping[str, Split]

    def shown(self, one: Asked) -> Sequence[Passage]:
        """What serving would retrieve for a question, were the store without what is held out."""
        ...

    def remember(self, one: Asked, found: Sequence[Passage]) -> None:
        """Note what was retrieved for a question, so that its row does not search again."""
        ...


@dataclass(frozen=True, slots=True)
class ShownThere:
    """What a replica must know to show what serving would: version, settings, split by document."""

    features_version: int
    config: DatasetConfig
    split_of: Mapping[str, Split]


#: Opens the replicas of a reader.
ReaderReplicas = Callable[[ShownThere], Executor[Sequence[Asked], Sequence[Said]]]


def kept_answers(results: CaseResults, generator: Generator, contract: Contract) -> KeptRows:
    """A reader's answers of earlier builds."""
    return results.under(
        {
            "what": "round trip of written questions",
            "model": generator.identity.model_dump(mode="json"),
            "contract": contract.digest,
        }
    )


class RoundTrip:
    """Has a reader asked what a writer wrote.

    Args:
        generator: the reader.
        contract: what it serves under.
        embedder: selects the evidence, where the contract asks for that.
        results: where its answers are kept, so that a killed build goes on where it stopped.
        batch: questions asked together.
        executor: opens what asks the reader; None: ``AskedOfReader`` in this process.
    """

    def __init__(
        self,
        generator: Generator,
        contract: Contract,
        embedder: Embedder,
        results: CaseResults,
        *,
        batch: int = 8,
        executor: ReaderReplicas | None = None,
    ) -> None:
        self._generator, self._contract, self._embedder = generator, contract, embedder
        self._batch, self._executor = batch, executor
        self._kept = kept_answers(results, generator, contract)

    @property
    def identity(self) -> ModelIdentity:
        """Which weights read."""
        return self._generator.identity

    def consistent(
        self,
        asked: Sequence[Asked],
        builder: ShowsPassages,
        tally: Tally,
        progress: Progress,
        *,
        at: int = 0,
    ) -> list[Asked]:
        """What was asked, less the written questions that the reader answers otherwise.

        Args:
            asked: questions; only those of kind ``written`` are asked again.
            builder: of the rows, which knows what serving would retrieve for a question.
            tally: told how many stay.
            progress: told after every batch.
            at: the version of the features that is searched, for replicas.
        """
        written = [one for one in asked if one.kind == "written"]
        # Replicas search for the other rows too, which would else be searched for one by one here.
        others = [one for one in asked if one.kind != "written" and one.shown is None]
        parts = (written, others if self._executor is not None else [])
        size = self._batch
        batches = [part[n : n + size] for part in parts for n in range(0, len(part), size)]
        total = sum(map(len, parts))
        left_out: set[int] = set()
        done = read = 0
        for number, said in self._opened(builder, at).each(batches):
            rows = {one.key: {"answer": one.answer} for one in said if one.key}
            self._kept.keep_all(rows.items())
            for one, answered in zip(batches[number], said, strict=True):
                builder.remember(one, answered.shown)
                if one.kind == "written":
                    read += 1
                    if overlap(answered.answer, one.answer) < SAME:
                        left_out.add(id(one))
            done += len(said)
            share = {"kept": 1 - len(left_out) / read} if read else {}
            progress(ProgressEvent("read", done, total, batches[number][-1].question, share))
        if written:
            tally.filtered("round_trip", len(written), len(written) - len(left_out))
        return [one for one in asked if id(one) not in left_out]

    def _opened(self, builder: ShowsPassages, at: int) -> Executor[Sequence[Asked], Sequence[Said]]:
        if self._executor is not None:
            return self._executor(ShownThere(at, builder.config, builder.split_of))
        return InProcess(
            AskedOfReader(
                self._generator, self._contract, self._embedder, self._kept.get, builder.shown
            )
        )


def _key(request: GenerationRequest) -> str:
    return sha256_hex("\n".join(message.content for message in request.messages))
