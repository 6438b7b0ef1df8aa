"""An evaluation as one HTML file: for people, on screen and on paper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fti.app.reports import charts
from fti.app.reports.evaluation.evaluation_document import (
    MEANINGS,
    EvaluationDocument,
    lead,
    score,
    score_tables,
    versions,
)
from fti.app.reports.markup import Markup, el, join, table
from fti.app.reports.page import card, page, section
from fti.store.types import Interval

_OUTCOME_COLOURS = {
    "right answer": "#0072b2",
    "right refusal": "#56b4e9",
    "wrong answer": "#d55e00",
    "wrong refusal": "#e69f00",
}
_FAULT_COLOURS = {
    "right": "#0072b2",
    "retrieval_miss": "#e69f00",
    "evidence_cut": "#f0e442",
    "reader_miss": "#d55e00",
    "wrong_refusal": "#cc79a7",
    "wrong_answer": "#7f3b08",
    "bad_citation": "#7f7f7f",
}


def as_html(document: EvaluationDocument) -> str:
    """The whole report as one file."""
    title = f"Evaluation of {document.found.main} on {Path(document.cases).name}"
    answers = any(report.answers for report in document.found.reports.values())
    return page(
        title,
        el("h1", title),
        el("p", lead(document), class_="lead"),
        *(el("div", sentence, class_="alert") for sentence in document.failed),
        _cards(document),
        section("All scores", _charts(document), el("div", _headline(document), class_="wide")),
        _differences(document),
        section("What goes wrong", _faults(document)) if answers else None,
        section("Does it know what it does not know?", _abstention(document)) if answers else None,
        _judge(document),
        _retrieval(document),
        _slices(document),
        _worst(document),
        section(
            "Versions, and how to repeat this",
            table(["what", "value"], [[k, v] for k, v in versions(document).items()],
                  text_columns=2),
            el("pre", document.command),
            el("p", "Run it again and it takes over what was asked under the very same "
               "circumstances; --fresh asks everything anew."),
        ),
        el("footer", f"fti, {document.at:%Y-%m-%d %H:%M} UTC"),
    )  # fmt: skip


def _cards(document: EvaluationDocument) -> Markup:
    main = document.main
    shown = [
        card(f"{value.mean:.3f}", name, f"{value.low:.3f} – {value.high:.3f}, n {value.n}")
        for name in ("f1", "exact_match", "abstention", "citation_recall", "recall@5", "mrr")
        if (value := score(main, name)) is not None and value.n
    ]
    if "p50" in main.latency:
        shown.append(
            card(f"{main.latency['p50']:.2f} s", "median time",
                 f"95th percentile {main.latency.get('p95', 0):.2f} s")
        )  # fmt: skip
    if main.tokens:
        shown.append(card(f"{main.tokens['prompt']:.0f}", "tokens per prompt",
                          f"{main.tokens['completion']:.0f} per answer"))  # fmt: skip
    return el("div", *shown, class_="cards")


def _charts(document: EvaluationDocument) -> Markup:
    reports = document.found.reports
    panels: dict[str, dict[str, Interval]] = {}
    for name in ("f1", "abstention") if document.main.answers else ("recall@5", "mrr"):
        values = {system: score(report, name) for system, report in reports.items()}
        panels[name] = {s: v for s, v in values.items() if v is not None and v.n}
    panels = {name: values for name, values in panels.items() if values}
    return charts.figure(
        charts.bars("Scores by system, with 95 % intervals", panels),
        "Each bar is a mean over the cases, its line the 95 % bootstrap interval. All systems were "
        "asked the same cases; the table of differences below compares them case by case, which "
        "tells more than whether two lines overlap.",
    )


def _headline(document: EvaluationDocument) -> Markup:
    tables = []
    for about, names, reports in score_tables(document):
        rows: list[list[object]] = [
            [
                join(el("b", name), el("div", MEANINGS[name], class_="ci")),
                *(_interval(score(report, name)) for report in reports.values()),
            ]
            for name in names
        ]
        times = [f"{r.latency['p50']:.2f}" if "p50" in r.latency else "" for r in reports.values()]
        if any(times):
            name = join(el("b", "median time"), el("div", "seconds per case", class_="ci"))
            rows.append([name, *times])
        tables.append(table([about, *reports], rows))
    return join(*tables)


def _interval(value: Interval | None) -> Markup | str:
    if value is None or not value.n:
        return ""
    return join(f"{value.mean:.3f}", el("div", f"{value.low:.3f} – {value.high:.3f}", class_="ci"))


def _differences(document: EvaluationDocument) -> Markup | None:
    found = document.found
    if not found.differences:
        return None
    compared = {system: d for system, d in found.differences.items() if d}
    names = [n for n in MEANINGS if any(n in d for d in compared.values())]
    rows: list[list[object]] = []
    for name in names:
        cells: list[object] = [el("b", name)]
        for differences in compared.values():
            value = differences.get(name)
            if value is None:
                cells.append("")
                continue
            mark = "up" if value.better else "down" if value.worse else None
            cells.append(
                join(
                    el("span", f"{value.mean:+.3f}", class_=mark),
                    el("div", f"{value.low:+.3f} – {value.high:+.3f}, p {value.p_holm:.2g}",
                       class_="ci"),
                )
            )  # fmt: skip
        rows.append(cells)
    return section(
        f"Differences to {found.reference}, case by case",
        el(
            "p",
            "Mean paired difference with its bootstrap interval; p is of the paired randomisation "
            "test, corrected by Holm's rule over the scores of a system. Coloured: below 0.05.",
        ),
        el("div", table(["score", *compared], rows), class_="wide"),
    )


def _faults(document: EvaluationDocument) -> Markup:
    from fti.pipelines.inference.evaluating.findings import FAULTS

    counts: dict[str, dict[str, float]] = {}
    for name, report in document.found.reports.items():
        rows = [row for row in document.rows[name] if "f1" in row]
        if report.answers:
            found = {fault: report.faults.get(fault, 0) for fault in FAULTS}
            counts[name] = {"right": len(rows) - sum(found.values()), **found}
    meanings = "; ".join(f"{fault}: {meaning}" for fault, meaning in FAULTS.items())
    return charts.figure(
        charts.stacks("What went wrong, by system", counts, _FAULT_COLOURS),
        "Cases by what went wrong. right: F1 of 0.5 or more, or a refusal where the documents hold "
        f"no answer; {meanings}. A system without retrieval has neither retrieval_miss nor "
        "evidence_cut.",
    )


def _abstention(document: EvaluationDocument) -> Markup:
    from fti.pipelines.inference.evaluating.evaluation_figures import Abstention
    from fti.pipelines.inference.evaluating.findings import OUTCOMES, outcomes, reliability

    rows: list[list[object]] = []
    for name, report in document.found.reports.items():
        value = (report.answers or {}).get("abstention")
        if isinstance(value, Abstention):
            counts = outcomes(document.rows[name])
            rows.append(
                [
                    name,
                    *(counts[outcome] for outcome in OUTCOMES),
                    _interval(value.precision),
                    _interval(value.recall),
                ]
            )
    bins = reliability(document.rows[document.found.main])
    chart = None
    if bins:
        by_bin = {
            f"{part.low:.2f} – {part.high:.2f}": {
                str(k): float(v) for k, v in part.outcomes.items()
            }
            for part in bins
        }
        chart = charts.figure(
            charts.stacks("Outcomes by similarity", by_bin, _OUTCOME_COLOURS),
            f"Cases of {document.found.main} in groups of equal size by the similarity of the best "
            "passage that was shown (left). A system that knows what it does not know refuses in "
            "the upper rows and is right in the lower ones.",
        )
    columns = ["system", *OUTCOMES, "refusals that are right", "unanswerable that are refused"]
    return join(el("div", table(columns, rows), class_="wide"), chart)


def _judge(document: EvaluationDocument) -> Markup | None:
    from fti.app.reports.evaluation.verdicts import (
        JUDGE_NOTE,
        PAIR_COLUMNS,
        SCORE_COLUMNS,
        pair_rows,
        score_rows,
    )

    scores, pairs = score_rows(document.found), pair_rows(document.found)
    if not scores and not pairs:
        return None
    return section(
        "What the judge says",
        el("p", JUDGE_NOTE),
        el("div", table(list(SCORE_COLUMNS), scores), class_="wide") if scores else None,
        el("div", table(list(PAIR_COLUMNS), pairs), class_="wide") if pairs else None,
    )


def _retrieval(document: EvaluationDocument) -> Markup | None:
    from fti.pipelines.inference.evaluating.findings import hit_curve

    series: dict[str, list[float]] = {}
    for name, report in document.found.reports.items():
        curve = [] if report.oracle else hit_curve(document.rows[name])
        if curve and curve not in series.values():  # the same search, whatever model reads it
            series[name] = curve
    if not series:
        return None
    return section(
        "Retrieval",
        charts.figure(
            charts.curves(
                "Share of cases with a relevant passage among the first k", series,
                across="passages looked at (k)",
            ),
            "How often a relevant passage is among the first k. Systems that search alike share a "
            "line, named after the first of them.",
        ),
    )  # fmt: skip


def _slices(document: EvaluationDocument) -> Markup | None:
    if not document.slices:
        return None
    main = "f1" if document.main.answers else "recall@5"
    names = [n for n in ("f1", "exact_match", "abstention", "recall@5", "mrr")
             if any(n in part.scores for part in document.slices)]  # fmt: skip
    rows: list[list[object]] = []
    for part in document.slices:
        value = part.scores.get(main)
        rows.append(
            [
                part.dimension,
                part.value,
                charts.dot(value) if value else "",
                part.cases,
                *(f"{part.scores[n].mean:.3f}" if n in part.scores else "" for n in names),
            ]
        )
    return section(
        f"Kinds of cases ({document.found.main})",
        el("p", f"The dot is the mean {main}, the line its 95 % interval, from 0 to 1."),
        el(
            "div",
            table(["by", "value", main, "cases", *names], rows, text_columns=3),
            class_="wide",
        ),
    )


def _worst(document: EvaluationDocument) -> Markup | None:
    if not document.worst:
        return None
    return section(
        f"Cases to read ({document.found.main})",
        el(
            "p",
            "The lowest scores, taking turns between the kinds of fault. Passages with a green "
            "edge are relevant: from the gold document, with an accepted answer in them.",
        ),
        *(_case(number, case) for number, case in enumerate(document.worst, start=1)),
    )


def _case(number: int, case: Mapping[str, Any]) -> Markup:
    from fti.pipelines.inference.evaluating.findings import FAULTS

    fault = case.get("fault") or ""
    facts: list[tuple[str, object]] = [
        ("expected", " | ".join(case["answers"]) or "a refusal: not answerable"),
    ]
    if "abstained" in case:
        said = "refused" + (
            f" ({case['abstention_reason']})" if case.get("abstention_reason") else ""
        )
        facts.append(("said", said if case["abstained"] else case["answer"] or "(nothing)"))
        facts.append(("scores", f"F1 {case['f1']:.2f}, exact match {case['exact_match']:.0f}"))
    if case.get("judge") is not None:
        facts.append(("judge", f"{case['judge']:.2f}. {case.get('judge_reason', '')}"))
    if case.get("groundedness") is not None:
        facts.append(("groundedness", f"{case['groundedness']:.2f}"))
    if "rank" in case:
        rank = case["rank"]
        facts.append(
            ("found", f"relevant passage at rank {rank}" if rank else "no relevant passage")
        )
    facts.append(("document", case["document"] or "none named"))
    facts.append(
        ("case", case["id"] + (f", answer {case['answer_id']}" if "answer_id" in case else ""))
    )
    passages = [
        el(
            "div",
            el("small", f"[{p['number']}] {p['heading']}" + (", cited" if p["cited"] else "")
               + (", relevant" if p["relevant"] else "")
               + (f", similarity {p['similarity']:.2f}" if p["similarity"] is not None else "")),
            el("p", p["text"]),
            class_="passage relevant" if p["relevant"] else "passage",
        )
        for p in case.get("passages", ())
    ]  # fmt: skip
    return el(
        "article",
        el("h3", f"{number}. {case['question']}"),
        el("p", el("span", fault.replace("_", " "), class_="tag"), FAULTS[fault])
        if fault
        else None,
        el("dl", *(join(el("dt", name), el("dd", value)) for name, value in facts)),
        el("details", el("summary", f"{len(passages)} passages"), *passages, open=number <= 6)
        if passages
        else None,
        el("details", el("summary", "prompt"), el("pre", case["prompt"]))
        if "prompt" in case
        else None,
        class_="case",
    )
