"""Questions that the built-in question writer asks about passages.

It was trained to do two things with a few sentences: to name the answers that people ask for, and
to write the question that an answer answers (``engines.question_prompts``). Whole sentences are
answers too where they say how or why. What it writes passes the same filters as everything else;
whether a reader finds the same answer again is ``round_trip``'s question.

Replies are kept in the store: a run that was cut off goes on where it stopped, and the same build
again costs nothing. Text of a passage can at worst spoil the questions about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fti.pipelines.engines.asked_for import wants_sentence
from fti.pipelines.engines.generator import Generation, GenerationRequest, Generator
from fti.pipelines.engines.question_prompts import (
    answers_prompt,
    named_answers,
    question_prompt,
    stands_in,
)
from fti.pipelines.engines.replicas.actors import Executor, InProcess
from fti.pipelines.engines.sentences import sentence_spans
from fti.pipelines.feature.asking.quality import (
    FILTERS,
    Candidate,
    folded,
    reads_as_english,
    rejection,
)
from fti.pipelines.feature.dataset.asked import Asked, Tally
from fti.pipelines.feature.dataset.dataset_config import WriterConfig
from fti.pipelines.feature.dataset.rows import passage_of
from fti.pipelines.feature.dataset.sources.question_writing import Estimate, chosen, require_budget
from fti.store.logs.results import CaseResults, KeptRows
from fti.store.progress import Progress, ProgressEvent
from fti.store.types import Chunk, Document, Message, ModelIdentity, Passage, Split, sha256_hex

_FORM = 1  # of windows and tasks; another number asks everything anew
_WINDOW_SENTENCES = 4
_WINDOW_CHARS = 600
_SHORTEST_SENTENCE = 5  # words; what is shorter is a heading or a cell
_LONGEST_SENTENCE = 260  # characters; a longer one is no answer to a question
_LONGEST_ANSWER = 60  # words
_ANSWERS_TOKENS = 64
_QUESTION_TOKENS = 40


@dataclass(frozen=True, slots=True)
class Window:
    """A few sentences of a passage, which are asked about together."""

    heading: str
    text: str

    @property
    def key(self) -> str:
        """What its reply is kept under."""
        return sha256_hex(f"{self.heading}\n{self.text}")


@dataclass(frozen=True, slots=True)
class WindowPairs:
    """Questions with their answers by window, and the tokens that it took to write them."""

    pairs: Mapping[str, Sequence[tuple[str, str]]]
    prompt_tokens: int
    reply_tokens: int


class AskedOfWindows:
    """Asks the built-in question writer about several windows together; keeps nothing.

    Args:
        generator: the writer.
        questions: answers to ask it for in each window.
    """

    def __init__(self, generator: Generator, questions: int) -> None:
        self._generator = generator
        self._questions = questions

    def __call__(self, batch: Sequence[Window]) -> WindowPairs:
        """First the windows' answers, then what is asked for these."""
        replies = self._replies([answers_prompt(w.heading, w.text) for w in batch], _ANSWERS_TOKENS)
        wanted = [
            (window, answer)
            for window, reply in zip(batch, replies, strict=True)
            for answer in _answers(window.text, reply.text, self._questions)
        ]
        questions = self._replies(
            [question_prompt(w.heading, w.text, answer) for w, answer in wanted], _QUESTION_TOKENS
        )
        made: dict[str, list[tuple[str, str]]] = {window.key: [] for window in batch}
        for (window, answer), question in zip(wanted, questions, strict=True):
            made[window.key].append((folded(question.text.partition("\n")[0]), answer))
        return WindowPairs(
            made,
            prompt_tokens=sum(one.usage.prompt_tokens for one in (*replies, *questions)),
            reply_tokens=sum(one.usage.completion_tokens for one in (*replies, *questions)),
        )

    def _replies(self, prompts: Sequence[tuple[Message, ...]], most: int) -> list[Generation]:
        requests = [
            GenerationRequest(messages=messages, question="", max_new_tokens=most)
            for messages in prompts
        ]
        return list(self._generator.generate(requests)) if requests else []


