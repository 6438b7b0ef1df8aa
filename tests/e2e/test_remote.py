"""A second ``fti serve`` as the generator of the first, as vLLM or Ollama would be."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Fti
from tests.e2e.test_serve import address_of

pytestmark = pytest.mark.heavy

REMOTE = """\
# For tests: another process generates.
embedder: {{engine: hashing, dimension: 256}}
generator:
  engine: openai
  id: extractive
  server:
    base_url: {address}/v1
    context_tokens: 4096
    retries: 1
    timeout_s: 60
    circuit_failures: 2
    circuit_open_s: 5
prompt: {{max_prompt_tokens: 800, max_new_tokens: 64}}
inference: {{retrieval: {{min_similarity: 0.05}}}}
"""
QUESTION = "How hot does the kiln fire stoneware?"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def ask(address: str, **fields: Any) -> httpx.Response:
    message = {"role": "user", "content": QUESTION}
    body = {"messages": [message], **fields}
    return httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60)


def test_another_process_generates_and_its_failures_are_told_and_healed(
    fti: Fti, handbook: Path, tmp_path: Path
) -> None:
    fti.run("ingest", str(handbook), timeout=600)
    port = free_port()
    processes: list[subprocess.Popen[str]] = []

    def start_generator() -> subprocess.Popen[str]:
        process = fti.start("serve", "--port", str(port))
        processes.append(process)
        address_of(process)  # it listens
        return process

    try:
        second = start_generator()
        profile = tmp_path / "remote.yaml"
        profile.write_text(REMOTE.format(address=f"http://127.0.0.1:{port}"), "utf-8")
        first = fti.start("serve", "--port", "0", "--config", str(profile))
        processes.append(first)
        address = address_of(first)

        # It answers, whole and streamed, and both processes have a record of it.
        answered = ask(address, seed=7)
        assert answered.status_code == 200, answered.text
        whole = answered.json()
        content = whole["choices"][0]["message"]["content"]
        assert "1240 degrees" in content
        assert whole["choices"][0]["message"]["annotations"]
        assert whole["usage"]["completion_tokens"] > 0
        streamed = ask(address, stream=True).text
        assert "1240 degrees" in streamed
        assert streamed.endswith("data: [DONE]\n\n")

        # It dies: two failures, and it is left alone, with a time to come again.
        second.kill()
        second.communicate()
        gone = ask(address)
        assert (gone.status_code, gone.json()["error"]["code"]) == (503, "model_unavailable")
        refused = ask(address)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_unavailable")
        assert 1 <= int(refused.headers["retry-after"]) <= 5
        assert "2 times in a row" in refused.json()["error"]["message"]

        # It comes back: one probe finds it well.
        start_generator()
        deadline = time.monotonic() + 60
        while (back := ask(address)).status_code == 503:
            assert time.monotonic() < deadline, back.text
            time.sleep(float(back.headers["retry-after"]))
        assert back.json()["choices"][0]["message"]["content"] == content
    finally:
        for process in processes:
            process.kill()
            process.communicate()
