"""What is done with a question, a method a step: retrieve, fit, generate, understand, cite."""

from __future__ import annotations

import logging
import threading
import time
from collections import abc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fti.pipelines.engines.cross_encoders.reranking import Reranker
from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.engines.evidence import Remembering, nearest_sentences_each
from fti.pipelines.engines.generator import Delta, Generation, GenerationRequest, Generator
from fti.pipelines.inference.answering.answer_contracts import ANSWER, SERVE
from fti.pipelines.inference.answering.answer_events import Draft, closed
from fti.pipelines.inference.answering.citations import attribution, citations
from fti.pipelines.inference.answering.followup import retrieval_query, standalone
from fti.pipelines.inference.answering.retrieve import Retriever, searched
from fti.pipelines.inference.answering.shown_text import ShownText
from fti.pipelines.inference.answering.spans import note, span
from fti.pipelines.inference.inference_config import InferenceConfig
from fti.store.answer_types import AbstentionReason, Answer, FinishReason, Sampling, Thresholds
from fti.store.contracts.prompt_contract import Contract, ParsedResponse
from fti.store.contracts.retrieval_contract import passage_differences, threshold_differences
from fti.store.errors import EngineError, InputError, QuestionTooLong
from fti.store.logs.runs import code_version
from fti.store.store import Store
from fti.store.types import Message, Passage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_log = logging.getLogger(__name__)


