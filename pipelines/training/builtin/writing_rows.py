"""Training rows for the built-in question writer: the reader's rows the other way round.

A row shows a few sentences. Its branches name the answers that people asked for about them, and
write, for each of these answers, the question that was asked.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fti.pipelines.engines.asked_for import wants_sentence
from fti.pipelines.engines.question_prompts import answers_prompt, question_prompt
from fti.pipelines.engines.sentences import sentence_spans
from fti.pipelines.training.builtin.branches import Encoded, batches, collate, encode_turns
from fti.pipelines.training.builtin.reading_rows import (
    MAX_SENTENCE_CHARS,
    Asked,
    Corpus,
    Text,
    heading,
    paired_reply,
    sentence_with,
)
from fti.pipelines.training.builtin.recipe import SENTENCES, Shuffled
from fti.pipelines.training.builtin.train import losses
from fti.store.types import Message

if TYPE_CHECKING:
    from peft import PeftModel

SHARES: tuple[tuple[str, float], ...] = (
    ("squad_articles", 0.42),
    ("squad_paragraphs", 0.34),
    ("qed_nq", 0.07),
    ("fairytale_qa", 0.06),
    ("covid_qa", 0.04),
    (SENTENCES, 0.07),
)
"""Sources of the rows, each with its share. PolicyQA's questions, which are a form's, are left out.
"""

_SENTENCES = ((1, 10), (2, 20), (3, 30), (4, 25), (6, 15))
"""Numbers of sentences that a row shows, each with its weight."""
_LEAST_CHARS, _MOST_CHARS = 60, 1000
_MOST_QUESTIONS = 6
_LISTED = 0.6  # share of the rows in which the answers are to be named, too
_LEAST_NAMED = 2
_POINTS_OUTSIDE = re.compile(
    r"\b(?:he|she|they|it|his|her|their|its|him|them|this|these|those|that|here|the (?:passage|"
    r"text|article|paragraph|author|story|following|above))\b",
    re.IGNORECASE,
)
_NAMES = re.compile(r"(?<!^)\b(?:[A-Z][\w'’-]+|\d{4})")
_ASKING = frozenset(
    "what when where which whose does were have been would could should that this with from many "
    "much long often name kind type year about than into there their".split()
)
_GROUNDED = 0.5  # share of a question's words that stand, by their first letters, in what is shown
_LONGEST_QUESTION = 30  # words


@dataclass(frozen=True, slots=True)
class WritingRow:
    """Prompts about one passage and what is to be replied to each."""

    turns: tuple[tuple[tuple[Message, ...], str], ...]


def stands_alone(question: str) -> bool:
    """Whether a question names what it is about, so that a stranger could ask it."""
    if not 3 < len(question.split()) <= _LONGEST_QUESTION:
        return False
    return not _POINTS_OUTSIDE.search(question) or bool(_NAMES.search(question))


def grounded(question: str, shown: str) -> bool:
    """Whether what is shown names what the question names, and speaks of what it speaks of.

    Questions were written about whole paragraphs; a writer that learns to ask about what it does
    not see learns to invent.
    """
    low = shown.casefold()
    if any(name.casefold() not in low for name in _NAMES.findall(question)):
        return False
    heavy = [word for word in re.findall(r"[a-z]{4,}", question.casefold()) if word not in _ASKING]
    return sum(word[:5] in low for word in heavy) >= _GROUNDED * len(heavy)


def as_asked(question: str) -> str:
    """A question with a capital first letter and a question mark, as a person writes it."""
    question = re.sub(r"\s+", " ", question).strip().rstrip(".?! ")
    return f"{question[:1].upper()}{question[1:]}?"


def writing_row(text: Text, rng: random.Random) -> WritingRow:
    """A few sentences of a text; empty where nothing was asked about them.

    Args:
        text: what people asked about.
        rng: decides which sentences.
    """
    spans = sentence_spans(text.text)
    placed = [
        (at, asked)
        for asked in text.asked
        if asked.answer and stands_alone(asked.question)
        and (at := text.text.find(asked.answer)) >= 0
    ]  # fmt: skip
    if not spans or not placed:
        return WritingRow(())
    count = rng.choices([n for n, _ in _SENTENCES], [w for _, w in _SENTENCES])[0]
    about = rng.choice(placed)[0]
    middle = next((n for n, (_, end) in enumerate(spans) if about < end), len(spans) - 1)
    first = max(0, min(middle - rng.randrange(count), len(spans) - count))
    last = min(len(spans), first + count)
    start, end = spans[first][0], spans[last - 1][1]
    while end - start < _LEAST_CHARS and last < len(spans):
        end, last = spans[last][1], last + 1
    if end - start > _MOST_CHARS:
        return WritingRow(())
    shown = text.text[start:end]
    inside = [
        asked for at, asked in sorted(placed, key=lambda p: p[0])
        if start <= at
        and at + len(asked.answer) <= end
        and grounded(asked.question, f"{text.heading} {shown}")
    ]  # fmt: skip
    name = heading(text, rng) if text.heading or rng.random() < 0.7 else ""
    return _row(name, shown, inside, rng)


def _row(name: str, shown: str, inside: Sequence[Asked], rng: random.Random) -> WritingRow:
    turns: list[tuple[tuple[Message, ...], str]] = []
    phrases = list(dict.fromkeys(a.answer for a in inside if len(a.answer) <= 80))
    if len(phrases) >= _LEAST_NAMED and rng.random() < _LISTED:
        turns.append((answers_prompt(name, shown), "\n".join(phrases)))
    for asked in rng.sample(inside, min(len(inside), _MOST_QUESTIONS)):
        answer = asked.answer
        if wants_sentence(asked.question, asked.answer) and rng.random() < 0.7:
            sentence = sentence_with(shown, asked.answer)
            if sentence and len(sentence) <= MAX_SENTENCE_CHARS:
                answer = sentence
        turns.append((question_prompt(name, shown, answer), as_asked(asked.question)))
    return WritingRow(tuple(turns))


def pairs_row(pairs: Sequence[tuple[str, str]], rng: random.Random) -> WritingRow:
    """Unrelated sentences in a row, each with the question that it, or a phrase in it, answers."""
    shown = " ".join(sentence for _, sentence in pairs)
    name = heading(Text("", shown), rng) if rng.random() < 0.5 else ""
    return WritingRow(
        tuple(
            (question_prompt(name, shown, reply), as_asked(question))
            for question, sentence in pairs
            if stands_alone(question) and (reply := paired_reply(question, sentence))
        )
    )


class WritingStream(Shuffled):
    """Rows for the writer without end, from the same corpus as the reader's."""

    def __init__(self, corpus: Corpus, seed: int, taken: dict[str, int] | None = None) -> None:
        super().__init__(seed, taken)
        self.corpus = corpus
        self._pairs = [pair for pair in corpus.pairs if paired_reply(*pair)]

    def encoded(self, tokenizer: Any, rng: random.Random, progress: float) -> Encoded | None:
        """The next row as ids; None where it came without any turn."""
        source = rng.choices([n for n, _ in SHARES], [s for _, s in SHARES])[0]
        if source == SENTENCES:
            count = rng.randint(1, 3)
            pairs = [self._pairs[self.next(source, len(self._pairs))] for _ in range(count)]
            row = pairs_row(pairs, rng)
        else:
            texts = self.corpus.reading[source]
            row = writing_row(texts[self.next(source, len(texts))], rng)
        return encode_turns(tokenizer, row.turns) if row.turns else None


def held_out_loss(
    model: PeftModel, *, tokenizer: Any, corpus: Corpus, bfloat16: bool = False, count: int = 40
) -> dict[str, float]:
    """Loss a token of what people asked about the held-out articles, the same rows each time."""
    import torch

    rng = random.Random("writing held out")
    rows = [row for text in corpus.held_out if (row := writing_row(text, rng)).turns][:count]
    was_training = model.training
    model.eval()
    total = seen = 0.0
    with torch.inference_mode():
        for group in batches([encode_turns(tokenizer, row.turns) for row in rows], 1280):
            loss, _ = losses(model, collate(group, 0), str(model.device), bfloat16=bfloat16)
            total += float(loss.sum())
            seen += len(loss)
    model.train(was_training)
    return {"dev_loss": round(total / seen, 4)}
