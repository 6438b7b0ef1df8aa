"""Other Python processes, for tests of what two of them do to one store."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start_python(script: str, *args: object, stdin: bool = False) -> subprocess.Popen[str]:
    """Run ``script`` in a new interpreter that can import the project."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, args)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE if stdin else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_python(script: str, *args: object) -> str:
    """Run ``script`` to its end and return what it printed."""
    process = start_python(script, *args)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def wait_for_line(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints: how it says that it got so far."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return line.strip()


def kill(process: subprocess.Popen[str]) -> None:
    """``kill -9``, and wait until it is gone."""
    process.kill()
    process.communicate()
