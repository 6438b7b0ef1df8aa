"""``fti evaluate``: retrieval and answers measured on a case file."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from fti.app.options import CommonOptions, ModelOption, WithinOptions

if TYPE_CHECKING:
    from fti.app.operations.measuring.evaluating import Compared
    from fti.app.reporting import Reporter
    from fti.pipelines.inference.evaluating.evaluation_figures import EvaluationReport
    from fti.pipelines.inference.evaluating.judging import Judgement, Preference
    from fti.store.proof.significance import Difference
    from fti.store.types import Interval

#: What ``--compare`` without a value stands for.
_RIVAL = "rival"


class EvaluateCommand(TyperCommand):
    """Lets ``--compare`` stand alone or before a list, wherever it is written."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join ``--compare`` to its list; a word that is no list is not its value."""
        from fti.app.operations.measuring.systems import looks_like_systems

        joined: list[str] = []
        rest = iter(args)
        for word in rest:
            if word != "--compare":
                joined.append(word)
                continue
            following = next(rest, None)
            if following is not None and looks_like_systems(following):
                joined.append(f"--compare={following}")
                continue
            joined.append(f"--compare={_RIVAL}")
            joined += [] if following is None else [following]
        return super().parse_args(ctx, joined)


def evaluate(
    within: WithinOptions,
    common: CommonOptions,
    cases: Annotated[
        str,
        typer.Argument(
            help="CASES.jsonl, a .csv, .tsv or BEIR folder, or NAME[/N] of a frozen set."
        ),
    ],
    model: ModelOption = None,
    retrieval_only: Annotated[
        bool, typer.Option("--retrieval-only", help="Measure the search alone; no model is loaded.")
    ] = False,
    compare: Annotated[
        str | None,
        typer.Option(
            "--compare",
            metavar="[SYSTEMS]",
            help="Also evaluate what it would replace: the champion, else what is served now. With "
            "SYSTEMS: these instead, the first as reference, such as base,base+rag,tuned+rag. "
            "Endings: +rag +vector +text +hybrid +oracle (gold passage); searches alone: vector "
            "text hybrid rerank.",
        ),
    ] = None,
    no_retrieval: Annotated[
        bool, typer.Option("--no-retrieval", help="Answer without passages.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the first N cases (seeded sample).")
    ] = None,
    include_trained: Annotated[
        bool,
        typer.Option(
            "--include-trained",
            help="Also count cases about documents that the model was trained on.",
        ),
    ] = False,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="Ask every case anew; otherwise a run goes on where one like it stopped.",
        ),
    ] = False,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            metavar="scores|pairs|both",
            help="Also ask the profile's judge (evaluation.judge), a language model: scores by its "
            "rubric, which of two systems' answers is better (in both orders), or both.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", help="Folder for report.html, report.md and report.json; made when needed."
        ),
    ] = None,
    fail_below: Annotated[
        str,
        typer.Option(
            "--fail-below",
            metavar="SCORE=VALUE,...",
            help="Exit with 1 when a score is below its value: f1=0.4,recall@5=0.8.",
        ),
    ] = "",
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline",
            help="report.json of an earlier evaluation; exit with 1 when a score is significantly "
            "worse on the cases of both.",
        ),
    ] = None,
) -> None:
    """Measure what is served: the same retrieval, prompt and model as ask and serve use.

    A killed evaluation goes on where it stopped when it is run again. Examples: fti evaluate
    questions.jsonl --model reader/1 --compare, or fti evaluate handbook --model reader/1 --compare
    base,base+rag,tuned,tuned+rag,tuned+oracle,vector,text,hybrid
    """
    from fti.app.operations.measuring.checks import below, parse_floors, read_baseline, worse_than
    from fti.app.operations.measuring.evaluating import (
        evaluate_model,
        evaluate_systems,
        find_cases,
        parse_judging,
        sample,
    )
    from fti.app.operations.measuring.systems import parse_systems
    from fti.pipelines.inference.evaluating.evaluation import case_rows
    from fti.store.errors import InputError

    # What can be wrong with the options is found before hours of asking.
    floors = parse_floors(fail_below)
    earlier = read_baseline(baseline) if baseline is not None else None
    judging = parse_judging(judge, compared=compare is not None, answers=not retrieval_only)
    session = common.open(within.overrides())
    asked = sample(find_cases(session.store, cases), limit)
    several = compare is not None and compare != _RIVAL
    if several and (retrieval_only or no_retrieval):
        raise InputError(
            "A list of systems says itself which of them search.",
            hint="Leave out --retrieval-only and --no-retrieval.",
        )
    with session.report.progress() as progress:
        if several:
            systems = parse_systems(
                compare or "", store=session.store, tuned=model or session.settings.model
            )
            found = evaluate_systems(
                session.settings,
                session.store,
                asked,
                systems,
                include_trained=include_trained,
                resume=not fresh,
                judging=judging,
                progress=progress,
            )
        else:
            found = evaluate_model(
                session.settings,
                session.store,
                asked,
                model=model,
                retrieval_only=retrieval_only,
                compare=compare is not None,
                use_retrieval=not no_retrieval,
                include_trained=include_trained,
                resume=not fresh,
                judging=judging,
                progress=progress,
            )
    failed = below(found.report, floors)
    if earlier is not None:
        rows = case_rows(session.store, found.report.run)
        failed += worse_than(rows, earlier, name=str(baseline))
    body = found.as_json(several=several)
    if floors or earlier is not None:
        body["failed"] = failed
    if report is not None:
        from fti.app.reports.evaluation.evaluation_document import gather
        from fti.app.reports.evaluation.evaluation_report import write_report

        command = reproduction(sys.argv[1:])
        document = gather(found, session.store, cases=cases, command=command, failed=failed)
        body["report"] = [str(path) for path in write_report(document, report)]
    session.report.result(body)
    show_systems(session.report, found)
    for path in body.get("report", ()):
        session.report.say(str(path), style="dim")
    for sentence in failed:
        session.report.note(f"failed: {found.main}: {sentence}", style="bold red")
    if failed:
        raise typer.Exit(1)


