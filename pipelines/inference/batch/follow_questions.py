"""Questions answered as they come: a stream of questions into a place for answers, each once.

Records may come twice. A question is acknowledged after its answer is kept, never before; one that
comes again with the same words has its answer and is passed over, so that a process that is killed
anywhere leaves every question with one answer. A record that is no question is kept as it was given
and acknowledged: it must not hold up the others. While the model is busy nothing more is read than
the buffer holds. Where the model cannot be reached at all, nothing is acknowledged.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime

from fti.pipelines.inference.answering.answer import Assistant
from fti.pipelines.inference.batch.answer_sinks import AnswerSink
from fti.pipelines.inference.batch.answer_table import AskedInGroups, same_store
from fti.pipelines.inference.batch.outputs import alone
from fti.pipelines.inference.batch.question_records import AskedRecord, parse_question
from fti.pipelines.inference.batch.question_report import AnsweredGroup, NoQuestion, QuestionsReport
from fti.pipelines.inference.inference_config import BatchConfig
from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.requirements import freshness
from fti.store.errors import InputError, InvalidCases, PostconditionFailed, ServerUnavailable
from fti.store.logs.answertables import AnswerRow
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.store import Store
from fti.store.streams.buffered import Buffered
from fti.store.streams.freshness import Lags, summary
from fti.store.streams.record_streams import Delivery, RecordStream
from fti.store.types import now

_SETTLE_S = 60.0
_SHOWN = 100  # rejected records that the report of a whole session lists
_UNREACHED = ServerUnavailable("").code
_PAUSE_S = (0.5, 8.0)  # first and longest wait for a model that cannot be reached

QUESTIONS = PipelineContract("questions")
QUESTIONS.precondition("The assistant answers from the store that is given", raises=InputError)(
    same_store
)


@QUESTIONS.postcondition("Each record that was read is counted once")
def questions_add_up(result: QuestionsReport) -> None:
    """Answered, failed, passed over, or refused with its reason; none disappears."""
    counted = (
        result.answered
        + result.failed
        + result.skipped
        + result.superseded
        + result.rejected_records
    )
    if counted != result.records:
        raise PostconditionFailed(
            f"{result.records} records were read, and {counted} are accounted for."
        )


# A session's run is one of "batch", and the only kind that says how fresh its answers were.
QUESTIONS.requires("freshness_p99_s", "at most", "s", freshness("batch"))


@QUESTIONS.enforced
def follow_questions(
    stream: RecordStream,
    *,
    assistant: Assistant,
    store: Store,
    out: AnswerSink,
    config: BatchConfig,
    stop: threading.Event,
    on_group: Callable[[AnsweredGroup], None] = lambda group: None,
    progress: Progress = quiet,
) -> QuestionsReport:
    """Answer until the stream ends or ``stop`` is set; what was read by then is answered.

    Args:
        stream: where questions come from.
        assistant: what answers.
        store: the assistant's.
        out: where answers go.
        config: size of groups, waits, prices.
        stop: ends the session.
        on_group: told after each group, once it is acknowledged.
        progress: told after each group.

    Raises:
        InputError: ``out`` holds something else than answers.
        StoreLocked: another batch writes to ``out``.
        SourceNotFound: the stream is lost. What was not acknowledged comes again.
        ServerUnavailable: the model could not be reached for ``batch.stream.reconnect_s``.
        StoreError: the store or the disk fails; what was answered stays in ``out``.
    """
    inputs = {
        "stream": stream.name,
        "model": assistant.model,
        "contract": assistant.contract.digest,
        "features_version": str(assistant.retriever.features.version()),
        "out": out.name,
    }
    settings = assistant.shaped_by() | {"batch": config.model_dump(mode="json")}
    with (
        _alone(store, out),
        store.runs.running("batch", inputs=inputs, settings=settings) as run,
    ):
        out.open()
        work = AskedInGroups(assistant, out, run.id)
        session = _Session(stream, store, out, work, config, stop, progress)
        report = session.run(on_group).model_copy(update={"run": run.id})
        run.outputs["answers"] = out.name
        run.metrics.update(report.model_dump(mode="json", exclude={"rejected", "run"}))
        run.status = "partial" if report.failed or report.rejected_records else "done"
    return report


def _alone(store: Store, out: AnswerSink) -> AbstractContextManager[None]:
    return alone(store, out.lock, out.name) if out.lock else nullcontext()


class _Session:
    """One call of ``follow_questions``."""

    def __init__(
        self,
        stream: RecordStream,
        store: Store,
        out: AnswerSink,
        work: AskedInGroups,
        config: BatchConfig,
        stop: threading.Event,
        progress: Progress,
    ) -> None:
        self.stream = stream
        self.store = store
        self.out = out
        self.work = work
        self.config = config
        self.stop = stop
        self.progress = progress
        self.counts: Counter[str] = Counter()
        self.rejected: list[NoQuestion] = []
        self.lags = Lags()

    def run(self, on_group: Callable[[AnsweredGroup], None]) -> QuestionsReport:
        began = settled = time.monotonic()
        dirty = False
        with Buffered(self.stream, self.config.stream, self.stop) as buffered:
            for deliveries in buffered.groups(self.config.group):
                if deliveries:
                    group = self._answer(deliveries)
                    self.stream.acknowledge([d.position for d in deliveries])
                    self._count(group)
                    on_group(group)
                    dirty = True
                if dirty and time.monotonic() - settled > _SETTLE_S:
                    self.out.settle()
                    settled, dirty = time.monotonic(), False
        self.out.settle()
        return self._report(began)

    def _answer(self, deliveries: Sequence[Delivery]) -> AnsweredGroup:
        began = time.monotonic()
        asked, bad, superseded, twice = self._sort(deliveries)
        words = {key: record.question for key, (_, record) in asked.items()}
        done = self.out.answered(words)
        rows = self._answered({key: text for key, text in words.items() if key not in done})
        kept = now()
        lags = [max(0.0, (kept - _asked_at(*asked[row.id])).total_seconds()) for row in rows]
        for lag in lags:
            self.lags.add(lag)
        for delivery, reason in bad:
            self.store.rejected.append(
                stream=self.stream.name, position=delivery.position, source="", reason=reason,
                record=delivery.data, question=True,
            )  # fmt: skip
        failed = sum(row.error is not None for row in rows)
        return AnsweredGroup(
            at=kept,
            position=deliveries[-1].position,
            records=len(deliveries),
            answered=len(rows) - failed,
            failed=failed,
            skipped=len(words) - len(rows) + twice,
            superseded=superseded,
            rejected=tuple(NoQuestion(position=d.position, reason=why) for d, why in bad),
            prompt_tokens=sum(row.prompt_tokens for row in rows),
            completion_tokens=sum(row.completion_tokens for row in rows),
            freshness=summary(lags),
            seconds=round(time.monotonic() - began, 3),
        )

    def _sort(
        self, deliveries: Sequence[Delivery]
    ) -> tuple[dict[str, tuple[Delivery, AskedRecord]], list[tuple[Delivery, str]], int, int]:
        """The last question of each key, what is none, and how many earlier ones fall away."""
        asked: dict[str, tuple[Delivery, AskedRecord]] = {}
        bad: list[tuple[Delivery, str]] = []
        superseded = twice = 0
        for delivery in deliveries:
            try:
                record = parse_question(
                    delivery.data,
                    max_bytes=self.config.stream.max_record_bytes,
                    name=delivery.name,
                )
            except InvalidCases as error:
                bad.append((delivery, error.message))
                continue
            if record.id in asked:
                same = asked[record.id][1].question.strip() == record.question.strip()
                superseded, twice = superseded + (not same), twice + same
                if same:
                    continue  # the first was asked first
            asked[record.id] = (delivery, record)
        return asked, bad, superseded, twice

    def _answered(self, words: Mapping[str, str]) -> list[AnswerRow]:
        """Rows of all questions, kept; waits while the model cannot be reached for one of them."""
        found: list[AnswerRow] = []
        left = dict(words)
        until = time.monotonic() + self.config.stream.reconnect_s
        pause, longest = _PAUSE_S
        while left:
            rows = self.work.ask(left)
            reached = [row for row in rows if not (row.error and row.error.code == _UNREACHED)]
            if reached:
                self.out.put(reached)
                self.work.count(reached)
                found += reached
            left = {key: text for key, text in left.items() if key not in {r.id for r in reached}}
            why = next((row.error for row in rows if row.id in left), None)
            if why is None:
                break
            if self.stop.is_set() or time.monotonic() + pause > until:
                raise ServerUnavailable(
                    f"{len(left)} questions were not answered: {why.message}",
                    hint=f"They come again when the stream is followed again. {why.hint}".strip(),
                )
            self.progress(ProgressEvent("wait", self.counts["records"], None, why.message))
            self.stop.wait(pause)
            pause = min(2 * pause, longest)
        return found

    def _count(self, group: AnsweredGroup) -> None:
        for name in (
            "records", "answered", "failed", "skipped", "superseded", "prompt_tokens",
            "completion_tokens",
        ):  # fmt: skip
            self.counts[name] += getattr(group, name)
        self.counts["groups"] += 1
        self.counts["rejected_records"] += len(group.rejected)
        self.rejected += group.rejected[: _SHOWN - len(self.rejected)]
        self.progress(ProgressEvent("questions", self.counts["records"]))

    def _report(self, began: float) -> QuestionsReport:
        seconds = time.monotonic() - began
        prompt, completion = self.counts["prompt_tokens"], self.counts["completion_tokens"]
        return QuestionsReport(
            **self.counts,
            rejected=tuple(self.rejected),
            cost=self.config.cost(prompt, completion, seconds=seconds),
            currency=self.config.currency if self.config.priced else "",
            freshness=self.lags.summary(),
            ended="stop" if self.stop.is_set() else "stream",
            seconds=round(seconds, 3),
        )


def _asked_at(delivery: Delivery, record: AskedRecord) -> datetime:
    return record.at or delivery.at
