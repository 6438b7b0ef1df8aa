"""Where the questions of a batch are answered: in this process, or by replicas on a Ray cluster.

Both ask the same assistant the same groups. What is said is kept by the process that asked, answers
in the log and rows in the output, so that a replica that dies leaves nothing half.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json, to_jsonable_python

from fti.pipelines.engines.replicas.actors import Executor, InProcess, Replicas
from fti.pipelines.engines.replicas.elsewhere import require_same
from fti.pipelines.inference.answering.answer import Assistant
from fti.store.answer_types import Answer
from fti.store.errors import EngineError, InputError
from fti.store.logs.answertables import AnswerRow, ErrorRow
from fti.store.types import sha256_hex

Group = Mapping[str, str]  # words by key


@dataclass(frozen=True, slots=True)
class Answered:
    """A question's row, and the answer for the log, if there is one."""

    row: AnswerRow
    answer: Answer | None


#: Opens what answers the groups of a run: given the assistant, and the run's id.
Opened = Callable[[Assistant, str], Executor[Group, Sequence[Answered]]]


class AskedTogether:
    """Asks an assistant a group of questions; keeps nothing.

    Args:
        assistant: what answers.
        run_id: the run that answers name.
    """

    def __init__(self, assistant: Assistant, run_id: str) -> None:
        self._assistant = assistant
        self._features = assistant.retriever.features
        self._run_id = run_id
        self._seen = self._features.version()
        self.made_under = made_under(assistant, self._features.content_digest())

    def __call__(self, group: Group) -> list[Answered]:
        """The rows of a group, in its order.

        Raises:
            StoreError: the store or the disk fails.
        """
        began_at = self._current()
        found = self._assistant.compose_many(list(group.values()), run_id=self._run_id)
        # Documents that changed meanwhile may stand behind some of these answers and not others.
        label = began_at if self._current() == began_at else ""
        return [
            Answered(
                self._row(key, question, outcome, label),
                outcome if isinstance(outcome, Answer) else None,
            )
            for (key, question), (outcome, _) in zip(group.items(), found, strict=True)
        ]

    def _current(self) -> str:
        version = self._features.version()
        if version != self._seen:
            self._seen = version
            self.made_under = made_under(self._assistant, self._features.content_digest())
        return self.made_under

    def _row(
        self, key: str, question: str, found: Answer | InputError | EngineError, label: str
    ) -> AnswerRow:
        if isinstance(found, Answer):
            return AnswerRow.of(key, found, made_under=label)
        return AnswerRow(
            id=key,
            question=question,
            model=self._assistant.model,
            contract=self._assistant.contract.digest,
            made_under=label,
            run=self._run_id,
            error=ErrorRow(code=found.code, message=found.message, hint=found.hint),
        )


def in_process(assistant: Assistant, run_id: str) -> Executor[Group, Sequence[Answered]]:
    """The assistant itself, a group after the other."""
    return InProcess(AskedTogether(assistant, run_id))


@dataclass(frozen=True)
class OnRay:
    """Replicas of the assistant, as actors; to be asked inside ``engines.replicas.cluster``.

    Args:
        build: makes the assistant on another machine: it is pickled.
        workers: replicas at most; None: one for each GPU, or each processor.
        gpu: whether each needs a GPU, where there are any.
    """

    build: Callable[[], Assistant]
    workers: int | None = None
    gpu: bool = False

    def __call__(self, assistant: Assistant, run_id: str) -> Executor[Group, Sequence[Answered]]:
        """What answers a run, each replica being just what ``assistant`` is."""
        return Replicas(
            _Replica(self.build, to_jsonable_python(shape(assistant)), run_id),
            doing="answer questions",
            workers=self.workers,
            gpu=self.gpu,
        )


@dataclass(frozen=True)
class _Replica:
    build: Callable[[], Assistant]
    shape: Mapping[str, Any]
    run_id: str

    def __call__(self) -> AskedTogether:
        assistant = self.build()
        require_same("assistant", self.shape, to_jsonable_python(shape(assistant)))
        return AskedTogether(assistant, self.run_id)


def shape(assistant: Assistant) -> dict[str, Any]:
    """Everything besides the question and the documents that an answer depends on."""
    return {
        **assistant.shaped_by(),
        "model": assistant.model,
        "generator": assistant.generator.identity,
    }


def made_under(assistant: Assistant, features: str) -> str:
    """Digest of everything besides the question that an answer depends on.

    Args:
        assistant: what answers.
        features: digest of what can be found; see ``FeatureStore.content_digest``.
    """
    return sha256_hex(to_json({**shape(assistant), "features": features}))
