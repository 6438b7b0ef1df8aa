"""The command in this process, over a small store of its own and engines without weights."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from fti.app.cli import app
from fti.store.errors import FtiError


def fti(*words: str, code: int = 0) -> Any:
    """Run ``fti WORDS --json``; its object. An error of the project is raised as it is."""
    done = CliRunner().invoke(app, [*words, "--json"])
    if isinstance(done.exception, FtiError):
        raise done.exception
    assert done.exit_code == code, (done.exception, done.output)
    return json.loads(done.stdout.splitlines()[-1])


def light_store(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """A profile without weights, a store for it, and a folder of two documents to ingest."""
    profile = folder / "light.yaml"
    profile.write_text(
        "model: extractive\n"
        "embedder: {engine: hashing, dimension: 256}\n"
        "generator: {engine: extractive, min_similarity: 0.1}\n"
        "inference: {retrieval: {min_similarity: 0.05}}\n",
        "utf-8",
    )
    patch.setenv("FTI_CONFIG", str(profile))
    patch.setenv("FTI_STORE", str(folder / "store"))
    docs = folder / "docs"
    docs.mkdir()
    (docs / "kiln.md").write_text("# Kiln\n\nThe kiln is fired on Thursdays.\n", "utf-8")
    (docs / "loans.md").write_text("# Loans\n\nBooks are lent for three weeks.\n", "utf-8")
    return docs


@cache
def tree() -> Any:
    """All commands of ``fti``, as the parser sees them."""
    return typer.main.get_command(app)


def parse(args: list[str]) -> None:
    """Parse a command line as ``fti`` would, and run nothing.

    Raises:
        Exception: the parser's, where there is no such command, option or argument.
    """
    command = tree()
    context = command.make_context("fti", [], resilient_parsing=True)
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, args)
        if command is None:
            raise ValueError(f"No such command: {args[0]!r}")
        if not hasattr(command, "commands"):
            command.make_context(name, list(rest), parent=context)
        args = rest


def found(words: list[str]) -> tuple[Any, list[str]]:
    """The command or group that words begin with, and the words behind its name."""
    command = tree()
    while hasattr(command, "commands") and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    return command, words
