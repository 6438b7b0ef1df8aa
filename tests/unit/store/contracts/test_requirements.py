"""Promises are judged by what runs and answers show, and only where enough is there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fti.store.contracts import requirements
from fti.store.contracts.promises import (
    AnswerPromises,
    BatchPromises,
    IngestPromises,
    PromisesConfig,
)
from fti.store.contracts.requirements import Judged, Measure, Requirement, Seen, pipeline_of
from fti.store.types import Run, now
from tests.support.values import an_answer


def a_run(pipeline: str = "batch", **changes: Any) -> Run:
    at = now() - timedelta(hours=2)
    fields = {
        "id": "r-20260301-120000-0123ab", "kind": "batch", "pipeline": pipeline, "status": "done",
        "started_at": at, "finished_at": at + timedelta(seconds=10), "metrics": {"done": 5},
    }  # fmt: skip
    return Run(**(fields | changes))


def judged(measure: Measure, seen: Seen, *, most: float | None = None, least: float | None = None,
           pipeline: str = "batch") -> Judged:  # fmt: skip
    name = "failed_share" if most is not None else "answers_per_s"
    promises = PromisesConfig(batch=BatchPromises(failed_share=most, answers_per_s=least))
    bound = "at most" if most is not None else "at least"
    return Requirement(pipeline, name, bound, "", measure).judge(seen, promises)  # type: ignore[arg-type]


@pytest.mark.parametrize(("most", "verdict"), [(0.5, "kept"), (0.25, "kept"), (0.2, "broken")])
def test_a_promise_is_kept_up_to_its_value(most: float, verdict: str) -> None:
    seen = Seen(runs=[a_run(metrics={"failed": 1, "done": 3})])
    found = judged(requirements.share("batch", "failed", "done"), seen, most=most)
    assert (found.measured, found.n, found.verdict) == (0.25, 4, verdict)


@pytest.mark.parametrize(("least", "verdict"), [(0.4, "kept"), (0.5, "kept"), (0.6, "broken")])
def test_a_rate_is_over_all_runs_and_must_not_be_lower(least: float, verdict: str) -> None:
    runs = [a_run(metrics={"done": 9, "seconds": 10}), a_run(metrics={"done": 1, "seconds": 10}),
            a_run(metrics={"done": 0, "seconds": 99})]  # fmt: skip
    found = judged(requirements.rate("batch", "done"), Seen(runs=runs), least=least)
    assert (found.measured, found.n, found.verdict) == (0.5, 2, verdict)


def test_nothing_is_said_of_what_was_not_measured_or_not_promised() -> None:
    measure = requirements.rate("batch", "done")
    assert judged(measure, Seen(), least=1).verdict == "not measured"
    unpromised = Requirement("batch", "memory_mb", "at most", "MB", requirements.memory("batch"))
    seen = Seen(runs=[a_run(memory_mb=300.0), a_run(memory_mb=250.0), a_run()])
    found = unpromised.judge(seen, PromisesConfig())
    assert (found.verdict, found.measured, found.n) == ("not promised", 300.0, 2)


def test_a_few_answers_break_no_promise() -> None:
    def refusals(seen: Seen) -> requirements.Measured:
        n = len(seen.answers)
        return requirements.Measured(value=sum(a.abstained for a in seen.answers) / n, n=n)

    asked = Requirement("answer", "refusal_rate", "at most", "", refusals)
    promises = PromisesConfig(answer=AnswerPromises(refusal_rate=0.1), min_answers=20)
    refused = [an_answer(f"a-20260301-{n:012x}", abstained=True) for n in range(20)]
    assert asked.judge(Seen(answers=refused[:19]), promises).verdict == "too few"
    assert asked.judge(Seen(answers=refused), promises).verdict == "broken"


def test_other_pipelines_and_what_failed_do_not_count() -> None:
    runs = [a_run("evaluate", memory_mb=900.0), a_run(status="failed", memory_mb=800.0),
            a_run(metrics={}, memory_mb=700.0), a_run(memory_mb=100.0)]  # fmt: skip
    found = requirements.memory("batch")(Seen(runs=runs))
    assert found is not None
    assert (found.value, found.n) == (100.0, 1)


def test_freshness_is_that_of_the_worst_run_and_of_sessions_that_go_on() -> None:
    fresh = {"n": 10, "p50_s": 0.1, "p99_s": 0.4, "max_s": 1.0}
    worse = {"n": 2, "p50_s": 3.0, "p99_s": 7.5, "max_s": 8.0}
    runs = [a_run("follow", metrics={"freshness": fresh}),
            a_run("follow", metrics={"freshness": worse}, status="running", finished_at=None),
            a_run("follow", metrics={"freshness": None})]  # fmt: skip
    found = requirements.freshness("follow")(Seen(runs=runs))
    assert found is not None
    assert (found.value, found.n) == (7.5, 12)


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(n) for n in range(1, 101)]
    assert requirements.percentile(values, 0.95) == requirements.Measured(value=95.0, n=100)
    assert requirements.percentile([3.0], 0.99) == requirements.Measured(value=3.0, n=1)
    assert requirements.percentile([], 0.5) is None


def test_runs_take_what_they_say_or_the_time_between() -> None:
    assert requirements.took(a_run(metrics={"seconds": 3.5})) == 3.5
    assert requirements.took(a_run()) == pytest.approx(10)
    assert requirements.took(a_run(finished_at=None, status="running")) == 0
    found = requirements.hours_since("batch")(Seen(runs=[a_run()]))
    assert found is not None
    assert found.value == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize(
    ("changes", "pipeline"),
    [
        ({"pipeline": "pairs", "kind": "dataset"}, "pairs"),
        ({"pipeline": "", "kind": "ingest"}, "ingest"),
        ({"pipeline": "", "kind": "ingest", "inputs": {"stream": "-"}}, "follow"),
        ({"pipeline": "", "kind": "ingest", "inputs": {"frame": "3 rows"}}, "write"),
        ({"pipeline": "", "kind": "finetune", "inputs": {"kind": "embedder"}}, "finetune-embedder"),
    ],
)
def test_runs_of_an_earlier_fti_are_told_apart_by_their_inputs(
    changes: dict[str, Any], pipeline: str
) -> None:
    assert pipeline_of(a_run(**changes)) == pipeline


def test_a_figure_that_is_none_is_no_number() -> None:
    for value in (None, "3", True, float("nan")):
        assert requirements.figure(a_run(metrics={"done": value}), "done") == 0
    assert requirements.worst("batch", "latency", "p95")(
        Seen(runs=[a_run(metrics={"latency": {"p95": 2.0}}), a_run(metrics={"latency": 3})])
    ) == requirements.Measured(value=2.0, n=1)


def test_a_promise_below_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        IngestPromises(memory_mb=-1)
    with pytest.raises(ValueError, match="less than or equal to 1"):
        IngestPromises(index_recall=95)
