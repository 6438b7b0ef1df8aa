"""Training rows for the built-in reader: passages and what is asked about them.

A row shows up to five passages and asks several questions about them. Reading the passages is
nearly all the cost of a row, so they are read once, and each question with its response is a branch
of its own behind them (``branches``): what a branch sees is exactly what serving sends.

Everything here is a pure function of the data, a generator and its arguments. The test collection
(``squad/corpus``, ``squad/questions.jsonl``, ``squad/unanswerable.jsonl``) is never read.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fti.pipelines.engines.asked_for import wants_sentence
from fti.pipelines.engines.sentences import sentence_spans
from fti.store.contracts.prompt_contract import BUILTIN_FORM
from fti.store.types import Passage

FORM = BUILTIN_FORM

HELD_OUT = ("Kenya", "Construction")
"""Training articles kept for development: never trained on, used to choose recipes."""

MAX_ANSWER_CHARS = 160
MAX_SENTENCE_CHARS = 260
"""A longer sentence is no answer: the phrase that was annotated is given instead."""

WINDOWS = {"fairytale_qa": 900, "policy_qa": 900, "covid_qa": 700, "qed_nq": 1000}
"""Sources that carry their own contexts, and to how many characters these are cut."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and its answer in the passage's words; an empty answer: not in the passage."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Text:
    """A passage with what is asked about it. ``group``: texts that make hard distractors."""

    heading: str
    text: str
    asked: tuple[Asked, ...] = ()
    group: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One question of a row and the full response, citation included."""

    question: str
    response: str


@dataclass(frozen=True, slots=True)
class Row:
    """Numbered passages and the turns asked about them, each apart from the others."""

    passages: tuple[Passage, ...]
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Mix:
    """How much is asked about what is shown, and how much of it has no answer there."""

    most_turns: int = 6
    refused: float = 0.25
    """Share of the questions with an answer that are exchanged for one without."""
    altered: float = 0.75
    """Share of those that are the question itself with a word, name or year exchanged."""
    withheld: float = 0.16
    """Share of the evidence rows that do not show the sentence that answers."""
    two_parts: float = 0.15
    """Share of the rows in which two questions are also asked as one."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """All that is read from disk: texts with questions by source, and sentence pairs."""

    reading: dict[str, list[Text]]
    pairs: list[tuple[str, str]]
    held_out: list[Text] = field(default_factory=list)


# Reading the files


def jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def detokenised(text: str) -> str:
    """Text whose punctuation was set apart by spaces (Natural Questions), as it is written."""
    text = text.replace("``", '"').replace("''", '"')
    text = re.sub(r'" ([^"]*?) "', r'"\1"', text)
    text = re.sub(r" ([,.;:!?%)\]}]|'s\b|'t\b|n't\b|'re\b|'ve\b|'ll\b|'d\b)", r"\1", text)
    text = re.sub(r"([(\[{$£€]) ", r"\1", text)
    text = re.sub(r" (-+|–|/) ", lambda m: " -- " if len(m[1]) > 1 else m[1], text)
    return re.sub(r" '(?=\W|$)", "'", text)


def located(answers: Sequence[str], text: str) -> str:
    """An accepted answer as the text spells it; empty if none stands in it.

    Of several it is the one in the middle by length: the shortest often leaves off the unit or
    half of a name.
    """
    found = []
    for answer in sorted({a.strip() for a in answers}, key=lambda a: (len(a), a)):
        if not answer or len(answer) > MAX_ANSWER_CHARS:
            continue
        at = re.search(r"(?<!\w)" + re.escape(answer) + r"(?!\w)", text)
        at = at or re.search(re.escape(answer), text, re.IGNORECASE)
        if at:
            found.append(at[0].strip().rstrip(".,;:") if len(at[0]) > 1 else at[0])
    return found[len(found) // 2] if found else ""


def window(text: str, answer: str, size: int) -> str:
    """About ``size`` characters of a text around an answer, cut at sentence ends where possible."""
    if len(text) <= size:
        return text
    at = max(text.find(answer), 0)
    start = max(0, min(at - size // 2, len(text) - size))
    if start:
        stop = re.search(r"[.!?]\s+|\n", text[start:at])
        start += stop.end() if stop else 0
    end = min(len(text), max(start + size, at + len(answer)))
    tail = max(text.rfind(". ", at + len(answer), end), text.rfind("\n", at + len(answer), end))
    return text[start : tail + 1 if tail > 0 else end].strip()


def squad(folder: Path) -> tuple[list[Text], list[Text], list[Text]]:
    """SQuAD's training part: paragraphs of whole articles, of unnamed ones, and the held-out."""
    by_place: dict[tuple[str, int], list[Asked]] = {}
    rows = jsonl(folder / "questions.jsonl") + jsonl(folder / "unanswerable.jsonl")
    paragraphs = {
        f"articles/{path.name}": path.read_text(encoding="utf-8").strip().split("\n\n")
        for path in sorted((folder / "articles").glob("*.md"))
    }
    for row in rows:
        # Paragraph 0 is the first after the title line.
        text = paragraphs[row["document"]][row["paragraph"] + 1]
        answer = located(row["answers"], text)
        if answer or not row["answers"]:
            place = (row["document"], row["paragraph"])
            by_place.setdefault(place, []).append(Asked(row["question"].strip(), answer))
    whole: list[Text] = []
    held: list[Text] = []
    for (document, number), asked in by_place.items():
        name = document.removeprefix("articles/").removesuffix(".md")
        text = paragraphs[document][number + 1]
        title = paragraphs[document][0].removeprefix("# ")
        (held if name in HELD_OUT else whole).append(Text(title, text, tuple(asked), name))
    unnamed: dict[str, list[Asked]] = {}
    texts = {row["id"]: row["text"] for row in jsonl(folder / "paragraphs.jsonl")}
    for row in jsonl(folder / "paragraph_questions.jsonl"):
        if answer := located(row["answers"], texts[row["paragraph_id"]]):
            unnamed.setdefault(row["paragraph_id"], []).append(
                Asked(row["question"].strip(), answer)
            )
    loose = [Text("", texts[key], tuple(asked), "paragraphs") for key, asked in unnamed.items()]
    return whole, loose, held


