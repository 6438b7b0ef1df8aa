"""What keys may do, what they used, what they may use, and what they asked forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fti.app.service.api import create_app
from fti.app.service.service_config import ServiceConfig
from fti.store.answer_types import Feedback, user_digest
from fti.store.store import Store
from fti.store.upkeep.asked_questions import AnswersConfig
from tests.support.service import Client, Scripted, assistant_over, filled_store

MAKES: dict[str, tuple[str, str, Any]] = {
    "ask": ("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hours?"}]}),
    "search": ("POST", "/v1/search", {"query": "hours"}),
    "mcp": ("POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "ping"}),
    "delete": ("DELETE", "/v1/documents/none", None),
    "retry": ("POST", "/v1/documents/none/retry", None),
    "review": ("POST", "/v1/corrections/a-20260101-000000000000", {"decision": "rejected"}),
    "forget": ("POST", "/v1/forget", {"key": "k-none"}),
    "job": ("POST", "/v1/jobs", {"kind": "dataset", "name": "x"}),
    "look": ("GET", "/v1/documents", None),
    "usage": ("GET", "/v1/usage", None),
}
NEEDS = {
    "ask": "ask", "search": "ask", "mcp": "ask", "delete": "write", "retry": "write",
    "review": "review", "forget": "operate", "job": "operate",
}  # fmt: skip

LET_IN = (None, "document_not_found", "answer_not_found", "jobs_not_allowed")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path / "store")


@pytest.fixture
def client(store: Store) -> Iterator[Client]:
    with Client(create_app(assistant_over(store, Scripted()))) as client:
        yield client


class Holder:
    """Whoever holds a key."""

    def __init__(self, client: Client, store: Store, **how: Any) -> None:
        made, text = store.keys.create("a test", **how)
        self.id = made.id
        self._client = client
        self._headers = {"Authorization": f"Bearer {text}"}

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        return self._client.request(method, path, headers=self._headers, json=body)

    def ask(self, **fields: Any) -> Any:
        method, path, body = MAKES["ask"]
        return self(method, path, body | fields)


@pytest.mark.parametrize("role", ["ask", "write", "review", "operate"])
def test_a_role_opens_what_it_is_for_and_nothing_else(
    client: Client, store: Store, role: str
) -> None:
    holder = Holder(client, store, roles=[role])
    for name, request in MAKES.items():
        response = holder(*request)
        code = response.json().get("error", {}) if response.status_code >= 400 else {}
        assert response.status_code != 401, name
        if NEEDS.get(name, role) == role:
            # What is not there, or not offered by this service, was at least let in.
            assert code.get("code") in LET_IN, name
        elif name == "job":
            assert code["code"] == "jobs_not_allowed"
        else:
            assert (response.status_code, code["code"]) == (403, "role_needed"), name
            assert f"needs the role '{NEEDS[name]}'" in code["message"]
            assert "fti keys create" in code["message"]


def test_keys_from_before_there_were_roles_go_on(client: Client, store: Store) -> None:
    old, reader = Holder(client, store), Holder(client, store, read_only=True)
    assert old.ask().status_code == reader.ask().status_code == 200
    assert old("DELETE", "/v1/documents/none").status_code == 404
    assert old(*MAKES["review"]).status_code == 404
    assert reader("DELETE", "/v1/documents/none").json()["error"]["code"] == "read_only_key"
    assert old(*MAKES["forget"]).json()["error"]["code"] == "role_needed"


def test_a_reviewer_sees_what_others_asked_and_old_keys_their_own(
    client: Client, store: Store
) -> None:
    asker = Holder(client, store, roles=["ask"])
    answer = asker.ask().json()["id"]
    store.answers.feedback(Feedback(answer_id=answer, rating="down", correction="At ten."))
    reviewer = Holder(client, store, roles=["review"])
    assert [c["answer_id"] for c in reviewer("GET", "/v1/corrections").json()["data"]] == [answer]
    assert reviewer("GET", f"/v1/answers/{answer}").status_code == 200
    decided = reviewer("POST", f"/v1/corrections/{answer}", {"decision": "accepted"})
    assert decided.json()["state"] == "accepted"
    other = Holder(client, store)
    assert other("GET", "/v1/corrections").json()["data"] == []
    assert other("GET", f"/v1/answers/{answer}").status_code == 404


def test_usage_is_each_keys_own_and_all_for_who_operates(client: Client, store: Store) -> None:
    one, two = Holder(client, store), Holder(client, store)
    one.ask()
    one.ask(stream=True)
    two.ask()
    own = one("GET", "/v1/usage").json()
    assert [k["key"] for k in own["keys"]] == [one.id]
    (whole,) = own["keys"]
    assert whole["requests"] == 3
    assert (whole["prompt_tokens"], whole["completion_tokens"]) == (14, 4)
    assert whole["tokens_today"] == 18
    # Another's are not shown by asking for them.
    asked = one("GET", f"/v1/usage?key={two.id}").json()
    assert [k["key"] for k in asked["keys"]] == [one.id]
    crew = Holder(client, store, roles=["operate"])
    everybody = crew("GET", "/v1/usage").json()
    assert {k["key"] for k in everybody["keys"]} == {one.id, two.id, crew.id}
    assert {k["name"] for k in everybody["keys"]} == {"a test"}
    of_two = crew("GET", f"/v1/usage?key={two.id}&days=1").json()
    assert [(u["key"], u["prompt_tokens"]) for u in of_two["data"]] == [(two.id, 7)]
    assert crew("GET", "/v1/usage?days=0").status_code == 400


def test_embeddings_cost_tokens_too(client: Client, store: Store) -> None:
    holder = Holder(client, store)
    used = holder("POST", "/v1/embeddings", {"input": "the kiln"}).json()["usage"]["prompt_tokens"]
    assert store.usage.today(holder.id).prompt_tokens == used > 0


def test_a_key_that_used_up_its_day_is_told_when_to_come_again(
    client: Client, store: Store
) -> None:
    holder = Holder(client, store, tokens_per_day=10)
    assert holder.ask().status_code == 200  # 9 tokens
    assert holder.ask().status_code == 200  # 18: what is begun below the limit is finished
    refused = holder.ask()
    assert refused.status_code == 429
    error = refused.json()["error"]
    assert (error["code"], error["type"]) == ("quota_exceeded", "rate_limit_error")
    assert "10 tokens a day" in error["message"]
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    assert holder("POST", "/v1/embeddings", {"input": "x"}).status_code == 429
    assert holder("GET", "/v1/usage").status_code == 200
    assert holder(*MAKES["search"]).status_code == 200  # costs none
    assert Holder(client, store).ask().status_code == 200


def test_a_service_has_a_quota_for_keys_without_one(store: Store) -> None:
    config = ServiceConfig(tokens_per_day=1)
    with Client(create_app(assistant_over(store, Scripted()), config)) as client:
        holder, richer = Holder(client, store), Holder(client, store, tokens_per_day=1000)
        assert [holder.ask().status_code for _ in range(2)] == [200, 429]
        assert [richer.ask().status_code for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("name", ["user", "safety_identifier"])
def test_what_a_user_asked_is_forgotten_by_api(client: Client, store: Store, name: str) -> None:
    asker, crew = Holder(client, store), Holder(client, store, roles=["operate"])
    asker.ask(**{name: "anna"})
    kept = asker.ask(**{name: "bert"}).json()["id"]
    told = asker("POST", "/v1/responses", {"input": "Hours?", name: "anna"})
    assert told.json()["status"] == "completed"
    assert store.answers.list()[0].user == user_digest("anna")
    assert crew("POST", "/v1/forget", {"user": "anna", "dry_run": True}).json()["answers"] == 2
    assert crew("POST", "/v1/forget", {"user": "anna"}).json()["answers"] == 2
    assert [answer.id for answer in store.answers.list()] == [kept]
    assert crew("POST", "/v1/forget", {}).status_code == 400


def test_without_keys_only_a_service_of_this_machine_forgets(store: Store) -> None:
    config = ServiceConfig(host="0.0.0.0", allow_anonymous=True, allowed_hosts=("*",))
    with Client(create_app(assistant_over(store), config)) as client:
        refused = client.post("/v1/forget", json={"user": "anna"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "role_needed")
    with Client(create_app(assistant_over(store))) as client:
        assert client.post("/v1/forget", json={"user": "anna"}).json()["answers"] == 0
        assert client.get("/v1/usage").json()["keys"][0]["key"] == ""


def test_the_service_removes_what_is_too_old(store: Store) -> None:
    with Client(create_app(assistant_over(store, Scripted()))) as client:
        client.post(*MAKES["ask"][1:2], json=MAKES["ask"][2])
    (today,) = store.layout.answers.glob("2*.jsonl")
    today.rename(today.with_name("2020-01-01.jsonl"))
    config = AnswersConfig(retention_days=30)
    with Client(create_app(assistant_over(store), answers=config)) as client:
        for _ in range(600):
            client.get("/healthz")
            if not list(store.layout.answers.glob("2*.jsonl")):
                break
    assert list(store.layout.answers.glob("2*.jsonl")) == []
