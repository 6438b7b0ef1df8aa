"""The ``fti`` command run many times without its slowest imports being paid each time.

Most of a command's processor time is importing what LanceDB and the model libraries bring along,
the same each time. A server that has imported it forks once for every call; the child has the
arguments, directory, environment and output files of a process of its own, and ends as one.
LanceDB is imported too: it starts its threads anew in a child, provided that none was at work, and
the server opens no store. A child can be killed like any process. Tests that look at how the
command starts run the installed script itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.support.processes import start_python

FTI = str(Path(sys.executable).parent / "fti")

#: What every command that opens a store imports, and what those with models do besides.
LIGHT = (
    "lancedb",
    "langchain_text_splitters",
    "opentelemetry.trace",
    "pandas",
    "pyarrow.dataset",
    "fti.app.build",
    "fti.app.cli",
    "fti.app.operations.batch_answering",
    "fti.app.operations.ingestion",
    "fti.app.operations.measuring.evaluating",
    "fti.app.operations.promoting.promotion",
    "fti.app.operations.training.dataset_building",
    "fti.app.operations.training.finetuning",
    "fti.app.orchestration.runner",
    "fti.app.orchestration.steps",
)
MODELS = (
    "torch",
    "sentence_transformers",
    "transformers.models.llama.modeling_llama",
    "peft.tuners.lora",
)

SERVER = """
import asyncio, gc, importlib, json, os, sys, warnings
for name in sys.argv[1:]:
    importlib.import_module(name)
from lancedb.background_loop import LOOP
LOOP.run(asyncio.sleep(0))  # its thread has started, and waits
warnings.filterwarnings("ignore", "lancedb fork support is experimental", RuntimeWarning)
flush, os.fsync = os.fsync, os.fstat  # as in tests/conftest.py
gc.collect()
gc.freeze()  # a collection in a child would copy every page of what is shared
for line in sys.stdin:
    call = json.loads(line)
    child = os.fork()
    if not child:
        break
    print(json.dumps({"pid": child}), flush=True)
    status = os.waitpid(child, 0)[1]
    print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)
else:
    os._exit(0)
for target, path in ((0, os.devnull), (1, call["out"]), (2, call["err"])):
    opened = os.open(path, os.O_RDWR)
    os.dup2(opened, target)
    os.close(opened)
if call["killed"]:
    os.fsync = flush  # what is killed goes as slowly from one point to the next as it does outside
sys.stdin = open(0)
os.chdir(call["cwd"])
os.environ.clear()
os.environ.update(call["env"])
sys.argv = [call["fti"], *call["args"]]
from fti.app.cli import main
sys.exit(main())
"""


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


class ForkedCommand:
    """One server for the calls of a test process, which come one after the other.

    Args:
        imported: names of the modules that are there before the fork.
    """

    def __init__(self, imported: Sequence[str] = LIGHT) -> None:
        self._imported = tuple(imported)
        self._server: subprocess.Popen[str] | None = None

    def run(
        self, args: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run ``fti`` with the arguments to its end, like ``subprocess.run``."""
        with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
            self._send(args, cwd=cwd, env=env, out=out.name, err=err.name)
            code = self._wait(timeout, [FTI, *args])
            return subprocess.CompletedProcess(
                [FTI, *args], code, out.read().decode(), err.read().decode()
            )

    def kill_when(
        self,
        args: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        ready: Callable[[], bool],
        timeout: float,
    ) -> None:
        """Run ``fti`` with the arguments, and ``kill -9`` it as soon as ``ready`` says so."""
        with tempfile.NamedTemporaryFile() as said:
            self._send(args, cwd=cwd, env=env, out=said.name, err=said.name, killed=True)
            child = self._read()["pid"]
            deadline = time.monotonic() + timeout
            try:
                while not ready() and time.monotonic() < deadline and _runs(child):
                    time.sleep(0.01)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                code = self._read()["code"]
            assert time.monotonic() < deadline, "never got to the point of the kill"
            assert code == -signal.SIGKILL, ("ended before the kill", code, said.read().decode())

    def _send(
        self,
        args: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        out: str,
        err: str,
        killed: bool = False,
    ) -> None:
        call = {"args": list(args), "cwd": str(cwd), "env": dict(env), "fti": FTI,
                "out": out, "err": err, "killed": killed}  # fmt: skip
        if self._server is None or self._server.poll() is not None:
            self._server = start_python(SERVER, *self._imported, stdin=True)
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(call) + "\n")
        self._server.stdin.flush()

    def _read(self) -> dict[str, int]:
        assert self._server is not None
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line, "the server of forked commands ended"
        answer: dict[str, int] = json.loads(line)
        return answer

    def _wait(self, timeout: float, command: list[str]) -> int:
        child = self._read()["pid"]
        late = False

        def kill() -> None:
            nonlocal late
            late = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

        timer = threading.Timer(timeout, kill)
        timer.start()
        try:
            code = self._read()["code"]
        finally:
            timer.cancel()
        if late:
            raise subprocess.TimeoutExpired(command, timeout)
        return code

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.communicate(timeout=30)
            self._server = None
