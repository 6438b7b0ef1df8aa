"""Errors of the API say what the client did; what changes no answer's meaning is taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog.testing

from fti.app.service.api import create_app
from fti.app.service.forms.http_errors import STATUS
from fti.store import errors
from tests.support.service import Client, assistant_over, filled_store

ASKED = [{"role": "user", "content": "When does the workshop open?"}]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    store = filled_store(tmp_path_factory.mktemp("messages") / "store")
    with structlog.testing.capture_logs(), Client(create_app(assistant_over(store))) as client:
        yield client


def content(*parts: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize(
    ("path", "body", "says", "param"),
    [
        ("chat/completions", content({"type": "image_url", "image_url": {"url": "x"}}),
         "'image_url'; only text parts are read", "messages[0].content"),
        ("chat/completions", content({"type": "text", "text": "a"}, {"type": "input_audio"}),
         "part 1 is 'input_audio'; only text parts", "messages[0].content"),
        ("chat/completions", content({"type": "refusal", "refusal": "no"}),
         "'refusal'; only text parts", "messages[0].content"),
        ("chat/completions", content({"type": "input_text", "text": "a"}),
         "'input_text'; only text parts", "messages[0].content"),
        ("chat/completions", {"messages": ASKED, "stop": [""]}, "is empty", "stop"),
        ("chat/completions", {"messages": ASKED, "stop": ["x"] * 17}, "17 stop texts; at most 16",
         "stop"),
        ("chat/completions", {"messages": ASKED, "response_format": {"type": "json_object"}},
         "'json_object' is not supported", "response_format.type"),
        ("chat/completions", {"messages": ASKED, "tools": [{"type": "function"}]},
         "cannot be called here", "tools"),
        ("chat/completions", {"messages": ASKED, "n": 2}, "2 answers", "n"),
        ("chat/completions", {"messages": ASKED, "max_tokens": 0}, "greater than or equal to 1",
         "max_tokens"),
        ("chat/completions", {"messages": [{"role": "tool", "content": "x"}]},
         "holds no turn of a user", "messages"),
        ("jobs", {"kind": "dataset", "name": "../x"},
         "'../x' is not a name for a new version", "name"),
        ("jobs", {"kind": "dataset", "name": "x", "cases": "/etc/passwd"},
         "cases: is not known here; leave it out", "cases"),
        ("jobs", {"kind": "dataset"}, "name: Field required", "name"),
        ("embeddings", {"input": [1, 2, 3]}, "token ids are not taken", "input"),
        ("embeddings", {"input": [[1, 2], [3]]}, "token ids are not taken", "input"),
        ("embeddings", {"input": ["a", ""]}, "number 1 of the texts is empty", "input"),
        ("embeddings", {"input": []}, "holds no text", "input"),
        ("embeddings", {"input": ["a"] * 257}, "257 texts; at most 256", "input"),
        ("search", {"query": "x", "where": ["a=b"] * 33}, "33 conditions; at most 32", "where"),
        ("search", {"query": "x", "where": {"a": 1}}, "the value of 'a' is no text", "where"),
        ("search", [], "no JSON object", None),
    ],
)  # fmt: skip
def test_an_error_names_what_the_client_did(
    client: Client, path: str, body: Any, says: str, param: str | None
) -> None:
    refused = client.post(f"/v1/{path}", json=body)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, param), error
    assert says in error["message"]


def test_a_body_that_is_no_json_says_where_or_how_it_was_sent(client: Client) -> None:
    json = {"Content-Type": "application/json"}
    broken = client.post("/v1/search", content=b'{"query": "x" "k": 1}', headers=json)
    assert broken.status_code == 400
    assert "not JSON" in broken.json()["error"]["message"]
    assert "at character 14" in broken.json()["error"]["message"]
    untyped = client.post("/v1/search", content=b'{"query": "x"}')
    assert untyped.status_code == 400
    assert "Content-Type: application/json" in untyped.json()["error"]["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"stop": ""},
        {"stop": []},
        {"max_tokens": -1},
        {"max_tokens": None},
        {"max_completion_tokens": -1},
        {"presence_penalty": 0, "frequency_penalty": 0.0},
        {"tools": [{"type": "function"}], "tool_choice": "none"},
        {"response_format": {"type": "text"}},
        {"messages": [{"role": "user", "content": "And?"}] * 400 + ASKED},
        {"messages": [
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "tool_call_id": "1", "content": [{"type": "image_url"}]},
            *ASKED,
        ]},
    ],
)  # fmt: skip
def test_what_changes_no_meaning_is_taken(client: Client, fields: dict[str, Any]) -> None:
    asked = client.post("/v1/chat/completions", json={"messages": ASKED, **fields})
    assert asked.status_code == 200, asked.text
    assert asked.json()["choices"][0]["message"]["content"]


def test_a_format_of_null_is_the_usual_one(client: Client) -> None:
    made = client.post("/v1/embeddings", json={"input": "a", "encoding_format": None}).json()
    assert isinstance(made["data"][0]["embedding"], list)


#: Errors that commands alone can end with: no route publishes to a hub, or promotes.
OF_COMMANDS = {errors.HubError, errors.GateRefused}


def test_the_description_tells_the_errors_that_occur(client: Client) -> None:
    schema = client.get("/openapi.json").json()
    assert "HTTPValidationError" not in str(schema)
    occur = {str(status) for error, status in STATUS.items() if error not in OF_COMMANDS}
    told: set[str] = set()
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            responses = operation["responses"]
            assert "422" not in responses, path
            assert occur - {"409", "504"} <= responses.keys(), path
            assert ("504" in responses) == ("chat" in operation["tags"]), path
            assert ("408" in responses) == ("requestBody" in operation), path
            assert ("409" in responses) == path.startswith("/v1/jobs"), path
            for status in responses.keys() & {"408", *occur}:
                content = responses[status]["content"]["application/json"]
                assert content["schema"] == {"$ref": "#/components/schemas/Error"}, (path, status)
            told |= responses.keys()
    assert told == occur | {"200", "201", "202", "408"}


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/models", "/v1/documents", "/metrics"])
def test_head_is_get_without_the_body(client: Client, path: str) -> None:
    head, got = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    assert client.head("/v1/nothing").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/documents", "GET, HEAD, POST"),
        ("POST", "/v1/documents/x", "DELETE, GET, HEAD"),
        ("GET", "/v1/search", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("PUT", "/static/chat.js", "GET, HEAD"),
        ("DELETE", "/", "GET, HEAD"),
    ],
)
def test_what_a_path_allows_is_told_in_full(
    client: Client, method: str, path: str, allowed: str
) -> None:
    refused = client.request(method, path)
    assert (refused.status_code, refused.headers["allow"]) == (405, allowed)
    error = refused.json()["error"]
    assert (error["code"], error["type"]) == ("method_not_allowed", "invalid_request_error")
    assert f"which takes {allowed}" in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "instead"),
    [
        ("POST", "/v1/completions", "Perhaps POST /v1/chat/completions is meant."),
        ("POST", "/v1/embedding", "Perhaps POST /v1/embeddings is meant."),
        ("GET", "/v1/model", "Perhaps GET /v1/models is meant."),
        ("POST", "/v1/audio/speech", "There is: "),
        ("DELETE", "/v1", "There is: "),
    ],
)
def test_a_route_that_is_missing_is_answered_with_what_there_is(
    client: Client, method: str, path: str, instead: str
) -> None:
    missing = client.request(method, path)
    error = missing.json()["error"]
    assert (missing.status_code, error["code"]) == (404, "not_found")
    assert (error["type"], error["param"]) == ("invalid_request_error", None)
    assert error["message"].startswith(f"There is no {path!r} here.")
    assert instead in error["message"]
    for there in client.get("/openapi.json").json()["paths"]:
        assert there in error["message"] or not there.startswith("/v1")


def test_another_path_that_is_missing_names_the_pages(client: Client) -> None:
    for path in ("/nowhere", "/static/nothing.js", "/" + "x" * 5_000):
        missing = client.get(path)
        error = missing.json()["error"]
        assert (missing.status_code, error["code"]) == (404, "not_found")
        assert "The pages are /, /docs, /registry" in error["message"]
        assert len(error["message"]) < 300
