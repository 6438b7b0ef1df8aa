"""Reports: every text escaped, every figure there, one file that needs nothing else."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fti.app.operations.measuring.checks import below, parse_floors, read_baseline, worse_than
from fti.app.operations.measuring.evaluating import Compared
from fti.app.reports import charts
from fti.app.reports.evaluation.evaluation_document import EvaluationDocument
from fti.app.reports.evaluation.evaluation_html import as_html
from fti.app.reports.evaluation.evaluation_markdown import as_markdown
from fti.app.reports.evaluation.evaluation_report import as_json, write_report
from fti.app.reports.markup import Markup, el, escaped
from fti.pipelines.inference.evaluating.evaluation import compare
from fti.pipelines.inference.evaluating.evaluation_figures import EvaluationReport, summary
from fti.pipelines.inference.evaluating.findings import hit_curve, outcomes, reliability, worst
from fti.pipelines.inference.evaluating.grounding import Grounding
from fti.pipelines.inference.evaluating.judging import Judgement, Preference
from fti.pipelines.inference.evaluating.slices import slices
from fti.store.errors import InputError
from fti.store.types import Interval
from tests.support.values import a_contract

EVIL = '<script>alert(1)</script> & "quotes" \'\x00 [x](y) | `z`'


def a_scored_row(number: int, f1: float, **fields: Any) -> dict[str, Any]:
    """A row as ``scoring`` makes it."""
    return {
        "id": f"q{number}",
        "question": f"When is kiln {number} fired? {EVIL}",
        "document": f"kiln-{number % 2}.md",
        "answerable": True,
        "answers": ["Thursdays", EVIL],
        "tags": ["kilns"] if number % 2 else [],
        "question_type": "when",
        "answer_id": f"a-20260301-{number:012x}",
        "answer": f"on Mondays {EVIL}",
        "similarity": 0.3 + number / 50,
        "abstained": False,
        "abstention_reason": None,
        "exact_match": float(f1 == 1),
        "f1": f1,
        "rouge_l": f1,
        "abstention": 1.0,
        "citation_precision": 1.0,
        "citation_recall": 1.0,
        "faithfulness": f1,
        "prompt_tokens": 100,
        "completion_tokens": 5,
        "total_s": 0.5,
        "retrieve_s": 0.1,
        "rank": 1 + number % 3,
        "recall@1": float(number % 3 == 0),
        "recall@5": 1.0,
        "recall@10": 1.0,
        "mrr": 1 / (1 + number % 3),
        "ndcg@10": 0.5,
        "map@10": 0.5,
        "hit_rate@10": 1.0,
        "fault": "" if f1 >= 0.5 else "reader_miss",
        **fields,
    }


def rows_of(shift: float) -> list[dict[str, Any]]:
    """Twenty cases: fifteen answered, three rightly refused, two wrongly."""
    rows = [a_scored_row(n, min(1.0, n / 20 + shift)) for n in range(15)]
    refused = {"abstained": True, "answer": "", "abstention_reason": "model"}
    rows += [
        a_scored_row(n, 1.0, answerable=False, answers=[], fault="", **refused)
        for n in range(15, 18)
    ]
    rows += [
        a_scored_row(n, 0.0, abstention=0.0, fault="wrong_refusal", **refused)
        for n in range(18, 20)
    ]
    return rows


def a_document(**changes: Any) -> EvaluationDocument:
    rows = {"base+rag": rows_of(0.0), "tuned+rag": rows_of(0.4)}
    reports = {
        name: EvaluationReport(
            cases=20, case_set="5" * 64, system=name, model="base", run="r-1", **summary(scored)
        )
        for name, scored in rows.items()
    }
    passages = [
        {"number": 1, "heading": EVIL, "source": "kiln.md", "text": EVIL, "similarity": 0.5,
         "cited": True, "relevant": True}
    ]  # fmt: skip
    fields: dict[str, Any] = {
        "found": Compared(
            reports,
            reference="base+rag",
            main="tuned+rag",
            differences={"tuned+rag": compare(rows["tuned+rag"], rows["base+rag"])},
            contracts={name: a_contract() for name in rows},
        ),
        "rows": rows,
        "slices": slices(rows["tuned+rag"]),
        "worst": [
            {**row, "passages": passages, "prompt": EVIL} for row in worst(rows["tuned+rag"])
        ],
        "cases": f"/data/{EVIL.replace('/', '')}.jsonl",
        "command": "fti evaluate cases.jsonl",
        "store": "/data/store",
        "origins": {"reader/1": "dataset handbook/1 (digest 0123), run r-9"},
    }
    return EvaluationDocument(**(fields | changes))


class Page(HTMLParser):
    """What a browser would make of a report."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "onload", "onclick")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_text_is_escaped_and_markup_is_not() -> None:
    assert escaped(EVIL) == escaped(Markup(escaped(EVIL)))
    assert el("p", EVIL, title=EVIL).count("&lt;script&gt;") == 2
    assert "\x00" not in el("p", EVIL)
    assert el("p", el("b", 1), None, hidden=True, id=None) == '<p hidden=""><b>1</b></p>'
    assert el("line", x1=0) == '<line x1="0"/>'


