"""The ``fti`` command run many times without its slowest imports being paid each time.

Most of a command's processor time is importing what LanceDB and the model libraries bring along,
the same each time. A server that has imported it forks once for every call; the child has the
arguments, directory, environment and output files of a process of its own, and ends as one.
LanceDB itself, whose threads would not survive a fork, is not imported before. Tests that kill a
process, or look at how the command starts, run the installed script itself.
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
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.processes import start_python

FTI = str(Path(sys.executable).parent / "fti")

#: What every command that opens a store imports, and what those with models do besides.
LIGHT = (
    "lance_namespace",
    "langchain_text_splitters",
    "pandas",
    "pyarrow.dataset",
    "fti.app.build",
    "fti.app.cli",
    "fti.app.operations.ingestion",
    "fti.app.operations.measuring.evaluating",
    "fti.app.operations.promoting.promotion",
    "fti.app.operations.training.dataset_building",
    "fti.app.operations.training.finetuning",
)
MODELS = (
    "torch",
    "sentence_transformers",
    "transformers.models.llama.modeling_llama",
    "peft.tuners.lora",
)

SERVER = """
import gc, importlib, json, os, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
os.fsync = os.fstat  # as in tests/conftest.py
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
sys.stdin = open(0)
os.chdir(call["cwd"])
os.environ.clear()
os.environ.update(call["env"])
sys.argv = [call["fti"], *call["args"]]
from fti.app.cli import main
sys.exit(main())
"""


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
            call = {"args": list(args), "cwd": str(cwd), "env": dict(env), "fti": FTI}
            self._send(call | {"out": out.name, "err": err.name})
            code = self._wait(timeout, [FTI, *args])
            return subprocess.CompletedProcess(
                [FTI, *args], code, out.read().decode(), err.read().decode()
            )

    def _send(self, call: Mapping[str, object]) -> None:
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
