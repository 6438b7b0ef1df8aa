"""How a question and its passages become messages, and what training and serving must agree on.

A ``PromptForm`` says how text around a question reads. A ``Contract`` adds which weights, which
tokenizer, which budgets and which embedder. The contract is written into every model version, and
serving reads it from there: serving has no prompt setting of its own. ``PromptForm.messages`` is
the only place where text around a question is composed; ``pipelines.engines.encoding`` is the only
place where those messages become token ids.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, Protocol

from pydantic import Field

from store.errors import EmptyQuestion, QuestionTooLong
from store.types import EmbedderIdentity, Message, ModelIdentity, Passage, Value, sha256_hex

DEFAULT_ABSTENTION = "The passages do not answer this question."

# A marker stands at the start or after white space or another marker, so that code in an answer
# (``items[0]``) and a footnote copied from a passage (``end.[3]``) are not taken for citations.
_MARKER = re.compile(r"(?:(?<=\s)|(?<=^)|(?<=\]))\[(\d{1,3})\]")
_FRAGMENT_TOKENS = 24  # a passage cut shorter than this says nothing and is dropped instead


class TokenCounter(Protocol):
    """Counts as the served model's own tokenizer does; see ``engines.encoding.PromptEncoder``."""

    def count(self, messages: Sequence[Message]) -> int:
        """Token count of the whole encoded prompt, generation prefix included."""
        ...

    def truncate(self, text: str, max_tokens: int) -> str:
        """The longest prefix of ``text`` that has at most ``max_tokens`` tokens."""
        ...


class ParsedResponse(Value):
    """A model's text, understood: ``text`` with valid markers only, their numbers and positions."""

    text: str
    markers: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    abstained: bool


class FittedPrompt(Value):
    """Messages within the budget and the passages that stand in them, cut as shown, in order."""

    messages: tuple[Message, ...]
    passages: tuple[Passage, ...]
    prompt_tokens: int


class PromptForm(Value):
    """The wording around a question.

    ``question_position`` "both" repeats the question before the passages: a causal model then reads
    them knowing what is asked. ``system`` may be empty for models trained on this one task.
    """

    system: str = (
        "Answer the question from the numbered passages, shortly and in their own words. Cite the "
        "passage you used like [1]. If the passages do not answer the question, reply exactly: "
        + DEFAULT_ABSTENTION
    )
    question_position: Literal["last", "both"] = "last"
    abstention: str = Field(default=DEFAULT_ABSTENTION, min_length=1)

    @property
    def digest(self) -> str:
        """sha256 over all fields."""
        return sha256_hex(self.model_dump_json())

    def messages(
        self,
        question: str,
        passages: Sequence[Passage] = (),
        history: Sequence[Message] = (),
    ) -> tuple[Message, ...]:
        """The conversation up to the point where the model answers.

        Args:
            question: what is asked; surrounding white space does not count.
            passages: in prompt order; the n-th is cited as ``[n]``. Empty: answer without sources.
            history: earlier user and assistant turns, oldest first.

        Raises:
            EmptyQuestion: ``question`` has no visible character.
        """
        question = question.strip()
        if not question:
            raise EmptyQuestion("The question is empty.", hint="Ask in words.")
        asked = f"Question: {question}"
        parts = [asked] if self.question_position == "both" and passages else []
        for number, passage in enumerate(passages, start=1):
            parts.append(f"[{number}] {passage.heading}\n{passage.text.strip()}")
        parts.append(asked)
        turns = [m for m in history if m.role != "system"]
        system = [Message(role="system", content=self.system)] if self.system else []
        return (*system, *turns, Message(role="user", content="\n\n".join(parts)))

    def response(self, answer: str, citations: Sequence[int] = ()) -> str:
        """The text a model should give: the answer with its markers, or the abstention."""
        answer = answer.strip()
        if not answer:
            return self.abstention
        return answer + "".join(f"{' ' if i == 0 else ''}[{n}]" for i, n in enumerate(citations))

    def parse(self, text: str, passages: int) -> ParsedResponse:
        """Understand a model's text, given how many passages it was shown.

        Markers that point at no passage are removed from the text. The answer abstains when it is
        empty or says the abstention sentence and nothing else, markers and case aside.
        """
        pieces: list[str] = []
        markers: list[int] = []
        spans: list[tuple[int, int]] = []
        length = last = 0
        source = text.strip()
        for match in _MARKER.finditer(source):
            kept = source[last : match.start()]
            number = int(match.group(1))
            if 1 <= number <= passages:
                pieces.append(kept)
                length += len(kept)
                marker = match.group(0)
                pieces.append(marker)
                spans.append((length, length + len(marker)))
                markers.append(number)
                length += len(marker)
            else:
                kept = kept.rstrip(" ")
                pieces.append(kept)
                length += len(kept)
            last = match.end()
        pieces.append(source[last:])
        clean = "".join(pieces).rstrip()
        bare = _fold(_MARKER.sub("", clean))
        abstained = bare in ("", _fold(self.abstention))
        if abstained:
            return ParsedResponse(text=self.abstention, markers=(), spans=(), abstained=True)
        return ParsedResponse(
            text=clean, markers=tuple(markers), spans=tuple(spans), abstained=False
        )


