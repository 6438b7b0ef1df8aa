"""What OpenMP is told before it is loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fti.app import cli
from fti.pipelines.engines.openmp import wait_asleep, wait_briefly


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


def waiting() -> tuple[str | None, str | None]:
    return os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OMP_WAIT_POLICY")


def test_threads_sleep_soon_or_for_llama_cpp_at_once() -> None:
    wait_briefly()
    assert waiting() == ("10000", "ACTIVE")
    wait_asleep()
    assert waiting() == (None, "PASSIVE")


def test_what_the_environment_says_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    wait_briefly()
    wait_asleep()
    assert waiting() == (None, "ACTIVE")
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    wait_briefly()
    wait_asleep()
    assert waiting() == ("7", "ACTIVE")
    monkeypatch.delenv("OMP_WAIT_POLICY")
    wait_briefly()
    assert waiting() == ("7", None)


def test_the_command_says_so_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fti", "--version"])
    with pytest.raises(SystemExit):
        cli.main()
    assert waiting() == ("10000", "ACTIVE")
    loaded = subprocess.run(
        [sys.executable, "-c", "import fti.app.cli, sys; print('torch' in sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert loaded.stdout.strip() == "False"