def test_the_page_is_well_formed_runs_nothing_and_loads_nothing() -> None:
    page = Page(as_html(a_document()))
    assert page.open == []
    assert "script" not in page.tags
    assert page.links == []
    assert page.tags.count("svg") >= 5
    assert "default-src &#x27;none&#x27;" in as_html(a_document())


def test_the_page_shows_every_part() -> None:
    source = as_html(a_document(failed=["f1 is low."]))
    for text in (
        "f1 is low.", "Differences to base+rag", "What goes wrong", "Does it know",
        "Retrieval", "Kinds of cases", "Cases to read", "reader miss", "wrong refusal",
        "fti evaluate cases.jsonl", "dataset handbook/1 (digest 0123), run r-9",
        "digest " + "5" * 64, "not frozen", "Python ",
    ):  # fmt: skip
        assert text in source, text


def test_what_a_judge_said_is_shown_with_how_far_to_trust_it() -> None:
    rows = [
        {**row, "judge": 0.75, "judge_reason": f"close {EVIL}", "groundedness": 0.5}
        for row in rows_of(0.0)
    ]
    share = Interval(mean=0.8, low=0.6, high=0.9, n=20)
    report = EvaluationReport(
        cases=20, case_set="5" * 64, system="tuned+rag", model="base", run="r-1",
        judge=Judgement(model="judge-7b", asked=20, unreadable=3, agreement=share, kappa=0.61),
        grounding=Grounding(model="nli-small", weights_sha256="9" * 64, answers=20),
        **summary(rows),
    )  # fmt: skip
    pair = Preference(
        against="base+rag", model="judge-7b", cases=20, wins=11, losses=4, ties=5, p=0.031,
        margin=Interval(mean=0.35, low=0.1, high=0.6, n=20), asked=18, agreement=share, first=2,
    )  # fmt: skip
    found = Compared(
        {"tuned+rag": report}, reference="tuned+rag", main="tuned+rag",
        preferences={"tuned+rag": pair},
    )  # fmt: skip
    shown = {"found": found, "rows": {"tuned+rag": rows}, "worst": rows[:1]}
    source = as_html(a_document(**shown))
    assert Page(source).open == []
    for text in (
        "What the judge says", "judge-7b", "80% (60% – 90%)", "0.61", "+0.350", "0.75. close",
        "nli-small (weights 9999999999999999)", "groundedness",
    ):  # fmt: skip
        assert text in source, text
    assert "<script>" not in source
    written = as_markdown(a_document(**shown))
    assert "judge-7b" in written
    assert "What the judge says" in written
    assert as_json(a_document(**shown))["preferences"]["tuned+rag"]["wins"] == 11


def test_a_search_alone_has_a_report_without_answers() -> None:
    rows = [
        {k: v for k, v in row.items() if k not in ("f1", "fault", "answer", "abstained")}
        for row in rows_of(0)
    ]
    report = EvaluationReport(cases=20, case_set="5" * 64, mode="text", **summary(rows))
    found = Compared({"text": report}, reference="text", main="text")
    source = as_html(a_document(found=found, rows={"text": rows}, slices=slices(rows), worst=rows))
    assert Page(source).open == []
    assert "What goes wrong" not in source
    assert "relevant passage at rank 3" in source


