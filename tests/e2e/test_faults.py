"""The service dies in the middle of its work, and is started again."""

from __future__ import annotations

import re
import signal
import threading
from pathlib import Path

import httpx
import pytest

from fti.store.store import Store
from tests.e2e.conftest import Fti
from tests.e2e.test_serve import address_of

pytestmark = pytest.mark.heavy

ASKED = {"messages": [{"role": "user", "content": "How hot does the kiln fire stoneware?"}]}


def test_a_killed_service_leaves_no_half_written_answer_and_none_that_was_given_is_lost(
    fti: Fti, handbook: Path
) -> None:
    fti.run("ingest", str(handbook))
    server = fti.start("serve", "--port", "0")
    given: list[str] = []

    def keep_asking(address: str) -> None:
        with httpx.Client(base_url=address, timeout=30) as client:
            while True:
                try:
                    response = client.post("/v1/chat/completions", json=ASKED)
                except httpx.HTTPError:
                    return
                given.append(response.json()["id"])

    try:
        address = address_of(server)
        threads = [threading.Thread(target=keep_asking, args=(address,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        fti.kill_started_when(server, lambda: len(given) >= 12)
        for thread in threads:
            thread.join(30)
        log = Store(fti.home / "store").answers
        assert log.broken_lines() == 0
        assert set(given) <= {answer.id for answer in log.list()}

        # A power cut can do what a kill cannot: half a line at the end of the file.
        (day,) = (fti.home / "store" / "answers").glob("????-??-??.jsonl")
        whole = day.read_bytes()
        day.write_bytes(whole[:-50])
        server = fti.start("serve", "--port", "0")
        answer = httpx.post(
            f"{address_of(server)}/v1/chat/completions", json=ASKED, timeout=60
        ).json()
        assert re.search("1240 degrees", answer["choices"][0]["message"]["content"])
        assert fti.run("trace", answer["id"])["answer"] == answer["id"]
        assert log.broken_lines() == 1
        assert len(log.list()) == whole.count(b"\n")  # one was cut, one came on top
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
        assert server.returncode == 0
    finally:
        server.kill()
        server.communicate()