def by_context(rows: Sequence[dict[str, Any]], group: str, size: int) -> list[Text]:
    """Rows that carry their own context, gathered by it."""
    gathered: dict[str, list[Asked]] = {}
    for row in rows:
        context = detokenised(row["context"]) if group == "qed_nq" else row["context"].strip()
        answers = [detokenised(a) if group == "qed_nq" else a for a in row["answers"]]
        if not (answer := located(answers, context)):
            continue
        asked = gathered.setdefault(window(context, answer, size), [])
        if all(a.question != row["question"].strip() for a in asked):
            asked.append(Asked(row["question"].strip(), answer))
    return [Text("", text, tuple(asked), group) for text, asked in gathered.items()]


def read_corpus(data: Path) -> Corpus:
    """Read every training source under ``data``, held-out articles set apart."""
    whole, loose, held = squad(data / "squad" / "train")
    reading = {"squad_articles": whole, "squad_paragraphs": loose}
    for name, size in WINDOWS.items():
        reading[name] = by_context(jsonl(data / "reading" / f"{name}.jsonl"), name, size)
    pairs = [
        (row["question"].strip(), row["answer_sentence"].strip())
        for row in jsonl(data / "squad" / "train" / "sentence_pairs.jsonl")
        if len(row["answer_sentence"]) < MAX_SENTENCE_CHARS
    ]
    return Corpus(reading=reading, pairs=pairs, held_out=held)


# Composing rows

WORDS = re.compile(r"[A-Z][a-z]+(?: [A-Z][a-z]+){0,2}")


def heading(text: Text, rng: random.Random) -> str:
    """The text's heading, or an invented one where the source names none."""
    if text.heading:
        return text.heading
    names = WORDS.findall(text.text) or ["Document"]
    name = rng.choice(names[:6])
    style = rng.random()
    if style < 0.5:
        return name
    if style < 0.7:
        return name.lower().replace(" ", "-") + rng.choice((".md", ".txt", ".pdf", ".html"))
    return f"{rng.choice(('Notes', 'Report', 'Guide', 'Handbook', 'Overview', 'Archive'))} > {name}"


def shown(texts: Sequence[Text], rng: random.Random) -> tuple[Passage, ...]:
    """Texts as numbered passages of a prompt."""
    return tuple(
        Passage(
            rank=n,
            chunk_id=f"c{n}",
            document_id=f"d{n}",
            source="",
            title=heading(text, rng),
            text=text.text,
        )
        for n, text in enumerate(texts, start=1)
    )