class TrainedWriter:
    """Has the built-in question writer asked about passages.

    Args:
        generator: the writer.
        config: how many passages, and how many questions of each window.
        results: where replies are kept.
        seed: of the choice of passages.
        executor: what asks it about batches of windows; None: ``AskedOfWindows`` in this process.
    """

    def __init__(
        self,
        generator: Generator,
        config: WriterConfig,
        results: CaseResults,
        *,
        seed: int = 0,
        executor: Executor[Sequence[Window], WindowPairs] | None = None,
    ) -> None:
        self._generator = generator
        self._config = config
        self._seed = seed
        self._executor = executor or InProcess(AskedOfWindows(generator, config.questions))
        self._kept: KeptRows = results.under(
            {
                "what": "questions of the built-in writer",
                "model": generator.identity.model_dump(mode="json"),
                "questions": config.questions,
                "form": _FORM,
            }
        )

    @property
    def identity(self) -> ModelIdentity:
        """Which weights write."""
        return self._generator.identity

    def estimate(self, chunks: Sequence[Chunk], documents: Mapping[str, Document]) -> Estimate:
        """What writing about these passages will take at most."""
        some = chosen(chunks, self._config, self._seed)
        by_chunk = [_windows_of(passage_of(chunk, documents)) for chunk in some]
        windows = [window for found in by_chunk for window in found]
        open_ = [window for window in windows if self._kept.get(window.key) is None]
        left = sum(any(self._kept.get(w.key) is None for w in found) for found in by_chunk)
        count = self._generator.counter.count
        prompt = sum(count(answers_prompt(w.heading, w.text)) for w in open_)
        each = self._config.questions
        return Estimate(
            model=self.identity.id,
            passages=len(some),
            kept=len(some) - left,
            prompt_tokens=prompt * (1 + each),
            reply_tokens=len(open_) * (_ANSWERS_TOKENS + each * _QUESTION_TOKENS),
            cost=0.0,
        )

    def write(
        self,
        chunks: Sequence[Chunk],
        documents: Mapping[str, Document],
        split_of: Mapping[str, Split],
        tally: Tally,
        progress: Progress,
    ) -> list[Asked]:
        """Questions about these passages, the good ones.

        Raises:
            InputError: it may take more than the budget.
        """
        require_budget(lambda: self.estimate(chunks, documents), self._config)
        some = chosen(chunks, self._config, self._seed)
        windows = [(c, w) for c in some for w in _windows_of(passage_of(c, documents))]
        pairs = self._pairs([window for _, window in windows], tally, progress)
        asked: list[Asked] = []
        rejected: Counter[str] = Counter()
        considered = 0
        for chunk, window in windows:
            for question, answer in pairs[window.key]:
                considered += 1
                reason = _refused(question, answer, window.text)
                if reason:
                    rejected[f"written_{reason}"] += 1
                    continue
                asked.append(
                    Asked(
                        kind="written",
                        question=question,
                        answer=folded(answer),
                        document=chunk.document_id,
                        chunks=(chunk.id,),
                        split=split_of[chunk.document_id],
                        tag="written",
                        title=documents[chunk.document_id].title,
                        evidence=folded(_sentence_of(answer, window.text)),
                    )
                )
        names = [f"written_{name}" for name in ("asked_otherwise", *FILTERS)]
        tally.passed_through(considered, rejected, names)
        return asked

    def _pairs(
        self, windows: Sequence[Window], tally: Tally, progress: Progress
    ) -> dict[str, list[tuple[str, str]]]:
        """Questions and answers by window, those asked for now and those kept from before."""
        found: dict[str, list[tuple[str, str]]] = {}
        open_: dict[str, Window] = {}
        for window in windows:
            kept = self._kept.get(window.key)
            if kept is None:
                open_[window.key] = window
            else:
                found[window.key] = [(q, a) for q, a in kept["pairs"]]
        tally.written["kept"] += len(found)
        waiting = list(open_.values())
        done = len(found)
        total = len(found) + len(waiting)
        size = self._config.batch
        batches = [waiting[at : at + size] for at in range(0, len(waiting), size)]
        for number, made in self._executor.each(batches):
            pairs = {key: list(asked) for key, asked in made.pairs.items()}
            self._kept.keep_all((key, {"pairs": asked}) for key, asked in pairs.items())
            found |= pairs
            tally.written["prompt_tokens"] += made.prompt_tokens
            tally.written["reply_tokens"] += made.reply_tokens
            done += len(batches[number])
            progress(ProgressEvent("write", done, total, batches[number][-1].heading))
        return found


def _windows_of(passage: Passage) -> list[Window]:
    """The running text of a passage in pieces that the writer was trained on; no tables."""
    if not reads_as_english(passage.text):
        return []
    windows: list[Window] = []
    run: list[tuple[int, int]] = []

    def end() -> None:
        if run:
            windows.append(Window(passage.heading, passage.text[run[0][0] : run[-1][1]]))
            run.clear()

    for start, stop in sentence_spans(passage.text):
        sentence = passage.text[start:stop]
        if not _runs(sentence):
            end()
            continue
        if run and (len(run) >= _WINDOW_SENTENCES or stop - run[0][0] > _WINDOW_CHARS):
            end()
        run.append((start, stop))
    end()
    return windows


def _runs(sentence: str) -> bool:
    """Whether a piece of text is a sentence, and no heading, row of a table or line of code."""
    return (
        len(sentence.split()) >= _SHORTEST_SENTENCE
        and sentence.rstrip("\"'”’)]*_").endswith((".", "!", "?", ":", ";"))
        and "|" not in sentence
        and "```" not in sentence
    )


def _answers(text: str, reply: str, most: int) -> Iterator[str]:
    """What to ask for in a window: the answers named, and a whole sentence to ask how or why."""
    named = named_answers(reply, text)[:most]
    yield from named
    sentences = [
        text[start:end] for start, end in sentence_spans(text) if end - start <= _LONGEST_SENTENCE
    ]
    if sentences:
        # The one that the named answers say least of.
        yield min(sentences, key=lambda s: (sum(a in s for a in named), -len(s)))


def _sentence_of(answer: str, text: str) -> str:
    """The sentence in which an answer stands."""
    at = text.find(answer)
    return next(
        (text[a:b] for a, b in sentence_spans(text) if a <= at and at + len(answer) <= b), answer
    )


def _refused(question: str, answer: str, text: str) -> str:
    """Why a question is not trained on; "" when it is good."""
    sentence = _sentence_of(answer, text)
    whole = folded(answer).rstrip(".") == folded(sentence).rstrip(".")
    if not question.endswith("?") or not stands_in(answer, text):
        return "asked_otherwise"
    if whole != wants_sentence(question, answer if not whole else ""):
        # A phrase for a question of fact, a sentence for how and why: as the reader answers.
        return "asked_otherwise"
    return rejection(
        Candidate(question, folded(answer), folded(sentence), longest_answer=_LONGEST_ANSWER)
    )
