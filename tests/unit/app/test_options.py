"""Groups of options: the parser sees the options, the command gets the group."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer.testing import CliRunner

from fti.app.options import Commands, CommonOptions, WithinOptions

given: list[tuple[CommonOptions, WithinOptions, str]] = []


def find(
    within: WithinOptions, common: CommonOptions, query: Annotated[str, typer.Argument()] = "all"
) -> None:
    """Find something."""
    given.append((common, within, query))


def commands() -> Commands:
    """A program of two commands, so that the first has to be named."""
    made = Commands("program", "Find and lose.")
    assert made.command()(find) is find
    made.command("lose")(lambda: None)
    return made


def test_a_command_gets_its_groups_of_options_as_values() -> None:
    options = "find kiln --store s --set a.b=1 --set c=2 --json --where year>1 --at 3"
    result = CliRunner().invoke(commands(), options.split())

    assert result.exit_code == 0, result.output
    common, within, query = given.pop()
    assert query == "kiln"
    assert common == CommonOptions(store=Path("s"), set_=["a.b=1", "c=2"], json=True)
    assert within == WithinOptions(where=["year>1"], at="3")
    assert within.overrides() == [
        'inference.retrieval.where=["year>1"]',
        'inference.retrieval.at="3"',
    ]


def test_what_is_left_out_is_as_the_group_has_it() -> None:
    assert CliRunner().invoke(commands(), ["find"]).exit_code == 0
    assert given.pop() == (CommonOptions(), WithinOptions(), "all")


def test_help_lists_a_commands_own_arguments_before_those_of_its_groups() -> None:
    shown = CliRunner().invoke(commands(), ["find", "--help"], env={"COLUMNS": "120"}).output

    assert "Find something." in shown
    places = [shown.index(word) for word in ("query", "--where", "Common options", "--store")]
    assert places == sorted(places)
