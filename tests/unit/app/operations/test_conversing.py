"""A chat in the terminal: history, sources, commands, and errors that do not end it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fti.app.cli import app
from fti.app.commands.ask import show_answer
from fti.app.operations.conversing import COMMANDS, converse
from fti.app.reporting import Reporter
from fti.store.answer_types import Answer
from fti.store.errors import InputError
from fti.store.store import Store
from tests.support.service import Scripted, assistant_over, filled_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path / "store")


def said(store: Store, script: Scripted, *lines: str) -> list[Answer]:
    return converse(assistant_over(store, script), Reporter(), lines, show=show_answer)


def test_earlier_turns_count_until_a_new_conversation(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Scripted(["On Thursdays."])
    answers = said(
        store, script, "When is the kiln fired?\n", "", "How hot does it get?", "/history", "/new",
        "Who opens the hall?", "/quit", "Never asked",
    )  # fmt: skip
    assert [a.question for a in answers] == [
        "When is the kiln fired?", "How hot does it get?", "Who opens the hall?",
    ]  # fmt: skip
    turns = [[m.content for m in r.messages if m.role == "assistant"] for r in script.requests]
    assert [len(each) for each in turns] == [0, 1, 0]
    shown = capsys.readouterr()
    assert shown.out.count("On Thursdays.") == 3
    assert "you: How hot does it get?" in shown.err
    assert [store.answers.get(a.id).id for a in answers] == [a.id for a in answers]


def test_commands_look_at_the_last_answer(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    script = Scripted(["On Thursdays."])
    (answer,) = said(
        store, script, "/sources", "When is the kiln fired?", "/sources", "/trace", "/help", "/what"
    )
    shown = capsys.readouterr()
    assert "Nothing was asked yet." in shown.err
    assert answer.passages[0].text.strip() in shown.out
    assert f"fti trace {answer.id}" in shown.err
    assert all(name in shown.err for name in COMMANDS)
    assert "'/what'" in shown.err


def test_what_cannot_be_answered_ends_nothing(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = said(store, Scripted(["Yes."]), "kiln " * 2000, "When is the kiln fired?")
    assert [a.question for a in answers] == ["When is the kiln fired?"]
    assert "tokens" in capsys.readouterr().err


@pytest.mark.parametrize("given", [[], ["When is the kiln fired?"]])
def test_the_command_reads_lines_and_gives_one_object(store: Store, given: Iterable[str]) -> None:
    settings = ["embedder.engine=hashing", "embedder.dimension=256", "generator.engine=extractive"]
    command = ["ask", *given, "--conversation", "--json", "--store", str(store.layout.root)]
    command += [part for each in settings for part in ("--set", each)]
    done = CliRunner().invoke(app, command, input="When is the kiln fired?\n/quit\n")
    assert done.exit_code == 0, done.output
    body = json.loads(done.stdout)
    assert [turn["question"] for turn in body["turns"]] == [*given, "When is the kiln fired?"]


def test_no_question_and_no_conversation_is_misuse(store: Store) -> None:
    done = CliRunner().invoke(app, ["ask", "--store", str(store.layout.root)])
    assert isinstance(done.exception, InputError)
