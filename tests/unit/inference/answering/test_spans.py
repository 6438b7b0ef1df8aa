"""Spans of an answer, read by the SDK's in-memory exporter."""

from __future__ import annotations

from typing import Any

import pytest
import structlog.testing
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fti.app.service.api import create_app
from fti.store.errors import GenerationFailed
from tests.support.service import Client
from tests.unit.inference.conftest import World

ASKED = "When does the workshop open in the morning?"


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """A process has one provider for ever; other tests just fill its memory."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> InMemorySpanExporter:
    exporter.clear()
    return exporter


def by_name(spans: InMemorySpanExporter) -> dict[str, Any]:
    return {span.name: span for span in spans.get_finished_spans()}


def test_an_answer_is_a_span_with_retrieval_and_generation_inside(
    world: World, spans: InMemorySpanExporter
) -> None:
    answer = world.assistant(world.scripted("At nine", " [1]")).answer(ASKED)
    found = by_name(spans)
    assert set(found) == {"answer", "retrieve", "generate"}
    for inner in ("retrieve", "generate"):
        assert found[inner].parent.span_id == found["answer"].context.span_id
    assert found["answer"].attributes["fti.answer.id"] == answer.id
    assert found["answer"].attributes["fti.outcome"] == "stop"
    assert found["retrieve"].attributes["fti.passages"] == 6
    assert found["generate"].attributes["gen_ai.usage.output_tokens"] == 2
    assert [event.name for event in found["generate"].events] == ["first_token"]
    texts = str([(s.attributes, s.events, s.status.description) for s in found.values()])
    assert "workshop" not in texts
    assert "nine" not in texts


def test_a_failure_is_its_code_and_a_closed_stream_is_cancelled(
    world: World, spans: InMemorySpanExporter
) -> None:
    broken = world.assistant(world.scripted("At", " nine", fails_after=1))
    with pytest.raises(GenerationFailed):
        broken.answer(ASKED)
    for name in ("answer", "generate"):
        failed = by_name(spans)[name]
        assert failed.attributes["error.type"] == failed.status.description == "generation_failed"
        assert not failed.events or failed.events[0].name == "first_token"
    spans.clear()
    with world.assistant(world.scripted("At", " nine")).stream(ASKED) as stream:
        next(stream)
        next(stream)
    assert by_name(spans)["answer"].attributes["fti.cancelled"] is True


def test_a_refusal_without_the_model_generates_nothing(
    world: World, spans: InMemorySpanExporter
) -> None:
    world.assistant(world.scripted(), min_similarity=0.99).answer(ASKED)
    assert set(by_name(spans)) == {"answer", "retrieve"}
    assert by_name(spans)["answer"].attributes["fti.outcome"] == "abstained"


def test_a_requests_spans_are_part_of_its_callers_trace(
    world: World, spans: InMemorySpanExporter
) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    body = {"messages": [{"role": "user", "content": ASKED}]}
    with structlog.testing.capture_logs(), Client(create_app(world.assistant())) as client:
        for stream in (False, True):
            spans.clear()
            client.post(
                "/v1/chat/completions",
                json=body | {"stream": stream},
                headers={"traceparent": traceparent},
            )
            answer = by_name(spans)["answer"]
            assert f"{answer.context.trace_id:032x}" == traceparent[3:35]
            assert f"{answer.parent.span_id:016x}" == traceparent[36:52]
