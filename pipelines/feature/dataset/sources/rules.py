"""Questions that the rules of ``feature.asking.questions`` write about the stored chunks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from fti.pipelines.feature.asking.quality import (
    FILTERS,
    Candidate,
    question_key,
    reads_as_english,
    rejection,
)
from fti.pipelines.feature.asking.questions import questions
from fti.pipelines.feature.asking.written_questions import Casing, Question, Style, kind_of
from fti.pipelines.feature.dataset.asked import Asked, Tally, order
from fti.pipelines.feature.dataset.dataset_config import DatasetConfig
from fti.pipelines.feature.dataset.splits import apart
from fti.store.progress import Progress, ProgressEvent
from fti.store.types import Chunk, Document, Split

# Styles from the most to the least natural, and the rounds in which a chunk gives one of each.
_PREFERENCE: tuple[Style, ...] = (
    "quantity", "date", "name", "list", "reason", "condition", "place", "definition", "rule",
    "object", "table", "field", "subject", "heading", "section", "cloze",
)  # fmt: skip
# What rules do better than a model: the cells of tables and the fields of records.
_TABULAR: tuple[Style, ...] = ("table", "field")
_ROUNDS: tuple[tuple[Style, ...], ...] = (
    ("quantity", "date", "name", "reason", "condition", "rule"),
    ("list", "place", "definition", "object"),
    ("table", "field"),
    ("subject",),
    ("heading",),
    ("section",),
    ("cloze",),
)


def from_chunks(
    documents: Sequence[Document],
    chunks: Sequence[Chunk],
    split_of: Mapping[str, Split],
    config: DatasetConfig,
    tally: Tally,
    progress: Progress,
) -> list[Asked]:
    """The questions that the rules write, the good ones, a few of each chunk."""
    by_document: dict[str, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        by_document[chunk.document_id].append(chunk)
    usable = {c.id for c in apart(chunks, split_of)}
    tally.filtered("passage_in_one_split", len(chunks), len(usable))
    casing = casing_of(documents)
    asked: list[Asked] = []
    known: set[str] = set()
    rejected: Counter[str] = Counter()
    written = good = 0
    for number, document in enumerate(documents, start=1):
        english = reads_as_english(document.text)
        used: set[tuple[str, str]] = set()
        headings = frozenset(s for c in by_document[document.id] for s in c.section)
        for chunk in by_document[document.id]:
            if chunk.id not in usable:
                continue
            found = questions(
                chunk.text,
                title=document.title,
                section=chunk.section,
                casing=casing,
                headings=headings,
                english=english,
                context=chunk.context,
            )
            if config.questions == "model":
                found = [question for question in found if question.style in _TABULAR]
            written += len(found)
            kept = []
            for question in found:
                candidate = Candidate(
                    question.question, question.answer, question.evidence, passage=chunk.text
                )
                key = question_key(question.question)
                reason = rejection(candidate) or ("same_words" if key in known else "")
                if reason:
                    rejected[reason] += 1
                    continue
                known.add(key)
                kept.append(question)
            good += len(kept)
            for question in _chosen(kept, config, used):
                asked.append(
                    Asked(
                        kind=kind_of(question.style),
                        question=question.question,
                        answer=question.answer,
                        document=document.id,
                        chunks=(chunk.id,),
                        split=split_of[document.id],
                        tag=question.style,
                        title=document.title,
                        weak=question.weak,
                        evidence=question.evidence,
                    )
                )
        progress(ProgressEvent("questions", number, len(documents), document.title))
    tally.passed_through(written, rejected, [*FILTERS, "same_words"])
    tally.filtered("few_per_passage", good, len(asked))
    within = _within_shares(asked, config)
    tally.filtered("share_of_kind", len(asked), len(within))
    return within


def casing_of(documents: Sequence[Document]) -> Casing:
    """How the documents together write their words."""
    read = [Casing.of(document.text) for document in documents]
    return Casing(
        proper=frozenset().union(*(c.proper for c in read)),
        common=frozenset().union(*(c.common for c in read)),
    )


def _chosen(
    found: Sequence[Question], config: DatasetConfig, used: set[tuple[str, str]]
) -> list[Question]:
    """A few of a chunk's questions, style by style, no sentence and answer twice."""
    left: dict[int, list[Question]] = {}
    for number, styles in enumerate(_ROUNDS):
        of_round = [q for q in found if q.style in styles]
        left[number] = sorted(
            of_round, key=lambda q: (_PREFERENCE.index(q.style), order(config.seed, q.question))
        )
    chosen: list[Question] = []
    evidence: Counter[str] = Counter()
    while any(left.values()) and len(chosen) < config.questions_per_chunk:
        for number in left:
            while left[number]:
                question = left[number].pop(0)
                key = (question.evidence, question.answer)
                if key in used or evidence[question.evidence] >= 2:
                    continue
                used.add(key)
                evidence[question.evidence] += 1
                chosen.append(question)
                break
            if len(chosen) >= config.questions_per_chunk:
                break
    return chosen


def _within_shares(asked: list[Asked], config: DatasetConfig) -> list[Asked]:
    """Drop questions of the less natural kinds beyond their shares."""
    limited = {
        "cloze": config.max_cloze_share,
        "heading": config.max_heading_share,
        "section": config.max_section_share,
    }
    free = sum(a.kind not in limited for a in asked)
    kept = [a for a in asked if a.kind not in limited]
    remaining = max(0.0, 1.0 - sum(limited.values()))
    # When only such questions could be written there is nothing to keep a share of.
    total = free / remaining if free and remaining else len(asked)
    for kind, share in limited.items():
        room = int(total * share) if free else len(asked)
        # By another order than rows are sampled by: what is first here must not be first there.
        of_kind = sorted(
            (a for a in asked if a.kind == kind), key=lambda a: order(config.seed + 2, a.question)
        )
        kept += of_kind[:room]
    places = {id(a): n for n, a in enumerate(asked)}
    return sorted(kept, key=lambda a: places[id(a)])
