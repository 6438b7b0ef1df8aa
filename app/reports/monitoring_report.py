"""The report of ``fti monitor`` as one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fti.app.operations.observing.monitor_run import Past, history
from fti.app.reports.charts import figure, lines
from fti.app.reports.markup import Markup, el, table
from fti.app.reports.page import card, page, section
from fti.store.files.atomic import write_bytes

if TYPE_CHECKING:
    from fti.pipelines.feature.monitoring.drift import Shift
    from fti.pipelines.feature.monitoring.monitor_report import LanguageDrift, MonitorReport
    from fti.store.store import Store


def as_html(report: MonitorReport, *, store: str, past: Sequence[Past] = ()) -> str:
    """The whole report as one file.

    Args:
        report: what was found.
        store: whose report it is, for the title.
        past: monitorings up to this one, oldest first, to plot.
    """
    title = f"How {store} is doing"
    alerts = [el("div", el("b", alert.what), f": {alert.message}", class_="alert")
              for alert in report.alerts]  # fmt: skip
    return page(
        title,
        el("h1", title),
        el("p", f"{report.at:%Y-%m-%d %H:%M} UTC; answers of the last {report.answers.days} days, "
           "those that evaluations asked for left out.", class_="lead"),
        *(alerts or [el("div", "Nothing is beyond its threshold.", class_="alert fine")]),
        _cards(report),
        section("What comes in against what was expected", _drift(report)),
        section("Promised and measured", _promises(report)),
        section("How it went", *_history(past)),
        section("Answers", _answers(report)),
        section("Documents", _documents(report)),
        el("footer", "Stability index (PSI): below 0.1 nothing changed, above 0.25 a lot did. "
           "Distance: one minus the cosine of the mean vectors."),
    )  # fmt: skip


def write_report(report: MonitorReport, path: Path, *, store: Store) -> None:
    """Write the report as one HTML file, with the folders that lead there.

    Args:
        report: what was found.
        path: of the file, which is replaced.
        store: whose report it is; its earlier monitorings are plotted.
    """
    text = as_html(report, store=str(store.layout.root), past=history(store))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.encode("utf-8"))


def _cards(report: MonitorReport) -> Markup:
    answers, documents = report.answers, report.documents
    shown = [
        card(f"{answers.count}", "answers"),
        card(_share(answers.abstention_rate), "refused"),
        card(_number(answers.mean_similarity), "similarity of the best passage"),
        card(f"{answers.feedback_up} / {answers.feedback_down}", "thumbs up / down"),
        card(f"{documents.served}", "documents served", f"{report.features.chunks} chunks"),
        card(f"{documents.failed + documents.stale + documents.missing}",
             "documents to look at", "failed, changed on disk, or gone"),
    ]  # fmt: skip
    return el("div", *shown, class_="cards")


def _drift(report: MonitorReport) -> Markup:
    rows: list[list[object]] = []
    questions, documents, answers = report.questions, report.new_documents, report.answer_drift
    if questions is not None:
        rows.append(
            [
                f"questions against the case set {questions.cases}",
                f"{questions.questions} against {questions.expected}",
                *_shift(questions.embedding),
                _number(questions.length_psi),
                _languages(questions.language),
            ]
        )
    if documents is not None:
        rows.append(
            [
                f"documents since features version {documents.reference}",
                f"{documents.documents} ({documents.chunks} chunks)",
                *_shift(documents.embedding),
                _number(documents.length_psi),
                _languages(documents.language),
            ]
        )
    rows.append(
        [
            "similarity of the best passage, against the days before",
            f"{answers.recent} against {answers.earlier}",
            "",
            "",
            "",
            _number(answers.similarity_psi),
            "",
        ]
    )
    columns = ["what", "how many", "distance", "p", "nearest", "stability index", "languages"]
    return el("div", table(columns, rows, text_columns=2), class_="wide")


def _shift(shift: Shift | None) -> list[object]:
    if shift is None:
        return ["too few", "", ""]
    return [f"{shift.distance:.3f}", f"{shift.p:.3g}", f"{shift.nearest:.3f}"]


def _languages(found: LanguageDrift | None) -> str:
    if found is None:
        return "too few"
    sides = (
        ", ".join(f"{name} {share:.0%}" for name, share in list(side.items())[:4])
        for side in (found.recent, found.expected)
    )
    return f"{' against '.join(sides)}; stability index {found.psi:.3f}"


def _promises(report: MonitorReport) -> Markup:
    rows: list[list[object]] = [
        [one.key, one.says,
         "" if one.promised is None else f"{one.bound} {one.promised:g} {one.unit}",
         "" if one.measured is None else f"{one.measured:g}", one.n or "",
         el("b", one.verdict) if one.verdict == "broken" else one.verdict]
        for one in report.promises if one.promised is not None or one.measured is not None
    ]  # fmt: skip
    columns = ["promise", "in words", "promised", "measured", "of", "verdict"]
    return el("div", table(columns, rows, text_columns=2), class_="wide")


#: What is plotted together, as it has one scale; by the chart's title.
_PLOTS = {
    "Shares, and the similarity of the best passage": (
        "refusal_rate", "thumbs_down_share", "groundedness", "similarity",
    ),
    "Seconds of an answer, 95th percentile": ("total_p95_s", "first_token_p95_s", "retrieve_p95_s"),
    "Drift: distance of the means": ("questions_distance", "new_documents_distance"),
    "Drift: stability indexes": (
        "questions_length_psi", "questions_language_psi", "new_documents_length_psi",
        "new_documents_language_psi", "similarity_psi",
    ),
    "Alerts of promises": ("promises_broken",),
}  # fmt: skip


def _history(past: Sequence[Past]) -> list[Markup]:
    if len(past) < 2:
        return [el("p", "This is the first that is kept; the next ones are plotted here.")]
    last = past[-1].at
    charts = []
    for title, names in _PLOTS.items():
        series = {
            name: [
                ((one.at - last).total_seconds() / 86_400, one.figures[name])
                for one in past
                if name in one.figures
            ]
            for name in names
        }
        if any(series.values()):
            charts.append(figure(lines(title, series, across="days before this one"), title))
    return charts


def _answers(report: MonitorReport) -> Markup:
    answers, drift = report.answers, report.answer_drift
    rows: list[list[object]] = [
        ["refused", _share(drift.unanswered), _share(drift.unanswered_before)],
        ["similarity of the best passage", _number(report.drift.recent),
         _number(report.drift.earlier)],
        ["10th, 50th, 90th percentile of it", _spread(drift.similarity),
         _spread(drift.similarity_before)],
    ]  # fmt: skip
    for name, latency in answers.seconds.items():
        rows.append([f"{name}: median, 95th, 99th percentile",
                     f"{latency.p50:.2f}, {latency.p95:.2f}, {latency.p99:.2f} s", ""])  # fmt: skip
    rows += [[f"by {model}", count, ""] for model, count in answers.by_model.items()]
    rows += [[f"refused: {reason}", n, ""] for reason, n in answers.abstentions.items()]
    if report.quality is not None:
        quality = report.quality
        found = quality.groundedness
        rows.append([f"groundedness of {quality.sampled} answers, by {quality.by}",
                     f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]", ""])  # fmt: skip
    return table(["what", "last days", "days before"], rows)


def _documents(report: MonitorReport) -> Markup:
    documents = report.documents
    rows: list[list[object]] = [
        ["served", documents.served, ""],
        ["without text", documents.empty, ""],
        ["changed on disk since they were read", documents.stale, _names(documents.stale_sources)],
        ["gone from disk", documents.missing, _names(documents.missing_sources)],
        ["failed", documents.failed,
         "; ".join(f"{source}: {cause}" for source, cause in documents.failures.items())],
    ]  # fmt: skip
    return el("div", table(["what", "documents", "which"], rows, text_columns=3), class_="wide")


def _names(sources: tuple[str, ...]) -> str:
    return ", ".join(sources)


def _spread(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.2f}" for value in values) or "too few"


def _share(value: float | None) -> str:
    return "too few" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    return "too few" if value is None else f"{value:.3f}"
