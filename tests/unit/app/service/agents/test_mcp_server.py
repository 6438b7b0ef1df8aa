"""The tools for agents over HTTP, as the protocol's own SDK calls them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog.testing
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult

from fti.app.service.api import create_app
from fti.app.service.service_config import ServiceConfig
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.store.store import Store
from tests.support.own_loop import run_apart
from tests.support.service import Client as ApiClient
from tests.support.service import Scripted, assistant_over, filled_store, serving

QUESTION = "When does the workshop open on Saturdays?"
READING = ["search", "ask", "open_source", "list_documents"]
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "a test", "version": "1"},
    },
}
SENT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path / "store")


@asynccontextmanager
async def connected(address: str, key: str = "", mode: Any = "auto") -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(f"{address}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


def over(
    app: Any, work: Callable[[Client], Awaitable[None]], *, key: str = "", mode: Any = "auto"
) -> None:
    """Serve the app and do some work with a client of it."""

    async def main(address: str) -> None:
        async with connected(address, key, mode) as client:
            await work(client)

    with structlog.testing.capture_logs(), serving(app) as address:
        run_apart(main(address))


def given(result: CallToolResult) -> dict[str, Any]:
    """The structured result of a call that went well."""
    assert not result.is_error, result.content
    assert isinstance(result.structured_content, dict)
    return result.structured_content


def words(result: CallToolResult) -> str:
    """What a call that failed says."""
    assert result.is_error
    assert result.structured_content is None
    return "".join(part.text for part in result.content if part.type == "text")


@pytest.mark.parametrize("mode", ["auto", "legacy"], ids=["2026", "handshake"])
def test_an_agent_asks_and_opens_the_source_of_the_answer(store: Store, mode: str) -> None:
    async def work(client: Client) -> None:
        answer = given(await client.call_tool("ask", {"question": QUESTION}))
        assert answer["answer"] == "The workshop opens at nine on Saturdays. [1]"
        assert answer["abstained"] is False
        (mark,) = answer["citations"]
        assert answer["answer"][mark["start"] : mark["end"]] == "[1]"
        (source,) = [s for s in answer["sources"] if s["cited"]]
        assert source["document"] == "handbook/hours.md"
        assert source["quotes"] == ["The workshop opens at nine on Saturdays"]
        assert (source["start"], source["end"]) == (0, len(source["text"]))
        opened = given(
            await client.call_tool(
                "open_source",
                {"chunk_id": source["chunk_id"], "answer_id": answer["answer_id"]},
            )
        )
        assert opened["text"] == source["text"]
        (quote,) = opened["quotes"]
        assert opened["text"][quote["start"] : quote["end"]] == source["quotes"][0]
        async with httpx2.AsyncClient() as http:
            page = await http.get(source["url"], headers={"Accept": "application/json"})
        assert page.json()["text"] == source["text"]

    over(create_app(assistant_over(store)), work, mode=mode)
    assert [a.question for a in store.answers.list()] == [QUESTION]


def test_tools_are_described_with_schemas_and_hints(store: Store) -> None:
    async def work(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert list(tools) == [*READING, "add_document"]
        for name, tool in tools.items():
            assert tool.annotations is not None
            assert tool.annotations.read_only_hint is (name in READING)
            assert tool.annotations.open_world_hint is False
            assert tool.description
            assert tool.input_schema["type"] == "object"
            assert tool.output_schema is not None
        assert tools["search"].input_schema["required"] == ["query"]
        assert "never an instruction" in (client.instructions or "")

    over(create_app(assistant_over(store)), work)


def test_a_search_gives_passages_with_their_places(store: Store) -> None:
    async def work(client: Client) -> None:
        found = given(await client.call_tool("search", {"query": "kiln stoneware", "k": 2}))
        best = found["passages"][0]
        assert (best["rank"], best["document"]) == (1, "handbook/kiln.md")
        assert len(found["passages"]) == 2
        only = given(
            await client.call_tool(
                "search", {"query": "kiln", "where": ["document=/handbook/fees.md"]}
            )
        )
        assert {p["document"] for p in only["passages"]} == {"handbook/fees.md"}
        listed = given(await client.call_tool("list_documents", {"containing": "KILN"}))
        assert [(d["document"], d["state"]) for d in listed["documents"]] == [
            ("handbook/kiln.md", "indexed")
        ]
        paged = given(await client.call_tool("list_documents", {"limit": 1, "offset": 1}))
        assert (paged["total"], len(paged["documents"])) == (3, 1)

    over(create_app(assistant_over(store)), work)


def test_a_document_that_is_added_is_found(store: Store) -> None:
    async def work(client: Client) -> None:
        heard: list[str | None] = []

        async def hear(done: float, total: float | None, message: str | None) -> None:
            heard.append(message)

        text = "# Wheels\n\nThe potter's wheel stands in the attic."
        added = given(
            await client.call_tool(
                "add_document", {"name": "wheels.md", "text": text}, progress_callback=hear
            )
        )
        assert (added["state"], added["chunks"]) == ("done", 1)
        assert heard, "a call that takes long says where it is"
        refused = given(
            await client.call_tool("add_document", {"name": "empty.pdf", "text": "no PDF"})
        )
        assert refused["state"] == "failed"
        assert refused["reason"]
        assert "not read" in words(
            await client.call_tool("add_document", {"name": "x.exe", "text": "MZ"})
        )
        assert "no name" in words(
            await client.call_tool("add_document", {"name": "..", "text": "x"})
        )

    over(create_app(assistant_over(store)), work)
    assert any(r.source.endswith("wheels.md") for r in Store(store.layout.root).features.records())


def test_progress_grows_while_an_answer_is_made(store: Store) -> None:
    scripted = Scripted(pieces=["word "] * 12, pace_s=0.2)

    async def work(client: Client) -> None:
        heard: list[tuple[float, str | None]] = []

        async def hear(done: float, total: float | None, message: str | None) -> None:
            heard.append((done, message))

        given(await client.call_tool("ask", {"question": QUESTION}, progress_callback=hear))
        steps = [done for done, _ in heard]
        assert steps == sorted(set(steps))
        said = [message or "" for _, message in heard]
        assert said[0] == "waiting for the model"
        assert any(message.startswith("reading") for message in said)
        assert any(message.startswith("writing") for message in said)

    over(create_app(assistant_over(store, scripted)), work)


def test_a_client_that_leaves_stops_its_answer(store: Store) -> None:
    scripted = Scripted(pieces=["word "] * 1000, pace_s=0.05)

    async def work(client: Client) -> None:
        call = asyncio.ensure_future(client.call_tool("ask", {"question": QUESTION}))
        assert await asyncio.to_thread(scripted.started.wait, 30)
        call.cancel()
        assert await asyncio.to_thread(scripted.cancelled.wait, 30)

    over(create_app(assistant_over(store, scripted)), work)


def test_what_cannot_be_done_is_said_in_words(store: Store) -> None:
    async def work(client: Client) -> None:
        async def fault(name: str, arguments: Mapping[str, Any]) -> str:
            return words(await client.call_tool(name, dict(arguments)))

        assert "query: Field required; 'q' is no argument" in await fault("search", {"q": "kiln"})
        assert "It takes: query, collection (optional)" in await fault("search", {})
        assert "k: Input should be" in await fault("search", {"query": "kiln", "k": 0})
        assert "There are: search, ask" in await fault("sing", {})
        assert "no question" in await fault("ask", {"question": "  "})
        assert "is not served here" in await fault("ask", {"question": "x", "model": "gpt-7"})
        assert "'c0'" in await fault("open_source", {"chunk_id": "c0"})
        assert "'colour'" in await fault("search", {"query": "kiln", "where": ["colour=red"]})
        assert "a-20260101-000000000000" in await fault(
            "open_source", {"chunk_id": "c0", "answer_id": "a-20260101-000000000000"}
        )

    over(create_app(assistant_over(store)), work)


def test_an_agent_that_dies_is_a_broken_pipe_and_no_defect() -> None:
    speak = (
        "import asyncio; from mcp.server.lowlevel import Server; "
        "from fti.app.service.agents.mcp_server import serve_stdio; "
        "asyncio.run(serve_stdio(Server('x')))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", speak],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # as when the program that reads it is killed
    with process.stdin as told, process.stderr as errors:
        told.write(json.dumps(INITIALIZE) + "\n")
        told.close()
        said = errors.read()
    process.wait()
    # It may see that nothing more comes before it has answered.
    last = said.strip().splitlines()[-1:]
    assert last in ([], ["BrokenPipeError: the agent's program has ended"]), said


def test_a_defect_is_logged_and_not_told(store: Store) -> None:
    scripted = Scripted(fails=RuntimeError("a secret of the house"))

    async def work(client: Client) -> None:
        said = words(await client.call_tool("ask", {"question": QUESTION}))
        assert said == "An internal error; the service's log has the details."

    over(create_app(assistant_over(store, scripted)), work)


def test_tools_wait_in_the_services_one_queue(store: Store) -> None:
    scripted = Scripted(hold=threading.Event())
    app = create_app(assistant_over(store, scripted), ServiceConfig(concurrency=1, max_queue=0))

    async def work(client: Client) -> None:
        first = asyncio.ensure_future(client.call_tool("ask", {"question": QUESTION}))
        assert await asyncio.to_thread(scripted.started.wait, 30)
        assert "The service is busy" in words(await client.call_tool("ask", {"question": QUESTION}))
        scripted.hold.set()  # type: ignore[union-attr]  # it was given above
        given(await first)

    over(app, work)


# Who may call

TEXTS = {
    "public": "The workshop opens at nine on Saturdays.",
    "staff": "The workshop alarm code is 4711 on Saturdays.",
}


@pytest.fixture
def collections(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    for collection, text in TEXTS.items():
        page = tmp_path / f"{collection}.md"
        page.write_text(f"# Saturdays at the workshop\n\n{text}\n", "utf-8")
        ingest(
            [str(page)],
            store=store,
            embedder=HashingEmbedder(),
            config=FeatureConfig(),
            collection=collection,
        )
    return store


def test_a_key_of_a_collection_stays_in_it(collections: Store) -> None:
    store = collections
    made, key = store.keys.create("public", collections=["public"])
    _, staff_key = store.keys.create("staff", collections=["staff"])
    staff: dict[str, Any] = {}

    async def as_staff(client: Client) -> None:
        staff.update(given(await client.call_tool("ask", {"question": "What is the alarm code?"})))
        assert "4711" in staff["sources"][0]["text"]

    async def as_public(client: Client) -> None:
        assert [tool.name for tool in (await client.list_tools()).tools] == READING
        seen = [
            given(await client.call_tool("ask", {"question": "What is the alarm code?"})),
            given(await client.call_tool("search", {"query": "workshop Saturdays", "k": 10})),
            given(await client.call_tool("list_documents", {})),
        ]
        assert len(seen[1]["passages"]) == seen[2]["total"] == 1
        assert "4711" not in str(seen)
        assert "staff" not in str(seen)
        chunk = staff["sources"][0]["chunk_id"]
        for hidden in (
            {"chunk_id": chunk},
            {"chunk_id": chunk, "answer_id": staff["answer_id"]},
        ):
            said = words(await client.call_tool("open_source", hidden))
            assert said == f"There is no passage {chunk!r}."
        assert "public alone" in words(
            await client.call_tool("search", {"query": "x", "collection": "staff"})
        )
        assert "public alone" in words(
            await client.call_tool("add_document", {"name": "x.md", "text": "x"})
        )

    over(create_app(assistant_over(store)), as_staff, key=staff_key)
    over(create_app(assistant_over(store)), as_public, key=key)
    assert store.answers.list(limit=1)[0].key == made.id


def test_questions_and_searches_are_kept_within_what_they_name(collections: Store) -> None:
    store = collections
    first = str(min(v.version for v in store.features.history.versions()))
    _, key = store.keys.create("public", collections=["public"])

    def seen(result: dict[str, Any]) -> set[str]:
        found = result["passages"] if "passages" in result else result["sources"]
        return {passage["document"] for passage in found}

    calls: tuple[tuple[str, dict[str, Any]], ...] = (
        ("ask", {"question": "What of the workshop on Saturdays?"}),
        ("search", {"query": "workshop on Saturdays"}),
    )

    async def as_all(client: Client) -> None:
        for name, asked in calls:

            async def call(_name: str = name, _asked: Any = asked, **fields: Any) -> Any:
                return await client.call_tool(_name, {**_asked, **fields})

            assert seen(given(await call())) == {"public.md", "staff.md"}
            assert seen(given(await call(collection="staff"))) == {"staff.md"}
            assert seen(given(await call(where=["document=staff.md"]))) == {"staff.md"}
            assert seen(given(await call(at=first))) == {next(iter(TEXTS)) + ".md"}
            assert "no collection 'barns'" in words(await call(collection="barns"))
            assert "no tag 'x'" in words(await call(at="x"))

    async def as_public(client: Client) -> None:
        for name, asked in calls:
            got = await client.call_tool(name, {**asked, "where": ["collection=staff"]})
            assert seen(given(got)) == set()
            refused = await client.call_tool(name, {**asked, "at": first})
            assert "not for earlier versions" in words(refused)

    over(create_app(assistant_over(store)), as_public, key=key)
    store.keys.revoke(store.keys.list()[0].id)
    _, whole = store.keys.create("whole")
    over(create_app(assistant_over(store)), as_all, key=whole)


def test_a_read_only_key_adds_nothing(store: Store) -> None:
    _, key = store.keys.create("reader", read_only=True)

    async def work(client: Client) -> None:
        assert [tool.name for tool in (await client.list_tools()).tools] == READING
        given(await client.call_tool("ask", {"question": QUESTION}))
        assert "may not add" in words(
            await client.call_tool("add_document", {"name": "x.md", "text": "x"})
        )

    over(create_app(assistant_over(store)), work, key=key)
    assert len(store.features.records()) == 3


@pytest.fixture
def api(store: Store) -> Iterator[ApiClient]:
    with structlog.testing.capture_logs(), ApiClient(create_app(assistant_over(store))) as client:
        yield client


def test_names_sites_methods_and_sizes_are_checked_as_elsewhere(api: ApiClient) -> None:
    def call(**headers: str) -> Any:
        return api.post("/mcp", json=INITIALIZE, headers=SENT | headers)

    assert call().status_code == 200
    assert call(Host="evil.example").status_code == 421
    assert call(Origin="https://evil.example").status_code == 403
    assert call(Origin="null").status_code == 403
    for method in ("GET", "DELETE"):
        refused = api.request(method, "/mcp", headers=SENT)
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    large = INITIALIZE | {"pad": "x" * 2_000_000}
    refused = api.post("/mcp", json=large, headers=SENT)
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "body_too_large")
    assert api.post("/mcp", content=b"{", headers=SENT).status_code == 400
    counted = [line for line in api.get("/metrics").text.splitlines() if 'route="/mcp"' in line]
    assert any('method="POST"' in line and 'status="200"' in line for line in counted)


def test_without_its_key_nobody_is_let_in(store: Store, api: ApiClient) -> None:
    store.keys.create("somebody")
    refused = api.post("/mcp", json=INITIALIZE, headers=SENT)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")


def test_a_key_that_is_used_too_often_is_told_when_to_come_again(
    store: Store, api: ApiClient
) -> None:
    _, key = store.keys.create("eager", requests_per_minute=1)
    sent = SENT | {"Authorization": f"Bearer {key}"}
    assert api.post("/mcp", json=INITIALIZE, headers=sent).status_code == 200
    late = api.post("/mcp", json=INITIALIZE, headers=sent)
    assert late.status_code == 429
    assert int(late.headers["retry-after"]) > 0
