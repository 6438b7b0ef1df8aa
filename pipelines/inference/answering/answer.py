"""A question answered from the documents: retrieve, fit, generate, cite, log.

There is one path. ``Assistant.answer`` reads ``Assistant.stream`` to its end, and evaluation and
the service call these two and nothing else; ``Assistant.answer_many`` takes the same steps for
several questions at a time, for batches.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import abc
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from fti.pipelines.engines.cross_encoders.reranking import Reranker
from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.engines.evidence import Remembering, nearest_sentences_each
from fti.pipelines.engines.generator import (
    Delta,
    Generation,
    GenerationRequest,
    Generator,
)
from fti.pipelines.inference.answering.answer_contracts import ANSWER, SERVE, accepted
from fti.pipelines.inference.answering.answer_events import AnswerEvent, AnswerStream, Draft, closed
from fti.pipelines.inference.answering.citations import attribution, citations
from fti.pipelines.inference.answering.followup import retrieval_query, standalone
from fti.pipelines.inference.answering.retrieve import (
    Retriever,
    plain,
    searched,
)
from fti.pipelines.inference.answering.shown_text import ShownText
from fti.pipelines.inference.answering.spans import note, span
from fti.pipelines.inference.inference_config import InferenceConfig
from fti.store.contracts.prompt_contract import Contract, ParsedResponse
from fti.store.contracts.retrieval_contract import passage_differences, threshold_differences
from fti.store.errors import (
    EngineError,
    InputError,
    QuestionTooLong,
)
from fti.store.features.filters import Where, conditions
from fti.store.logs.runs import code_version
from fti.store.store import Store
from fti.store.types import (
    AbstentionReason,
    Answer,
    FinishReason,
    Message,
    Passage,
    Sampling,
    Thresholds,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_log = logging.getLogger(__name__)


class Assistant:
    """Answers questions under a contract. May be shared between threads.

    Args:
        store: where passages come from and answers are logged.
        embedder: the one whose vectors the store holds.
        reranker: reorders retrieved passages; None leaves the search's order.
        generator: runs the contract's base model (and the model version's adapter).
        contract: of the model version, or of the base model.
        config: retrieval and sampling.
        model: what answers name as their model: "base" or ``name/N``.
        use_retrieval: False answers from the model alone, without passages.
        engine: how the generator is run, as ``engines.generation.engine_settings`` says it.

    Raises:
        EmbedderMismatch: the store's vectors come from another embedder.
        ContractError: generator, embedder or store are not what the contract says.
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

    def shaped_by(self) -> dict[str, Any]:
        """Everything besides question, documents and weights that shapes its answers, as JSON.

        Runs keep it, so that what was measured under something else is not compared.
        """
        retriever = self.retriever if self.use_retrieval else None
        return {
            "inference": self.config.model_dump(mode="json", exclude={"other_retrieval"}),
            "use_retrieval": self.use_retrieval,
            "retrieval": None if retriever is None else retriever.contract.model_dump(mode="json"),
            "embedder": self.evidence_embedder.identity.model_dump(mode="json"),
            "engine": self.engine,
            "contract": self.contract.model_dump(mode="json"),
        }

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

    def answer(
        self,
        question: str,
        history: Sequence[Message] = (),
        *,
        run_id: str = "",
        sampling: Sampling | None = None,
    ) -> Answer:
        """The whole answer; see ``stream``."""
        with self.stream(question, history, run_id=run_id, sampling=sampling) as events:
            for event in events:
                if event.answer is not None:
                    return event.answer
        raise AssertionError("a stream ends with its answer")

    def stream(
        self,
        question: str,
        history: Sequence[Message] = (),
        *,
        run_id: str = "",
        sampling: Sampling | None = None,
        collections: Sequence[str] = (),
        where: Where | None = None,
        at: str = "",
        key: str = "",
        user: str = "",
        system: str = "",
        previous: str = "",
        kept: Sequence[Message] | None = None,
    ) -> AnswerStream:
        """Answer piece by piece.

        The model is not asked when nothing was retrieved, or nothing near enough to the question
        (``Contract.abstain_below``, else the configured ``min_similarity``): the answer then
        abstains. An answer without any marker is attributed to the first shown
        passage that holds all of it word for word: " [n]" is appended to the text. Every answer is
        logged before its ``done`` event.

        Args:
            question: what is asked.
            history: earlier user and assistant turns, oldest first.
            run_id: the run (a batch, an evaluation) that asks; empty for a person.
            sampling: how tokens are chosen; None means as configured.
            collections: all that may be answered from; none: the whole store.
            where: only from passages for which these conditions hold, besides the configured ones.
            at: an earlier version of the features to answer from, a number or a tag.
            key: id of the API key that asks, for the log; empty where none does.
            user: digest of the person that it is asked for (``types.user_digest``), for the log.
            system: what the caller would have the model told. It is not: the wording around a
                question is the contract's. See ``plain_model.PlainAssistant``.
            previous: id of the answer that this one goes on from, for the log.
            kept: turns of the history to keep with the answer, so that another can go on from it;
                None: none can.

        Raises, at the first event:
            EmptyQuestion, QuestionTooLong: the question cannot be answered.
            StoreEmpty: nothing was ever ingested.
            InvalidFilter, VersionNotFound: ``where`` or ``at`` name nothing.
        """
        assistant = self._told_by(plain(system)) if system else self
        cancel = threading.Event()
        turns = [m.model_copy(update={"content": plain(m.content)}) for m in history]
        draft = self._draft(plain(question), turns, run_id, sampling)
        draft.collections = tuple(collections)
        draft.where = conditions(where)
        draft.at = at
        draft.key = key
        draft.user = user
        draft.previous = previous
        draft.kept = None if kept is None else tuple(kept)
        return AnswerStream(assistant._events(draft, turns, cancel), cancel)

    def _told_by(self, system: str) -> Self:
        """What answers a caller who would have the model told something; see ``stream``."""
        return self

    def _understood(self, question: str, turns: Sequence[Message]) -> str:
        """The question as it is understood without the conversation."""
        return standalone(question, turns)

    def answer_many(
        self, questions: Sequence[str], *, run_id: str = ""
    ) -> list[Answer | InputError | EngineError]:
        """Answers to several questions, in their order, embedded and generated together.

        Each is the answer that ``answer`` gives to its question, up to the rounding of batched
        arithmetic, and is logged like it. What cannot be answered is the error instead, and costs
        the others nothing. Timings are a question's share of the work done together.

        Raises:
            StoreError: the store or the disk fails.
        """
        return [outcome for outcome, _ in self.answers_and_passages(questions, run_id=run_id)]

    def answers_and_passages(
        self, questions: Sequence[str], *, run_id: str = ""
    ) -> list[tuple[Answer | InputError | EngineError, tuple[Passage, ...]]]:
        """As ``answer_many``, and beside each what was retrieved, of which an answer was shown a
        part: what a measurement of the search needs.
        """
        made = self.compose_many(questions, run_id=run_id)
        self.store.answers.append_all([each for each, _ in made if isinstance(each, Answer)])
        return made

    def compose_many(
        self, questions: Sequence[str], *, run_id: str = ""
    ) -> list[tuple[Answer | InputError | EngineError, tuple[Passage, ...]]]:
        """As ``answers_and_passages``, and logged nowhere: whoever asks is to log the answers."""
        found: list[Answer | InputError | EngineError | None] = [None] * len(questions)
        drafts: dict[int, Draft] = {}
        for place, question in enumerate(map(plain, questions)):
            try:
                accepted(question, self.contract, self.generator.counter)
                drafts[place] = self._draft(question, (), run_id, None)
            except (InputError, EngineError) as error:
                found[place] = error
        evidence: dict[int, tuple[Passage, ...]] = {}
        retrieved_for = self._retrieve_many(drafts)
        for place, retrieved in retrieved_for.items():
            draft, reason = drafts[place], self._reason_to_abstain(retrieved)
            if reason is None:
                evidence[place] = retrieved
                continue
            draft.passages = retrieved[: self.contract.max_passages]
            draft.timings["total_s"] = sum(draft.timings.values())
            refusal = _refusal(self.contract.form.abstention)
            found[place] = self._finished(draft, refusal, reason=reason)
        requests = {
            place: self._request(drafts[place], selected, (), threading.Event())
            for place, selected in self._evidence_many(drafts, evidence).items()
        }
        for place, generated in self._generate_many(drafts, requests).items():
            if not isinstance(generated, Generation):
                found[place] = generated
                continue
            draft = drafts[place]
            draft.usage = generated.usage
            draft.timings["total_s"] = sum(draft.timings.values())
            shown = ShownText(self.contract.form, len(draft.passages))
            shown.feed(generated.text)
            parsed = self._understand(shown, generated.finish_reason, draft.passages)
            found[place] = self._finished(
                draft,
                parsed,
                reason="model" if parsed.abstained else None,
                finish=generated.finish_reason,
            )
        return [
            (each, retrieved_for.get(place, ()))
            for place, each in enumerate(found)
            if each is not None
        ]

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

    def _events(
        self, draft: Draft, turns: Sequence[Message], cancel: threading.Event
    ) -> Iterator[AnswerEvent]:
        with span("answer", fti__answer__id=draft.id, gen_ai__request__model=self.model) as whole:
            draft.span = whole
            # Before searching: the search need not bear a question that no prompt can hold.
            accepted(draft.question, self.contract, self.generator.counter)
            retrieved = self._retrieve(draft, turns)
            reason = self._reason_to_abstain(retrieved)
            if reason is None:
                yield from self._ask_model(draft, retrieved, turns, cancel)
                return
            draft.passages = retrieved[: self.contract.max_passages]
            done = self._done(draft, _refusal(self.contract.form.abstention), reason=reason)
            yield draft.event("passages", retrieved=retrieved)
            yield draft.event("text", text=self.contract.form.abstention)
            yield done

    def _ask_model(
        self,
        draft: Draft,
        retrieved: tuple[Passage, ...],
        turns: Sequence[Message],
        cancel: threading.Event,
    ) -> Iterator[AnswerEvent]:
        evidence = self._evidence_many({0: draft}, {0: retrieved})[0]
        request = self._request(draft, evidence, turns, cancel)
        shown = ShownText(self.contract.form, len(draft.passages))
        finish: FinishReason = "stop"
        try:
            yield draft.event("passages", retrieved=retrieved)
            with contextlib.closing(self._generate(draft, request)) as deltas:
                for delta in deltas:
                    finish = delta.finish_reason or finish
                    text = shown.feed(delta.text)
                    if text:
                        yield draft.event("text", text=text)
            finish = "cancelled" if cancel.is_set() else finish
            parsed = self._understand(shown, finish, draft.passages)
            rest = shown.finish(parsed.text)
            if rest:
                yield draft.event("text", text=rest)
        except GeneratorExit:
            cancel.set()
            seen = self.contract.form.parse(shown.shown, len(draft.passages))
            self._done(draft, seen if shown.shown else _nothing(), finish="cancelled")
            raise
        yield self._done(draft, parsed, reason="model" if parsed.abstained else None, finish=finish)

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
            return _nothing()  # cut before it could say anything: no refusal
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

    def _done(
        self,
        draft: Draft,
        parsed: ParsedResponse,
        *,
        reason: AbstentionReason | None = None,
        finish: FinishReason = "stop",
    ) -> AnswerEvent:
        """Log the answer; its last event."""
        answer = self._finished(draft, parsed, reason=reason, finish=finish)
        self.store.answers.append(answer)
        return draft.event("done", answer=answer)

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


def _refusal(text: str) -> ParsedResponse:
    return ParsedResponse(text=text, markers=(), spans=(), abstained=True)


def _nothing() -> ParsedResponse:
    return ParsedResponse(text="", markers=(), spans=(), abstained=False)
