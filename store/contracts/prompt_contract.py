"""How a question and its passages become messages, and what training and serving must agree on.

A ``PromptForm`` says how text around a question reads. A ``Contract`` adds which weights, which
tokenizer, which budgets and which embedder. The contract is written into every model version, and
serving reads it from there: serving has no prompt setting of its own. ``PromptForm.messages`` is
the only place where text around a question is composed; ``engines.encoding`` is the only
place where those messages become token ids.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Literal, Protocol
from weakref import WeakKeyDictionary

from pydantic import Field

from fti.store.errors import EmptyQuestion, QuestionTooLong
from fti.store.plain_text import unwrapped
from fti.store.types import (
    EmbedderIdentity,
    Message,
    ModelIdentity,
    Passage,
    RetrievalContract,
    Value,
    sha256_hex,
)

EvidenceChoice = Literal["similarity", "hybrid"]
"""How evidence sentences are chosen; see ``engines.evidence.nearest_sentences``."""

DEFAULT_ABSTENTION = "The passages do not answer this question."

# Markers stand in a row at the start or after white space, so that code in an answer (``m[0][1]``)
# and a footnote copied from a passage (``end.[3]``) are not taken for citations.
_MARKERS = re.compile(r"(?<!\S)(?:\[[0-9]{1,3}\])+")
_MARKER = re.compile(r"\[([0-9]{1,3})\]")
_SEAM_TOKENS = 16  # more than a text gains by standing inside another one
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
    ``response_lead`` is what a response begins with: after a space a byte-pair tokenizer spells a
    word with the very tokens that it has in the passage, so that a small model can copy it.
    ``unwrap`` shows a passage's paragraphs without the line breaks within their sentences.
    """

    system: str = (
        "Answer the question from the numbered passages, shortly and in their own words. Cite the "
        "passage you used like [1]. If the passages do not answer the question, reply exactly: "
        + DEFAULT_ABSTENTION
    )
    question_position: Literal["last", "both"] = "last"
    response_lead: Literal["", " "] = ""
    unwrap: bool = False
    abstention: str = Field(default=DEFAULT_ABSTENTION, min_length=1)

    @property
    def digest(self) -> str:
        """sha256 over all fields; what was made before some of them were there keeps its own."""
        return sha256_hex(self.model_dump_json(exclude=None if self.unwrap else {"unwrap"}))

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
        if not any(map(_visible, question)):
            raise EmptyQuestion("The question is empty.", hint="Ask in words.")
        asked = f"Question: {question}"
        parts = [asked] if self.question_position == "both" and passages else []
        for number, passage in enumerate(passages, start=1):
            text = unwrapped(passage.text) if self.unwrap else passage.text
            parts.append(f"[{number}] {passage.heading}\n{text.strip()}")
        parts.append(asked)
        turns = [m for m in history if m.role != "system"]
        system = [Message(role="system", content=self.system)] if self.system else []
        return (*system, *turns, Message(role="user", content="\n\n".join(parts)))

    def response(self, answer: str, citations: Sequence[int] = ()) -> str:
        """The text a model should give: the answer with its markers, or the abstention."""
        answer = answer.strip()
        if not answer:
            return self.response_lead + self.abstention
        markers = "".join(f"[{n}]" for n in citations)
        return f"{self.response_lead}{answer}{' ' if markers else ''}{markers}"

    def parse(self, text: str, passages: int) -> ParsedResponse:
        """Understand a model's text, given how many passages it was shown.

        Markers that point at no passage are removed from the text. The answer abstains when it is
        empty or says the abstention sentence and nothing else, markers and case aside.
        """
        clean = text.strip()
        while (shorter := _without_unknown(clean, passages)) != clean:
            clean = shorter  # taking one out may bring together what reads like another
        if _fold(_MARKERS.sub("", clean)) in ("", _fold(self.abstention)):
            return ParsedResponse(text=self.abstention, markers=(), spans=(), abstained=True)
        found = [
            (int(marker.group(1)), (row.start() + marker.start(), row.start() + marker.end()))
            for row in _MARKERS.finditer(clean)
            for marker in _MARKER.finditer(row.group())
        ]
        return ParsedResponse(
            text=clean,
            markers=tuple(number for number, _ in found),
            spans=tuple(span for _, span in found),
            abstained=False,
        )

    def may_become_abstention(self, text: str) -> bool:
        """Whether more text after ``text`` could still make the whole an abstention."""
        return _fold(self.abstention).startswith(_fold(_MARKERS.sub("", text)))


