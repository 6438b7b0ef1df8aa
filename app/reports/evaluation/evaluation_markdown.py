"""An evaluation as Markdown, for a pull request or a wiki."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fti.app.reports.evaluation.evaluation_document import (
    EvaluationDocument,
    lead,
    score,
    score_tables,
    versions,
)
from fti.app.reports.evaluation.verdicts import (
    JUDGE_NOTE,
    PAIR_COLUMNS,
    SCORE_COLUMNS,
    pair_rows,
    score_rows,
)
from fti.store.types import Interval


def as_markdown(document: EvaluationDocument) -> str:
    """The report's figures as Markdown, for a pull request or a wiki."""
    reports = document.found.reports
    lines = [
        f"# Evaluation of {_md(document.found.main)} on {_md(Path(document.cases).name)}",
        "",
        _md(lead(document)),
        "",
        *(f"**Failed:** {_md(sentence)}\n" for sentence in document.failed),
    ]
    for about, names, shown in score_tables(document):
        lines += _md_table(
            [about, *shown],
            [[name, *(_md_interval(score(r, name)) for r in shown.values())] for name in names],
        )
        lines.append("")
    for system, differences in document.found.differences.items():
        if not differences:
            continue
        lines += ["", f"## {_md(system)} against {_md(document.found.reference)}", ""]
        lines += _md_table(
            ["score", "difference", "95 % interval", "p (Holm)", "cases"],
            [
                [n, f"{d.mean:+.3f}", f"{d.low:+.3f} – {d.high:+.3f}", f"{d.p_holm:.3g}", d.n]
                for n, d in differences.items()
            ],
        )
    for columns, verdicts in (
        (SCORE_COLUMNS, score_rows(document.found)),
        (PAIR_COLUMNS, pair_rows(document.found)),
    ):
        if verdicts:
            lines += ["", "## What the judge says", "", JUDGE_NOTE, ""]
            lines += _md_table(list(columns), verdicts)
    faults = {n: r.faults for n, r in reports.items() if r.answers}
    if faults:
        kinds = sorted({kind for found in faults.values() for kind in found})
        lines += ["", "## What went wrong", ""]
        lines += _md_table(
            ["system", *kinds], [[n, *(f.get(k, 0) for k in kinds)] for n, f in faults.items()]
        )
    if document.slices:
        lines += ["", "## Kinds of cases", ""]
        main = "f1" if document.main.answers else "recall@5"
        lines += _md_table(
            ["by", "value", "cases", main],
            [[p.dimension, p.value, p.cases, _md_interval(p.scores.get(main))]
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
