"""Question and answer cases as questions about the stored documents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from fti.pipelines.feature.asking.quality import content_words, located
from fti.pipelines.feature.dataset.asked import Asked, Tally
from fti.store.features.feature_store import FeatureStore
from fti.store.progress import Progress, ProgressEvent
from fti.store.types import Case, Chunk, Split


def from_cases(
    cases: Sequence[Case],
    features: FeatureStore,
    split_of: Mapping[str, Split],
    chunks: Sequence[Chunk],
    tally: Tally,
    progress: Progress,
) -> list[Asked]:
    """Cases whose document is in the store and, where they have answers, holds one."""
    by_document: dict[str, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        by_document[chunk.document_id].append(chunk)
    found: dict[str, str] = {}
    asked: list[Asked] = []
    for number, case in enumerate(cases, start=1):
        progress(ProgressEvent("cases", number, len(cases), case.id))
        references = [case.document] if case.document else _judged(case)
        for reference in references:
            if reference not in found:
                matches = [r.id for r in features.find_document(reference) if r.id in split_of]
                found[reference] = matches[0] if len(matches) == 1 else ""
        documents = [found[r] for r in references if found[r]]
        if not documents:
            tally.cases["document_not_found" if references else "no_document"] += 1
            continue
        if not case.answerable:
            if case.relevant:  # a judged query without a written answer teaches no answer
                tally.cases["no_answer"] += 1
                continue
            tally.cases["used"] += 1
            asked.append(
                Asked(
                    kind="unanswerable", question=case.question.strip(), answer="",
                    document=documents[0], chunks=(), split=split_of[documents[0]], tag=case.id,
                )
            )  # fmt: skip
            continue
        for document in documents:
            holding = [c for c in by_document[document] if located(c.text, case.answers)]
            if holding:
                best = max(holding, key=lambda c: (_shared(case.question, c), -c.ordinal))
                tally.cases["used"] += 1
                asked.append(
                    Asked(
                        kind="case",
                        question=case.question.strip(),
                        answer=located(best.text, case.answers),
                        document=document,
                        chunks=(best.id, *(c.id for c in holding if c.id != best.id)),
                        split=split_of[document],
                        tag=case.id,
                    )
                )
                break
        else:
            tally.cases["answer_not_found"] += 1
    return asked


def _judged(case: Case) -> list[str]:
    graded = [(grade, source) for source, grade in case.relevant.items() if grade > 0]
    return [source for _, source in sorted(graded, key=lambda pair: (-pair[0], pair[1]))]


def _shared(question: str, chunk: Chunk) -> int:
    there = set(content_words(" ".join((*chunk.section, chunk.text))))
    return sum(word in there for word in set(content_words(question)))
