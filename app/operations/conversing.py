"""``fti ask --conversation``: a chat in the terminal, a turn a line, with what is served."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from fti.store.answer_types import Answer
from fti.store.errors import EngineError, InputError
from fti.store.types import Message

if TYPE_CHECKING:
    from fti.app.reporting import Reporter
    from fti.pipelines.inference.answering.answer import Assistant

COMMANDS = {
    "/sources": "the passages that the last answer was given, whole",
    "/history": "the conversation so far",
    "/new": "forget the conversation and begin another",
    "/trace": "how to trace the last answer",
    "/help": "these commands",
    "/quit": "end; so does Ctrl-D",
}


def converse(
    assistant: Assistant,
    report: Reporter,
    lines: Iterable[str],
    *,
    show: Callable[[Reporter, Answer], None],
) -> list[Answer]:
    """Answer each line with those before it as history; gives the answers, in order.

    A line that begins with / is a command. What cannot be answered is said, and the conversation
    goes on as if it had not been asked.

    Args:
        assistant: what answers.
        report: where answers, sources and notes go.
        lines: what is typed.
        show: how an answer is shown.

    Raises:
        StoreError: the store cannot be read or written.
    """
    answers: list[Answer] = []
    history: list[Message] = []
    last: Answer | None = None
    for line in map(str.strip, lines):
        if line.startswith("/"):
            if line == "/quit":
                break
            if line == "/new":
                history, last = [], None
                report.note("a new conversation")
            else:
                _obey(line, report, history, last)
        elif line:
            try:
                last = assistant.answer(line, history)
            except (InputError, EngineError) as error:
                report.note(f"{error.message} {error.hint}".strip(), style="red")
                continue
            answers.append(last)
            history += [
                Message(role="user", content=line),
                Message(role="assistant", content=last.text),
            ]
            show(report, last)
    return answers


def typed() -> Iterator[str]:
    """The lines of standard input; asked for, and editable, where somebody types them."""
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    import readline  # noqa: F401  # input() edits and remembers lines with it

    while True:
        try:
            yield input("> ")
        except (EOFError, KeyboardInterrupt):
            return


def _obey(command: str, report: Reporter, history: list[Message], last: Answer | None) -> None:
    if command == "/help":
        for name, what in COMMANDS.items():
            report.note(f"{name:<9} {what}")
    elif command == "/history":
        for turn in history:
            report.note(f"{'you' if turn.role == 'user' else 'answer'}: {turn.content}")
    elif command not in COMMANDS:
        report.note(f"There is no command {command!r}; /help lists them.", style="red")
    elif last is None:
        report.note("Nothing was asked yet.")
    elif command == "/trace":
        report.note(f"fti trace {last.id}")
    else:
        for number, passage in enumerate(last.passages, start=1):
            report.say(f"[{number}] {passage.heading}  {passage.source}", style="cyan")
            report.say(f"    {passage.text.strip()}")
