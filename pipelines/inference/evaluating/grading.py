"""Judgements that cost time or money, made once: taken over where the same thing was judged before.

Some scores need more than an answer's words: a model of inference, a language model as judge. They
are made after all cases were asked, in batches, and kept as they come, so that a killed evaluation
loses a batch at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from fti.store.logs.results import KeptRows
from fti.store.progress import Progress, ProgressEvent

#: Field of a judgement that failed: it is reported, and not kept, so that it is made anew.
UNREADABLE = "unreadable"
_T = TypeVar("_T")


def graded(
    items: Sequence[_T],
    grade: Callable[[Sequence[_T]], Sequence[Mapping[str, Any]]],
    *,
    key: Callable[[_T], str],
    kept: KeptRows,
    resume: bool,
    batch: int,
    stage: str,
    progress: Progress,
) -> tuple[list[Mapping[str, Any]], int]:
    """Judge every item, and say how many judgements had been made before.

    Args:
        items: what is judged; those with one key are judged once.
        grade: the judgements of a batch, as JSON values, in its order.
        key: what a judgement depends on besides the judge, as a digest.
        kept: judgements of this judge.
        resume: whether those of earlier evaluations count.
        batch: items judged, and kept, together.
        stage: what progress events call this.
        progress: told after every batch.
    """
    keys = [key(item) for item in items]
    found: dict[str, Mapping[str, Any]] = {
        k: row for k in keys if resume and (row := kept.get(k)) is not None
    }
    reused = sum(k in found for k in keys)
    waiting = {k: item for k, item in zip(keys, items, strict=True) if k not in found}
    todo = list(waiting.items())
    progress(ProgressEvent(stage, len(found), len(found) + len(todo)))
    for at in range(0, len(todo), batch):
        part = todo[at : at + batch]
        judged = grade([item for _, item in part])
        new = {k: row for (k, _), row in zip(part, judged, strict=True)}
        kept.keep_all((k, row) for k, row in new.items() if UNREADABLE not in row)
        found |= new
        progress(ProgressEvent(stage, len(found), len(found) + len(todo) - at - len(part)))
    return [found[k] for k in keys], reused