YEAR = re.compile(r"\b(1[0-9]{3}|20[0-9]{2})\b")
NAME = re.compile(r"(?<![.?!] )(?<!^)\b[A-Z][a-zA-Z]{2,}(?: [A-Z][a-zA-Z]+)*")
OPPOSITES = (
    ("first", "last"), ("before", "after"), ("largest", "smallest"), ("most", "least"),
    ("more", "less"), ("more", "fewer"), ("highest", "lowest"), ("higher", "lower"),
    ("increase", "decrease"), ("increased", "decreased"), ("longest", "shortest"),
    ("oldest", "youngest"), ("oldest", "newest"), ("earliest", "latest"), ("early", "late"),
    ("best", "worst"), ("began", "ended"), ("begin", "end"), ("start", "end"),
    ("started", "stopped"), ("open", "close"), ("opened", "closed"), ("won", "lost"),
    ("win", "lose"), ("north", "south"), ("east", "west"), ("northern", "southern"),
    ("eastern", "western"), ("above", "below"), ("inside", "outside"), ("male", "female"),
    ("men", "women"), ("public", "private"), ("allowed", "forbidden"), ("allow", "forbid"),
    ("accepted", "rejected"), ("built", "destroyed"), ("born", "buried"), ("bought", "sold"),
    ("arrive", "leave"), ("arrived", "left"), ("positive", "negative"), ("major", "minor"),
    ("common", "rare"), ("easy", "difficult"), ("cheap", "expensive"), ("strong", "weak"),
    ("maximum", "minimum"), ("founded", "dissolved"), ("joined", "left"), ("supported", "opposed"),
    ("support", "oppose"), ("cause", "prevent"), ("caused", "prevented"), ("former", "current"),
    ("internal", "external"), ("import", "export"), ("legal", "illegal"), ("rural", "urban"),
    ("rich", "poor"), ("gain", "lose"), ("enter", "leave"), ("upper", "lower"), ("new", "old"),
)  # fmt: skip
"""Words whose exchange makes a question about something else."""
OPPOSITE = {a: b for pair in OPPOSITES for a, b in (pair, pair[::-1])}


def altered(question: str, others: str, rng: random.Random) -> str:
    """A question about something else: a word turned into its opposite, a year or a name into one
    from other texts, or the question denied.

    Empty where nothing can be changed. These are the ways in which most of SQuAD 2.0's
    unanswerable questions differ from answerable ones (Rajpurkar et al. 2018, table 1).
    """
    for way in rng.sample((_opposite, _year, _name, _name, _denied), 5):
        if changed := way(question, others, rng):
            return str(changed)
    return ""


def _opposite(question: str, others: str, rng: random.Random) -> str:
    found = [m for m in re.finditer(r"[a-z]+", question) if m[0] in OPPOSITE]
    if not found:
        return ""
    at = rng.choice(found)
    return question[: at.start()] + OPPOSITE[at[0]] + question[at.end() :]


def _year(question: str, others: str, rng: random.Random) -> str:
    return _exchanged(YEAR, question, others, rng)


def _name(question: str, others: str, rng: random.Random) -> str:
    return _exchanged(NAME, question, others, rng)


def _exchanged(pattern: re.Pattern[str], question: str, others: str, rng: random.Random) -> str:
    here = pattern.findall(question)
    there = sorted(set(pattern.findall(others)) - set(here))
    return question.replace(rng.choice(here), rng.choice(there)) if here and there else ""


def _denied(question: str, others: str, rng: random.Random) -> str:
    """The question with "not" or "never" behind its auxiliary and subject; seldom, as it is plain.

    Only after a bare "who", "what" or "which" question: elsewhere the place is not known.
    """
    found = re.match(
        r"(?:Who|What|Which \w+) (is|are|was|were|can|could|will|would|should)\b", question
    )
    if not found or rng.random() < 0.4:
        return ""
    word = rng.choice(("not", "never"))
    return f"{question[: found.end()]} {word}{question[found.end() :]}"


# Responses


def sentence_with(text: str, answer: str) -> str:
    """The sentence of a text in which an answer stands; empty where none holds the whole of it."""
    at = text.find(answer)
    for start, end in sentence_spans(text):
        if start <= at and at + len(answer) <= end:
            return text[start:end]
    return ""


def in_words(asked: Asked, text: str) -> str:
    """What to reply to a question from the text that answers it: a phrase, or its sentence."""
    if wants_sentence(asked.question, asked.answer):
        sentence = sentence_with(text, asked.answer)
        if sentence and len(sentence) <= MAX_SENTENCE_CHARS:
            return sentence
    return asked.answer


