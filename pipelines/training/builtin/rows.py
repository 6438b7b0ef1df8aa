"""Training rows for the built-in model: real questions over passages, as conversations.

A row shows up to five passages and asks several questions about them, one turn each. Reading the
passages is nearly all the cost of a row, so several questions over one reading teach several times
as much per second as one. The first turn has exactly the form that serving sends.

Everything here is a pure function of the data, a generator and its arguments. The test collection
(``squad/corpus``, ``squad/questions.jsonl``, ``squad/unanswerable.jsonl``) is never read.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fti.store.contracts.prompt_contract import PromptForm
from fti.store.types import Passage

FORM = PromptForm(system="", question_position="both", response_lead=" ")
"""The wording this model is trained on; a contract for it must use the same."""

HELD_OUT = ("Kenya", "Construction")
"""Training articles kept for development: never trained on, used to choose recipes."""

MAX_ANSWER_CHARS = 160


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
    """Numbered passages and the turns asked about them."""

    passages: tuple[Passage, ...]
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Corpus:
    """All that is read from disk: texts with questions by source, sentence pairs, plain text."""

    reading: dict[str, list[Text]]
    pairs: list[tuple[str, str]]
    plain: list[Text]
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
    """The shortest accepted answer as the text spells it; empty if none stands in it."""
    for answer in sorted((a.strip() for a in answers), key=len):
        if not answer or len(answer) > MAX_ANSWER_CHARS:
            continue
        found = re.search(r"(?<!\w)" + re.escape(answer) + r"(?!\w)", text)
        found = found or re.search(re.escape(answer), text, re.IGNORECASE)
        if found:
            return found[0].strip().rstrip(".,;:") if len(found[0]) > 1 else found[0]
    return ""


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


def articles(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Title and paragraphs of each Markdown article, the title line left out."""
    for path in sorted(folder.glob("*.md")):
        parts = path.read_text(encoding="utf-8").strip().split("\n\n")
        yield parts[0].removeprefix("# ").strip(), parts[1:]


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


def documentation(folder: Path) -> list[Text]:
    """Prose paragraphs of Markdown documentation with page and section as heading."""
    out = []
    for path in sorted(folder.rglob("en/**/*.md")):
        if path.name in ("release-notes.md", "external-links.md"):
            continue  # thousands of one-line entries that are lists of links
        text = re.sub(
            r"```.*?```|<[^>]+>|\{[^}]*\}|^[/!]{3}.*$",
            "",
            path.read_text(encoding="utf-8"),
            flags=re.S | re.M,
        )
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
        page = section = ""
        for block in re.split(r"\n\s*\n", text):
            block = block.strip()
            if head := re.match(r"(#+)\s+(.*)", block):
                title = head[2].strip()
                page, section = (title, "") if len(head[1]) == 1 else (page, title)
            elif len(block) > 120:
                out.append(
                    Text(
                        " > ".join(t for t in (page, section) if t),
                        block[:1200],
                        (),
                        "documentation",
                    )
                )
    return out


def read_corpus(data: Path) -> Corpus:
    """Read every training source under ``data``, held-out articles set apart."""
    whole, loose, held = squad(data / "squad" / "train")
    reading = {"squad_articles": whole, "squad_paragraphs": loose}
    for name, size in (
        ("fairytale_qa", 900),
        ("policy_qa", 900),
        ("covid_qa", 700),
        ("qed_nq", 1000),
    ):
        reading[name] = by_context(jsonl(data / "reading" / f"{name}.jsonl"), name, size)
    pairs = [
        (row["question"].strip(), row["answer_sentence"].strip())
        for row in jsonl(data / "squad" / "train" / "sentence_pairs.jsonl")
        if len(row["answer_sentence"]) < 500
    ]
    plain = [
        Text(title, paragraph, (), title)
        for title, paragraphs in articles(data / "squad" / "train" / "articles")
        if title.replace(" ", "_") not in HELD_OUT
        for paragraph in paragraphs
        if len(paragraph) > 200
    ]
    plain += documentation(data / "docs_site")
    plain += [Text("", t.text, (), t.group) for name in reading for t in reading[name]]
    return Corpus(reading=reading, pairs=pairs, plain=plain, held_out=held)


