"""What open-webui and LibreChat send, as their public sources have it, and what they read of it.

The fixtures under ``front_ends/`` have these clients' fields; the prompts in them are ours, and of
the same form. Each names the sources that were read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog.testing

from fti.app.service.api import create_app
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.inference.answering.plain_model import PlainAssistant
from fti.store.store import Store
from tests.support.service import Scripted, assistant_over, filled_store, serving
from tests.unit.app.service.test_api import events

FOLDER = Path(__file__).parent / "front_ends"
CLIENTS = {path.stem: json.loads(path.read_text("utf-8")) for path in FOLDER.glob("*.json")}
ASKED = [(client, name) for client, held in CLIENTS.items() for name in held["requests"]]
#: What the model says by itself: as it would be asked for, and a marker that is no citation.
SAID = '{ "title": "Saturday Hours [1]" }'


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled_store(tmp_path_factory.mktemp("front_ends") / "store")


@pytest.fixture(scope="module")
def model() -> Scripted:
    return Scripted(pieces=[SAID[:9], SAID[9:]])


@pytest.fixture(scope="module")
def address(store: Store, model: Scripted) -> Iterator[str]:
    base = assistant_over(store)
    plain = PlainAssistant(store, base.retriever.embedder, model, base.config)
    app = create_app(
        base, build=lambda ref: {"plain": plain}[ref], built_in=("base", "extractive", "plain")
    )
    with structlog.testing.capture_logs(), serving(app) as address:
        yield address


def send(address: str, client: str, body: dict[str, Any]) -> httpx.Response:
    headers = CLIENTS[client]["headers"]
    return httpx.post(f"{address}/v1/chat/completions", json=body, headers=headers, timeout=30)


def test_both_front_ends_are_here_and_say_what_was_read() -> None:
    assert set(CLIENTS) == {"open_webui", "librechat"}
    for held in CLIENTS.values():
        assert "/" in held["read"]
        assert {"chat", "title"} <= held["requests"].keys()
    assert {"tags", "follow-ups"} <= CLIENTS["open_webui"]["requests"].keys()


@pytest.mark.parametrize("client", CLIENTS)
def test_the_list_of_models_has_what_a_chooser_shows(address: str, client: str) -> None:
    held = CLIENTS[client]
    listed = httpx.get(f"{address}{held['models']}", headers=held["headers"], timeout=30).json()
    assert listed["object"] == "list"
    ids = [model["id"] for model in listed["data"]]
    assert ids[0] == "base"
    assert "plain" in ids
    assert ids[-1] == HashingEmbedder().identity.id
    for model in listed["data"]:
        assert model["object"] == "model"
        assert isinstance(model["created"], int)
        assert model["owned_by"] != "ollama", "open-webui would ask such a one in another way"
        assert "name" not in model or model["name"]


@pytest.mark.parametrize(("client", "name"), ASKED)
def test_a_request_is_answered_in_the_form_that_its_client_reads(
    address: str, model: Scripted, client: str, name: str
) -> None:
    body = CLIENTS[client]["requests"][name]
    before = len(model.requests)
    answered = send(address, client, body)
    assert answered.status_code == 200, answered.text
    if body["stream"]:
        chunks = events(answered.text)
        text = "".join(
            c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]
        )
        assert text == "The workshop opens at nine on Saturdays. [1]"
        assert chunks[-1]["usage"]["total_tokens"] > 0
        notes = [
            note
            for chunk in chunks
            for choice in chunk["choices"]
            for note in choice["delta"].get("annotations", ())
        ]
        assert [note["type"] for note in notes] == ["url_citation"]
        assert notes[0]["url_citation"]["url"].startswith(address)
        assert len(model.requests) == before
        return
    said = answered.json()
    assert said["choices"][0]["message"]["content"] == SAID
    assert said["choices"][0]["finish_reason"] == "stop"
    assert (said["model"], said["sources"], said["abstained"]) == ("plain", [], False)
    asked = model.requests[-1]
    assert [m.role for m in asked.messages] == ["user"]
    assert asked.messages[0].content == body["messages"][0]["content"], "word for word"
    most = body.get("max_completion_tokens", body.get("max_tokens"))
    assert most is None or asked.max_new_tokens <= most


@pytest.mark.parametrize("client", [c for c, held in CLIENTS.items() if held.get("refused")])
def test_what_would_need_another_kind_of_answer_is_refused_with_the_field(
    address: str, client: str
) -> None:
    for body in CLIENTS[client]["refused"].values():
        refused = send(address, client, body)
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "response_format.type"