def two_parts(first: Asked, second: Asked, text: str) -> tuple[str, str] | None:
    """One question out of two about a text, with the sentences that answer both; None if unfit."""
    opening = second.question.split(" ", 1)[0].lower()
    if opening not in ("what", "who", "when", "where", "how", "why", "which"):
        return None
    sentences = dict.fromkeys(sentence_with(text, a.answer) for a in (first, second))
    reply = " ".join(sentences)
    if "" in sentences or len(reply) > 1.3 * MAX_SENTENCE_CHARS:
        return None
    head, tail = first.question.rstrip("? "), second.question
    return f"{head}, and {tail[0].lower()}{tail[1:]}", reply


# Rows


def passage_row(
    text: Text, distractors: Sequence[Text], spare: Sequence[Text], rng: random.Random, mix: Mix
) -> Row:
    """A row about one whole text, hidden among others.

    Args:
        text: what is asked about.
        distractors: texts shown beside it.
        spare: texts not shown, for questions that what is shown does not answer.
        rng: decides.
        mix: how much is asked.
    """
    texts = [text, *distractors]
    rng.shuffle(texts)
    number = texts.index(text) + 1
    asked = rng.sample(text.asked, min(len(text.asked), mix.most_turns))
    turns = [turn_about(a, text.text, number, spare, rng, mix) for a in asked]
    if len(asked) > 1 and rng.random() < mix.two_parts and (both := _two(asked, text.text)):
        turns.append(Turn(both[0], FORM.response(both[1], [number])))
    return Row(shown(texts, rng), tuple(turns))


def _two(asked: Sequence[Asked], text: str) -> tuple[str, str] | None:
    first, second = asked[:2]
    return two_parts(first, second, text) if first.answer and second.answer else None


def turn_about(
    asked: Asked, text: str, number: int, spare: Sequence[Text], rng: random.Random, mix: Mix
) -> Turn:
    """A question about the passage ``number``, or, by chance, one that nothing shown answers."""
    if not asked.answer:
        return Turn(asked.question, FORM.response(""))
    if rng.random() < mix.refused:
        changed = ""
        if rng.random() < mix.altered:
            changed = altered(asked.question, " ".join(t.text for t in spare), rng)
        foreign = [q.question for t in spare for q in t.asked if t.group != "policy_qa"]
        if changed or foreign:
            return Turn(changed or rng.choice(foreign), FORM.response(""))
    return Turn(asked.question, FORM.response(in_words(asked, text), [number]))


NUMBER = re.compile(
    r"(?<![\w.])[$£€]?\d[\d,]*(?:\.\d+)?%?(?: (?:million|billion|percent|thousand))?(?!\w)"
)
DATE = re.compile(
    r"\b(?:(?:January|February|March|April|May|June|July|August|September|October|November|December)"
    r"(?: \d{1,2},)? (?:1\d{3}|20\d{2})|1[0-9]{3}|20[0-9]{2})\b"
)


def obvious_answer(question: str, sentence: str) -> str:
    """The answer in a sentence known to hold it, where its kind leaves one choice; else empty."""
    low = question.lower()
    if re.search(r"\b(when|what year|which year|what date)\b", low):
        found = set(DATE.findall(sentence))
    elif re.search(r"\b(how many|what percent|what percentage|how much)\b", low):
        found = {n for n in NUMBER.findall(sentence) if not YEAR.fullmatch(n)}
    elif re.search(r"\bwho(se|m)?\b", low):
        found = {n for n in NAME.findall(sentence) if " " in n}
    else:
        return ""
    found = {f for f in found if f.lower() not in low}
    return found.pop() if len(found) == 1 else ""


def paired_reply(question: str, sentence: str) -> str:
    """What to reply to a question of which only the sentence that answers it is known.

    The whole sentence where it was asked how, why or what happens; a phrase where there is no
    doubt which; else nothing.
    """
    if wants_sentence(question):
        return sentence
    return obvious_answer(question, sentence)


def sentence_row(pairs: Sequence[tuple[str, str]], rng: random.Random) -> Row:
    """Passages made of unrelated sentences, each the answer to a question about it."""
    groups: list[list[tuple[str, str]]] = []
    left = list(pairs)
    while left:
        take = rng.choice((1, 1, 2, 3))
        groups.append(left[:take])
        left = left[take:]
    texts = [Text("", " ".join(sentence for _, sentence in group)) for group in groups]
    turns = [
        Turn(question, FORM.response(reply, [number]))
        for number, group in enumerate(groups, start=1)
        for question, sentence in group
        if (reply := paired_reply(question, sentence))
    ]
    return Row(shown(texts, rng), tuple(turns))
