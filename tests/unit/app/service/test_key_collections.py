"""A key for certain collections is answered from these, and sees nothing else of the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog.testing

from fti.app.service.api import create_app
from fti.pipelines.engines.embedders.embedding import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.store.errors import InvalidName
from fti.store.store import Store
from tests.support.service import assistant_over
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
        page.write_text(f"# Saturdays at the workshop\n\n{text}\n", "utf-8")
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

    def __init__(self, client: Client, store: Store, *collections: str) -> None:
        _, key = store.keys.create("a test", collections=collections)
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
