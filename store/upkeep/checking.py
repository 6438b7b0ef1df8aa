"""A whole store looked over: is everything there, readable, and what its digests say?

Nothing is changed. What an interrupted ingest left is a problem too, which the next ingest mends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby

from fti.store.errors import FtiError
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.store import Store
from fti.store.types import Value, sha256_hex

_BATCH = 256  # documents whose chunks are read together


class Problem(Value):
    """Something that is not as it should be, and where."""

    where: str
    problem: str


class StoreCheck(Value):
    """What was looked at, in numbers, and what is wrong."""

    checked: dict[str, int]
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def check_store(store: Store, *, progress: Progress = quiet) -> StoreCheck:
    """Look at all of a store. Reads every text, vector and published file."""
    counts: Counter[str] = Counter()
    problems: list[Problem] = []
    parts: dict[str, Callable[[Store, Counter[str]], Iterator[tuple[str, str]]]] = {
        "features": _features,
        "datasets": _datasets,
        "cases": _cases,
        "models": _models,
        "runs": _runs,
        "answers": _answers,
    }
    for number, (name, check) in enumerate(parts.items()):
        progress(ProgressEvent("verify", number, len(parts), name))
        try:
            found = [Problem(where=where, problem=what) for where, what in check(store, counts)]
        except FtiError as error:  # so broken that it cannot be looked at: that is what is found
            found = [Problem(where=name, problem=error.message)]
        problems += found
    if store.layout.moved():
        problems.append(
            Problem(
                where="store",
                problem="it was moved here, and uploaded documents are looked for where it was; "
                "run: fti store migrate",
            )
        )
    progress(ProgressEvent("verify", len(parts), len(parts)))
    return StoreCheck(checked=dict(counts), problems=tuple(problems))


def _features(store: Store, counts: Counter[str]) -> Iterator[tuple[str, str]]:
    features = store.features
    if not features.exists():
        return
    found = features.diagnose()
    names = {record.id: record.source for record in features.records()}
    for key in sorted(found.broken):
        yield names[key], "its chunks are not those of its last good version; ingest again"
    for key in sorted(found.without_vector):
        yield names[key], "a vector of it is none: zero, or no numbers"
    if found.orphans:
        yield "features", f"{len(found.orphans)} documents have chunks and no line in the ledger"
    ids: set[str] = set()
    served = [record.id for record in features.records() if record.chunks]
    for start in range(0, len(served), _BATCH):
        some = served[start : start + _BATCH]
        texts = {d.id: (d.source, d.text) for d in features.documents(some)}
        for key, chunks in groupby(features.chunks(some), key=lambda c: c.document_id):
            source, text = texts.get(key, (names.get(key, key), ""))
            for chunk in chunks:
                counts["chunks"] += 1
                if chunk.id in ids:
                    yield source, f"the chunk {chunk.id} is there twice"
                ids.add(chunk.id)
                if key not in found.broken and text[chunk.start : chunk.end] != chunk.text:
                    yield source, f"the chunk {chunk.id} is not what stands in the document"
                if sha256_hex(chunk.text) != chunk.content_hash:
                    yield source, f"the chunk {chunk.id} differs from its digest"
        counts["documents"] += len(texts)


def _datasets(store: Store, counts: Counter[str]) -> Iterator[tuple[str, str]]:
    for version in store.datasets.list():
        counts["datasets"] += 1
        for problem in store.datasets.verify(version.ref):
            yield f"dataset {version.ref}", problem


def _cases(store: Store, counts: Counter[str]) -> Iterator[tuple[str, str]]:
    for version in store.cases.list():
        counts["case_sets"] += 1
        store.cases.cases(version.ref)  # reads and compares them
    yield from ()


def _models(store: Store, counts: Counter[str]) -> Iterator[tuple[str, str]]:
    refs = set(store.models.refs())
    for ref in sorted(refs):
        counts["models"] += 1
        problems = store.models.verify(ref)
        for problem in problems:
            yield f"model {ref}", problem
        parent = None if problems else store.models.get(ref).parent
        if parent and parent not in refs:
            yield f"model {ref}", f"it was trained from {parent}, which is gone"
    for name in store.models.names():
        for alias, number in store.models.aliases(name).items():
            counts["aliases"] += 1
            if f"{name}/{number}" not in refs:
                yield f"model {name}@{alias}", f"it points at {name}/{number}, which is gone"


def _runs(store: Store, counts: Counter[str]) -> Iterator[tuple[str, str]]:
    counts["runs"] = len(store.runs.list())
    yield from ()


def _answers(store: Store, counts: Counter[str]) -> Iterator[tuple[str, str]]:
    counts["answers"] = len(store.answers.list())
    if broken := store.answers.broken_lines():
        yield "answers", f"{broken} lines cannot be read"
