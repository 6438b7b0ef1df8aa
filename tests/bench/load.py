"""Load on a real ``fti serve`` with the built-in model: many streaming clients, and what it costs.

    python -m tests.bench.load --clients 32 --seconds 60
    python -m tests.bench.load --clients 8 --seconds 60 --answer-tokens 64

Prints one JSON object: statuses (anything but 200 and 429 is an error), time to the first token and
to the last (p50, p99), answers per second of one client, of eight and of all, the process's memory
over time, and what the service adds to retrieval and generation when one client asks. The built-in
model answers in a few words; with ``--answer-tokens`` every answer has that many. ``of_bound`` is
the share of what the matrix products alone would allow (``product_bound``): tokens that had to be
computed, those of prompts less their kept beginning and those of answers, in a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from fti.store.store import Store
from tests.bench.product_bound import product_bound

FTI = str(Path(sys.executable).parent / "fti")
CORPUS = Path(__file__).parents[2] / "app" / "demo" / "corpus"
CASES = Path(__file__).parents[2] / "app" / "demo" / "cases.jsonl"

STAGES = ("retrieve", "select", "generate")  # whose time an answer's record has


@dataclass
class Seen:
    """What clients saw."""

    statuses: Counter[str] = field(default_factory=Counter)
    first_token_s: list[float] = field(default_factory=list)
    total_s: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)


async def ask(client: httpx.AsyncClient, body: dict[str, Any], seen: Seen) -> None:
    """One streamed answer."""
    began, first, done = time.perf_counter(), None, False
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                await response.aread()
                seen.statuses[str(response.status_code)] += 1
                if response.status_code == 429:
                    await asyncio.sleep(min(1.0, float(response.headers["retry-after"])))
                return
            identifier = ""
            async for line in response.aiter_lines():
                if line == "data: [DONE]":
                    done = True
                elif line.startswith("data: "):
                    chunk = json.loads(line[6:])
                    if "error" in chunk:
                        seen.statuses[chunk["error"]["code"]] += 1
                        return
                    identifier = chunk["id"]
                    if first is None and chunk["choices"][0]["delta"].get("content"):
                        first = time.perf_counter() - began
    except httpx.HTTPError as error:
        seen.statuses[type(error).__name__] += 1
        return
    seen.statuses["200" if done else "cut"] += 1
    seen.total_s.append(time.perf_counter() - began)
    seen.ids.append(identifier)
    if first is not None:
        seen.first_token_s.append(first)


async def load(
    base: str,
    questions: Sequence[str],
    clients: int,
    seconds: float,
    answer_tokens: int | None = None,
    *,
    bound: dict[str, float],
    store: Path,
) -> dict[str, Any]:
    """So many clients, each asking one question after the other."""
    asked: dict[str, Any] = {"stream": True}
    if answer_tokens is not None:
        asked["max_tokens"] = answer_tokens
    seen = Seen()
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=base, timeout=300, limits=limits) as client:
        until = time.perf_counter() + seconds
        began = time.perf_counter()

        async def keep_asking(n: int) -> None:
            turn = n
            while time.perf_counter() < until:
                question = {"role": "user", "content": questions[turn % len(questions)]}
                await ask(client, {**asked, "messages": [question]}, seen)
                turn += clients

        await asyncio.gather(*(keep_asking(n) for n in range(clients)))
        took = time.perf_counter() - began
    computed = tokens(store, seen.ids)
    prompts = max(0, computed["prompt"] - seen.statuses["200"] * bound["kept_tokens"])
    rate = (prompts + computed["completion"]) / took
    return {
        "clients": clients,
        "tokens_per_second": round(rate, 1),
        "of_bound": round(rate / bound["tokens_per_second"], 3),
        "seconds": round(took, 1),
        "statuses": dict(seen.statuses),
        "errors": sum(n for status, n in seen.statuses.items() if status not in ("200", "429")),
        "answers_per_second": round(seen.statuses["200"] / took, 2),
        "first_token_s": percentiles(seen.first_token_s),
        "total_s": percentiles(seen.total_s),
    }


def tokens(store: Path, ids: Sequence[str]) -> Counter[str]:
    """Tokens of prompts and of answers, as the answers' records have them."""
    wanted, found = set(ids), Counter[str]()
    for answer in Store(store).answers.list():
        if answer.id in wanted:
            found["prompt"] += answer.usage.prompt_tokens
            found["completion"] += answer.usage.completion_tokens
    return found


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p99 and the largest, in seconds."""
    ranked = sorted(values)
    if not ranked:
        return {}
    at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {k: round(ranked[min(len(ranked) - 1, int(v * len(ranked)))], 4) for k, v in at.items()}


def overhead(base: str, questions: Sequence[str], count: int) -> dict[str, float]:
    """What one answer costs beyond retrieval, the choice of sentences and generation.

    Its own record says how long these took. The clock runs from the request's first byte to the
    response's last, on a connection that is open already: what a client's library does before and
    after is not the service's.
    """
    beyond = []
    connection = HTTPConnection(base.removeprefix("http://"), timeout=300)

    def ask_for(method: str, path: str, body: bytes | None = None) -> tuple[float, Any]:
        began = time.perf_counter()
        connection.request(method, path, body, {"Content-Type": "application/json"})
        given = connection.getresponse().read()
        return time.perf_counter() - began, json.loads(given)

    for n in range(count + 2):
        messages = [{"role": "user", "content": questions[n % len(questions)]}]
        body = json.dumps({"messages": messages}).encode()
        took, answer = ask_for("POST", "/v1/chat/completions", body)
        _, record = ask_for("GET", f"/v1/answers/{answer['id']}")
        own = sum(record["timings"].get(f"{stage}_s", 0.0) for stage in STAGES)
        if n >= 2:  # the first ones warm up
            beyond.append((took - own) * 1000)
    connection.close()
    return {"p50_ms": round(median(beyond), 2), "max_ms": round(max(beyond), 2)}


def resident_mb(pid: int) -> float:
    """Memory of a process, in MB."""
    text = Path(f"/proc/{pid}/status").read_text("utf-8")
    match = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert match is not None
    return int(match.group(1)) / 1024


async def watched(pid: int, work: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """The figures of some work, with the memory of a process while it ran."""
    samples: list[float] = []

    async def sample() -> None:
        while True:
            samples.append(resident_mb(pid))
            await asyncio.sleep(1)

    sampling = asyncio.create_task(sample())
    figures = await work
    sampling.cancel()
    quarter = max(1, len(samples) // 4)
    figures["memory_mb"] = {
        "start": round(samples[0], 1),
        "second_quarter": round(median(samples[quarter : 2 * quarter] or samples), 1),
        "last_quarter": round(median(samples[-quarter:]), 1),
        "max": round(max(samples), 1),
    }
    return figures


def main() -> None:
    """Start a service, load it, print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--short", type=float, default=15, help="seconds for one and eight clients")
    parser.add_argument(
        "--answer-tokens", type=int, help="tokens of each answer, instead of its own"
    )
    parser.add_argument("--model", default="base")
    parser.add_argument("--set", action="append", default=[], help="settings, as fti takes them")
    given = parser.parse_args()
    questions = [json.loads(line)["question"] for line in CASES.read_text("utf-8").splitlines()]
    settings = [part for each in given.set for part in ("--set", each)]
    bound = product_bound(given.set)
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"FTI_STORE": f"{folder}/store", "HF_HUB_OFFLINE": "1"}
        subprocess.run([FTI, "ingest", str(CORPUS)], env=env, check=True, capture_output=True)
        endless = [sys.executable, "-m", "tests.bench.endless"]
        fti = [FTI] if given.answer_tokens is None else endless
        command = [*fti, "serve", "--port", "0", "--model", given.model, *settings]
        with (Path(folder) / "log").open("w+", encoding="utf-8") as log:
            server = subprocess.Popen(command, env=env, stderr=log, stdout=subprocess.DEVNULL)
            try:
                base = address(server, Path(folder) / "log")
                report: dict[str, Any] = {
                    "bound": bound,
                    "beyond": overhead(base, questions, 30),
                }
                for name, clients, seconds in (
                    ("one", 1, given.short),
                    ("eight", 8, given.short),
                    ("many", given.clients, given.seconds),
                ):
                    asking = load(
                        base,
                        questions,
                        clients,
                        seconds,
                        given.answer_tokens,
                        bound=bound,
                        store=Path(folder) / "store",
                    )
                    report[name] = asyncio.run(watched(server.pid, asking))
                report["speedup_of_eight"] = round(
                    report["eight"]["answers_per_second"] / report["one"]["answers_per_second"], 2
                )
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait(60)
        report["exit_code"] = server.returncode
    print(json.dumps(report, indent=1))


def address(server: subprocess.Popen[bytes], log: Path) -> str:
    """Where the service listens, as its log says."""
    while server.poll() is None:
        found = re.search(r"http://[\d.:]+", log.read_text("utf-8"))
        if found:
            return found.group()
        time.sleep(0.1)
    raise SystemExit(log.read_text("utf-8"))


if __name__ == "__main__":
    main()
