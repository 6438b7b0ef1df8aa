"""What the built-in question writer is asked, and how its replies are read.

Two tasks over one passage, which stands first so that it is read once: name the answers that a
reader may ask for (Alberti et al., "Synthetic QA Corpora Generation with Roundtrip Consistency",
ACL 2019, draw answers first, too), and write the question that one answer answers. Training and
the dataset pipeline compose the same messages here.
"""

from __future__ import annotations

from fti.store.types import Message

SYSTEM = "Write questions about the passage."
NAME_ANSWERS = "Name the answers that a reader may ask for, one per line."
WRITE_QUESTION = "Write the question that this answers."


def _messages(heading: str, text: str, task: str) -> tuple[Message, ...]:
    passage = f"{heading}\n{text}" if heading else text
    return (
        Message(role="system", content=SYSTEM),
        Message(role="user", content=f"{passage}\n\n{task}"),
    )


def answers_prompt(heading: str, text: str) -> tuple[Message, ...]:
    """Asks for the answers in a passage."""
    return _messages(heading, text, NAME_ANSWERS)


def question_prompt(heading: str, text: str, answer: str) -> tuple[Message, ...]:
    """Asks for the question that ``answer``, which stands in the passage, answers."""
    return _messages(heading, text, f"Answer: {answer}\n{WRITE_QUESTION}")


def named_answers(reply: str, text: str) -> list[str]:
    """The answers named in a reply that stand in the passage as whole words, each once."""
    found: list[str] = []
    for line in reply.splitlines():
        answer = line.strip()
        if answer and answer not in found and stands_in(answer, text):
            found.append(answer)
    return found


def stands_in(answer: str, text: str) -> bool:
    """Whether an answer stands in a text and does not begin or end within a word."""
    at = text.find(answer)
    while at >= 0:
        before, after = text[at - 1 : at], text[at + len(answer) : at + len(answer) + 1]
        if not (before.isalnum() and answer[0].isalnum()) and not (
            after.isalnum() and answer[-1].isalnum()
        ):
            return True
        at = text.find(answer, at + 1)
    return False
