"""The schedules that ship run commands that exist, with options that they take."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from fti.app.cli import app

FOLDER = Path(__file__).parents[2] / "configs" / "schedule"
_COMMAND = re.compile(r"(?:^|/|&& )fti (?P<args>[a-z][^>\n|&]*)")


def commands(text: str) -> list[list[str]]:
    """The arguments of each ``fti`` in a text that is not a comment."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [shlex.split(m["args"]) for line in lines for m in _COMMAND.finditer(line)]


def parse(args: list[str]) -> None:
    """Parse a command line as ``fti`` would, and run nothing."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("fti", [], resilient_parsing=True)
    while hasattr(command, "commands"):
        name, command, args = command.resolve_command(context, args)
        if not hasattr(command, "commands"):
            command.make_context(name, list(args), parent=context)


@pytest.mark.parametrize("name", ["fti-batch.service", "crontab"])
def test_every_command_of_a_schedule_parses(name: str) -> None:
    found = commands((FOLDER / name).read_text("utf-8"))
    assert [args[0] for args in found] == ["ingest", "batch"]
    for args in found:
        parse(args)


def test_every_scheduled_pipeline_of_the_readme_parses() -> None:
    text = (FOLDER.parents[1] / "README.md").read_text("utf-8")
    section = text.split("## Pipelines", 1)[1].split("\n## ", 1)[0]
    found = re.findall(r"fti (pipeline run [a-z.]+(?: --[a-z-]+)*)", section)
    assert len(found) >= 6
    for command in found:
        parse(shlex.split(command))


def test_a_command_that_does_not_parse_is_found() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse(["batch", "questions.csv", "--into", "x"])


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd on this machine")
    for name in ("fti-batch.service", "fti-batch.timer"):
        text = (FOLDER / name).read_text("utf-8")
        (tmp_path / name).write_text(text.replace("/opt/fti/.venv/bin/fti", "/bin/true"), "utf-8")
    units = [str(tmp_path / name) for name in ("fti-batch.service", "fti-batch.timer")]
    done = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, check=False)
    assert "Unknown" not in done.stderr, done.stderr