class Contract(Value):
    """Everything that training and serving must agree on.

    ``max_prompt_tokens`` bounds the encoded prompt, ``max_new_tokens`` the answer; their sum must
    fit the model's context. ``max_passages`` and ``max_passage_tokens`` bound what of the retrieved
    passages enters the prompt. ``embedder`` is the identity whose retrieval the model was trained
    behind.
    """

    format: Literal[1] = 1
    form: PromptForm = PromptForm()
    base: ModelIdentity
    embedder: EmbedderIdentity
    max_prompt_tokens: int = Field(ge=16)
    max_new_tokens: int = Field(ge=1)
    max_passages: int = Field(ge=1, le=99)
    max_passage_tokens: int = Field(ge=16)

    @property
    def digest(self) -> str:
        """sha256 over all fields."""
        return sha256_hex(self.model_dump_json())

    def fit(
        self,
        question: str,
        passages: Sequence[Passage],
        *,
        counter: TokenCounter,
        history: Sequence[Message] = (),
    ) -> FittedPrompt:
        """Compose the prompt from as many of the passages, in order, as the budget holds.

        Each passage is first cut to ``max_passage_tokens``. The first passage that does not fit
        whole is cut to what is left, and those after it are dropped. Oldest turns of the history
        go before any passage does. Training and serving both call this, and nothing else.

        Raises:
            EmptyQuestion: there is no question.
            QuestionTooLong: the question alone exceeds the budget.
        """
        bare = counter.count(self.form.messages(question))
        if bare > self.max_prompt_tokens:
            raise QuestionTooLong(
                f"The question needs {bare} tokens, and this model's prompt holds "
                f"{self.max_prompt_tokens}.",
                hint="Ask a shorter question, or use a profile with a longer context.",
            )
        turns = list(history)
        # Half the prompt is the passages' own: a long conversation must not push them out.
        while turns and counter.count(self.form.messages(question, (), turns)) > max(
            bare, self.max_prompt_tokens // 2
        ):
            turns.pop(0)
        kept: list[Passage] = []
        for passage in list(passages)[: self.max_passages]:
            text = counter.truncate(passage.text.strip(), self.max_passage_tokens)
            whole = self._cut(passage, text)
            used = counter.count(self.form.messages(question, [*kept, whole], turns))
            if used <= self.max_prompt_tokens:
                kept.append(whole)
                continue
            room = self.max_passage_tokens - (used - self.max_prompt_tokens)
            # The heading and joins are in `used`; counting again pays for tokens merged at seams.
            while room >= _FRAGMENT_TOKENS:
                part = self._cut(passage, counter.truncate(text, room))
                over = (
                    counter.count(self.form.messages(question, [*kept, part], turns))
                    - self.max_prompt_tokens
                )
                if over <= 0:
                    kept.append(part)
                    break
                room -= over
            break
        messages = self.form.messages(question, kept, turns)
        return FittedPrompt(
            messages=messages, passages=tuple(kept), prompt_tokens=counter.count(messages)
        )

    @staticmethod
    def _cut(passage: Passage, text: str) -> Passage:
        if text == passage.text:
            return passage
        lead = len(passage.text) - len(passage.text.lstrip())
        start = passage.start + lead
        return passage.model_copy(update={"text": text, "start": start, "end": start + len(text)})

    def differences(self, other: Contract) -> list[str]:
        """What another contract says otherwise, one line per field, for error messages."""
        mine, theirs = self.model_dump(mode="json"), other.model_dump(mode="json")
        return [
            f"{key}: {mine[key]!r} is not {theirs[key]!r}"
            for key in mine
            if mine[key] != theirs[key]
        ]


def _fold(text: str) -> str:
    return " ".join(text.split()).casefold().rstrip(".")
