"""What is beyond its threshold, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator

from fti.pipelines.feature.feature_config import MonitoringConfig
from fti.pipelines.feature.monitoring.monitor_report import (
    Alert,
    AnswerDrift,
    DocumentDrift,
    MonitorReport,
    QuestionDrift,
)
from fti.store.features.filters import parse


def due_alerts(report: MonitorReport, config: MonitoringConfig) -> Iterator[Alert]:
    """Each value beyond its threshold, with what to do about it."""
    yield from _of_drift(report.questions, report.new_documents, report.answer_drift, config)
    yield from _of_quality(report, config)
    yield from _of_promises(report)
    yield from _of_rules(report, config)


def _of_quality(report: MonitorReport, config: MonitoringConfig) -> Iterator[Alert]:
    """What people, and a model, say of the answers."""
    answers, quality = report.answers, report.quality
    bad, given = answers.thumbs_down_share, answers.feedback_up + answers.feedback_down
    if bad is not None and given >= config.min_verdicts and bad > config.thumbs_down:
        yield Alert(
            what="thumbs_down",
            value=bad,
            threshold=config.thumbs_down,
            message=f"{bad:.0%} of {given} verdicts are bad. Read them: fti feedback list",
        )
    if quality is not None and quality.sampled and quality.groundedness.mean < config.groundedness:
        named = ", ".join(quality.lowest[:3])
        yield Alert(
            what="groundedness",
            value=quality.groundedness.mean,
            threshold=config.groundedness,
            below=True,
            message=f"Of what {quality.sampled} recent answers claim, "
            f"{quality.groundedness.mean:.0%} follows from the passages that they cite, says "
            f"{quality.by}. Look at the lowest: fti trace {named.split(', ')[0]}",
        )


def _of_promises(report: MonitorReport) -> Iterator[Alert]:
    """What the profile promises and the store does not show."""
    for one in report.promises:
        if one.verdict == "broken" and one.measured is not None and one.promised is not None:
            yield Alert(
                what=f"promise {one.key}",
                value=one.measured,
                threshold=one.promised,
                below=one.bound == "at least",
                message=f"{one.says} Promised is {one.bound} {one.promised:g}, measured "
                f"{one.measured:g} (of {one.n}). See: fti contracts {one.pipeline} --measured",
            )


def _of_rules(report: MonitorReport, config: MonitoringConfig) -> Iterator[Alert]:
    """What the profile's own conditions say."""
    figures = report.figures()
    for rule in parse(config.alert_when):
        value = figures.get(rule.key)
        if value is not None and rule.matches(repr(value)):
            yield Alert(
                what=f"rule {rule.key}",
                value=value,
                threshold=float(rule.values[0]),
                below=rule.operator.startswith("<"),
                message=f"{rule.key} is {value:g}: {rule.key} {rule.operator} {rule.values[0]} "
                "(monitoring.alert_when).",
            )


def _of_drift(
    questions: QuestionDrift | None,
    documents: DocumentDrift | None,
    answers: AnswerDrift,
    config: MonitoringConfig,
) -> Iterator[Alert]:
    """What has changed from what was expected."""
    for name, found, advice in (
        (
            "questions",
            questions,
            "Read what people ask (fti monitor --json), and freeze a case set that asks it.",
        ),
        (
            "documents",
            documents,
            "Evaluate on cases about the new documents, and fine-tune on them if it got worse.",
        ),
    ):
        if found is None:
            continue
        against = (
            f"the case set {found.cases}"
            if isinstance(found, QuestionDrift)
            else f"features version {found.reference}"
        )
        moved = found.embedding
        if moved and moved.distance > config.distance and moved.p < config.distance_p:
            yield Alert(
                what=f"{name}_embedding",
                value=moved.distance,
                threshold=config.distance,
                message=f"New {name} are about other things than {against}: distance "
                f"{moved.distance:.3f}, p {moved.p:.3g}. {advice}",
            )
        if found.length_psi is not None and found.length_psi > config.psi:
            yield Alert(
                what=f"{name}_length",
                value=found.length_psi,
                threshold=config.psi,
                message=f"New {name} have other lengths than {against}: stability index "
                f"{found.length_psi:.3f}. {advice}",
            )
        spoken = found.language
        if spoken is not None and spoken.psi > config.psi:
            yield Alert(
                what=f"{name}_language",
                value=spoken.psi,
                threshold=config.psi,
                message=f"New {name} are in other languages than {against}: "
                f"{spoken.recent[spoken.risen]:.0%} are {spoken.risen}, "
                f"{spoken.expected.get(spoken.risen, 0.0):.0%} were; stability index "
                f"{spoken.psi:.3f}. See whether the embedder and the model read it.",
            )
    rate, before = answers.unanswered, answers.unanswered_before
    if rate is not None and rate > config.unanswered:
        yield Alert(
            what="unanswered",
            value=rate,
            threshold=config.unanswered,
            message=f"{rate:.0%} of {answers.recent} questions were refused. See which, and ingest "
            "documents that answer them.",
        )
    if rate is not None and before is not None and rate - before > config.unanswered_rise:
        yield Alert(
            what="unanswered_rise",
            value=rate - before,
            threshold=config.unanswered_rise,
            message=f"Refusals rose from {before:.0%} to {rate:.0%}. See whether documents were "
            "lost (fti doctor), or people ask about new things.",
        )
    if answers.similarity_psi is not None and answers.similarity_psi > config.psi:
        yield Alert(
            what="similarity",
            value=answers.similarity_psi,
            threshold=config.psi,
            message="The best passages are not as near to the questions as in the days before: "
            f"stability index {answers.similarity_psi:.3f}. Look at retrieval: fti evaluate CASES "
            "--retrieval-only",
        )