def test_markdown_shows_text_as_text() -> None:
    lines = as_markdown(a_document(failed=["f1 is low."])).splitlines()
    assert "**Failed:** f1 is low." in lines
    rows = [line for line in lines if line.startswith("| When is kiln")]
    assert rows
    for row in rows:
        assert len(re.findall(r"(?<!\\)\|", row)) == 5, row  # four cells, whatever is in them
        assert "<script>" not in row


def test_a_report_is_the_baseline_of_a_later_run(tmp_path: Path) -> None:
    files = write_report(a_document(), tmp_path / "report")
    assert [f.name for f in files] == ["report.html", "report.md", "report.json"]
    rows = read_baseline(files[2])
    assert [row["id"] for row in rows] == [f"q{n}" for n in range(20)]
    assert worse_than(rows_of(0.4), rows, name="before") == []
    (f1, *_) = worse_than(rows_of(0.0), rows, name="before")
    assert re.match(r"f1 is worse than in before: -0\.\d+, 95 % interval .* over 20 cases", f1)
    body = json.loads(files[2].read_text("utf-8"))
    assert body["main"] == "tuned+rag"
    assert body["systems"]["base+rag"]["answers"]["f1"]["n"] == 20
    assert as_json(a_document())["slices"]


@pytest.mark.parametrize("content", ["{}", "no json", '{"main": "x", "rows": {"x": []}}'])
def test_what_is_no_report_is_no_baseline(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(InputError, match="no report"):
        read_baseline(tmp_path / "report.json")
    with pytest.raises(InputError, match="No such file"):
        read_baseline(tmp_path / "none.json")


def test_floors_are_read_and_checked() -> None:
    floors = parse_floors("f1=0.9, recall@5=0.8,citation_precision=0.1")
    assert floors == {"f1": 0.9, "recall@5": 0.8, "citation_precision": 0.1}
    report = a_document().main
    (sentence,) = below(report, floors)
    assert re.match(r"f1 is 0\.\d{3} \(95 % interval .* 20 cases\), below 0\.9\.", sentence)
    nothing = EvaluationReport(cases=1, case_set="")
    assert below(nothing, {"f1": 0.1}) == ["f1 was not measured, and is asked to be at least 0.1."]


@pytest.mark.parametrize(
    ("text", "fault"),
    [("f1", "'f1' in"), ("f1=x", "between 0 and 1"), ("f1=2", "between"), ("f2=0.1", "'f2'")],
)
def test_floors_that_mean_nothing_are_refused(text: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        parse_floors(text)


def test_findings_of_rows() -> None:
    rows = rows_of(0.0)
    assert outcomes(rows) == {
        "right answer": 5, "right refusal": 3, "wrong answer": 10, "wrong refusal": 2,
    }  # fmt: skip
    assert [row["fault"] for row in worst(rows)[:4]] == [
        "reader_miss", "wrong_refusal", "reader_miss", "wrong_refusal",
    ]  # fmt: skip
    assert len(worst(rows)) == 12
    groups = reliability(rows)
    assert [sum(g.outcomes.values()) for g in groups] == [4, 4, 4, 4, 4]
    assert groups[0].high < groups[1].low
    assert groups[-1].outcomes["wrong refusal"] == 2
    assert hit_curve(rows)[:3] == [7 / 20, 14 / 20, 1.0]
    assert hit_curve([{"id": "1"}]) == []
    assert reliability([]) == []


def test_labels_of_lines_do_not_overlap() -> None:
    chart = charts.curves("x", {f"line {n}": [0.5, 0.5] for n in range(4)}, across="k")
    places = [float(y) for y in re.findall(r'y="([\d.]+)"[^>]*class="label"', chart)]
    assert len(places) == 4
    assert all(b - a >= 13.9 for a, b in pairwise(places))


def test_a_system_without_a_score_has_an_empty_row() -> None:
    value = Interval(mean=0.5, low=0.4, high=0.6, n=9)
    none = Interval(mean=0, low=0, high=1, n=0)
    chart = charts.bars("x", {"f1": {"base": value, "text": none}})
    assert chart.count("0.50") == 1
    assert ">text<" in chart
