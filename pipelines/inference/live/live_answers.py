"""Do live answers follow from the passages that they cite? A model's judgement of a sample.

No answer is known to be right here, as in an evaluation: what can be asked is whether the passages
say what the answer says. The sample is drawn by the answers' ids, so that a later monitoring of the
same days draws the same ones and takes over what was judged.
"""

from __future__ import annotations

from collections.abc import Sequence

from fti.pipelines.engines.cross_encoders.entailment import Entailment
from fti.pipelines.inference.evaluating.grounding import ground_answers
from fti.pipelines.inference.evaluating.judging import Judge
from fti.pipelines.inference.live.answer_sample import answered, drawn
from fti.store.answer_types import Answer
from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.requirements import seconds
from fti.store.errors import InputError, PostconditionFailed
from fti.store.progress import Progress, quiet
from fti.store.proof.gate import bootstrap_interval
from fti.store.store import Store
from fti.store.types import Interval, Value, sha256_hex

_SHOWN = 10  # ids of the lowest


class LiveQuality(Value):
    """Groundedness of a sample. ``answers`` there were to draw from: those that answered at all.

    ``lowest``: ids of the answers with the lowest scores, below 1. ``unreadable`` verdicts of a
    judge left their answer without a score.
    """

    answers: int
    sampled: int
    groundedness: Interval
    by: str
    lowest: tuple[str, ...] = ()
    reused: int = 0
    unreadable: int = 0
    run: str = ""


MONITOR_ANSWERS = PipelineContract("monitor-answers")


@MONITOR_ANSWERS.precondition("A model is there to judge, and answers to draw", raises=InputError)
def can_judge(entailment: Entailment | None, judge: Judge | None, sample: int) -> None:
    """The NLI model, or else the judge."""
    if entailment is None and judge is None:
        raise InputError(
            "No model is named that could judge answers.",
            hint="Name one: --set evaluation.entailment.id=MODEL, or a judge.",
        )
    if sample < 1:
        raise InputError(f"{sample} answers cannot be judged.", hint="Set monitoring.sample.")


@MONITOR_ANSWERS.postcondition("Each answer drawn has one score, or is counted as unreadable")
def each_has_a_score(answers: Sequence[Answer], sample: int, result: LiveQuality) -> None:
    """The mean is of just these."""
    wanted = len(drawn(answers, sample))
    if result.sampled != wanted or result.groundedness.n != wanted - result.unreadable:
        raise PostconditionFailed(
            f"{wanted} answers were drawn, {result.unreadable} verdicts could not be read, and "
            f"the mean is over {result.groundedness.n}."
        )


MONITOR_ANSWERS.requires("seconds_p95", "at most", "s", seconds("monitor-answers"))


@MONITOR_ANSWERS.enforced
def monitor_answers(
    answers: Sequence[Answer],
    *,
    store: Store,
    entailment: Entailment | None = None,
    judge: Judge | None = None,
    sample: int = 50,
    progress: Progress = quiet,
) -> LiveQuality:
    """Judge a sample of answers, and keep the scores with the run, a row each.

    Args:
        answers: of users, of the days looked at; refusals claim nothing and are not drawn.
        store: where judgements are kept.
        entailment: the NLI model that judges.
        judge: the language model that does, where there is no NLI model.
        sample: of so many at most.
        progress: told after every batch.

    Raises:
        InputError: there is no model to judge.
        ModelUnavailable, GenerationFailed: the judge does not answer.
    """
    chosen = drawn(answers, sample)
    by = entailment.identity.id if entailment is not None else judge.model if judge else ""
    inputs = {"by": by, "answers": sha256_hex("\n".join(answer.id for answer in chosen))}
    with store.runs.running("monitor", pipeline="monitor-answers", inputs=inputs) as run:
        if entailment is not None:
            found, reused = ground_answers(chosen, entailment, store=store, progress=progress)
            scores: list[float | None] = list(found)
        else:
            assert judge is not None  # the precondition
            scores, reused = judge.support(chosen, store=store, progress=progress)
        rows = [
            {"answer": answer.id, "model": answer.model, "score": score}
            for answer, score in zip(chosen, scores, strict=True)
        ]
        store.runs.attach(run.id, "answers", rows)
        known = [(score, a.id) for a, score in zip(chosen, scores, strict=True)
                 if score is not None]  # fmt: skip
        mean = (
            bootstrap_interval([score for score, _ in known])
            if known
            else Interval(mean=0.0, low=0.0, high=1.0, n=0)
        )
        report = LiveQuality(
            answers=sum(answered(answer) for answer in answers),
            sampled=len(chosen),
            groundedness=mean,
            by=by,
            lowest=tuple(key for score, key in sorted(known)[:_SHOWN] if score < 1),
            reused=reused,
            unreadable=len(chosen) - len(known),
            run=run.id,
        )
        run.metrics.update(report.model_dump(mode="json", exclude={"run", "lowest"}))
    return report
