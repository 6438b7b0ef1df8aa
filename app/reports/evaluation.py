"""The report of an evaluation: what was measured, how sure it is, and what to read next.

One HTML file for people, Markdown for reviews, JSON with the scores per case for machines and for
``fti evaluate --baseline``.
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.reports import charts
from app.reports.markup import Markup, el, join, table
from app.reports.page import card, page, section
from store.atomic import dump_json, write_bytes
from store.errors import AnswerNotFound
from store.types import Interval, now

if TYPE_CHECKING:
    from app.evaluating import Compared
    from pipelines.inference.evaluation import EvaluationReport
    from pipelines.inference.slices import Slice
    from store.store import Store

#: What each score means, in a few words, in the order reports show them.
MEANINGS: Mapping[str, str] = {
    "f1": "words shared with an accepted answer (SQuAD)",
    "exact_match": "equal to an accepted answer (SQuAD)",
    "rouge_l": "words shared in order (ROUGE-L)",
    "abstention": "answered when answerable, refused when not",
    "citation_precision": "citations that point at a relevant passage",
    "citation_recall": "answers that cite a relevant passage they were shown",
    "faithfulness": "content words that stand in the cited passages",
    "recall@1": "relevant passages among the first 1",
    "recall@5": "relevant passages among the first 5",
    "recall@10": "relevant passages among the first 10",
    "mrr": "reciprocal rank of the first relevant passage",
    "ndcg@10": "graded, discounted by rank",
    "map@10": "average precision of the first 10",
    "hit_rate@10": "any relevant passage among the first 10",
}
_OUTCOME_COLOURS = {
    "right answer": "#0072b2",
    "right refusal": "#56b4e9",
    "wrong answer": "#d55e00",
    "wrong refusal": "#e69f00",
}
_FAULT_COLOURS = {
    "right": "#0072b2",
    "retrieval_miss": "#e69f00",
    "reader_miss": "#d55e00",
    "wrong_refusal": "#cc79a7",
    "wrong_answer": "#7f3b08",
    "bad_citation": "#7f7f7f",
}
_PACKAGES = (
    "fti-llm",
    "torch",
    "transformers",
    "peft",
    "sentence-transformers",
    "lancedb",
    "numpy",
)
_SCORES = (*MEANINGS, "rank", "similarity")
_PASSAGE_CHARACTERS = 700


@dataclass(frozen=True)
class EvaluationDocument:
    """Everything a report shows.

    Args:
        found: the systems with their figures.
        rows: by system, the scores per case.
        slices: of the main system.
        worst: its cases that went wrong, each with the passages it was shown and its prompt.
        cases: how the command line named the cases.
        command: what reproduces it.
        store: where it was measured.
        failed: thresholds that were not met, a sentence each.
        at: when.
    """

    found: Compared
    rows: Mapping[str, Sequence[Mapping[str, Any]]]
    slices: Sequence[Slice]
    worst: Sequence[Mapping[str, Any]]
    cases: str
    command: str
    store: str
    failed: Sequence[str] = ()
    at: datetime = field(default_factory=now)

    @property
    def main(self) -> EvaluationReport:
        """The report that the figures at the top are about."""
        return self.found.report


def gather(
    found: Compared, store: Store, *, cases: str, command: str, failed: Sequence[str] = ()
) -> EvaluationDocument:
    """Collect what a report shows of an evaluation that has just ended."""
    from pipelines.inference.evaluation import case_rows
    from pipelines.inference.findings import missed, worst
    from pipelines.inference.slices import slices

    rows = {name: case_rows(store, report.run) for name, report in found.reports.items()}
    main = rows[found.main]
    chosen = worst(main) if found.report.answers else missed(main)
    return EvaluationDocument(
        found=found,
        rows=rows,
        slices=slices(main),
        worst=[_with_passages(row, found, store) for row in chosen],
        cases=cases,
        command=command,
        store=str(store.layout.root),
        failed=failed,
    )


def _with_passages(row: Mapping[str, Any], found: Compared, store: Store) -> dict[str, Any]:
    shown = dict(row)
    try:
        answer = store.answers.get(row["answer_id"]) if "answer_id" in row else None
    except AnswerNotFound:  # the log was cut down since an earlier evaluation asked this case
        answer = None
    if answer is None:
        return shown
    cited = {citation.chunk_id for citation in answer.citations}
    relevant = set(row.get("relevant_shown") or ())
    shown["passages"] = [
        {
            "number": number,
            "heading": passage.heading,
            "source": passage.source,
            "text": passage.text[:_PASSAGE_CHARACTERS]
            + ("…" if len(passage.text) > _PASSAGE_CHARACTERS else ""),
            "similarity": passage.similarity,
            "cited": passage.chunk_id in cited,
            "relevant": passage.chunk_id in relevant,
        }
        for number, passage in enumerate(answer.passages, start=1)
    ]
    shown["said"] = answer.text
    if answer.usage.prompt_tokens:  # the model was asked
        messages = found.contracts[found.main].form.messages(answer.question, answer.passages)
        shown["prompt"] = "\n\n".join(f"<{m.role}>\n{m.content}" for m in messages)
    return shown


def write_report(document: EvaluationDocument, folder: Path) -> list[Path]:
    """Write report.html, report.md and report.json into a folder, made when needed."""
    files = {
        "report.html": as_html(document).encode("utf-8"),
        "report.md": as_markdown(document).encode("utf-8"),
        "report.json": dump_json(as_json(document)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_bytes(folder / name, data)
    return [folder / name for name in files]


def versions(document: EvaluationDocument) -> dict[str, str]:
    """Exactly what was measured, by name."""
    main = document.main
    frozen = f" (frozen as {main.frozen})" if main.frozen else " (not frozen)"
    facts = {
        "cases": f"{document.cases}, digest {main.case_set}{frozen}",
        "store": f"{document.store}, features version {main.features_version}",
    }
    for name, report in document.found.reports.items():
        contract = document.found.contracts.get(name)
        what = report.model or f"search only ({report.mode})"
        if contract is not None:
            base = contract.base
            what += f", contract {report.contract_digest[:16]}, base {base.id}"
            what += f" (weights {base.weights_sha256[:16]})" if base.weights_sha256 else ""
            what += f", embedder {contract.embedder.id}"
        facts[f"system {name}"] = f"{what}, run {report.run}"
    facts["software"] = ", ".join(
        [f"Python {platform.python_version()}", *filter(None, map(_package, _PACKAGES))]
    )
    facts["machine"] = f"{platform.machine()}, {sys.platform}"
    facts["measured"] = f"{document.at:%Y-%m-%d %H:%M} UTC"
    return facts


def _package(name: str) -> str:
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


def as_json(document: EvaluationDocument) -> dict[str, Any]:
    """The report as JSON values, with the scores per case that a later run compares with."""
    body = document.found.as_json(several=True)
    return {
        **body,
        "main": document.found.main,
        "slices": [part.model_dump(mode="json") for part in document.slices],
        "worst": [dict(case) for case in document.worst],
        "failed": list(document.failed),
        "versions": versions(document),
        "command": document.command,
        "rows": {
            name: [
                {"id": row["id"], **{s: row[s] for s in _SCORES if row.get(s) is not None}}
                for row in rows
            ]
            for name, rows in document.rows.items()
        },
    }


# HTML


def as_html(document: EvaluationDocument) -> str:
    """The whole report as one file."""
    title = f"Evaluation of {document.found.main} on {Path(document.cases).name}"
    answers = any(report.answers for report in document.found.reports.values())
    return page(
        title,
        el("h1", title),
        el("p", _lead(document), class_="lead"),
        *(el("div", sentence, class_="alert") for sentence in document.failed),
        _cards(document),
        section("All scores", _charts(document), el("div", _headline(document), class_="wide")),
        _differences(document),
        section("What goes wrong", _faults(document)) if answers else None,
        section("Does it know what it does not know?", _abstention(document)) if answers else None,
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


def _lead(document: EvaluationDocument) -> str:
    main = document.main
    parts = [f"{main.cases} cases"]
    for excluded, what in (
        (main.trained_on, "about documents that a model was trained on"),
        (main.not_in_store, "about documents that are not in the store"),
        (main.ambiguous, "that several documents could be meant by"),
    ):
        if excluded.count:
            parts.append(f"{excluded.count} {what} left out")
    spans = "brackets are 95 % bootstrap intervals over the cases"
    return f"{'; '.join(parts)}; {spans}."


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


def score(report: EvaluationReport, name: str) -> Interval | None:
    """A score of a report, whichever part it stands in."""
    return (report.answers or {}).get(name) or report.retrieval_intervals.get(name)


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
    reports = document.found.reports
    names = [n for n in MEANINGS if any(_has(r, n) for r in reports.values())]
    rows: list[list[object]] = [
        [
            join(el("b", name), el("div", MEANINGS[name], class_="ci")),
            *(_interval(score(report, name)) for report in reports.values()),
        ]
        for name in names
    ]
    rows.append(
        [
            join(el("b", "median time"), el("div", "seconds per case", class_="ci")),
            *(f"{r.latency['p50']:.2f}" if "p50" in r.latency else "" for r in reports.values()),
        ]
    )
    return table(["score", *reports], rows)


def _has(report: EvaluationReport, name: str) -> bool:
    value = score(report, name)
    return value is not None and value.n > 0


def _interval(value: Interval | None) -> Markup | str:
    if value is None or not value.n:
        return ""
    return join(f"{value.mean:.3f}", el("div", f"{value.low:.3f} – {value.high:.3f}", class_="ci"))


def _differences(document: EvaluationDocument) -> Markup | None:
    found = document.found
    if not found.differences:
        return None
    names = [n for n in MEANINGS if any(n in d for d in found.differences.values())]
    rows: list[list[object]] = []
    for name in names:
        cells: list[object] = [el("b", name)]
        for differences in found.differences.values():
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
        el("div", table(["score", *found.differences], rows), class_="wide"),
    )


def _faults(document: EvaluationDocument) -> Markup:
    from pipelines.inference.findings import FAULTS

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
        f"no answer; {meanings}. A system without retrieval has no retrieval_miss.",
    )


def _abstention(document: EvaluationDocument) -> Markup:
    from pipelines.inference.evaluation import Abstention
    from pipelines.inference.findings import OUTCOMES, outcomes, reliability

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


def _retrieval(document: EvaluationDocument) -> Markup | None:
    from pipelines.inference.findings import hit_curve

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
    lead = "f1" if document.main.answers else "recall@5"
    names = [n for n in ("f1", "exact_match", "abstention", "recall@5", "mrr")
             if any(n in part.scores for part in document.slices)]  # fmt: skip
    rows: list[list[object]] = []
    for part in document.slices:
        value = part.scores.get(lead)
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
        el("p", f"The dot is the mean {lead}, the line its 95 % interval, from 0 to 1."),
        el(
            "div",
            table(["by", "value", lead, "cases", *names], rows, text_columns=3),
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
    from pipelines.inference.findings import FAULTS

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


# Markdown


def as_markdown(document: EvaluationDocument) -> str:
    """The report's figures as Markdown, for a pull request or a wiki."""
    reports = document.found.reports
    lines = [
        f"# Evaluation of {_md(document.found.main)} on {_md(Path(document.cases).name)}",
        "",
        _md(_lead(document)),
        "",
        *(f"**Failed:** {_md(sentence)}\n" for sentence in document.failed),
    ]
    names = [n for n in MEANINGS if any(_has(r, n) for r in reports.values())]
    lines += _md_table(
        ["score", *reports],
        [[name, *(_md_interval(score(r, name)) for r in reports.values())] for name in names],
    )
    for system, differences in document.found.differences.items():
        lines += ["", f"## {_md(system)} against {_md(document.found.reference)}", ""]
        lines += _md_table(
            ["score", "difference", "95 % interval", "p (Holm)", "cases"],
            [
                [n, f"{d.mean:+.3f}", f"{d.low:+.3f} – {d.high:+.3f}", f"{d.p_holm:.3g}", d.n]
                for n, d in differences.items()
            ],
        )
    faults = {n: r.faults for n, r in reports.items() if r.answers}
    if faults:
        kinds = sorted({kind for found in faults.values() for kind in found})
        lines += ["", "## What went wrong", ""]
        lines += _md_table(
            ["system", *kinds], [[n, *(f.get(k, 0) for k in kinds)] for n, f in faults.items()]
        )
    if document.slices:
        lines += ["", "## Kinds of cases", ""]
        lead = "f1" if document.main.answers else "recall@5"
        lines += _md_table(
            ["by", "value", "cases", lead],
            [[p.dimension, p.value, p.cases, _md_interval(p.scores.get(lead))]
             for p in document.slices],
        )  # fmt: skip
    if document.worst:
        lines += ["", "## Cases to read", ""]
        lines += _md_table(
            ["question", "expected", "said", "what went wrong"],
            [
                [
                    case["question"],
                    " | ".join(case["answers"]) or "a refusal",
                    ("refused" if case.get("abstained") else case.get("answer", "")) or "",
                    case.get("fault")
                    or (f"rank {case['rank']}" if case.get("rank") else "not found"),
                ]
                for case in document.worst
            ],
        )
    lines += ["", "## Versions, and how to repeat this", ""]
    lines += _md_table(["what", "value"], [[k, v] for k, v in versions(document).items()])
    return "\n".join([*lines, "", "```sh", document.command, "```", ""])


def _md(text: object) -> str:
    """Text that Markdown takes as text, on one line."""
    plain = " ".join(str(text).split())
    return "".join("\\" + c if c in "\\`*_{}[]<>#|~$!" else c for c in plain)


def _md_interval(value: Interval | None) -> str:
    if value is None or not value.n:
        return ""
    return f"{value.mean:.3f} ({value.low:.3f} – {value.high:.3f})"


def _md_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    return [
        f"| {' | '.join(map(_md, columns))} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(map(_md, row))} |" for row in rows),
    ]
