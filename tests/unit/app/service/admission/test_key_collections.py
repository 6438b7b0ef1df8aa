"""A key for certain collections is answered from these, and sees nothing else of the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog.testing

from fti.app.service.api import create_app
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.store.errors import InvalidName
from fti.store.store import Store
from tests.support.service import Client, assistant_over

TEXTS = {
    "public": "The workshop opens at nine on Saturdays.",
    "staff": "The workshop alarm code is 4711 on Saturdays.",
    "": "The workshop was founded by smugglers on Saturdays.",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("collections")
    store = Store(folder / "store")
    for collection, text in TEXTS.items():
        page = folder / f"{collection or 'loose'}.md"
        facts = "---\nvault: open\n---\n" if collection == "staff" else ""
        page.write_text(f"{facts}# Saturdays at the workshop\n\n{text}\n", "utf-8")
        ingest(
            [str(page)],
            store=store,
            embedder=HashingEmbedder(),
            config=FeatureConfig(),
            collection=collection or None,
        )
    return store


class Caller:
    """A client with a key for some collections."""

    def __init__(
        self, client: Client, store: Store, *collections: str, read_only: bool = False
    ) -> None:
        made, key = store.keys.create("a test", collections=collections, read_only=read_only)
        self.id = made.id
        self._client = client
        self._headers = {"Authorization": f"Bearer {key}"}

    def __call__(self, method: str, path: str, **options: Any) -> Any:
        return self._client.request(method, path, headers=self._headers, **options)

    def ask(self, question: str, **fields: Any) -> Any:
        body = {"messages": [{"role": "user", "content": question}], **fields}
        return self("POST", "/v1/chat/completions", json=body)

    def search(self, **fields: Any) -> Any:
        return self("POST", "/v1/search", json={"query": "workshop on Saturdays", **fields})


@pytest.fixture
def client(store: Store) -> Iterator[Client]:
    with structlog.testing.capture_logs(), Client(create_app(assistant_over(store))) as client:
        yield client


def test_answers_and_searches_keep_to_the_keys_collections(client: Client, store: Store) -> None:
    for own, others in (("public", ("4711", "smugglers")), ("staff", ("nine", "smugglers"))):
        caller = Caller(client, store, own)
        answer = caller.ask("What of the workshop alarm code on Saturdays?").json()
        assert [s["text"].count(TEXTS[own]) for s in answer["sources"]] == [1]
        found = caller.search(k=10).json()["passages"]
        assert len(found) == 1
        streamed = caller.ask("What of the workshop on Saturdays?", stream=True).text
        for word in others:
            assert word not in f"{answer} {found} {streamed}"
    both = Caller(client, store, "public", "staff").search(k=10).json()["passages"]
    assert len(both) == 2
    everything = Caller(client, store).search(k=10).json()["passages"]
    assert len(everything) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_records_which_key_asked(client: Client, store: Store, stream: bool) -> None:
    caller = Caller(client, store, "public")
    caller.ask("What of the workshop on Saturdays?", stream=stream)
    (kept,) = store.answers.list(limit=1)
    assert kept.key == caller.id
    assert kept.key in [key.id for key in store.keys.list()]


def test_feedback_and_hints_are_for_the_key_that_asked(client: Client, store: Store) -> None:
    staff, public = Caller(client, store, "staff"), Caller(client, store, "public")
    whole, other = Caller(client, store), Caller(client, store)
    asked = "What is the workshop alarm code on Saturdays?"
    answers = {c: c.ask(asked).json()["id"] for c in (staff, public, whole, other)}
    unknown = "a-20260101-000000000000"
    for caller, own in answers.items():
        for identifier in (unknown, *answers.values()):
            body = {"answer_id": identifier, "rating": -1, "correction": "It is 0000."}
            given = caller("POST", "/v1/feedback", json=body)
            assert given.status_code == (201 if identifier == own else 404)
            foreign = {*answers.values()} - {own, identifier}
            assert not any(each in given.text for each in foreign)
            if identifier != own:
                assert given.json()["error"]["code"] == "answer_not_found"
                expected = given.json()["error"]["message"].replace(identifier, unknown)
                assert expected == hint_for(caller, unknown), "unknown and foreign look the same"
    judged = [f.answer_id for f in store.answers.all_feedback()]
    assert sorted(judged) == sorted(answers.values())
    assert {c.answer.id for c in store.answers.corrections("pending")} == set(answers.values())


def hint_for(caller: Caller, identifier: str) -> str:
    body = {"answer_id": identifier, "rating": 1}
    message: str = caller("POST", "/v1/feedback", json=body).json()["error"]["message"]
    return message


def test_a_trace_is_for_the_key_that_asked(client: Client, store: Store) -> None:
    whole, other = Caller(client, store), Caller(client, store)
    answer = whole.ask("What is the workshop alarm code on Saturdays?").json()
    path = f"/v1/answers/{answer['id']}"
    url = answer["sources"][0]["url"].removeprefix("http://localhost")
    assert whole("GET", path).json()["question"].startswith("What is the workshop")
    assert whole("GET", url).json()["text"] == answer["sources"][0]["text"]
    for hidden in (path, url):
        refused = other("GET", hidden)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "answer_not_found")
        assert "4711" not in refused.text
    assert other("GET", url.partition("?")[0]).status_code == 200, "it may see all documents"


def test_an_answer_that_no_key_asked_is_for_keys_of_the_whole_store(
    client: Client, store: Store
) -> None:
    """Such as one of a command, or of before there were keys."""
    made = assistant_over(store).answer("What is the workshop alarm code on Saturdays?")
    assert made.key == ""
    assert Caller(client, store)("GET", f"/v1/answers/{made.id}").status_code == 200
    for caller, status in ((Caller(client, store), 201), (Caller(client, store, "public"), 404)):
        body = {"answer_id": made.id, "rating": 1}
        assert caller("POST", "/v1/feedback", json=body).status_code == status


def test_a_read_only_key_gives_no_feedback(client: Client, store: Store) -> None:
    reader = Caller(client, store, read_only=True)
    answer = reader.ask("When does the workshop open on Saturdays?").json()
    refused = reader("POST", "/v1/feedback", json={"answer_id": answer["id"], "rating": 1})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "read_only_key")
    assert "feedback" in refused.json()["error"]["message"]
    assert reader("GET", f"/v1/answers/{answer['id']}").status_code == 200
    assert not store.answers.feedback_of(answer["id"])


def test_an_error_names_nothing_of_other_collections(client: Client, store: Store) -> None:
    public, to_come = Caller(client, store, "public"), Caller(client, store, "to-come")
    everything = Caller(client, store)
    assert "vault" in everything.search(where={"colour": "red"}).json()["error"]["message"]
    for key in ("vault", "colour"):
        refused = public.search(where={key: "red"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_filter")
        assert "vault" not in refused.json()["error"]["message"].replace(f"no '{key}'", "")
    missing = to_come.search(collection="to-come")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "collection_not_found")
    assert "staff" not in missing.text
    assert "public" not in missing.text


def test_filters_cannot_reach_beyond_the_keys_collections(client: Client, store: Store) -> None:
    caller = Caller(client, store, "public")
    for where in (["collection=staff"], {"collection": "staff"}, ["collection!=public"]):
        assert caller.search(where=where).json()["passages"] == []
    refused = caller.search(collection="staff")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "outside_collections")
    assert len(caller.search(collection="public").json()["passages"]) == 1


def test_sources_open_within_the_collections_only(client: Client, store: Store) -> None:
    staff, public = Caller(client, store, "staff"), Caller(client, store, "public")
    answer = staff.ask("What is the workshop alarm code on Saturdays?").json()
    url = answer["sources"][0]["url"].removeprefix("http://localhost")
    assert "4711" in staff("GET", url).json()["text"]
    for path in (url, url.partition("?")[0], "/v1/sources/nothing"):
        hidden = public("GET", path)
        assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "document_not_found")
        assert "4711" not in hidden.text
        assert answer["id"] not in hidden.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/documents"),
        ("POST", "/v1/documents"),
        ("DELETE", "/v1/documents/x"),
        ("GET", "/v1/answers/a-20260101-000000000000"),
        ("GET", "/v1/registry/runs"),
        ("GET", "/v1/corrections"),
        ("POST", "/v1/corrections/a-20260101-000000000000"),
        ("GET", "/v1/documents/x/lineage"),
        ("POST", "/v1/documents/x/retry"),
        ("GET", "/metrics"),
    ],
)
def test_what_is_about_the_whole_store_is_refused(
    client: Client, store: Store, method: str, path: str
) -> None:
    refused = Caller(client, store, "public")(method, path)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "outside_collections")
    assert "public alone" in refused.json()["error"]["message"]


def test_a_collection_without_documents_answers_nothing(client: Client, store: Store) -> None:
    caller = Caller(client, store, "to-come")
    answer = caller.ask("When does the workshop open on Saturdays?").json()
    assert answer["abstained"] is True
    assert answer["sources"] == []
    assert caller.search().json()["passages"] == []
    with pytest.raises(InvalidName, match="not a name for a collection"):
        store.keys.create("x", collections=["../x"])


def test_a_chat_is_kept_within_what_it_names_and_its_key_may_see(
    client: Client, store: Store
) -> None:
    asked = "What of the workshop on Saturdays?"

    def shown(caller: Caller, **fields: Any) -> set[str]:
        answer = caller.ask(asked, **fields).json()
        return {name for s in answer["sources"] for name, t in TEXTS.items() if t in s["text"]}

    whole, both = Caller(client, store), Caller(client, store, "public", "staff")
    assert shown(whole) == {"public", "staff", ""}
    assert shown(whole, collection="staff") == {"staff"}
    assert shown(whole, where=["collection in public, staff"]) == {"public", "staff"}
    assert shown(whole, where={"collection": "public"}) == {"public"}
    (kept,) = store.answers.list(limit=1)
    assert (kept.where, kept.collections) == (('collection="public"',), ())
    assert shown(both) == {"public", "staff"}
    assert shown(both, collection="public") == {"public"}
    (kept,) = store.answers.list(limit=1)
    assert kept.collections == ("public",)
    assert shown(Caller(client, store, "public"), where={"collection": "staff"}) == set()
    outside = Caller(client, store, "public").ask(asked, collection="staff")
    assert (outside.status_code, outside.json()["error"]["code"]) == (403, "outside_collections")
    assert whole.ask(asked, collection="barns").status_code == 404
    assert whole.ask(asked, where=["nonsense"]).status_code == 400
    assert whole.ask(asked, where=[1]).status_code == 400


def test_a_chat_may_be_about_an_earlier_version_but_not_by_a_key_of_collections(
    client: Client, store: Store
) -> None:
    first = min(v.version for v in store.features.history.versions())
    asked = "What of the workshop on Saturdays?"
    whole = Caller(client, store)
    answer = whole.ask(asked, at=str(first)).json()
    assert [TEXTS["public"] in s["text"] for s in answer["sources"]] == [True]
    (kept,) = store.answers.list(limit=1)
    assert kept.features_version == first
    assert whole.ask(asked, at="no-tag").status_code == 404
    refused = Caller(client, store, "public").ask(asked, at=str(first))
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "outside_collections")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/search"])
def test_every_way_of_asking_is_kept_within_what_it_names(
    client: Client, store: Store, path: str
) -> None:
    asked = "What of the workshop on Saturdays?"
    body = {"query": asked, "input": asked, "messages": [{"role": "user", "content": asked}]}
    whole, public = Caller(client, store), Caller(client, store, "public")
    first = min(v.version for v in store.features.history.versions())

    def shown(caller: Caller, **fields: Any) -> set[str]:
        got = caller("POST", path, json={**body, **fields}).json()
        found = got["passages"] if path == "/v1/search" else got["sources"]
        return {name for s in found for name, t in TEXTS.items() if t in s["text"]}

    def refused(caller: Caller, **fields: Any) -> tuple[int, str]:
        got = caller("POST", path, json={**body, **fields})
        return got.status_code, got.json()["error"]["code"]

    assert shown(whole) == set(TEXTS)
    assert shown(whole, collection="staff") == {"staff"}
    assert shown(whole, where=["collection in public, staff"]) == {"public", "staff"}
    assert shown(whole, where={"document": "staff.md"}) == {"staff"}
    assert shown(whole, at=str(first)) == {"public"}
    assert shown(whole, collection=None, where=None, at=None) == set(TEXTS)
    assert shown(public, where={"collection": "staff"}) == set()
    assert refused(public, collection="staff") == (403, "outside_collections")
    assert refused(public, at=str(first)) == (403, "outside_collections")
    assert refused(whole, collection="barns") == (404, "collection_not_found")
    assert refused(whole, collection="staff", at=str(first)) == (404, "collection_not_found")
    assert refused(whole, at="no-tag") == (404, "version_not_found")
    assert refused(whole, where=["nonsense"]) == (400, "invalid_filter")
    assert refused(whole, where=3) == (400, "invalid_request")


def test_another_keys_answers_are_not_shown_to_who_reviews_or_traces(
    client: Client, store: Store
) -> None:
    mine, other = Caller(client, store), Caller(client, store)
    answer = mine.ask("What of the workshop on Saturdays?").json()
    given = {"answer_id": answer["id"], "rating": -1, "correction": "At ten."}
    assert mine("POST", "/v1/feedback", json=given).status_code == 201
    assert answer["id"] in mine("GET", "/v1/corrections").text
    assert answer["id"] not in other("GET", "/v1/corrections").text
    path = f"/v1/corrections/{answer['id']}"
    assert other("POST", path, json={"decision": "accepted"}).status_code == 404
    reader = Caller(client, store, read_only=True)
    assert reader("POST", path, json={"decision": "accepted"}).status_code == 403
    document = answer["sources"][0]["document_id"]
    seen = [c("GET", f"/v1/documents/{document}/lineage").text for c in (mine, other)]
    assert [answer["id"] in text for text in seen] == [True, False]
