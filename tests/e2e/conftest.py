"""The installed command, run as a user runs it: another directory, its own store, no network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.forked import FTI, LIGHT, MODELS, ForkedCommand

COMMAND = ForkedCommand()
COMMAND_WITH_MODELS = ForkedCommand((*LIGHT, *MODELS))

#: Weight-free engines: the commands and the store are real, and no model needs loading.
LIGHT_PROFILE = """\
# For tests: no weights.
embedder: {engine: hashing, dimension: 256}
generator: {engine: extractive, min_similarity: 0.1}
inference: {retrieval: {min_similarity: 0.05}}
"""


#: A real tiny model to train, for ``format(model=FOLDER)``; vectors without weights.
TINY_PROFILE = """\
embedder: {{engine: hashing, dimension: 256}}
generator: {{engine: transformers, id: {model}}}
inference: {{retrieval: {{min_similarity: 0.05}}}}
prompt: {{max_prompt_tokens: 300, max_new_tokens: 8, max_passages: 2}}
dataset: {{max_passages: 2, max_rows: 30}}
"""


@dataclass
class Fti:
    """Runs ``fti`` in a folder of its own."""

    home: Path
    env: dict[str, str] = field(default_factory=dict)
    command: ForkedCommand = COMMAND
    installed: bool = False
    """Start the installed script each time: see ``tests.support.forked`` for what else there is."""

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FTI_")}
        return kept | {"FTI_STORE": str(self.home / "store"), "HF_HUB_OFFLINE": "1"} | self.env

    def run(self, *args: str, code: int | None = 0, timeout: float = 120) -> Any:
        """Run with ``--json``; returns the object, and checks the exit code."""
        done = self.raw(*args, "--json", timeout=timeout)
        if code is not None:
            assert done.returncode == code, (args, done.returncode, done.stdout, done.stderr)
        lines = done.stdout.splitlines()
        assert len(lines) == 1, done.stdout + done.stderr
        return json.loads(lines[0])

    def raw(self, *args: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        if self.installed:
            return subprocess.run(
                [FTI, *args],
                cwd=self.home,
                env=self.environment(),
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        return self.command.run(args, cwd=self.home, env=self.environment(), timeout=timeout)

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [FTI, *args],
            cwd=self.home,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill_when(self, ready: Callable[[], bool], *args: str, timeout: float = 90) -> None:
        """Run, and SIGKILL the process as soon as ``ready`` says so."""
        self.command.kill_when(
            args, cwd=self.home, env=self.environment(), ready=ready, timeout=timeout
        )

    def kill_started_when(
        self, process: subprocess.Popen[str], ready: Callable[[], bool], timeout: float = 90
    ) -> None:
        """The same with a process that ``start`` gave."""
        deadline = time.monotonic() + timeout
        while not ready():
            assert process.poll() is None, ("ended before the kill", process.communicate())
            assert time.monotonic() < deadline, "never got to the point of the kill"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)  # waits, and closes the pipes


@pytest.fixture(scope="session", autouse=True)
def command() -> Iterator[None]:
    """End what answers the calls of the command when the tests are done."""
    yield
    COMMAND.close()
    COMMAND_WITH_MODELS.close()


@pytest.fixture
def fti(tmp_path: Path) -> Fti:
    """The command with weight-free engines."""
    home = tmp_path / "home"
    home.mkdir()
    profile = tmp_path / "light.yaml"
    profile.write_text(LIGHT_PROFILE, "utf-8")
    return Fti(home, {"FTI_CONFIG": str(profile)})


@pytest.fixture
def fti_default(tmp_path: Path) -> Fti:
    """The command with the default profile: the real embedder and the built-in model."""
    home = tmp_path / "home"
    home.mkdir()
    return Fti(home, command=COMMAND_WITH_MODELS)


@pytest.fixture
def handbook(tmp_path: Path) -> Path:
    """Three small documents, outside the command's own folder."""
    folder = tmp_path / "handbook"
    folder.mkdir()
    (folder / "hours.md").write_text(
        "# Opening hours\n\nThe workshop opens at nine on Saturdays.\n\n"
        "The workshop is closed on Mondays.\n",
        "utf-8",
    )
    (folder / "kiln.txt").write_text(
        "The kiln fires stoneware at 1240 degrees. Ask Marit before you load the kiln.\n", "utf-8"
    )
    (folder / "fees.html").write_text(
        "<html><head><title>Fees</title></head><body><main><h1>Fees</h1>"
        "<p>Membership costs twenty-two euros each month.</p>"
        "<p>A locker costs four euros each month.</p></main></body></html>",
        "utf-8",
    )
    return folder
