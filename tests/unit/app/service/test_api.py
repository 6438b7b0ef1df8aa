"""The service's own manners: errors, limits, keys, queue, streams."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog.testing
from pydantic import SecretStr

from fti.app.service.api import create_app
from fti.app.service.forms.static_pages import PAGES
from fti.app.service.service_config import ServiceConfig
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.store.errors import GenerationFailed
from fti.store.store import Store
from tests.support.service import (
    Client,
    Scripted,
    add_document,
    assistant_over,
    filled_store,
    serving,
)

QUESTION = "When does the workshop open on Saturdays?"


def body(question: str = QUESTION, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}], **fields}


def post(base: str | Client, payload: Any = None, **options: Any) -> Any:
    payload = body() if payload is None else payload
    if isinstance(base, Client):
        return base.post("/v1/chat/completions", json=payload, **options)
    return httpx.post(f"{base}/v1/chat/completions", json=payload, timeout=30, **options)


def events(text: str) -> list[Any]:
    """The data of a server-sent stream, which must end with [DONE]."""
    blocks = [block.removeprefix("data: ") for block in text.split("\n\n") if block]
    assert blocks[-1] == "[DONE]"
    return [json.loads(block) for block in blocks[:-1]]


def eventually(claim: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not claim():
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path / "store")


@pytest.fixture
def client(store: Store) -> Iterator[Client]:
    with Client(create_app(assistant_over(store), name="reader@champion")) as client:
        yield client


# Answers


def test_an_answer_comes_with_its_citation_and_the_passage_behind_it(client: Client) -> None:
    answer = post(client).json()
    message = answer["choices"][0]["message"]
    assert message["content"] == "The workshop opens at nine on Saturdays. [1]"
    note = message["annotations"][0]["url_citation"]
    assert message["content"][note["start_index"] : note["end_index"]] == "[1]"
    cited = next(s for s in answer["sources"] if s["cited"])
    assert cited["document"] == "handbook/hours.md"
    assert cited["quotes"] == ["The workshop opens at nine on Saturdays"]
    link = client.get(note["url"].removeprefix("http://localhost")).json()
    assert link == client.get(cited["url"].removeprefix("http://localhost")).json()
    assert link["document"] == "handbook/hours.md"
    assert link["text"] == cited["text"]


def test_a_streamed_answer_says_the_same_as_a_whole_one(client: Client) -> None:
    whole = post(client).json()
    streamed = events(post(client, body(stream=True)).text)
    # Links name the answer that they stand in.
    whole = json.loads(json.dumps(whole).replace(whole["id"], streamed[0]["id"]))
    pieces = [c["choices"][0]["delta"].get("content", "") for c in streamed]
    assert "".join(pieces) == whole["choices"][0]["message"]["content"]
    assert streamed[0]["choices"][0]["delta"]["role"] == "assistant"
    last = streamed[-1]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["sources"] == whole["sources"]
    assert (last["abstained"], last["nearest"]) == (False, None)
    notes = [c["choices"][0]["delta"].get("annotations") for c in streamed]
    assert whole["choices"][0]["message"]["annotations"] in notes
    assert len({chunk["id"] for chunk in streamed}) == 1


def test_a_question_that_the_documents_do_not_answer_is_refused_openly(client: Client) -> None:
    answer = post(client, body("xylophone zeppelin quasar")).json()
    assert answer["abstained"] is True
    assert answer["nearest"] is None or answer["nearest"]["words"] == []
    assert answer["choices"][0]["message"]["annotations"] == []


def test_an_answers_lineage_and_feedback_are_kept(client: Client, store: Store) -> None:
    answer = post(client).json()
    lineage = client.get(f"/v1/answers/{answer['id']}").json()
    assert lineage["question"] == QUESTION
    assert lineage["sampling"]["temperature"] == 0
    verdict = {"answer_id": answer["id"], "rating": -1, "correction": " At ten. ", "comment": "no"}
    given = client.post("/v1/feedback", json=verdict)
    assert given.status_code == 201
    (kept,) = store.answers.feedback_of(answer["id"])
    assert (kept.rating, kept.correction, kept.comment) == ("down", "At ten.", "no")
    (shown,) = client.get(f"/v1/answers/{answer['id']}").json()["feedback"]
    assert shown["correction"] == "At ten."
    for wrong in (0, 5, "good", None):
        refused = client.post("/v1/feedback", json={"answer_id": answer["id"], "rating": wrong})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "rating")


def test_a_citation_leads_to_its_passage_with_the_quote_marked_even_after_a_change(
    client: Client, store: Store
) -> None:
    text = "Members come early.\n\nThe ferry leaves at noon, they say.\n\nNobody waits."
    identifier = add_document(store, "/handbook/ferry.md", "Ferry", text)
    answer = post(client, body("When does the ferry leave?")).json()
    note = answer["choices"][0]["message"]["annotations"][0]["url_citation"]
    path = note["url"].removeprefix("http://localhost")
    source = client.get(path).json()
    (quote,) = source["quotes"]
    assert source["text"][quote["start"] : quote["end"]] == "The ferry leaves at noon, they say"
    assert text[source["start"] : source["end"]] == source["text"]
    assert source["before"] == "Members come early.\n\n"
    assert source["after"] == "\n\nNobody waits."
    assert source["standing"] == "stands"
    ((sentence,), marked) = source["evidence"], source["evidence"][0]["words"]
    assert source["text"][sentence["start"] : sentence["end"]] == source["text"]
    assert [source["text"][w["start"] : w["end"]] for w in marked] == ["noon, they say"]
    add_document(store, "/handbook/ferry.md", "Ferry", "The ferry was sold.")
    changed = client.get(path).json()
    assert (changed["standing"], changed["text"]) == ("changed", source["text"])
    assert client.get(path.split("?")[0]).status_code == 404, "no such chunk any more"
    with store.layout.writing("a test"):
        store.features.delete([identifier])
    assert client.get(path).json()["standing"] == "deleted"
    elsewhere = client.get(f"/v1/sources/c-of-another?answer={answer['id']}")
    assert elsewhere.json()["error"]["code"] == "document_not_found"


def test_searches_find_passages_with_their_places(client: Client) -> None:
    found = client.post("/v1/search", json={"query": "How hot is the kiln?", "k": 2}).json()
    first, second = found["passages"]
    assert (first["rank"], first["document"], second["rank"]) == (1, "handbook/kiln.md", 2)
    assert (
        client.get(first["url"].removeprefix("http://localhost")).json()["text"] == (first["text"])
    )
    only = {"query": "kiln", "where": {"title": "Fees"}, "mode": "text"}
    for asked, status in [
        ({"query": "kiln", "mode": "vector", "k": 1}, 200),
        (only, 200),
        ({"query": "kiln", "where": {"colour": "red"}}, 400),
        ({"query": "  "}, 400),
        ({"query": "kiln", "k": 0}, 400),
        ({"query": "kiln", "mode": "magic"}, 400),
        ({}, 400),
    ]:
        response = client.post("/v1/search", json=asked)
        assert response.status_code == status, (asked, response.text)


@pytest.mark.parametrize("value", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-01:00"])
def test_a_date_at_the_edge_of_time_is_a_bad_condition(client: Client, value: str) -> None:
    for condition in (f"ingested_at<{value}", f"date>={value}"):
        refused = client.post("/v1/search", json={"query": "kiln", "where": [condition]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_filter")
        assert value in refused.json()["error"]["message"]


def test_records_that_do_not_exist_are_404(client: Client) -> None:
    assert client.get("/v1/sources/nothing").status_code == 404
    assert client.get("/v1/answers/nothing").status_code == 404
    verdict = {"answer_id": "a-20260101-000000000000", "rating": 1}
    missing = client.post("/v1/feedback", json=verdict)
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "answer_not_found"


def test_the_model_may_be_asked_for_by_its_own_name_and_by_the_alias(client: Client) -> None:
    listed = client.get("/v1/models").json()["data"]
    names = [m["id"] for m in listed if m["kind"] == "llm"]
    assert names == ["reader@champion", "base"]
    assert [m["id"] for m in listed if m["kind"] != "llm"] == [HashingEmbedder().identity.id]
    for name in names:
        assert client.get(f"/v1/models/{name}").json()["id"] == name
        assert post(client, body(model=name)).json()["model"] == "base"


# Errors


@pytest.mark.parametrize(
    ("payload", "status", "code", "param"),
    [
        (body(n=2), 400, "invalid_request", "n"),
        (body(stream=True, tools=[{"type": "function"}]), 400, "invalid_request", "tools"),
        ({"messages": "hello"}, 400, "invalid_request", "messages"),
        ({}, 400, "invalid_request", "messages"),
        ([], 400, "invalid_request", None),
        (body("  \n "), 400, "empty_question", None),
        (body("\u200b"), 400, "empty_question", None),
        (body("\u200b", stream=True), 400, "empty_question", None),
        (body("word " * 2000, stream=True), 400, "question_too_long", None),
        (body(model="gpt-9"), 404, "model_not_found", None),
    ],
)
def test_what_cannot_be_answered_is_an_error_in_openais_form(
    client: Client, payload: Any, status: int, code: str, param: str | None
) -> None:
    response = post(client, payload)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert error["type"] == "invalid_request_error"
    assert error["message"]


def test_a_body_that_is_no_json_is_400(client: Client) -> None:
    for content, kind in [
        (b"{", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b'{"messages": []}', "text/plain"),
        (b"", "application/json"),
    ]:
        response = client.post(
            "/v1/chat/completions", content=content, headers={"content-type": kind}
        )
        assert response.status_code == 400, (content, response.text)
        assert response.json()["error"]["type"] == "invalid_request_error"


def test_unknown_paths_and_methods_have_openais_form_too(client: Client) -> None:
    missing = client.get("/v1/unknown")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    wrong = client.get("/v1/chat/completions")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


def test_a_failure_before_the_first_piece_has_its_own_status(tmp_path: Path) -> None:
    empty = create_app(assistant_over(Store(tmp_path / "store")))
    with Client(empty) as client:
        for stream in (False, True):
            response = post(client, body(stream=stream))
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "store_empty"
            assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("error", "code"), [(GenerationFailed("The model broke off."), "generation_failed"),
                        (ZeroDivisionError("secret detail"), "internal")],
)  # fmt: skip
def test_a_failure_in_the_middle_is_an_error_event_and_the_model_is_free_again(
    store: Store, error: Exception, code: str
) -> None:
    generator = Scripted(fails=error)
    with Client(create_app(assistant_over(store, generator))) as client:
        streamed = events(post(client, body(stream=True)).text)
        # "nine" may go on, as "nineteen" does, until what follows it is seen.
        assert streamed[1]["choices"][0]["delta"]["content"] == "At"
        assert streamed[-1]["error"]["code"] == code
        assert "secret" not in streamed[-1]["error"]["message"]
        whole = post(client)
        assert (whole.status_code, whole.json()["error"]["code"]) == (500, code)
        generator.fails = None
        assert post(client).status_code == 200


# Who may come in, and with how much


def test_every_response_carries_the_security_headers(store: Store) -> None:
    generator = Scripted(fails=ZeroDivisionError())
    app = create_app(assistant_over(store, generator), ServiceConfig(max_body_bytes=1_000))
    with Client(app) as client:
        responses = [
            client.get("/"),
            client.get("/static/chat.js"),
            client.get("/healthz"),
            client.get("/nowhere"),
            post(client, body(n=2)),
            post(client, body(stream=True)),
            post(client),
            post(client, body("x" * 2_000)),
            client.get("/healthz", headers={"content-length": "5000"}),
        ]
    assert [r.status_code for r in responses] == [200, 200, 200, 404, 400, 200, 500, 413, 413]
    for response in responses:
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"


def test_with_keys_everything_but_the_page_and_the_probes_needs_one(store: Store) -> None:
    config = ServiceConfig(api_keys=(SecretStr("first-key"), SecretStr("schlüssel")))
    with Client(create_app(assistant_over(store), config)) as client:
        for path in ("/", "/static/chat.js", "/healthz", "/readyz"):
            assert client.get(path).status_code == 200, path
        for path in ("/v1/models", "/v1/unknown", "/openapi.json", "//v1/models", "/x/v1/models"):
            assert client.get(path).status_code == 401, path
        for sent in (
            "Bearer wrong",
            "Bearer ",
            "first-key",
            "Basic first-key",
            "Bearer first-keyx",
        ):
            response = client.get("/v1/models", headers={"Authorization": sent})
            assert response.status_code == 401, sent
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["error"]["code"] == "invalid_api_key"
        for sent in ("Bearer first-key", "bearer  first-key", "Bearer schlüssel".encode()):
            assert client.get("/v1/models", headers={"Authorization": sent}).status_code == 200


def test_a_body_over_the_limit_is_413_even_when_its_length_is_not_announced(store: Store) -> None:
    app = create_app(assistant_over(store), ServiceConfig(max_body_bytes=2_000))

    def endless() -> Iterator[bytes]:
        yield b'{"messages": [{"role": "user", "content": "'
        for _ in range(100):
            yield b"word " * 20
        yield b'"}]}'

    with serving(app) as base:
        announced = post(base, body("word " * 1_000))
        chunked = httpx.post(
            f"{base}/v1/chat/completions",
            content=endless(),
            headers={"content-type": "application/json"},
        )
        for response in (announced, chunked):
            assert response.status_code == 413
            assert response.json()["error"]["code"] == "body_too_large"
        assert post(base, body("word " * 20)).status_code == 200


# One model, many who ask


def test_who_comes_on_top_of_a_full_queue_is_told_when_to_come_again(store: Store) -> None:
    generator = Scripted(hold=threading.Event())
    app = create_app(assistant_over(store, generator), ServiceConfig(concurrency=1, max_queue=1))
    statuses: list[int] = []
    with serving(app) as base:
        asking = [
            threading.Thread(target=lambda: statuses.append(post(base).status_code))
            for _ in range(2)
        ]
        asking[0].start()
        assert generator.started.wait(10)
        asking[1].start()
        eventually(lambda: app.state.worker.waiting == 1)
        refused = post(base, body(stream=True))
        generator.hold.set()
        for thread in asking:
            thread.join(20)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
    assert int(refused.headers["retry-after"]) > 0
    assert statuses == [200, 200]


def test_a_wait_for_the_model_ends_at_its_time_limit(store: Store) -> None:
    generator = Scripted(hold=threading.Event())
    config = ServiceConfig(concurrency=1, queue_timeout_s=0.05)
    with serving(create_app(assistant_over(store, generator), config)) as base:
        first = threading.Thread(target=post, args=(base,))
        first.start()
        assert generator.started.wait(10)
        response = post(base)
        assert (response.status_code, response.json()["error"]["code"]) == (429, "overloaded")
        generator.hold.set()
        first.join(20)


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_takes_too_long_is_ended_and_the_model_is_free_again(
    store: Store, stream: bool
) -> None:
    generator = Scripted(pieces=["piece "] * 2_000, pace_s=0.01)
    config = ServiceConfig(answer_timeout_s=0.3)
    with serving(create_app(assistant_over(store, generator), config)) as base:
        late = post(base, body(stream=stream))
        error = events(late.text)[-1]["error"] if stream else late.json()["error"]
        assert (late.status_code, error["code"]) == (200 if stream else 504, "timed_out")
        assert generator.cancelled.wait(10)
        generator.pieces = ["done"]
        assert post(base).status_code == 200


def test_the_service_answers_probes_while_the_model_works(store: Store) -> None:
    generator = Scripted(hold=threading.Event())
    with serving(create_app(assistant_over(store, generator))) as base:
        asking = threading.Thread(target=post, args=(base,))
        asking.start()
        assert generator.started.wait(10)
        assert httpx.get(f"{base}/healthz", timeout=5).status_code == 200
        assert httpx.get(f"{base}/readyz", timeout=5).status_code == 200
        generator.hold.set()
        asking.join(20)


def test_pieces_arrive_while_the_answer_is_still_being_made(store: Store) -> None:
    generator = Scripted(pieces=["first"] + [" more"] * 200, pace_s=0.05)
    with (
        serving(create_app(assistant_over(store, generator))) as base,
        httpx.stream("POST", f"{base}/v1/chat/completions", json=body(stream=True)) as response,
    ):
        lines = response.iter_lines()  # kept: letting go of it closes the connection
        assert any("first" in line for line in lines)
        assert not generator.cancelled.is_set()
        assert len(store.answers.list()) == 0


def test_a_client_that_leaves_a_stream_stops_the_generation(store: Store) -> None:
    generator = Scripted(pieces=["piece "] * 2_000, pace_s=0.01)
    with serving(create_app(assistant_over(store, generator))) as base:
        with httpx.stream(
            "POST", f"{base}/v1/chat/completions", json=body(stream=True)
        ) as response:
            next(response.iter_bytes())
        assert generator.cancelled.wait(10)
        eventually(lambda: [a.finish_reason for a in store.answers.list()] == ["cancelled"])
        generator.pieces = ["done"]
        assert post(base).json()["choices"][0]["message"]["content"].startswith("done")


def test_a_client_that_leaves_while_a_whole_answer_is_made_stops_it_too(store: Store) -> None:
    generator = Scripted(pieces=["piece "] * 2_000, pace_s=0.01)
    with serving(create_app(assistant_over(store, generator))) as base:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{base}/v1/chat/completions", json=body(), timeout=httpx.Timeout(10, read=0.5)
            )
        assert generator.cancelled.wait(10)


def test_a_client_that_leaves_the_queue_gives_its_place_free(store: Store) -> None:
    generator = Scripted(hold=threading.Event())
    app = create_app(assistant_over(store, generator), ServiceConfig(concurrency=1, max_queue=1))
    with serving(app) as base:
        first = threading.Thread(target=post, args=(base,))
        first.start()
        assert generator.started.wait(10)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{base}/v1/chat/completions", json=body(), timeout=httpx.Timeout(10, read=0.3)
            )
        eventually(lambda: app.state.worker.waiting == 0)
        generator.hold.set()
        first.join(20)
        assert len(generator.requests) == 1


def test_several_answers_are_made_at_once_where_that_is_configured(store: Store) -> None:
    generator = Scripted(hold=threading.Event())
    app = create_app(assistant_over(store, generator), ServiceConfig(concurrency=2))
    with serving(app) as base:
        threads = [threading.Thread(target=post, args=(base,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(generator.requests) == 2)
        generator.hold.set()
        for thread in threads:
            thread.join(20)


# Documents that come and go


def test_a_service_that_starts_empty_answers_once_documents_are_there(tmp_path: Path) -> None:
    serving_store = Store(tmp_path / "store", read_consistency_s=0.1)
    with Client(create_app(assistant_over(serving_store))) as client:
        assert client.get("/healthz").status_code == 200
        not_yet = client.get("/readyz")
        assert (not_yet.status_code, not_yet.json()["error"]["code"]) == (503, "store_empty")
        filled_store(tmp_path / "store")  # as another process would
        eventually(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/readyz").json() == {"status": "ready", "documents": 3, "chunks": 3}
        assert "nine on Saturdays" in post(client).text


def test_a_document_ingested_while_the_service_runs_is_answered_from(tmp_path: Path) -> None:
    writer = filled_store(tmp_path / "store")
    serving_store = Store(tmp_path / "store", read_consistency_s=0.1)
    question = body("Which colour has the new bicycle shed?")
    with Client(create_app(assistant_over(serving_store))) as client:
        assert "turquoise" not in post(client, question).text
        add_document(writer, "/handbook/shed.md", "Shed", "The new bicycle shed is turquoise.")
        eventually(lambda: "turquoise" in post(client, question).text, within_s=5)


# The page and the log


@pytest.mark.parametrize("path", [*PAGES, "/v1/sources/c1"])
def test_a_page_is_served_without_inline_code(client: Client, path: str) -> None:
    page = client.get(path, headers={"Accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page.text)
    scripts = re.findall(r"<script[^>]*>", page.text)
    assert '<script src="/static/pages.js" type="module">' in scripts
    for script in scripts:
        assert re.fullmatch(r'<script src="/static/[a-z]+\.js" type="module">', script)


def test_the_log_tells_of_answers_and_defects_and_holds_no_text(
    store: Store, logged: list[Any]
) -> None:
    generator = Scripted()
    with Client(create_app(assistant_over(store, generator))) as client:
        answer = post(client).json()
        generator.fails = ZeroDivisionError("a bug")
        post(client)
        post(client, body(stream=True))
    assert "workshop" not in str([{**line, "exc_info": ""} for line in logged])
    requests = [line for line in logged if line["event"] == "request"]
    assert [(r["route"], r["status"]) for r in requests] == [
        ("/v1/chat/completions", status) for status in (200, 500, 200)
    ]
    answered, defect, in_stream = [line for line in logged if line["event"] != "request"]
    assert (answered["event"], answered["id"]) == ("answered", answer["id"])
    assert answered["total_s"] > 0
    for line in (defect, in_stream):
        assert (line["event"], line["log_level"]) == ("defect", "error")
        assert isinstance(line["exc_info"], ZeroDivisionError)


def test_every_response_has_the_requests_id_and_no_forged_one(store: Store) -> None:
    with Client(create_app(assistant_over(store))) as client:
        own = post(client, headers={"X-Request-Id": "from-the-proxy.1"})
        assert own.headers["x-request-id"] == "from-the-proxy.1"
        made = post(client, headers={"X-Request-Id": 'forged"}; '})
        assert re.fullmatch(r"r-[0-9a-f]{12}", made.headers["x-request-id"])
        assert client.get("/nowhere").headers["x-request-id"]


def test_requests_answers_and_tokens_are_counted_by_route_and_model(client: Client) -> None:
    post(client)
    post(client, body("xylophone zeppelin quasar"))
    client.get("/v1/answers/with-some-text")
    client.get("/secret-looking-path")
    text = client.get("/metrics").text
    for line in (
        'fti_requests_total{method="POST",route="/v1/chat/completions",status="200"} 2.0',
        'fti_requests_total{method="GET",route="/v1/answers/{answer_id}",status="404"} 1.0',
        'fti_requests_total{method="GET",route="unmatched",status="404"} 1.0',
        'fti_answers_total{model="base",outcome="stop"} 1.0',
        'fti_answers_total{model="base",outcome="abstained"} 1.0',
        "fti_waiting 0.0",
    ):
        assert line in text, line
    assert 'fti_answer_seconds_count{step="first_token"} 1.0' in text
    assert 'fti_tokens_total{kind="completion",model="base"} ' in text
    assert "secret-looking" not in text


# Keys


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_keys_of_the_store_let_in_until_they_are_revoked(store: Store) -> None:
    with Client(create_app(assistant_over(store))) as client:
        assert client.get("/v1/models").status_code == 200, "no key was made: none is asked for"
        kept, text = store.keys.create("web")
        assert client.get("/v1/models").status_code == 401
        assert client.get("/v1/models", headers=bearer(text)).status_code == 200
        assert client.get("/v1/models", headers=bearer(text[:-1])).status_code == 401
        assert client.get("/v1/models", headers=bearer(kept.digest)).status_code == 401
        store.keys.revoke(kept.id)
        assert client.get("/v1/models", headers=bearer(text)).status_code == 401
        assert client.get("/v1/models").status_code == 401, "the door does not open again"


def test_a_key_that_is_used_too_often_is_told_when_to_come_again(store: Store) -> None:
    _, slow = store.keys.create("slow", requests_per_minute=2)
    _, other = store.keys.create("other")
    with Client(create_app(assistant_over(store))) as client:
        statuses = [client.get("/v1/models", headers=bearer(slow)).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        refused = post(client, headers=bearer(slow))
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert client.get("/v1/models", headers=bearer(other)).status_code == 200


def test_a_read_only_key_cannot_change_documents(store: Store) -> None:
    _, text = store.keys.create("reader", read_only=True)
    with Client(create_app(assistant_over(store))) as client:
        listed = client.get("/v1/documents", headers=bearer(text)).json()["data"]
        path = f"/v1/documents/{listed[0]['id']}"
        assert client.delete(path, headers=bearer(text)).status_code == 403
        upload = {"file": ("x.md", b"# X")}
        assert client.post("/v1/documents", files=upload, headers=bearer(text)).status_code == 403
        assert post(client, headers=bearer(text)).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_site_cannot_act_in_its_visitors_name(client: Client, site: str) -> None:
    sent = {"Sec-Fetch-Site": site}
    files = {"file": ("x.md", b"# X")}
    assert client.post("/v1/documents", files=files, headers=sent).status_code == 403
    assert post(client, headers=sent).status_code == 403
    assert client.get("/healthz", headers=sent).status_code == 200
    assert post(client, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_a_service_that_is_stopped_finishes_the_answers_in_flight(store: Store) -> None:
    generator = Scripted(pieces=["piece"] + [" and more"] * 40, pace_s=0.02)
    seen: list[str] = []
    with serving(create_app(assistant_over(store, generator))) as base:
        reading = threading.Thread(target=lambda: seen.append(post(base, body(stream=True)).text))
        reading.start()
        assert generator.started.wait(10)
    reading.join(20)
    pieces = [c["choices"][0]["delta"].get("content", "") for c in events(seen[0])]
    assert "".join(pieces).count("and more") == 40
