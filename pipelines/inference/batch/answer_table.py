"""Answers for a table of questions, each once under its key; run again to go on, or to catch up.

Questions are answered in groups: embedded, selected and generated together. The rows of a group
are kept durably before the next one is begun, so that a run that was killed loses the group in
hand and nothing else. What the next run asks are new questions, those whose wording changed, those
that failed, and those whose answer another model, other settings or other documents made.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic_core import to_json

from fti.pipelines.inference.answering.answer import Assistant
from fti.pipelines.inference.batch.asked_together import (
    Answered,
    AskedTogether,
    Group,
    Opened,
    in_process,
    made_under,
)
from fti.pipelines.inference.batch.outputs import Output, RowKeeper, alone
from fti.pipelines.inference.batch.question_tables import read_questions
from fti.pipelines.inference.inference_config import BatchConfig
from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.requirements import Measured, Seen, figure, memory, rate, share
from fti.store.errors import InputError, PostconditionFailed
from fti.store.logs.answertables import AnswerRow, Kept
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.store import Store
from fti.store.types import Value, sha256_hex

Cause = Literal["new", "changed", "failed", "outdated"]


class Estimate(Value):
    """What questions would take, judged by those that were answered just now."""

    questions: int
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    cost: float | None = None


class BatchReport(Value):
    """What a batch did.

    ``skipped`` questions had a current answer already. ``causes`` says why the others were asked:
    "new", "changed" (other words under the same id), "failed" before, or "outdated" (another model,
    other settings or other documents). ``remaining`` were left for the next run by a limit, and
    ``estimate`` says what those will take. ``cost`` is None where the profile has no prices.
    """

    done: int
    failed: int
    skipped: int
    remaining: int = 0
    causes: Mapping[str, int] = Field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    currency: str = ""
    estimate: Estimate | None = None
    seconds: float
    run: str


def answer_batch(
    questions: Path | Iterable[Mapping[str, Any]],
    *,
    assistant: Assistant,
    store: Store,
    out: Output,
    config: BatchConfig | None = None,
    limit: int | None = None,
    keep_outdated: bool = False,
    executor: Opened = in_process,
    progress: Progress = quiet,
) -> BatchReport:
    """Answer every question that ``out`` has no current answer to.

    Args:
        questions: see ``questions.read_questions``.
        assistant: what answers.
        store: the assistant's.
        out: see ``outputs``. A question that cannot be answered becomes a row with ``error`` and
            does not end the run.
        config: size of groups, prices.
        limit: ask at most so many now, and say what the rest would take.
        keep_outdated: let answers stand that another model, other settings or other documents
            made.
        executor: where questions are answered. Rows come in the order of the questions, or, from
            several replicas, in the order in which groups are done.
        progress: told after every group, with the seconds left and the tokens so far.

    Raises:
        InvalidCases: a row of ``questions`` has no id or question, or repeats an id.
        InputError: ``out`` holds something else than answers.
        StoreLocked: another batch writes to ``out``.
        StoreError: the store or the disk fails; what was answered stays in ``out``.
    """
    return answer_all(
        read_questions(questions),
        assistant=assistant,
        store=store,
        out=out,
        config=config or BatchConfig(),
        limit=limit,
        keep_outdated=keep_outdated,
        executor=executor,
        asked_from=str(questions) if isinstance(questions, Path) else "given",
        progress=progress,
    )


BATCH = PipelineContract("batch")


@BATCH.precondition("The assistant answers from the store that is given", raises=InputError)
def same_store(assistant: Assistant, store: Store) -> None:
    """Rows name answers and documents of this store."""
    ours, theirs = store.layout.root, assistant.store.layout.root
    if ours != theirs:
        raise InputError(
            f"The assistant answers from {str(theirs)!r}, and the batch is of {str(ours)!r}.",
            hint="Build the assistant on the batch's store.",
        )


@BATCH.postcondition("Every question has its row, but for those that a limit left")
def every_question_has_its_row(asked: Mapping[str, str], out: Output, result: BatchReport) -> None:
    """Nothing is lost between the model and the output."""
    kept = out.kept()
    missing = [key for key in asked if key not in kept]
    if len(missing) > result.remaining:
        raise PostconditionFailed(
            f"In {out.name!r} there is no row of {len(missing)} questions, {missing[0]!r} first; "
            f"{result.remaining} were left for the next run."
        )


def cost_per_1000(seen: Seen) -> Measured | None:
    """What the tokens and hours of all runs cost, by the prices as they are now."""
    runs = [run for run in seen.of("batch") if figure(run, "done")]
    prompt, completion, spent = (
        sum(figure(run, name) for run in runs)
        for name in ("prompt_tokens", "completion_tokens", "seconds")
    )
    answers = sum(figure(run, "done") for run in runs)
    cost = seen.cost(prompt, completion, spent)
    if not answers or cost is None:
        return None
    return Measured(value=round(1000 * cost / answers, 4), n=round(answers))


BATCH.requires("answers_per_s", "at least", "per s", rate("batch", "done"))
BATCH.requires("failed_share", "at most", "", share("batch", "failed", "done"))
BATCH.requires("cost_per_1000", "at most", "per 1000", cost_per_1000)
BATCH.requires("memory_mb", "at most", "MB", memory("batch"))


@BATCH.enforced
def answer_all(
    asked: Mapping[str, str],
    *,
    assistant: Assistant,
    store: Store,
    out: Output,
    config: BatchConfig,
    limit: int | None,
    keep_outdated: bool,
    asked_from: str,
    progress: Progress,
    executor: Opened = in_process,
) -> BatchReport:
    """``answer_batch`` of questions that are read already: words by id."""
    started = time.perf_counter()
    current = made_under(assistant, assistant.retriever.features.content_digest())
    inputs = {
        "questions": asked_from,
        "questions_digest": sha256_hex(to_json(asked)),
        "model": assistant.model,
        "contract": assistant.contract.digest,
        "features_version": str(assistant.retriever.features.version()),
        "out": out.identity,
        "made_under": current,
    }
    settings = assistant.shaped_by() | {"batch": config.model_dump(mode="json")}
    with (
        alone(store, out.identity, out.name),
        store.runs.running("batch", inputs=inputs, settings=settings) as run,
    ):
        work = AskedInGroups(assistant, out, run.id)
        due = _due(asked, out.kept(), "" if keep_outdated else current)
        now = list(due)[:limit]
        out.begin([key for key in now if due[key] != "new"])
        # Before the first question, so that its group counts towards the speed whole.
        pace = _Pace(starting=executor is not in_process)
        groups = [{key: asked[key] for key in keys} for keys in _groups(now, config.group)]
        for nth, (_, answered) in enumerate(executor(assistant, run.id).each(groups)):
            work.keep(answered)
            left = len(now) - work.asked
            pace.count(len(answered))
            values = {"seconds_left": pace.each_s * left} if left else {}
            values |= {"failed": work.failed} if work.failed else {}
            detail = ""
            if nth == pace.starting:
                detail = _priced(work.estimate(len(now), pace.each_s, config), config)
            progress(
                ProgressEvent(
                    "answer", len(asked) - len(due) + work.asked, len(asked), detail, values
                )
            )
        out.finish()
        run.outputs["answers"] = out.name
        report = BatchReport(
            done=work.asked - work.failed,
            failed=work.failed,
            skipped=len(asked) - len(due),
            remaining=len(due) - len(now),
            causes=dict(sorted(Counter(due[key] for key in now).items())),
            prompt_tokens=work.prompt_tokens,
            completion_tokens=work.completion_tokens,
            cost=config.cost(work.prompt_tokens, work.completion_tokens, seconds=pace.spent_s),
            currency=config.currency if config.priced else "",
            estimate=work.estimate(len(due) - len(now), pace.each_s, config),
            seconds=time.perf_counter() - started,
            run=run.id,
        )
        run.metrics.update(report.model_dump(mode="json", exclude={"run", "estimate"}))
        run.status = "partial" if work.failed else "done"
    return report


class AskedInGroups:
    """One run: what answers, and what it has come to so far."""

    def __init__(self, assistant: Assistant, out: RowKeeper, run_id: str) -> None:
        self.assistant = assistant
        self.out = out
        self.run_id = run_id
        self.asked = self.failed = self.prompt_tokens = self.completion_tokens = 0

    def ask(self, group: Group) -> list[AnswerRow]:
        """The rows of a group of questions, asked here; they are kept nowhere yet."""
        return self.log(self._here(group))

    @cached_property
    def _here(self) -> AskedTogether:
        return AskedTogether(self.assistant, self.run_id)

    def log(self, answered: Sequence[Answered]) -> list[AnswerRow]:
        """Log the answers of a group that was asked; its rows."""
        self.assistant.store.answers.append_all(
            [one.answer for one in answered if one.answer is not None]
        )
        return [one.row for one in answered]

    def keep(self, answered: Sequence[Answered]) -> None:
        """Log the answers of a group, keep its rows and count them."""
        rows = self.log(answered)
        self.out.put(rows)
        self.count(rows)

    def count(self, rows: Sequence[AnswerRow]) -> None:
        """Count rows that are kept."""
        self.asked += len(rows)
        self.failed += sum(row.error is not None for row in rows)
        self.prompt_tokens += sum(row.prompt_tokens for row in rows)
        self.completion_tokens += sum(row.completion_tokens for row in rows)

    def estimate(self, questions: int, each_s: float, config: BatchConfig) -> Estimate | None:
        """What so many questions take, at so many seconds each; None before the first."""
        if not questions or not self.asked:
            return None
        share = questions / self.asked
        tokens = self.prompt_tokens * share, self.completion_tokens * share
        return Estimate(
            questions=questions,
            seconds=each_s * questions,
            prompt_tokens=round(tokens[0]),
            completion_tokens=round(tokens[1]),
            cost=config.cost(*tokens, seconds=each_s * questions),
        )


class _Pace:
    """Seconds for each question so far.

    Args:
        starting: whether what answers starts first: once there are more groups than the one that
            waited for that, it is left out.
    """

    def __init__(self, *, starting: bool) -> None:
        self.starting = starting
        self.spent_s = self.each_s = 0.0
        self._began = time.perf_counter()
        self._asked = 0
        self._first = (0.0, 0)

    def count(self, questions: int) -> None:
        """So many more are answered."""
        self._asked += questions
        self.spent_s = time.perf_counter() - self._began
        if self.starting and not self._first[1]:
            self._first = self.spent_s, questions
        seconds, asked = self._first
        if self._asked == asked:
            seconds, asked = 0.0, 0
        self.each_s = (self.spent_s - seconds) / (self._asked - asked)


def _due(asked: Mapping[str, str], kept: Mapping[str, Kept], current: str) -> dict[str, Cause]:
    """The questions to ask, and why; an empty ``current`` lets outdated answers stand."""
    due: dict[str, Cause] = {}
    for key, question in asked.items():
        row = kept.get(key)
        if row is None:
            due[key] = "new"
        elif row.question.strip() != question.strip():
            due[key] = "changed"
        elif row.failed:
            due[key] = "failed"
        elif current and row.made_under != current:
            due[key] = "outdated"
    return due


def _groups(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


def _priced(estimate: Estimate | None, config: BatchConfig) -> str:
    if estimate is None:
        return ""
    tokens = estimate.prompt_tokens + estimate.completion_tokens
    cost = f", {estimate.cost:.2f} {config.currency}" if estimate.cost is not None else ""
    return f"{estimate.questions} questions: about {estimate.seconds:.0f} s, {tokens} tokens{cost}"
