"""``fti serve`` as a person runs it: beside other commands that fill the store."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import Fti

pytestmark = pytest.mark.heavy


def test_a_service_started_on_an_empty_store_answers_from_what_is_ingested_beside_it(
    fti: Fti, handbook: Path
) -> None:
    server = fti.start("serve", "--port", "0")
    try:
        assert server.stderr is not None
        address = next(
            found.group() for line in server.stderr if (found := re.search(r"http://[\d.:]+", line))
        )
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
        assert server.returncode == 130
        assert "Traceback" not in log
    finally:
        server.kill()
        server.communicate()
