"""What the newest monitoring found, as gauges: each figure, and each promise against its measure.

Nothing is measured when somebody looks: that would read all answers of a week. What is shown is
what ``fti monitor`` kept, and how long ago that was.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fti.store.store import Store
from fti.store.types import Run, RunKind, now

_LOOKED_S = 10.0  # how long what was read is shown before the store is looked at again
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Monitored(Collector):
    """Reads the store's newest runs of monitoring and validation whenever Prometheus asks."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._seen: dict[str, Run] = {}
        self._looked = 0.0

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges; none before anything was monitored."""
        newest = self._newest()
        if (run := newest.get("monitor")) is not None:
            yield from _figures(run)
            yield from _promises(run)
        if (run := newest.get("validate")) is not None:
            yield _gauge("fti_validation_broken", "Expectations that the features broke.",
                         run.metrics.get("broken", 0))  # fmt: skip
            yield _gauge("fti_validation_age_seconds", "Since the newest validation.", _age(run))

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: what there is shows when it is collected."""
        return []

    def _newest(self) -> dict[str, Run]:
        with self._lock:
            if time.monotonic() - self._looked > _LOOKED_S or not self._looked:
                self._looked = time.monotonic()
                self._seen = {}
                kinds: tuple[RunKind, ...] = ("monitor", "validate")
                for kind in kinds:
                    runs, _ = self._store.runs.survey(kind, 5)
                    for run in runs:
                        if run.status in ("done", "partial") and run.pipeline == kind:
                            self._seen[kind] = run
                            break
            return self._seen


def _figures(run: Run) -> Iterator[GaugeMetricFamily]:
    yield _gauge("fti_monitor_age_seconds", "Since the newest monitoring.", _age(run))
    yield _gauge("fti_monitor_alerts", "What is beyond its threshold.",
                 len(run.metrics.get("alerts", ())))  # fmt: skip
    for name, value in run.metrics.get("figures", {}).items():
        if _NAME.fullmatch(name):
            said = name.replace("_", " ")
            yield _gauge(f"fti_monitor_{name}", f"{said}, by fti monitor.", value)


def _promises(run: Run) -> Iterator[GaugeMetricFamily]:
    told = run.metrics.get("promises", ())
    for key, help_ in (
        ("promised", "What the profile promises of a pipeline."),
        ("measured", "What was measured of it."),
    ):
        family = GaugeMetricFamily(f"fti_{key}", help_, labels=["pipeline", "requirement"])
        for one in told:
            if one[key] is not None:
                family.add_metric([one["pipeline"], one["name"]], one[key])
        yield family
    kept = GaugeMetricFamily(
        "fti_promise_kept", "1 where it is, 0 where it is broken.",
        labels=["pipeline", "requirement"],
    )  # fmt: skip
    for one in told:
        if one["verdict"] in ("kept", "broken"):
            kept.add_metric([one["pipeline"], one["name"]], float(one["verdict"] == "kept"))
    yield kept


def _gauge(name: str, help_: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_, value=value)


def _age(run: Run) -> float:
    return (now() - (run.finished_at or run.started_at)).total_seconds()
