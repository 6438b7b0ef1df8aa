"""The schedules that ship run commands that exist, with options that they take."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.command import parse

FOLDER = Path(__file__).parents[2] / "configs" / "schedule"
_COMMAND = re.compile(r"(?:^|/|&& )fti (?P<args>[a-z][^>\n|&]*)")


def commands(text: str) -> list[list[str]]:
    """The arguments of each ``fti`` in a text that is not a comment."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [shlex.split(m["args"]) for line in lines for m in _COMMAND.finditer(line)]


@pytest.mark.parametrize("name", ["fti-batch.service", "crontab"])
def test_every_command_of_a_schedule_parses(name: str) -> None:
    found = commands((FOLDER / name).read_text("utf-8"))
    assert [args[0] for args in found] == ["ingest", "batch"]
    for args in found:
        parse(args)


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