def vocabulary_texts(corpus: Corpus) -> Iterator[str]:
    """All training text, for the tokenizer's counts."""
    for text in corpus.plain:
        yield f"{text.heading}\n{text.text}"
    for texts in corpus.reading.values():
        for text in texts:
            yield from (a.question for a in text.asked)
    for question, sentence in corpus.pairs:
        yield f"{question}\n{sentence}"


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


def altered(question: str, others: str, rng: random.Random) -> str:
    """A question about something else: its year or a name changed to one from other texts.

    Empty where nothing can be changed. This is how most of SQuAD 2.0's unanswerable questions
    differ from answerable ones.
    """
    for pattern in rng.sample((YEAR, NAME), 2):
        here, there = (
            pattern.findall(question),
            sorted(set(pattern.findall(others)) - set(pattern.findall(question))),
        )
        if here and there:
            return question.replace(rng.choice(here), rng.choice(there))
    return ""


def read_row(
    text: Text, neighbours: Sequence[Text], rng: random.Random, *, max_turns: int, distractors: int
) -> Row:
    """A row about one text, hidden among ``distractors`` of its neighbours."""
    others = [
        t
        for t in rng.sample(list(neighbours), min(len(neighbours), distractors + 2))
        if t.text != text.text
    ]
    around, spare = others[:distractors], others[distractors:]
    texts = [text, *around]
    rng.shuffle(texts)
    place = {t.text: n for n, t in enumerate(texts, start=1)}
    asked: list[tuple[Asked, Text]] = [(a, text) for a in text.asked]
    rng.shuffle(asked)
    asked = asked[:max_turns]
    for other in around:
        if other.asked and rng.random() < 0.4:
            asked.append((rng.choice(other.asked), other))
    rng.shuffle(asked)
    turns = []
    for a, where in asked[:max_turns]:
        question, response = (
            a.question,
            FORM.response(a.answer, [place[where.text]] if a.answer else []),
        )
        if a.answer and rng.random() < 0.16:
            foreign = [q.question for t in spare for q in t.asked]
            changed = (
                altered(question, " ".join(t.text for t in spare), rng)
                if rng.random() < 0.5
                else ""
            )
            if changed or foreign:
                question, response = changed or rng.choice(foreign), FORM.response("")
        turns.append(Turn(question, response))
    return Row(shown(texts, rng), tuple(turns))


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


def sentence_row(pairs: Sequence[tuple[str, str]], rng: random.Random, *, max_turns: int) -> Row:
    """Passages made of unrelated sentences, each the answer to a known question.

    The short answer is not known for most, so the turn asks for the sentence or for its number.
    """
    groups: list[list[tuple[str, str]]] = []
    left = list(pairs)
    while left:
        take = rng.choice((1, 1, 2, 3))
        groups.append(left[:take])
        left = left[take:]
    texts = [Text("", " ".join(sentence for _, sentence in group), (), "") for group in groups]
    turns = []
    for number, group in enumerate(groups, start=1):
        for question, sentence in group:
            if answer := obvious_answer(question, sentence):
                turns.append(Turn(question, FORM.response(answer, [number])))
            elif len(groups) > 1 and rng.random() < 0.5:
                turns.append(
                    Turn(
                        f"Which passage answers this: {question}",
                        f"{FORM.response_lead}[{number}]",
                    )
                )
            else:
                turns.append(
                    Turn(
                        f"Quote the sentence that answers this: {question}",
                        FORM.response(sentence, [number]),
                    )
                )
    rng.shuffle(turns)
    return Row(shown(texts, rng), tuple(turns[:max_turns]))
