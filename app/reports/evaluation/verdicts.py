"""What a language model as judge said, as rows for tables."""

from __future__ import annotations

from fti.app.operations.measuring.evaluating import Compared
from fti.store.types import Interval

JUDGE_NOTE = (
    "A language model read the answers beside the accepted ones. Agreement says how far to trust "
    "it: with F1 (0.5 and more counts as right; kappa is the agreement beyond chance), and with "
    "itself when the two answers of a pair change places."
)
SCORE_COLUMNS = ("system", "judge", "answers", "unreadable", "agrees with F1", "kappa")
PAIR_COLUMNS = (
    "system", "against", "better", "worse", "neither", "margin", "p", "agrees with itself",
    "first place twice", "second place twice", "unreadable",
)  # fmt: skip


def score_rows(found: Compared) -> list[list[object]]:
    """A row per system that a judge scored."""
    return [
        [
            name,
            judged.model,
            judged.asked,
            judged.unreadable,
            _share(judged.agreement),
            "" if judged.kappa is None else f"{judged.kappa:.2f}",
        ]
        for name, report in found.reports.items()
        if (judged := report.judge) is not None
    ]


def pair_rows(found: Compared) -> list[list[object]]:
    """A row per pair of systems that a judge compared."""
    return [
        [
            name,
            pair.against,
            pair.wins,
            pair.losses,
            pair.ties,
            f"{pair.margin.mean:+.3f} ({pair.margin.low:+.3f} – {pair.margin.high:+.3f})",
            f"{pair.p:.2g}",
            _share(pair.agreement),
            pair.first,
            pair.second,
            pair.unreadable,
        ]
        for name, pair in found.preferences.items()
    ]


def _share(value: Interval) -> str:
    if not value.n:
        return ""
    return f"{value.mean:.0%} ({value.low:.0%} – {value.high:.0%})"
