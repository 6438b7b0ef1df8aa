"""What the service counts, in Prometheus' form: numbers, names of models and routes, no text.

Each application has counters of its own, so that two in one process do not add up.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from fti.app.service.monitored import Monitored
from fti.store.answer_types import Answer
from fti.store.store import Store

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counters and histograms of one service."""

    def __init__(self, store: Store | None = None) -> None:
        self._registry = CollectorRegistry()
        if store is not None:
            self._registry.register(Monitored(store))
        self._requests = self._counter(
            "fti_requests", "Requests by route and status.", "method", "route", "status"
        )
        self._request_s = Histogram(
            "fti_request_seconds",
            "From the request's headers to the response's last byte.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._answers = self._counter(
            "fti_answers", "Answers by model and how they ended.", "model", "outcome"
        )
        self._tokens = self._counter("fti_tokens", "Tokens read and written.", "model", "kind")
        self._steps = Histogram(
            "fti_answer_seconds",
            "Parts of an answer: retrieve, first_token, generate, total.",
            ["step"],
            buckets=_SECONDS,
            registry=self._registry,
        )

    def watch(self, *, waiting: Callable[[], int], answering: Callable[[], int]) -> None:
        """Report these numbers whenever somebody looks."""
        for name, help_, read in (
            ("fti_waiting", "Requests that wait for a model.", waiting),
            ("fti_answering", "Answers that are being made.", answering),
        ):
            Gauge(name, help_, registry=self._registry).set_function(read)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request has ended."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_s.labels(route).observe(seconds)

    def answered(self, answer: Answer) -> None:
        """An answer has ended."""
        outcome = "abstained" if answer.abstained else answer.finish_reason
        self._answers.labels(answer.model, outcome).inc()
        self._tokens.labels(answer.model, "prompt").inc(answer.usage.prompt_tokens)
        self._tokens.labels(answer.model, "completion").inc(answer.usage.completion_tokens)
        for name, seconds in answer.timings.items():
            self._steps.labels(name.removesuffix("_s")).observe(seconds)

    def failed(self, model: str) -> None:
        """An answer broke off: the model, the store or its log could not go on."""
        self._answers.labels(model, "failed").inc()

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(name, help_, labels, registry=self._registry)