BUILTIN_FORM = PromptForm(
    system="Answer from the passages and cite them like [1].",
    question_position="last",
    response_lead=" ",
    unwrap=True,
    abstention="None of the passages answers this question.",
)
"""The wording that the built-in model was trained on.

The system text is short because every prompt pays for it, and not empty because the base's chat
template then puts in a longer one of its own. The abstention begins with a word that hardly any
answer begins with, so that its first token alone decides whether the model refuses.
"""

#: Tokens of each form's prompt with hardly a question in it, by counter.
_bare_tokens: WeakKeyDictionary[TokenCounter, dict[PromptForm, int]] = WeakKeyDictionary()


class Contract(Value):
    """Everything that training and serving must agree on.

    ``max_prompt_tokens`` bounds the encoded prompt, ``max_new_tokens`` the answer; their sum must
    fit the model's context. ``max_passages`` and ``max_passage_tokens`` bound what of the retrieved
    passages enters the prompt. Where ``evidence_sentences`` is not 0, only so many sentences of
    them do, those that fit the question best by ``evidence_choice`` (``engines.evidence``).
    ``embedder`` is the identity whose retrieval the model was trained behind, and ``retrieval`` how
    that found the passages; None: an fti that did not say trained it, and nothing is compared.
    ``abstain_below`` is the cosine of question and nearest passage below which the model is not
    asked, as it was calibrated on questions with and without an answer
    (``inference.calibration``); None leaves that to the profile.
    ``refuse_above`` is how likely the model must think its own refusal for it to stand: an answer
    can be worded in many ways and a refusal in one, so the refusal is often the likeliest text
    though an answer of some wording is likelier by far. At 0, every refusal stands.
    """

    format: Literal[1] = 1
    form: PromptForm = PromptForm()
    base: ModelIdentity
    embedder: EmbedderIdentity
    retrieval: RetrievalContract | None = None
    max_prompt_tokens: int = Field(ge=16)
    max_new_tokens: int = Field(ge=1)
    max_passages: int = Field(ge=1, le=99)
    max_passage_tokens: int = Field(ge=16)
    evidence_sentences: int = Field(default=0, ge=0)
    evidence_choice: EvidenceChoice = "similarity"
    abstain_below: float | None = Field(default=None, ge=-1, le=1)
    refuse_above: float = Field(default=0.0, ge=0, le=1)

    @property
    def digest(self) -> str:
        """sha256 over all fields; what was made before some of them were there keeps its own."""
        absent: dict[str, Any] = {"retrieval": True} if self.retrieval is None else {}
        if self.evidence_choice == "similarity":  # as sentences were chosen before one could say
            absent["evidence_choice"] = True
        if not self.form.unwrap:
            absent["form"] = {"unwrap"}
        return sha256_hex(self.model_dump_json(exclude=absent))

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
        self.require_room(question, counter=counter)
        turns = self._recent(question, history, counter)
        kept: list[Passage] = []
        for passage in passages[: self.max_passages]:
            whole = self._cut(
                passage, counter.truncate(passage.text.strip(), self.max_passage_tokens)
            )
            if not whole.text:
                continue
            if self._over(question, [*kept, whole], turns, counter) <= 0:
                kept.append(whole)
                continue
            part = self._part(question, kept, whole, turns, counter)
            if part is not None:
                kept.append(part)
            break
        messages = self.form.messages(question, kept, turns)
        return FittedPrompt(
            messages=messages, passages=tuple(kept), prompt_tokens=counter.count(messages)
        )

    def require_room(self, question: str, *, counter: TokenCounter) -> None:
        """Refuse a question that the prompt cannot hold even without passages.

        Raises:
            EmptyQuestion: there is no question.
            QuestionTooLong: the question alone exceeds the budget.
        """
        messages = self.form.messages(question)
        if self._surely_fits(question, counter):
            return
        bare = counter.count(messages)
        if bare > self.max_prompt_tokens:
            raise QuestionTooLong(
                f"The question needs {bare} tokens, and this model's prompt holds "
                f"{self.max_prompt_tokens}.",
                hint="Ask a shorter question, or use a profile with a longer context.",
            )

    def _surely_fits(self, question: str, counter: TokenCounter) -> bool:
        """Whether the question is so short that no prompt of it need be encoded to know.

        That takes a millisecond and more, by a chat template; every question is asked about.
        """
        known = _bare_tokens.setdefault(counter, {})
        if self.form not in known:
            known[self.form] = counter.count(self.form.messages("?"))
        room = self.max_prompt_tokens - known[self.form] - _SEAM_TOKENS
        # Some forms say the question twice.
        return room > 1 and counter.truncate(question, room // 2) == question

    def _over(
        self,
        question: str,
        passages: Sequence[Passage],
        turns: Sequence[Message],
        counter: TokenCounter,
    ) -> int:
        """By how many tokens the prompt exceeds its budget; negative where there is room."""
        return counter.count(self.form.messages(question, passages, turns)) - self.max_prompt_tokens

    def _recent(
        self, question: str, history: Sequence[Message], counter: TokenCounter
    ) -> list[Message]:
        """The newest turns that fit; they begin with the user's, as chat templates demand."""
        turns = [turn for turn in history if turn.role != "system"]
        if not turns:
            return []
        bare = counter.count(self.form.messages(question))
        budget = max(bare, self._of_history())
        while turns and (
            turns[0].role != "user"
            or counter.count(self.form.messages(question, (), turns)) > budget
        ):
            turns.pop(0)
        return turns

    def _of_history(self) -> int:
        """The prompt's tokens up to the question that a conversation may take.

        Half of them are the passages' own: a long conversation must not push them out.
        """
        return self.max_prompt_tokens // 2

    def _part(
        self,
        question: str,
        kept: Sequence[Passage],
        passage: Passage,
        turns: Sequence[Message],
        counter: TokenCounter,
    ) -> Passage | None:
        """As much of ``passage`` as still fits after ``kept``; None when too little would."""
        heading = passage.model_copy(update={"text": ""})
        room = -self._over(question, [*kept, heading], turns, counter)
        while room >= _FRAGMENT_TOKENS:
            part = self._cut(passage, counter.truncate(passage.text, room))
            over = self._over(question, [*kept, part], turns, counter)
            if over <= 0:
                return part
            room -= over  # tokens that merge at the seams cost more or less than counted apart
        return None

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


def _without_unknown(text: str, passages: int) -> str:
    """``text`` without the markers that point at no passage, and the spaces before them."""
    pieces: list[str] = []
    last = 0
    for row in _MARKERS.finditer(text):
        before = text[last : row.start()]
        known = [
            marker.group()
            for marker in _MARKER.finditer(row.group())
            if 1 <= int(marker.group(1)) <= passages
        ]
        if not known and not text[row.end() : row.end() + 1].isalnum():
            before = before.rstrip(" ")
        pieces += [before, *known]
        last = row.end()
    return "".join([*pieces, text[last:]]).strip()


def _visible(character: str) -> bool:
    # Separators, controls and format characters (zero-width space) show nothing.
    return unicodedata.category(character) not in ("Zs", "Zl", "Zp", "Cc", "Cf", "Cs")


def _fold(text: str) -> str:
    return " ".join(text.split()).casefold().rstrip(". ")