def reproduction(words: Sequence[str]) -> str:
    """The lines of a shell that measure this again: the package, what was set, the command."""
    from importlib.metadata import version

    from fti.app.settings import given_variables

    return "\n".join(
        [
            f"pip install fti-llm=={version('fti-llm')}",
            *(f"export {name}={shlex.quote(value)}" for name, value in given_variables().items()),
            shlex.join(["fti", *words]),
        ]
    )


def show_systems(report: Reporter, found: Compared) -> None:
    """The figures of an evaluation: a column per system, then what differs."""
    main = found.reports[found.main]
    metrics = list(
        dict.fromkeys(
            name
            for each in found.reports.values()
            for name in (*each.retrieval, *(each.answers or {}))
        )
    )
    wide = len(found.reports) > 2  # intervals of three systems fit no terminal
    rows = [
        [name, *(_cell(each, name, bare=wide) for each in found.reports.values())]
        for name in metrics
    ]
    excluded = [
        f"{part.count} {what}"
        for part, what in (
            (main.trained_on, "about documents trained on"),
            (main.not_in_store, "about documents not in the store"),
            (main.ambiguous, "about a document that several could be"),
        )
        if part.count
    ]
    report.table(
        ["metric", *found.reports],
        rows,
        title=f"{main.cases} cases ({'means' if wide else 'mean and 95 % interval'})"
        + (f"; left out: {', '.join(excluded)}" if excluded else ""),
    )
    for name, differences in found.differences.items():
        for metric, difference in differences.items():
            if difference.significant or len(found.reports) == 2:
                report.say(f"{name}, {metric}: {difference_text(difference, found.reference)}")
    for name, preference in found.preferences.items():
        report.say(f"{name}: {preference_text(preference)}")
    for name, each in found.reports.items():
        if each.judge is not None:
            report.say(f"{name}: {judgement_text(each.judge)}")
    reused = sum(each.reused for each in found.reports.values())
    if reused:
        report.note(f"{reused} cases were asked by an earlier evaluation; --fresh asks them anew")


def difference_text(difference: Difference, reference: str) -> str:
    """A difference in one line."""
    return (
        f"{difference.mean:+.3f} against {reference}, 95 % interval [{difference.low:+.3f}, "
        f"{difference.high:+.3f}], p {difference.p_holm:.3g}, {difference.n} cases"
    )


def preference_text(preference: Preference) -> str:
    """What a judge prefers, in one line."""
    margin = preference.margin
    return (
        f"the judge {preference.model} prefers it to {preference.against} {preference.wins} times, "
        f"the other {preference.losses} times, neither {preference.ties} times (margin "
        f"{margin.mean:+.3f}, 95 % interval [{margin.low:+.3f}, {margin.high:+.3f}], p "
        f"{preference.p:.3g}); asked about {preference.asked} pairs in both orders, it agreed with "
        f"itself on {_percent(preference.agreement)}, unreadable {preference.unreadable}"
    )


def judgement_text(judgement: Judgement) -> str:
    """How a judge scored, in one line."""
    kappa = "" if judgement.kappa is None else f", kappa {judgement.kappa:.2f}"
    return (
        f"the judge {judgement.model} scored {judgement.asked} answers, unreadable "
        f"{judgement.unreadable}; it agrees with F1 on {_percent(judgement.agreement)}{kappa}"
    )


def _percent(share: Interval) -> str:
    return f"{share.mean:.0%}" if share.n else "none"


def _cell(report: EvaluationReport, metric: str, *, bare: bool) -> str:
    value = (report.answers or {}).get(metric) or report.retrieval_intervals.get(metric)
    if value is None or not value.n:
        return ""
    if bare:
        return f"{value.mean:.3f}"
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"
