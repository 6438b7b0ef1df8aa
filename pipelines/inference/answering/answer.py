"""A question answered from the documents: retrieve, fit, generate, cite, log.

There is one path. ``Assistant.answer`` reads ``Assistant.stream`` to its end, and evaluation and
the service call these two and nothing else; ``Assistant.answer_many`` takes the same steps for
several questions at a time, for batches.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Self

from fti.pipelines.engines.generator import Generation
from fti.pipelines.inference.answering.answer_contracts import accepted
from fti.pipelines.inference.answering.answer_events import AnswerEvent, AnswerStream, Draft
from fti.pipelines.inference.answering.answering_steps import AnsweringSteps, nothing_said, refusal
from fti.pipelines.inference.answering.retrieve import plain
from fti.pipelines.inference.answering.shown_text import ShownText
from fti.pipelines.inference.answering.spans import span
from fti.store.answer_types import AbstentionReason, Answer, FinishReason, Sampling
from fti.store.contracts.prompt_contract import ParsedResponse
from fti.store.errors import EngineError, InputError
from fti.store.features.filters import Where, conditions
from fti.store.types import Message, Passage


class Assistant(AnsweringSteps):
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
            user: digest of the person that it is asked for (``user_digest``), for the log.
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
            found[place] = self._finished(
                draft, refusal(self.contract.form.abstention), reason=reason
            )
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
            done = self._done(draft, refusal(self.contract.form.abstention), reason=reason)
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
            self._done(draft, seen if shown.shown else nothing_said(), finish="cancelled")
            raise
        yield self._done(draft, parsed, reason="model" if parsed.abstained else None, finish=finish)

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
