"""``fti mcp`` as an agent's program starts it: a process, spoken to over its standard streams."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from tests.e2e.conftest import Fti
from tests.support.forked import FTI
from tests.support.own_loop import run_apart

pytestmark = pytest.mark.heavy


def spoken(fti: Fti, work: Callable[[Client], Awaitable[None]], *options: str) -> None:
    """Start the command and do some work with a client of it."""

    async def main() -> None:
        started = StdioServerParameters(
            command=FTI, args=["mcp", *options], env=fti.environment(), cwd=str(fti.home)
        )
        async with Client(started) as client:
            await work(client)

    run_apart(main())


def test_an_agent_on_this_machine_asks_adds_and_opens(fti: Fti, handbook: Path) -> None:
    fti.run("ingest", str(handbook))

    async def work(client: Client) -> None:
        async def call(tool: str, **arguments: Any) -> dict[str, Any]:
            result = await client.call_tool(tool, arguments)
            assert not result.is_error, result.content
            found: dict[str, Any] = result.structured_content
            return found

        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names == ["search", "ask", "open_source", "list_documents", "add_document"]
        answer = await call("ask", question="What does a locker cost?")
        source = answer["sources"][0]
        assert "four euros" in answer["answer"]
        opened = await call(
            "open_source", chunk_id=source["chunk_id"], answer_id=answer["answer_id"]
        )
        assert opened["text"] == source["text"]
        assert source["url"] == "", "nothing is served"
        added = await call("add_document", name="wheel.md", text="The wheel is in the attic.")
        assert added["state"] == "done"

    spoken(fti, work, "--model", "extractive")
    documents = [p["document"] for p in fti.run("search", "wheel attic", "-k", "1")["passages"]]
    assert documents[0].endswith("wheel.md")


def test_a_reader_of_one_collection_sees_and_adds_nothing_else(fti: Fti, handbook: Path) -> None:
    fti.run("ingest", str(handbook / "hours.md"), "--collection", "public")
    fti.run("ingest", str(handbook / "fees.html"), "--collection", "staff")

    async def work(client: Client) -> None:
        assert "add_document" not in [tool.name for tool in (await client.list_tools()).tools]
        found = await client.call_tool("search", {"query": "locker euros workshop", "k": 10})
        assert "euros" not in str(found.structured_content)
        assert found.structured_content["passages"]
        listed = await client.call_tool("list_documents", {})
        assert listed.structured_content["total"] == 1

    spoken(fti, work, "--collection", "public", "--model", "extractive")


def test_standard_output_carries_the_protocol_alone(fti: Fti, handbook: Path) -> None:
    fti.run("ingest", str(handbook))
    lines = [
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "a test", "version": "1"},
            },
        },
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "tools/call",
            "params": {"name": "ask", "arguments": {"question": "What does a locker cost?"}},
        },
        {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "sing"}},
    ]
    with subprocess.Popen(
        [FTI, "mcp", "--model", "extractive"],
        cwd=fti.home,
        env=fti.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in [*lines, "this is no message"]:
            process.stdin.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
        process.stdin.flush()
        said: dict[int, Any] = {}
        while not {1, 2, 3} <= set(said):
            message = json.loads(process.stdout.readline())
            assert message["jsonrpc"] == "2.0"
            said[message.get("id")] = message
        process.stdin.close()
        rest = process.stdout.read()
        assert process.wait(60) == 0, process.stderr
    assert [json.loads(line)["jsonrpc"] for line in rest.splitlines()] == ["2.0"] * len(
        rest.splitlines()
    )
    assert said[1]["result"]["serverInfo"]["name"] == "fti"
    assert "four euros" in said[2]["result"]["structuredContent"]["answer"]
    assert said[3]["result"]["isError"] is True


def test_a_store_that_cannot_be_served_is_said_on_standard_error(fti: Fti) -> None:
    done = subprocess.run(
        [FTI, "mcp", "--model", "reader@champion"],
        cwd=fti.home,
        env=fti.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "reader" in done.stderr
