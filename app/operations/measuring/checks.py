"""Whether an evaluation is good enough for CI: above its floors, no worse than an earlier one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fti.store.errors import InputError
from fti.store.types import Interval

if TYPE_CHECKING:
    from fti.pipelines.inference.evaluating.evaluation_figures import EvaluationReport


def parse_floors(text: str, option: str = "--fail-below") -> dict[str, float]:
    """Least values of scores from ``f1=0.4,recall@5=0.8``.

    Raises:
        InputError: a part is no such pair, names no score, or its value is not between 0 and 1.
    """
    floors: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, separator, value = part.partition("=")
        try:
            floor = float(value)
        except ValueError:
            floor = float("nan")
        if not separator or not 0 <= floor <= 1:
            raise InputError(
                f"{part!r} in {option} is not SCORE=VALUE with a value between 0 and 1.",
                hint=f"For example: {option} f1=0.4,recall@5=0.8",
            )
        floors[known_score(name.strip(), option)] = floor
    return floors


def known_score(name: str, where: str) -> str:
    """``name`` itself when it is a score that evaluations have.

    Raises:
        InputError: it is not; says which there are.
    """
    from fti.pipelines.inference.evaluating.evaluation_figures import ANSWERS, GRADED, RETRIEVAL

    known = (*ANSWERS, *GRADED, "abstention", *RETRIEVAL)
    if name not in known:
        raise InputError(
            f"{name!r} in {where} is no score of an evaluation.",
            hint=f"There is: {', '.join(known)}.",
        )
    return name


def below(report: EvaluationReport, floors: Mapping[str, float]) -> list[str]:
    """A sentence per score whose mean is below its floor, or that was not measured at all."""
    sentences = []
    for name, floor in floors.items():
        value = _score(report, name)
        if value is None or not value.n:
            sentences.append(f"{name} was not measured, and is asked to be at least {floor:g}.")
        elif value.mean < floor:
            sentences.append(
                f"{name} is {value.mean:.3f} (95 % interval {value.low:.3f} to {value.high:.3f}, "
                f"{value.n} cases), below {floor:g}."
            )
    return sentences


def _score(report: EvaluationReport, name: str) -> Interval | None:
    return (report.answers or {}).get(name) or report.retrieval_intervals.get(name)


def worse_than(
    rows: Sequence[Mapping[str, Any]], baseline: Sequence[Mapping[str, Any]], *, name: str
) -> list[str]:
    """A sentence per score that is significantly worse than an earlier evaluation's.

    Args:
        rows: scores per case now.
        baseline: those of the earlier evaluation.
        name: what messages call it.

    Raises:
        InvalidCases: the two have no case in common.
    """
    from fti.pipelines.inference.evaluating.evaluation import compare

    return [
        f"{metric} is worse than in {name}: {difference.mean:+.3f}, 95 % interval "
        f"[{difference.low:+.3f}, {difference.high:+.3f}], p {difference.p_holm:.2g}, over "
        f"{difference.n} cases of both."
        for metric, difference in compare(rows, baseline).items()
        if difference.worse
    ]


def read_baseline(path: Path) -> list[dict[str, Any]]:
    """The scores per case of the main system in a ``report.json``.

    Raises:
        InputError: the file cannot be read, or is no report; says how to make one.
    """
    try:
        body = json.loads(path.read_bytes())
        rows: list[dict[str, Any]] = body["rows"][body["main"]]
        if not rows or not all(isinstance(row, dict) and "id" in row for row in rows):
            raise ValueError("its rows have no ids")
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or f"it is no report of an evaluation ({error})"
        raise InputError(
            f"The baseline {str(path)!r} cannot be used: {reason}.",
            hint="Make one with: fti evaluate CASES --report FOLDER, and name FOLDER/report.json",
        ) from error
    return rows
