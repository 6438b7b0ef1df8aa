"""Against a real HTTP server in a thread that speaks the protocol, well or badly."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.encoding import encode_prompt
from fti.pipelines.engines.generation import load_generator
from fti.pipelines.engines.generator import GenerationRequest, GeneratorConfig
from fti.pipelines.engines.remote import openai_server
from fti.pipelines.engines.remote.openai_server import EstimatedCounter, OpenAIGenerator
from fti.store.answer_types import Usage
from fti.store.errors import (
    FtiError,
    GenerationFailed,
    ModelUnavailable,
    QuestionTooLong,
    ServerUnavailable,
    TimedOut,
)
from fti.store.types import Message
from tests.support.chat_server import Respond, Server, begin, chunk, event, refuses, says, serving
from tests.support.tiny_model import byte_level_tokenizer


def repeats_the_question(server: Server, handler: Any, body: dict[str, Any]) -> None:
    time.sleep(0.02 * (len(server.bodies) % 3))
    says(body["messages"][-1]["content"])(server, handler, body)


def breaks_off(server: Server, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    begin(handler)
    event(handler, chunk("half an"))


def fails_inside(server: Server, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    begin(handler)
    event(handler, chunk("half an"))
    event(handler, {"error": {"message": "CUDA out of memory", "type": "server_error"}})


def sends_nonsense(server: Server, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    begin(handler)
    event(handler, "<html>")


def says_nothing(server: Server, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    begin(handler)
    server.disconnected.wait(5)


def never_ends(server: Server, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    begin(handler)
    try:
        for n in range(500):
            event(handler, chunk(f"{n} "))
            time.sleep(0.01)
    except OSError:  # the client went away
        server.disconnected.set()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_server, "_FIRST_WAIT_S", 0.01)


def generator(server: Server, **settings: Any) -> OpenAIGenerator:
    config = GeneratorConfig.model_validate(
        {"engine": "openai", "id": "acme-7b", "server": {"base_url": server.url, **settings}}
    )
    built = load_generator(config, embedder=HashingEmbedder())
    assert isinstance(built, OpenAIGenerator)
    return built


def request(text: str = "Who?", **fields: Any) -> GenerationRequest:
    messages = (Message(role="system", content="Be brief."), Message(role="user", content=text))
    return GenerationRequest(messages=messages, question=text, **fields)


def test_an_answer_is_streamed_as_it_comes(server: Server) -> None:
    server.responses = [says("The kil", "n, ", "水温 🙂")]

    deltas = list(generator(server).stream(request()))

    assert [delta.text for delta in deltas] == ["The kil", "n, ", "水温 🙂", ""]
    assert deltas[-1].finish_reason == "stop"
    assert deltas[-1].usage == Usage(prompt_tokens=7, completion_tokens=3)


def test_the_request_is_what_the_protocol_asks_for(server: Server) -> None:
    server.responses = [says("x")]
    one = request(max_new_tokens=9, temperature=0.5, top_p=0.9, seed=4, stop=("END",))

    list(generator(server, api_key="sekret").stream(one))

    body = server.bodies[0]
    assert server.paths == ["/v1/chat/completions"]
    assert server.headers[0]["Authorization"] == "Bearer sekret"
    assert body["model"] == "acme-7b"
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who?"},
    ]
    assert (body["max_tokens"], body["temperature"], body["top_p"]) == (9, 0.5, 0.9)
    assert (body["seed"], body["stream"], body["stop"]) == (4, True, ["END"])


def test_without_a_key_none_is_sent(server: Server) -> None:
    server.responses = [says("x")]

    list(generator(server).stream(request()))

    assert "Authorization" not in server.headers[0]


def test_a_key_is_never_shown(server: Server) -> None:
    server.responses = [refuses(401, {"error": {"message": "bad key"}})]
    config = GeneratorConfig.model_validate(
        {"engine": "openai", "id": "m", "server": {"base_url": server.url, "api_key": "sekret"}}
    )

    with pytest.raises(ModelUnavailable) as caught:
        load_generator(config, embedder=HashingEmbedder()).generate([request()])

    assert "sekret" not in f"{caught.value!r} {caught.value} {config!r} {config.model_dump_json()}"
    assert "api_key" in caught.value.hint


def test_many_answers_come_in_the_order_asked(server: Server) -> None:
    server.responses = [repeats_the_question] * 9
    texts = [f"question {n}" for n in range(9)]

    answers = generator(server, concurrency=4).generate([request(text) for text in texts])

    assert [answer.text for answer in answers] == texts


def test_a_server_that_counts_nothing_is_counted_for(server: Server) -> None:
    server.responses = [says("Thursdays", usage=None)]

    answer = generator(server).generate([request()])[0]

    assert answer.usage.prompt_tokens > 0
    assert answer.usage.completion_tokens > 0


def test_a_cut_answer_says_so_and_a_missing_done_is_no_fault(server: Server) -> None:
    server.responses = [says("The", finish="length", done=False)]

    answer = generator(server).generate([request()])[0]

    assert (answer.text, answer.finish_reason) == ("The", "length")


@pytest.mark.parametrize(
    ("response", "error", "says_what"),
    [
        (refuses(401, {"error": {"message": "bad key"}}), ModelUnavailable, "bad key"),
        (refuses(404, {"error": "no such model"}), ModelUnavailable, "no such model"),
        (refuses(400, {"message": "maximum context length is 8"}), QuestionTooLong, "context"),
        (refuses(400, {"detail": "temperature must be 1"}), GenerationFailed, "must be 1"),
        (refuses(500, b"<h1>oops</h1>"), GenerationFailed, "oops"),
        (refuses(500), GenerationFailed, "500"),
        (breaks_off, GenerationFailed, "in the middle"),
        (fails_inside, GenerationFailed, "CUDA out of memory"),
        (sends_nonsense, GenerationFailed, "not JSON"),
    ],
)
def test_a_failure_is_an_error_that_names_the_server(
    server: Server, response: Respond, error: type[FtiError], says_what: str
) -> None:
    server.responses = [response]

    with pytest.raises(error, match=says_what) as caught:
        generator(server).generate([request()])

    assert server.url in caught.value.message


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again(server: Server, status: int) -> None:
    server.responses = [refuses(status), refuses(status, Retry_After="0"), says("at last")]

    assert generator(server, retries=2).generate([request()])[0].text == "at last"
    assert len(server.bodies) == 3


def test_a_server_that_stays_busy_is_given_up(server: Server) -> None:
    server.responses = [refuses(503, {"error": {"message": "loading"}})] * 3

    with pytest.raises(ServerUnavailable, match="loading") as caught:
        generator(server, retries=2).generate([request()])

    assert server.url in caught.value.message
    assert len(server.bodies) == 3


def test_an_answer_that_has_begun_is_not_asked_for_again(server: Server) -> None:
    server.responses = [breaks_off, says("another")]

    with pytest.raises(GenerationFailed):
        list(generator(server, retries=3).stream(request()))

    assert len(server.bodies) == 1


def test_a_server_that_is_not_there_is_named(server: Server) -> None:
    absent = Server(url="http://127.0.0.1:9/v1")

    with pytest.raises(ModelUnavailable) as caught:
        generator(absent, retries=1).generate([request()])

    assert "http://127.0.0.1:9/v1" in caught.value.message
    assert "base_url" in caught.value.hint


def test_a_server_that_falls_silent_is_a_failure_after_the_timeout(server: Server) -> None:
    server.responses = [says_nothing]

    with pytest.raises(TimedOut, match="ReadTimeout") as caught:
        generator(server, timeout_s=0.2).generate([request()])

    assert "timeout_s" in caught.value.hint


def test_a_server_that_keeps_failing_is_left_alone_until_a_probe_finds_it_well(
    server: Server,
) -> None:
    server.responses = [breaks_off, refuses(500), says("well again"), says("and again")]
    asking = generator(server, retries=0, circuit_failures=2, circuit_open_s=0.3)
    for _ in range(2):
        with pytest.raises(GenerationFailed):
            asking.generate([request()])
    with pytest.raises(ServerUnavailable, match="2 times in a row") as caught:
        asking.generate([request()])
    assert caught.value.retry_after_s == 1
    assert len(server.bodies) == 2, "an open circuit asks nobody"
    time.sleep(0.35)
    assert [asking.generate([request()])[0].text for _ in range(2)] == ["well again", "and again"]


def test_retries_stop_when_the_circuit_opens(server: Server) -> None:
    server.responses = [refuses(503)] * 2
    with pytest.raises(ServerUnavailable, match="503"):
        generator(server, retries=9, circuit_failures=2).generate([request()])
    assert len(server.bodies) == 2


def test_refusals_of_a_server_that_works_do_not_open_the_circuit(server: Server) -> None:
    too_long = refuses(400, {"message": "maximum context length is 8"})
    busy = refuses(429, Retry_After="7")
    server.responses = [too_long, too_long, busy, busy, says("fine")]
    asking = generator(server, retries=0, circuit_failures=2)
    for error in (QuestionTooLong, QuestionTooLong, ServerUnavailable, ServerUnavailable):
        with pytest.raises(error) as caught:
            asking.generate([request()])
    assert isinstance(caught.value, ServerUnavailable)
    assert caught.value.retry_after_s == 7
    assert asking.generate([request()])[0].text == "fine"


def test_a_cancel_ends_the_stream_and_the_servers_work(server: Server) -> None:
    server.responses = [never_ends]
    cancel = threading.Event()
    deltas = []

    for delta in generator(server).stream(request(cancel=cancel)):
        deltas.append(delta)
        if len(deltas) == 3:
            cancel.set()

    assert deltas[-1].finish_reason == "cancelled"
    assert len(deltas) <= 5
    assert server.disconnected.wait(5)


def test_a_cancel_does_not_wait_for_a_silent_server(server: Server) -> None:
    server.responses = [says_nothing]
    cancel = threading.Event()
    threading.Timer(0.1, cancel.set).start()
    started = time.monotonic()

    deltas = list(generator(server).stream(request(cancel=cancel)))

    assert deltas[-1].finish_reason == "cancelled"
    assert time.monotonic() - started < 3


def test_an_abandoned_stream_ends_the_servers_work(server: Server) -> None:
    server.responses = [never_ends]
    stream = generator(server).stream(request())
    next(stream)

    stream.close()

    assert server.disconnected.wait(5)


def test_a_lone_surrogate_travels(server: Server) -> None:
    server.responses = [says("x")]

    generator(server).generate([request("a\ud83d")])

    assert server.bodies[0]["messages"][-1]["content"] == "a\ud83d"


def test_a_named_tokenizer_counts_exactly(server: Server, tiny_lm: Path) -> None:
    counter = generator(server, tokenizer=str(tiny_lm)).counter

    ids = encode_prompt(byte_level_tokenizer(), request().messages)
    assert counter.count(request().messages) == len(ids)


@pytest.mark.parametrize(
    "text",
    ["", "short", "The kiln is fired on Thursdays. " * 20, "水温は二十度です。" * 9, "🙂" * 9],
)
def test_the_estimate_is_on_the_safe_side_and_cuts_within_itself(text: str) -> None:
    counter = EstimatedCounter()
    message = Message(role="user", content=text)

    assert counter.count([message]) >= 8 + len(text) / 3
    for most in (0, 1, 5, 50, 10_000):
        cut = counter.truncate(text, most)
        assert text.startswith(cut)
        assert counter._tokens(cut) <= most
    assert counter.truncate(text, 10_000) == text


def test_the_identity_is_the_models_name(server: Server) -> None:
    built = generator(server, context_tokens=2048)

    assert built.identity.id == "acme-7b"
    assert built.identity.weights_sha256 == ""
    assert built.context_tokens == 2048
