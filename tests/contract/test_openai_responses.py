"""``/v1/responses`` as OpenAI's own Python client sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import structlog.testing
from openai.types.responses import Response
from openai.types.responses.response_output_text import AnnotationURLCitation
from pydantic import SecretStr

from fti.app.service.api import create_app
from fti.app.service.service_config import ServiceConfig
from fti.pipelines.engines.causal_lm.transformers_generator import TransformersGenerator
from fti.store.errors import GenerationFailed
from fti.store.store import Store
from tests.support.own_loop import run_apart
from tests.support.service import Client, Scripted, assistant_over, filled_store, serving
from tests.unit.app.service.test_api import eventually

QUESTION = "When does the workshop open on Saturdays?"
ANSWER = "The workshop opens at nine on Saturdays. [1]"
KEY = "a-key-for-tests"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled_store(tmp_path_factory.mktemp("responses") / "store")


@pytest.fixture(scope="module")
def address(store: Store) -> Iterator[str]:
    config = ServiceConfig(api_keys=(SecretStr(KEY),), max_body_bytes=10_000)
    with serving(create_app(assistant_over(store), config)) as base:
        yield base


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, given: Any = QUESTION, **options: Any) -> Any:
    return client.responses.create(model="base", input=given, **options)


def test_a_response_parses_with_typed_citations_and_our_sources(client: openai.OpenAI) -> None:
    response = ask(client, instructions="Be brief.", metadata={"ticket": "17"}, user="ada")
    assert isinstance(response, Response)
    assert (response.status, response.error, response.incomplete_details) == (
        "completed", None, None,
    )  # fmt: skip
    assert response.output_text == ANSWER
    (message,) = response.output
    (part,) = message.content
    (note,) = part.annotations
    assert isinstance(note, AnnotationURLCitation)
    assert ANSWER[note.start_index : note.end_index] == "[1]"
    assert note.title == "Opening hours"
    assert f"?answer={response.id}" in note.url
    assert response.usage.total_tokens == (
        response.usage.input_tokens + response.usage.output_tokens
    )
    assert (response.instructions, response.metadata, response.store) == (
        "Be brief.", {"ticket": "17"}, True,
    )  # fmt: skip
    sources = response.model_extra["sources"]
    assert [s["document"] for s in sources if s["cited"]] == ["handbook/hours.md"]
    assert response.model_extra["abstained"] is False


@pytest.mark.parametrize(
    "given",
    [
        [{"role": "user", "content": QUESTION}],
        [{"type": "message", "role": "user",
          "content": [{"type": "input_text", "text": QUESTION}]}],
        [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hello?"},
         {"role": "assistant", "content": [{"type": "output_text", "text": "Good day."}]},
         {"type": "reasoning", "id": "r1", "summary": []},
         {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
         {"type": "function_call_output", "call_id": "1", "output": "x"},
         {"role": "user", "content": QUESTION}],
        [{"role": "user", "content": "And?"}] * 400 + [{"role": "user", "content": QUESTION}],
    ],
    ids=["text", "parts", "conversation", "long"],
)  # fmt: skip
def test_the_input_may_be_a_list_of_turns(store: Store, given: list[Any]) -> None:
    with Client(create_app(assistant_over(store))) as client:
        answered = client.post("/v1/responses", json={"input": given}).json()
    assert answered["output"][0]["content"][0]["text"] == ANSWER


ORDER = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.annotation.added",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


def test_the_events_of_a_stream_come_in_openais_order_with_their_numbers(
    client: openai.OpenAI,
) -> None:
    events = list(ask(client, stream=True))
    kinds = [event.type for event in events]
    assert list(dict.fromkeys(kinds)) == ORDER
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert kinds.count("response.output_text.delta") >= 1
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == ANSWER
    (added,) = [e for e in events if e.type == "response.output_text.annotation.added"]
    whole = events[-1].response
    assert events[0].response.status == events[1].response.status == "in_progress"
    assert (whole.status, whole.output_text) == ("completed", ANSWER)
    note = whole.output[0].content[0].annotations[0]
    assert (added.annotation.type, added.annotation.url) == ("url_citation", note.url)
    assert {e.item_id for e in events if hasattr(e, "item_id")} == {whole.output[0].id}
    assert {e.response.id for e in events if hasattr(e, "response")} == {whole.id}
    assert whole.usage.total_tokens > 0
    assert any(source["cited"] for source in whole.model_extra["sources"])


def test_the_events_are_named_as_their_data_says(address: str) -> None:
    asked = {"input": QUESTION, "stream": True}
    headers = {"Authorization": f"Bearer {KEY}"}
    said = httpx.post(f"{address}/v1/responses", json=asked, headers=headers, timeout=30)
    assert said.headers["content-type"].startswith("text/event-stream")
    for block in filter(None, said.text.split("\n\n")):
        name, data = block.split("\n")
        assert name == f"event: {json.loads(data.removeprefix('data: '))['type']}"
    assert "[DONE]" not in said.text


def test_the_streaming_helper_assembles_the_same_response(client: openai.OpenAI) -> None:
    with client.responses.stream(model="base", input=QUESTION) as stream:
        snapshots = [e.snapshot for e in stream if e.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert snapshots[-1] == final.output_text == ANSWER
    assert final.output[0].content[0].annotations


async def _asynchronously(address: str) -> list[str]:
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=KEY) as client:
        whole = await client.responses.create(model="base", input=QUESTION)
        async with client.responses.stream(model="base", input=QUESTION) as stream:
            final = await stream.get_final_response()
        return [whole.output_text, final.output_text]


def test_the_asynchronous_client_reads_the_same(address: str) -> None:
    assert run_apart(_asynchronously(address)) == [ANSWER, ANSWER]


# Going on


def turns(generator: Scripted) -> list[tuple[str, str]]:
    """What the model was asked last, without the passages and the system text."""
    (*history, _) = [m for m in generator.requests[-1].messages if m.role != "system"]
    return [(m.role, m.content) for m in history]


def test_a_response_goes_on_from_an_earlier_one_with_all_that_was_said(store: Store) -> None:
    generator = Scripted()
    with (
        serving(create_app(assistant_over(store, generator))) as base,
        openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as client,
    ):
        said = [{"role": "user", "content": "Is there a kiln?"},
                {"role": "assistant", "content": "Yes."},
                {"role": "user", "content": "How hot is the kiln?"}]  # fmt: skip
        first = ask(client, said)
        second = ask(client, "And on Thursdays?", previous_response_id=first.id, stream=True)
        second = list(second)[-1].response
        assert second.previous_response_id == first.id
        assert turns(generator) == [
            ("user", "Is there a kiln?"), ("assistant", "Yes."),
            ("user", "How hot is the kiln?"), ("assistant", "At nine on Saturdays [1]"),
        ]  # fmt: skip
        ask(client, "Why is the kiln so hot?", previous_response_id=second.id)
        assert turns(generator)[-2:] == [
            ("user", "And on Thursdays?"), ("assistant", "At nine on Saturdays [1]"),
        ]  # fmt: skip
        assert len(turns(generator)) == 6
    assert store.answers.get(second.id).previous == first.id


def test_what_was_not_kept_cannot_be_gone_on_from(client: openai.OpenAI) -> None:
    unkept = ask(client, store=False)
    assert unkept.store is False
    completion = client.chat.completions.create(
        model="base", messages=[{"role": "user", "content": QUESTION}]
    )
    for identifier in (unkept.id, completion.id, "resp_nothing", "a-20260101-000000000000"):
        with pytest.raises(openai.NotFoundError) as missing:
            ask(client, previous_response_id=identifier)
        assert missing.value.code == "answer_not_found"
        assert repr(identifier) in missing.value.message


def test_a_key_goes_on_from_its_own_responses_alone(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "store")
    keys = [store.keys.create(name)[1] for name in ("ada", "bob")]
    with structlog.testing.capture_logs(), Client(create_app(assistant_over(store))) as client:
        ada, bob = ({"Authorization": f"Bearer {key}"} for key in keys)
        first = client.post("/v1/responses", json={"input": QUESTION}, headers=ada).json()
        more = {"input": "And then?", "previous_response_id": first["id"]}
        assert client.post("/v1/responses", json=more, headers=ada).status_code == 200
        refused = client.post("/v1/responses", json=more, headers=bob)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "answer_not_found")
        assert "No answer was logged yet" in refused.json()["error"]["message"]


def test_a_key_of_a_collection_is_answered_from_it_alone(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "store")
    _, key = store.keys.create("walled", collections=("nowhere",))
    with structlog.testing.capture_logs(), Client(create_app(assistant_over(store))) as client:
        headers = {"Authorization": f"Bearer {key}"}
        answer = client.post("/v1/responses", json={"input": QUESTION}, headers=headers).json()
    assert (answer["abstained"], answer["sources"]) == (True, [])


# Errors


@pytest.mark.parametrize(
    ("fields", "says", "param"),
    [
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
         "'input_image'; only text parts are read", "input[0].content"),
        ({"input": [{"role": "user", "content": "x"}, {"type": "item_reference", "id": "1"}]},
         "'item_reference'; only messages are read", "input[1].type"),
        ({"input": [{"role": "tool", "content": "x"}]}, "'tool', not one of", "input[0].role"),
        ({"input": [{"role": "user"}]}, "neither a text nor a list", "input[0].content"),
        ({"input": []}, "holds no turn", "input"),
        ({"input": 3}, "neither a text nor a list", "input"),
        ({}, "Field required", "input"),
        ({"input": "x", "tools": [{"type": "web_search"}]}, "cannot be called here", "tools"),
        ({"input": "x", "text": {"format": {"type": "json_schema"}}}, "'json_schema'",
         "text.format.type"),
        ({"input": "x", "background": True}, "not supported", "background"),
        ({"input": "x", "conversation": "conv_1"}, "not supported", "conversation"),
        ({"input": "x", "include": ["message.output_text.logprobs"]}, "logprobs", "include"),
        ({"input": "x", "max_output_tokens": 0}, "greater than or equal", "max_output_tokens"),
        ({"input": "x", "metadata": {"k": 1}}, "value of 'k'", "metadata"),
        ({"input": "x", "metadata": {str(n): "x" for n in range(17)}}, "17 pairs", "metadata"),
        ({"input": "x", "temperature": 3}, "less than or equal", "temperature"),
        ({"input": " \u200b"}, "empty", None),
        ({"input": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
         "no question", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_names_what_the_client_did(
    store: Store, fields: dict[str, Any], says: str, param: str | None, stream: bool
) -> None:
    with Client(create_app(assistant_over(store))) as client:
        refused = client.post("/v1/responses", json={**fields, "stream": stream})
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, param), error
    assert error["type"] == "invalid_request_error"
    assert says in error["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "web_search"}], "tool_choice": "none"},
        {"tools": []},
        {"include": ["reasoning.encrypted_content"]},
        {"reasoning": {"effort": "low"}, "truncation": "auto", "service_tier": "auto"},
        {"text": {"format": {"type": "text"}, "verbosity": "low"}},
        {"max_output_tokens": -1, "metadata": None, "instructions": None},
        {"stream_options": {"include_obfuscation": False}, "parallel_tool_calls": True},
    ],
)
def test_what_changes_no_meaning_is_taken(client: openai.OpenAI, fields: dict[str, Any]) -> None:
    assert ask(client, extra_body=fields).output_text == ANSWER


def test_errors_arrive_as_the_clients_own_classes(client: openai.OpenAI, address: str) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.responses.create(model="gpt-9", input="?")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.APIStatusError) as large:
        ask(client, "word " * 5_000)
    assert (large.value.status_code, large.value.code) == (413, "body_too_large")
    with (
        openai.OpenAI(base_url=f"{address}/v1", api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        ask(stranger)


def test_a_failure_before_the_first_event_has_its_own_status(tmp_path: Path) -> None:
    with Client(create_app(assistant_over(Store(tmp_path / "store")))) as client:
        for stream in (False, True):
            empty = client.post("/v1/responses", json={"input": "?", "stream": stream})
            assert (empty.status_code, empty.json()["error"]["code"]) == (503, "store_empty")


@pytest.mark.parametrize(
    ("error", "code"),
    [(GenerationFailed("The model broke off."), "generation_failed"),
     (ZeroDivisionError("secret detail"), "internal")],
)  # fmt: skip
def test_a_failure_in_the_middle_ends_the_response_as_failed(
    store: Store, error: Exception, code: str
) -> None:
    generator = Scripted(fails=error)
    with (
        structlog.testing.capture_logs(),
        serving(create_app(assistant_over(store, generator))) as base,
        openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as client,
    ):
        events = list(ask(client, stream=True))
        assert "response.completed" not in [event.type for event in events]
        last = events[-1]
        assert (last.type, last.response.status) == ("response.failed", "failed")
        assert (last.response.error.code, last.response.error.type) == ("server_error", code)
        assert "secret" not in last.response.error.message
        said = "".join(e.delta for e in events if e.type == "response.output_text.delta")
        assert last.response.output_text == said == "At nine on Saturdays"
        assert last.sequence_number == len(events) - 1
        with pytest.raises(openai.InternalServerError):
            ask(client)
        generator.fails = None
        assert ask(client).status == "completed"


# Limits and leaving


def test_an_answer_that_takes_too_long_is_ended(store: Store) -> None:
    generator = Scripted(pieces=["piece "] * 2_000, pace_s=0.01)
    config = ServiceConfig(answer_timeout_s=0.3)
    with serving(create_app(assistant_over(store, generator), config)) as base:
        late = httpx.post(f"{base}/v1/responses", json={"input": QUESTION}, timeout=30)
        assert (late.status_code, late.json()["error"]["code"]) == (504, "timed_out")
        assert generator.cancelled.wait(10)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stops_the_generation(tmp_path: Path, stream: bool) -> None:
    store = filled_store(tmp_path / "store")
    generator = Scripted(pieces=["piece "] * 2_000, pace_s=0.01)
    asked = {"input": QUESTION, "stream": stream}
    with (
        structlog.testing.capture_logs(),
        serving(create_app(assistant_over(store, generator))) as base,
    ):
        if stream:
            with httpx.stream("POST", f"{base}/v1/responses", json=asked) as response:
                next(response.iter_bytes())
        else:
            limit = httpx.Timeout(10, read=0.5)
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{base}/v1/responses", json=asked, timeout=limit)
        assert generator.cancelled.wait(10)
        eventually(lambda: [a.finish_reason for a in store.answers.list()] == ["cancelled"])


@pytest.mark.heavy
def test_a_causal_language_model_streams_what_it_answers_whole_and_is_cut_where_asked(
    store: Store, loaded_lm: Any
) -> None:
    generator = TransformersGenerator(loaded_lm)
    with (
        serving(create_app(assistant_over(store, generator))) as base,
        openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as client,
    ):
        whole = ask(client)
        *_, last = ask(client, stream=True)
        assert last.response.output_text == whole.output_text
        assert last.response.usage == whole.usage
        cut = ask(client, max_output_tokens=5)
        *_, end = ask(client, max_output_tokens=5, stream=True)
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert (end.type, end.response.output_text) == ("response.incomplete", cut.output_text)
    assert cut.usage.output_tokens == 5
