"""``fti serve`` as a person runs it: beside other commands that fill the store."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import Fti

pytestmark = pytest.mark.heavy


def address_of(server: subprocess.Popen[str]) -> str:
    """Where it listens, as its log says."""
    assert server.stderr is not None
    said = []
    for line in server.stderr:
        said.append(line)
        if found := re.search(r"http://[\d.:]+", line):
            return found.group()
    raise AssertionError("".join(said))


def test_a_service_started_on_an_empty_store_answers_from_what_is_ingested_beside_it(
    fti: Fti, handbook: Path
) -> None:
    # A view may be service.read_consistency_s old: none at all, so that it is right at once.
    server = fti.start("serve", "--port", "0", "--set", "service.read_consistency_s=0")
    try:
        address = address_of(server)
        client = httpx.Client(base_url=address, timeout=60)
        assert client.get("/readyz").status_code == 503
        fti.run("ingest", str(handbook))
        assert client.get("/readyz").json()["documents"] == 3
        asked = {"role": "user", "content": "How hot does the kiln fire stoneware?"}
        answer = client.post("/v1/chat/completions", json={"messages": [asked]}).json()
        assert "1240 degrees" in answer["choices"][0]["message"]["content"]
        assert fti.run("trace", answer["id"])["answer"] == answer["id"]
        client.close()
        server.send_signal(signal.SIGINT)  # Ctrl-C
        _, log = server.communicate(timeout=30)
        assert server.returncode == 0
        assert "Traceback" not in log
    finally:
        server.kill()
        server.communicate()


def test_a_service_beyond_this_machine_needs_keys_which_the_command_makes(
    fti: Fti, handbook: Path
) -> None:
    refused = fti.raw("serve", "--host", "0.0.0.0", "--port", "0")
    assert refused.returncode == 2
    assert "fti keys create" in refused.stderr
    fti.run("ingest", str(handbook))
    made = fti.run("keys", "create", "web team", "--requests-per-minute", "600")
    assert made["key"].startswith("fti_")
    server = fti.start("serve", "--host", "0.0.0.0", "--port", "0")
    try:
        base = address_of(server).replace("0.0.0.0", "127.0.0.1")
        key = {"Authorization": f"Bearer {made['key']}"}
        assert httpx.get(f"{base}/v1/models").status_code == 401
        listed = httpx.get(f"{base}/v1/models", headers=key).json()["data"]
        assert {m["id"] for m in listed} >= {"base", "extractive"}
        (shown,) = fti.run("keys", "list")["keys"]
        assert (shown["name"], "key" in shown, "digest" in shown) == ("web team", False, False)
        fti.run("keys", "revoke", shown["id"])
        assert httpx.get(f"{base}/v1/models", headers=key).status_code == 401
        server.send_signal(signal.SIGTERM)  # as container engines and systemd do
        _, log = server.communicate(timeout=30)
        assert server.returncode == 0
        assert made["key"] not in log
    finally:
        server.kill()
        server.communicate()
