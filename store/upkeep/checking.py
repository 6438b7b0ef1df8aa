"""A whole store looked over: is everything there, readable, and what its digests say?

Nothing is changed. What an interrupted ingest left is a problem too, which the next ingest mends.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path

from fti.store.errors import FtiError, IntegrityError
from fti.store.files.sums import Damage
from fti.store.lance import shapes as tables
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.store import Store
from fti.store.types import Value, sha256_hex
from fti.store.upkeep.moving import is_upload
from fti.store.versioned.versions import file_sha256

_BATCH = 256  # documents whose chunks are read together
_WRITTEN_ANEW = (
    "no row of the latest version lies in it: write the table anew with fti doctor --repair"
)
#: What LanceDB and Arrow raise over tables that are not as they were written.
_UNREADABLE = (FtiError, ArithmeticError, LookupError, OSError, RuntimeError, ValueError)


class Problem(Value):
    """Something that is not as it should be, and where."""

    where: str
    problem: str


class StoreCheck(Value):
    """What was looked at, in numbers, and what is wrong."""

    checked: dict[str, int]
    problems: tuple[Problem, ...] = ()


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
        "notes": _notes,
    }
    for number, (name, check) in enumerate(parts.items()):
        progress(ProgressEvent("verify", number, len(parts), name))
        try:
            found = [Problem(where=where, problem=what) for where, what in check(store, counts)]
        except FtiError as error:  # so broken that it cannot be looked at: that is what is found
            found = [Problem(where=name, problem=str(error))]
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


def damaged_tables(damage: Iterable[Damage]) -> Iterator[tuple[str, str]]:
    """Damaged files of the features, each with the command that mends it."""
    for one in damage:
        how = remedy(one.table) if one.holds_rows else _WRITTEN_ANEW
        yield f"features/{one.path}", f"{one.what}; {how}"


def remedy(table: str) -> str:
    """How a table of the features whose rows are damaged is made whole."""
    if table == tables.DOCUMENTS:
        return (
            "nothing else holds the texts: restore a backup with fti store restore PLACE, or "
            "delete the store's folder features and take the sources again with fti ingest SOURCES"
        )
    if table == tables.CHUNKS:
        return "make it anew from the stored texts with fti doctor --repair"
    return "it is a cache: let it be made anew with fti doctor --repair"


def _features(store: Store, counts: Counter[str]) -> Iterator[tuple[str, str]]:
    features = store.features
    damage = list(store.layout.sums.check())
    if noted := store.layout.sums.count():
        counts["files_with_checksums"] = noted
    yield from damaged_tables(damage)
    if broken := features.history.broken_lines():
        yield "features/versions.jsonl", f"{broken} lines cannot be read; they are only notes"
    if damage or not features.exists():
        return  # what reads a damaged table may read anything
    try:
        yield from _rows(store, counts)
    except _UNREADABLE as error:
        said = error.message if isinstance(error, FtiError) else f"{type(error).__name__}: {error}"
        yield "features", f"{said}; {remedy(tables.CHUNKS)}, or else {remedy(tables.DOCUMENTS)}"
    yield from _uploads(store, counts)


def _uploads(store: Store, counts: Counter[str]) -> Iterator[tuple[str, str]]:
    """Uploaded files against what the ledger says was read of them."""
    seen: set[str] = set()
    for entry in store.features.ledger():
        path = Path(entry.file)
        if entry.file in seen or not is_upload(store, entry.file) or not path.is_file():
            continue
        seen.add(entry.file)
        counts["uploads"] += 1
        if file_sha256(path) not in (entry.file_hash, entry.record.attempted_hash):
            yield (
                f"uploads/{path.name}",
                "differs from what was ingested; upload it again, or restore a backup with "
                "fti store restore PLACE",
            )


def _rows(store: Store, counts: Counter[str]) -> Iterator[tuple[str, str]]:
    features = store.features
    found = features.diagnose()
    names = {record.id: record.source for record in features.records()}
    for key in sorted(found.broken):
        yield (
            names[key],
            "its chunks are not those of its last good version; make them anew with "
            "fti doctor --repair",
        )
    for key in sorted(found.without_vector):
        yield (
            names[key],
            ("a vector of it is none: zero, or no numbers; make it anew with fti doctor --repair"),
        )
    if found.orphans:
        yield (
            "features",
            f"{len(found.orphans)} documents have chunks and no line in the ledger; remove them "
            "with fti doctor --repair",
        )
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
    found, damaged = store.datasets.survey()
    for ref, problem in damaged.items():
        counts["datasets"] += 1
        yield f"dataset {ref}", problem
    for version in found:
        counts["datasets"] += 1
        for problem in store.datasets.verify(version.ref):
            yield f"dataset {version.ref}", problem


def _cases(store: Store, counts: Counter[str]) -> Iterator[tuple[str, str]]:
    found, damaged = store.cases.survey()
    for ref, problem in damaged.items():
        counts["case_sets"] += 1
        yield f"case set {ref}", problem
    for version in found:
        counts["case_sets"] += 1
        try:
            store.cases.cases(version.ref)  # reads and compares them
        except IntegrityError as error:
            yield f"case set {version.ref}", error.message


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
        yield (
            "answers",
            f"{broken} lines cannot be read and are passed over; restore a backup with "
            "fti store restore PLACE",
        )
    for damage in store.tables.sums.check():
        yield f"tables/{damage.path}", f"{damage.what}; run the batch again that it is of"


def _notes(store: Store, counts: Counter[str]) -> Iterator[tuple[str, str]]:
    """What is kept in files of its own: keys, states of pipelines, rejected records."""
    store.keys.list()
    for job_id in store.jobs.ids():
        try:
            store.jobs.get(job_id)
        except IntegrityError as error:
            yield f"job {job_id}", str(error)
    for name in store.pipelines.names():
        store.pipelines.read(name)
    if broken := store.rejected.broken_lines():
        yield "rejected", f"{broken} lines cannot be read and are passed over"
    for name in store.models.names():
        store.models.marks(name)
    with contextlib.suppress(IntegrityError):  # which is told of already
        yield from _attached(store)


def _attached(store: Store) -> Iterator[tuple[str, str]]:
    for run in store.runs.list():
        for name in store.runs.attachments(run.id):
            try:
                for _ in store.runs.attached(run.id, name):
                    pass
            except ValueError as error:
                yield f"run {run.id}", f"{name}.jsonl: {error}"
