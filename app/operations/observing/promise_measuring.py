"""What the profile promises of the pipelines against what the store shows of the past."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from fti.app.operations.pipeline_contracts import contracts
from fti.store.contracts.requirements import Judged, Seen
from fti.store.errors import InputError
from fti.store.moments import LONGEST
from fti.store.types import now

if TYPE_CHECKING:
    from fti.app.settings import Settings
    from fti.store.store import Store


def measured(
    settings: Settings, store: Store, *, days: int | None = None, pipelines: Sequence[str] = ()
) -> tuple[Judged, ...]:
    """Every requirement that the pipelines declare, judged.

    Args:
        settings: the profile: what is promised, and what tokens and hours cost.
        store: whose runs, answers and index are looked at; nothing is changed.
        days: how far back; None: ``promises.days``.
        pipelines: those to judge; none: all.
    """
    seen = look_back(settings, store, days=days)
    return tuple(
        requirement.judge(seen, settings.promises)
        for contract in contracts()
        if not pipelines or contract.pipeline in pipelines
        for requirement in contract.requirements
    )


def look_back(settings: Settings, store: Store, *, days: int | None = None) -> Seen:
    """The runs, users' answers and index of the last days.

    Raises:
        InputError: so many days cannot be looked back.
    """
    from fti.pipelines.feature.monitoring.healthcheck import asked_by_users

    back, at = days or settings.promises.days, now()
    if back > LONGEST.days:
        raise InputError(
            f"{back} days cannot be looked back.", hint=f"Look back 1 to {LONGEST.days} days."
        )
    since = at - timedelta(days=back)
    prices = settings.batch
    return Seen(
        runs=store.runs.since(since),
        answers=asked_by_users(store, store.answers.list(since=since)),
        index_recall=store.features.index_recall(),
        cost=lambda prompt, completion, spent: prices.cost(prompt, completion, seconds=spent),
        at=at,
    )
