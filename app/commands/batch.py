"""``fti batch``: answers for a table of questions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fti.app.options import (
    REDIS,
    CommonOptions,
    ConsumerOptions,
    ExecutorOption,
    ModelOption,
    WithinOptions,
    WorkersOption,
    require_ray_for_workers,
)

if TYPE_CHECKING:
    from fti.pipelines.inference.batch.answer_table import BatchReport


def batch(
    within: WithinOptions,
    redis: ConsumerOptions,
    common: CommonOptions,
    questions: Annotated[
        str | None,
        typer.Argument(
            help="Rows with id and question: .jsonl, .csv, .tsv or .parquet. With --follow: "
            "nothing or - for standard input, or the address of a Redis."
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            help="File for the answers, a row per id: .jsonl or .parquet. With --follow: .jsonl, "
            "- for standard output, or the address of a Redis.",
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option("--table", help="Or a LanceDB table of the store, under tables/."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=1,
            help="Ask at most N questions now, and say what time and money the rest would take.",
        ),
    ] = None,
    keep_outdated: Annotated[
        bool,
        typer.Option(
            "--keep-outdated",
            help="Let answers stand that another model, other settings or other documents made.",
        ),
    ] = False,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="Answer questions as they come, one JSON object a line, until the stream ends: "
            '{"id": ..., "question": ..., "at": ...}',
        ),
    ] = False,
    stream: Annotated[
        str,
        typer.Option("--stream", help="Key of the stream of questions.", rich_help_panel=REDIS),
    ] = "questions",
    answers: Annotated[
        str,
        typer.Option("--answers", help="Key of the stream of answers.", rich_help_panel=REDIS),
    ] = "answers",
    model: ModelOption = None,
    executor: ExecutorOption = "local",
    workers: WorkersOption = None,
) -> None:
    """Answer a table of questions, each once under its id; run again to go on or to catch up.

    Asked are new and changed questions, those that failed, and all when the model or the documents
    changed. With --follow questions are taken as they come, each answered once, and a line is
    printed per group; Ctrl-C and SIGTERM answer what was read and end.

    Examples:

    \b
    fti batch questions.csv --out answers.parquet --model reader@champion
    fti batch --follow redis://localhost:6379/0 --stream questions --table answers
    """
    from fti.app.operations.batch_answering import run_batch
    from fti.app.operations.following import follow_for_answers
    from fti.store.errors import InputError

    require_ray_for_workers(executor, workers)
    if follow:
        if executor != "local":
            raise InputError(
                "A stream is answered as it comes, in this process.",
                hint="Leave --executor out, or start several with --group.",
            )
        if limit is not None or keep_outdated:
            raise InputError(
                "--limit and --keep-outdated are about tables; a stream is answered as it comes.",
                hint="Leave them out: a question that has its answer is not asked again.",
            )
        session = common.open(within.overrides())
        code = follow_for_answers(
            session, questions, stream, redis.group, redis.consumer,
            out=out, table=table, answers=answers, model=model,
        )  # fmt: skip
        if code:
            raise typer.Exit(code)
        return
    if questions is None:
        raise InputError(
            "There are no questions.",
            hint="Name a file of them, or take them as they come: fti batch --follow",
        )
    session = common.open(within.overrides())
    with session.report.progress() as progress:
        result = run_batch(
            session.settings,
            session.store,
            Path(questions),
            out=Path(out) if out is not None else None,
            table=table,
            model=model,
            limit=limit,
            keep_outdated=keep_outdated,
            executor=executor,
            workers=workers,
            progress=progress,
        )
    session.report.result(result.model_dump(mode="json"))
    session.report.say(batch_line(result))
    if result.estimate is not None:
        session.report.say(rest_line(result))
    if result.failed:
        raise typer.Exit(3 if result.done or result.skipped else 1)


def batch_line(result: BatchReport) -> str:
    """What a batch did, in a line."""
    causes = ", ".join(f"{count} {cause}" for cause, count in result.causes.items())
    cost = f", {result.cost:.4g} {result.currency}" if result.cost is not None else ""
    return (
        f"{result.done} answered, {result.failed} failed, {result.skipped} already there"
        + (f" (asked because: {causes})" if causes else "")
        + f"; {result.prompt_tokens + result.completion_tokens} tokens{cost}, "
        f"{result.seconds:.1f} s"
    )


def rest_line(result: BatchReport) -> str:
    """What was left, and what it would take."""
    rest = result.estimate
    assert rest is not None
    cost = f", {rest.cost:.4g} {result.currency}" if rest.cost is not None else ""
    tokens = rest.prompt_tokens + rest.completion_tokens
    return f"{rest.questions} left: about {rest.seconds:.0f} s, {tokens} tokens{cost}"