class AnsweringSteps:
    """The steps from a question to its answer; ``Assistant`` says in which order they are taken.

    Its arguments are those of ``Assistant``.
    """

    @SERVE.enforced
    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        reranker: Reranker | None,
        generator: Generator,
        contract: Contract,
        config: InferenceConfig,
        *,
        model: str = "base",
        use_retrieval: bool = True,
        engine: Mapping[str, Any] | None = None,
    ) -> None:
        self.store = store
        self.generator = generator
        self.contract = contract
        self.config = config
        self.model = model
        self.use_retrieval = use_retrieval
        self.engine = dict(engine or {})
        self.sampling = Sampling(temperature=config.temperature, seed=config.seed)
        features = searched(store.features, config.retrieval)
        self.retriever = Retriever(features, embedder, reranker, config.retrieval)
        self.warnings = self._warnings() if use_retrieval else ()
        self.evidence_embedder = Remembering(embedder)

    def _thresholds(self) -> Thresholds:
        below = self.contract.abstain_below
        return Thresholds(
            abstain_below=self.config.retrieval.min_similarity if below is None else below,
            refuse_above=self.contract.refuse_above,
        )

    def _within(self, draft: Draft) -> tuple[str, ...]:
        """The collections that the answer may rest on: those of who asks, and of the settings."""
        own = self.config.retrieval.collection
        return (own,) if own else draft.collections

    def _warnings(self) -> tuple[str, ...]:
        """What is otherwise than the contract says and served all the same; logged once, here."""
        agreed, served = self.contract.retrieval, self.retriever.contract
        found = passage_differences(agreed, served, shown=self.contract.max_passages)
        if self.contract.abstain_below is None:
            found += threshold_differences(agreed, served)
        if found:
            _log.warning(
                "The model %r is served with other passages or thresholds than it was trained "
                "with: %s.",
                self.model,
                "; ".join(found),
            )
        return tuple(found)

    def _understood(self, question: str, turns: Sequence[Message]) -> str:
        """The question as it is understood without the conversation."""
        return standalone(question, turns)

    def _draft(
        self,
        question: str,
        turns: Sequence[Message],
        run_id: str,
        sampling: Sampling | None,
    ) -> Draft:
        sampling = self.sampling if sampling is None else sampling
        most = min(
            sampling.max_tokens or self.contract.max_new_tokens, self.contract.max_new_tokens
        )
        return Draft(
            question=question,
            asked=self._understood(question, turns),
            run_id=run_id,
            model=self.model,
            sampling=sampling.model_copy(update={"max_tokens": most}),
        )

    def _retrieve(
        self,
        draft: Draft,
        turns: Sequence[Message],
        vector: NDArray[np.float32] | None = None,
    ) -> tuple[Passage, ...]:
        if not self.use_retrieval:
            return ()
        started = time.perf_counter()
        # At least what the prompt can hold, whatever is configured for searches.
        k = max(self.config.retrieval.k, self.contract.max_passages)
        with span("retrieve", draft.span, fti__mode=self.config.retrieval.mode) as searching:
            query = retrieval_query(draft.question, turns)
            if vector is None:
                (vector,) = self.retriever.embed([query])
            draft.vector = vector if query == draft.asked else None
            retriever = self.retriever
            if draft.at:
                retriever = retriever.over(self.store.features.checkout(draft.at))
            found = retriever.retrieve(
                query, k, where=draft.where, vector=vector, collections=draft.collections
            )
            note(searching, fti__passages=len(found.passages))
        draft.timings["retrieve_s"] = time.perf_counter() - started
        draft.features_version = found.features_version
        return found.passages

    def _retrieve_many(self, drafts: Mapping[int, Draft]) -> dict[int, tuple[Passage, ...]]:
        if not self.use_retrieval:
            return dict.fromkeys(drafts, ())
        queries = [retrieval_query(draft.question, ()) for draft in drafts.values()]
        vectors = self.retriever.embed(queries)
        return {
            place: self._retrieve(draft, (), vector)
            for (place, draft), vector in zip(drafts.items(), vectors, strict=True)
        }

    def _reason_to_abstain(self, retrieved: tuple[Passage, ...]) -> AbstentionReason | None:
        if not self.use_retrieval:
            return None
        if not retrieved:
            return "nothing_retrieved"
        shown = retrieved[: self.contract.max_passages]
        if not self.retriever.relevant(shown, self.contract.abstain_below):
            return "nothing_relevant"
        return None

    def _evidence_many(
        self, drafts: Mapping[int, Draft], retrieved: Mapping[int, tuple[Passage, ...]]
    ) -> dict[int, tuple[Passage, ...]]:
        """What of the passages the model is to be shown, as the contract says."""
        if not self.contract.evidence_sentences or not retrieved:
            return dict(retrieved)
        started = time.perf_counter()
        most = self.contract.max_passages
        selected = nearest_sentences_each(
            [(drafts[place].asked, found[:most]) for place, found in retrieved.items()],
            self.evidence_embedder,
            count=self.contract.evidence_sentences,
            choice=self.contract.evidence_choice,
            known=[drafts[place].vector for place in retrieved],
        )
        share = (time.perf_counter() - started) / len(retrieved)
        for place in retrieved:
            drafts[place].timings["select_s"] = share
        return dict(zip(retrieved, selected, strict=True))

    def _request(
        self,
        draft: Draft,
        evidence: Sequence[Passage],
        turns: Sequence[Message],
        cancel: threading.Event,
    ) -> GenerationRequest:
        # A reader of single sentences learned questions that stand alone, one at a time: it is
        # asked what the follow-up means, and earlier turns would only lead it astray.
        alone = bool(self.contract.evidence_sentences)
        fitted = self.contract.fit(
            self._told(draft) if alone else draft.question,
            evidence,
            counter=self.generator.counter,
            history=() if alone else turns,
        )
        draft.passages = fitted.passages
        return GenerationRequest(
            messages=fitted.messages,
            question=draft.asked,
            passages=fitted.passages,
            max_new_tokens=draft.sampling.max_tokens or self.contract.max_new_tokens,
            temperature=draft.sampling.temperature,
            top_p=draft.sampling.top_p,
            seed=draft.sampling.seed,
            stop=draft.sampling.stop,
            cancel=cancel,
            refusal=self.contract.form.response(""),
            refuse_above=self.contract.refuse_above,
        )

    def _told(self, draft: Draft) -> str:
        """The question as it stands alone; as it was asked, where that is too long for a prompt."""
        try:
            self.contract.require_room(draft.asked, counter=self.generator.counter)
        except QuestionTooLong:
            return draft.question
        return draft.asked

    def _generate(
        self, draft: Draft, request: GenerationRequest
    ) -> abc.Generator[Delta, None, None]:
        started = time.perf_counter()
        deltas = self.generator.stream(request)
        base = self.generator.identity.id
        with span("generate", draft.span, gen_ai__request__model=base) as generating:
            try:
                for delta in deltas:
                    if delta.text and "first_token_s" not in draft.timings:
                        draft.timings["first_token_s"] = draft.since_start()
                        generating.add_event("first_token")
                    draft.usage = delta.usage or draft.usage
                    yield delta
            finally:
                closed(deltas)
                draft.timings["generate_s"] = time.perf_counter() - started
                note(
                    generating,
                    gen_ai__usage__input_tokens=draft.usage.prompt_tokens,
                    gen_ai__usage__output_tokens=draft.usage.completion_tokens,
                )

    def _generate_many(
        self, drafts: Mapping[int, Draft], requests: Mapping[int, GenerationRequest]
    ) -> dict[int, Generation | InputError | EngineError]:
        """Generate together; where that breaks off, one by one, so that only the culprit fails."""
        started = time.perf_counter()
        made: dict[int, Generation | InputError | EngineError] = {}
        try:
            made.update(
                zip(requests, self.generator.generate(list(requests.values())), strict=True)
            )
        except (InputError, EngineError):
            for place, request in requests.items():
                try:
                    made[place] = self.generator.generate([request])[0]
                except (InputError, EngineError) as error:
                    made[place] = error
        for place in requests:
            draft = drafts[place]
            draft.timings["generate_s"] = (time.perf_counter() - started) / len(requests)
        return made

    def _understand(
        self, shown: ShownText, finish: FinishReason, passages: tuple[Passage, ...]
    ) -> ParsedResponse:
        """The model's whole text, with a marker appended where it left out an obvious one."""
        parsed = shown.parsed(broken_off=finish != "stop")
        if finish == "cancelled" and parsed.abstained and not shown.shown:
            return nothing_said()  # cut before it could say anything: no refusal
        if parsed.abstained or parsed.markers:
            return parsed
        number = attribution(parsed.text, passages)
        if number is None:
            return parsed
        marker = f"[{number}]"
        start = len(parsed.text) + 1
        return ParsedResponse(
            text=f"{parsed.text} {marker}",
            markers=(number,),
            spans=((start, start + len(marker)),),
            abstained=False,
        )

    def _finished(
        self,
        draft: Draft,
        parsed: ParsedResponse,
        *,
        reason: AbstentionReason | None = None,
        finish: FinishReason = "stop",
    ) -> Answer:
        draft.timings.setdefault("total_s", draft.since_start())
        outcome = "abstained" if parsed.abstained else finish
        note(draft.span, fti__outcome=outcome, fti__citations=len(parsed.markers))
        return self._composed(draft, parsed, reason, finish)

    @ANSWER.enforced
    def _composed(
        self,
        draft: Draft,
        parsed: ParsedResponse,
        reason: AbstentionReason | None,
        finish: FinishReason,
    ) -> Answer:
        """The answer with its lineage, before it is logged or shown."""
        return Answer(
            id=draft.id,
            created_at=draft.created_at,
            question=draft.question,
            asked="" if draft.asked == draft.question else draft.asked,
            key=draft.key,
            user=draft.user,
            previous=draft.previous,
            history=draft.kept,
            text=parsed.text,
            citations=citations(parsed, draft.passages),
            passages=draft.passages,
            abstained=parsed.abstained,
            abstention_reason=reason,
            finish_reason=finish,
            model=self.model,
            base=self.generator.identity,
            contract_digest=self.contract.digest,
            features_version=draft.features_version,
            run_id=draft.run_id,
            collections=self._within(draft),
            where=(*self.config.retrieval.where, *map(str, draft.where)),
            retrieval=self.retriever.contract if self.use_retrieval else None,
            thresholds=self._thresholds() if self.use_retrieval else None,
            engine=self.engine,
            code_version=code_version(),
            sampling=draft.sampling,
            usage=draft.usage,
            timings=draft.timings,
            warnings=self.warnings,
        )


def refusal(text: str) -> ParsedResponse:
    """The abstention, as if the model had said it."""
    return ParsedResponse(text=text, markers=(), spans=(), abstained=True)


def nothing_said() -> ParsedResponse:
    """What a model said that was stopped before its first word."""
    return ParsedResponse(text="", markers=(), spans=(), abstained=False)
