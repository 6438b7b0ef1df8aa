"""Keeps a written question where the reader, asked it as serving would, says the same answer.

Round-trip consistency (Alberti et al., "Synthetic QA Corpora Generation with Roundtrip
Consistency", ACL 2019): a question that a reader answers otherwise than the one who wrote it is
mostly a bad one, or asks about something else. The reader is the model that serves now, under its
contract, before the passages that its retriever finds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.engines.evidence import Remembering, nearest_sentences
from fti.pipelines.engines.generator import Generation, GenerationRequest, Generator
from fti.pipelines.feature.dataset.asked import Asked, Tally
from fti.store.contracts.prompt_contract import Contract
from fti.store.errors import EngineError, GenerationFailed, QuestionTooLong
from fti.store.logs.results import CaseResults
from fti.store.progress import Progress, ProgressEvent
from fti.store.proof.squad import overlap
from fti.store.types import ModelIdentity, Passage, sha256_hex

#: Overlap of words (F1) from which two answers are the same.
SAME = 0.6
_MARKER = re.compile(r"\s*\[\d+\]")

Shown = Callable[[Asked], Sequence[Passage]]


class RoundTrip:
    """Asks a reader what a writer wrote.

    Args:
        generator: the reader.
        contract: what it serves under.
        embedder: selects the evidence, where the contract asks for that.
        results: where its answers are kept, so that a killed build goes on where it stopped.
        batch: questions asked together.
    """

    def __init__(
        self,
        generator: Generator,
        contract: Contract,
        embedder: Embedder,
        results: CaseResults,
        *,
        batch: int = 8,
    ) -> None:
        self._generator, self._contract, self._batch = generator, contract, batch
        self._embedder = Remembering(embedder)
        self._kept = results.under(
            {
                "what": "round trip of written questions",
                "model": generator.identity.model_dump(mode="json"),
                "contract": contract.digest,
            }
        )

    @property
    def identity(self) -> ModelIdentity:
        """Which weights read."""
        return self._generator.identity

    def consistent(
        self, asked: Sequence[Asked], shown: Shown, tally: Tally, progress: Progress
    ) -> list[Asked]:
        """What was asked, less the written questions that the reader answers otherwise.

        Args:
            asked: questions; only those of kind ``written`` are asked again.
            shown: the passages that serving would show for one.
            tally: told how many stay.
            progress: told after every batch.
        """
        written = [one for one in asked if one.kind == "written"]
        left_out: set[int] = set()
        for at in range(0, len(written), self._batch):
            batch = written[at : at + self._batch]
            for one, said in zip(batch, self._answers(batch, shown), strict=True):
                if overlap(said, one.answer) < SAME:
                    left_out.add(id(one))
            done = at + len(batch)
            share = {"kept": 1 - len(left_out) / done}
            progress(ProgressEvent("read", done, len(written), batch[-1].question, share))
        if written:
            tally.filtered("round_trip", len(written), len(written) - len(left_out))
        return [one for one in asked if id(one) not in left_out]

    def _answers(self, batch: Sequence[Asked], shown: Shown) -> list[str]:
        """What the reader says to each; "" for a refusal and for what it cannot be asked."""
        prompts: dict[str, tuple[GenerationRequest, int]] = {}
        keys: list[str] = []
        for one in batch:
            request = self._request(one, shown(one))
            key = "" if request is None else _key(request[0])
            keys.append(key)
            if request is not None and self._kept.get(key) is None:
                prompts[key] = request
        made = self._generated([request for request, _ in prompts.values()])
        rows = []
        for (key, (_, count)), generation in zip(prompts.items(), made, strict=True):
            parsed = self._contract.form.parse(generation.text if generation else "", count)
            text = "" if parsed.abstained else _MARKER.sub("", parsed.text).strip()
            rows.append((key, {"answer": text}))
        self._kept.keep_all(rows)
        return [(self._kept.get(key) or {}).get("answer", "") for key in keys]

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


def _key(request: GenerationRequest) -> str:
    return sha256_hex("\n".join(message.content for message in request.messages))
