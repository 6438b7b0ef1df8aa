"""A small store with everything in it, turned bits in its files, and all that can be read of it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.store.answer_types import Feedback
from fti.store.lance import shapes as tables
from fti.store.logs.answers import new_answer_id
from fti.store.logs.answertables import AnswerRow
from fti.store.logs.step_states import StepState
from fti.store.store import Store
from fti.store.types import now
from tests.support.values import a_contract, an_answer, publish_adapter

#: Names of files that nothing rests on: locks and their owners, LanceDB's hint which version is the
#: latest (it looks for itself), the process of a run that has ended, what was measured of machines.
UNUSED = (".lock", ".owner", "latest_version_hint.json", "process", "machine.json")


@dataclass(frozen=True)
class Contents:
    """All that can be read of a store."""

    documents: Any
    chunks: Any
    found: Any
    cached: Any
    versions: Any
    answers: Any
    verdicts: Any
    runs: Any
    rows: Any
    models: Any
    rest: Any


def filled(root: Path) -> Path:
    """A store at ``root`` with documents, answers, a model, a run and the rest; files beside it."""
    docs = root.parent / "docs"
    docs.mkdir(parents=True)
    for name, text in (
        ("kiln.md", "# Kiln\n\nThe kiln fires stoneware on Thursdays.\n\nIt cools until noon.\n"),
        ("loans.md", "# Loans\n\nBooks are lent for three weeks.\n"),
    ):
        (docs / name).write_text(text, "utf-8")
    store = Store(root)
    store.layout.uploads.mkdir()
    (store.layout.uploads / "shed.md").write_text("# Shed\n\nThe shed is turquoise.\n", "utf-8")
    sources = [str(docs), str(store.layout.uploads)]
    ingest(sources, store=store, embedder=HashingEmbedder(64), config=FeatureConfig())
    (docs / "loans.md").write_text("# Loans\n\nBooks are lent for four weeks.\n", "utf-8")
    ingest(sources, store=store, embedder=HashingEmbedder(64), config=FeatureConfig())
    answer = an_answer(new_answer_id())
    store.answers.append(answer)
    store.answers.feedback(Feedback(answer_id=answer.id, rating="down", correction="At ten."))
    store.answers.review(answer.id, "accepted", reason="so it is")
    store.rejected.append(
        stream="stdin", position="1", source="t/1", reason="it has no text", record=b"{}"
    )
    store.keys.create("somebody", collections=["public"])
    store.pipelines.write("nightly", {"ingest": StepState(status="done", started_at=now())})
    store.tables.put("nightly", [AnswerRow(id="1", question="When?", answer="At nine.", run="r")])
    run = store.runs.start("evaluate")
    store.runs.attach(run.id, "cases", [{"id": "1", "f1": 0.5}])
    store.runs.finish(run, status="done")
    card = root.parent / "adapter"
    card.mkdir()
    (card / "README.md").write_text("# A card\n", "utf-8")
    publish_adapter(store, card, a_contract())
    store.models.promote("reader", 1, "champion", reason="the only one")
    return root


@contextlib.contextmanager
def flip(
    root: Path,
    rng: random.Random,
    *,
    path: Path | None = None,
    where: float | None = None,
    keep: bool = False,
    by_file: bool = False,
) -> Iterator[Path]:
    """Turn one bit of a file, any byte of all files being as likely as any, and turn it back.

    Args:
        root: of the store.
        rng: chooses.
        path: of which file; any without.
        where: at which part of it; anywhere without.
        keep: do not turn it back.
        by_file: every file is as likely as another, however small.
    """
    files = [p for p in sorted(root.rglob("*")) if p.is_file() and p.stat().st_size]
    if path is None:
        weights = [1 if by_file else p.stat().st_size for p in files]
        (path,) = rng.choices(files, weights)
    size = path.stat().st_size
    at = rng.randrange(size) if where is None else int(where * (size - 1))
    bit = 1 << rng.randrange(8)
    _turn(path, at, bit)
    try:
        yield path
    finally:
        if not keep:
            _turn(path, at, bit)


def _turn(path: Path, at: int, bit: int) -> None:
    with path.open("r+b") as handle:
        handle.seek(at)
        (byte,) = handle.read(1)
        handle.seek(at)
        handle.write(bytes([byte ^ bit]))


def without_effect(path: Path) -> bool:
    """Whether nothing rests on a file."""
    return path.name.endswith(UNUSED)


def contents(root: Path) -> Contents:
    """All that can be read of a store, through the store."""
    store = Store(root)
    features = store.features
    frame = features.to_arrow()
    columns = [name for name in frame.column_names if name != "vector"]
    vectors = [v.tobytes() for v in tables.matrix(frame["vector"])]
    rows = zip(map(str, frame.select(columns).to_pylist()), vectors, strict=True)
    texts = [f"{p}" for p in features.search_text("kiln books shed", 10)]
    cache = {}
    for name in features._lance.names():
        if tables.is_vectors_name(name):
            held = features._lance.open(name).search().to_arrow()
            matrix = tables.matrix(held["vector"])
            cache |= {k: v.tobytes() for k, v in zip(held["key"].to_pylist(), matrix, strict=True)}
    return Contents(
        documents=[d.model_dump() for d in features.documents()] + features.ledger(),
        chunks=sorted(rows),
        found=sorted(texts),
        cached=cache,
        versions=(features.history.versions(), features.history.tags()),
        answers=store.answers.list(),
        verdicts=(store.answers.all_feedback(), store.answers.corrections()),
        runs=[(run, store.runs.attachments(run.id)) for run in store.runs.list()],
        rows=[list(store.tables.rows(name)) for name in store.tables.names()],
        models=[(store.models.get(ref), store.models.verify(ref)) for ref in store.models.refs()],
        rest=(
            store.models.aliases("reader"),
            store.models.history("reader"),
            store.models.marks("reader"),
            store.keys.list(),
            store.pipelines.read("nightly"),
            list(store.rejected.list()),
            [path.read_bytes() for path in sorted(store.layout.uploads.iterdir())],
            store.layout.format(),
            [f.read_bytes() for f in sorted(store.models.path("reader/1").rglob("*.md"))],
        ),
    )


def differences(one: Contents, other: Contents) -> list[str]:
    """What of two is not the same."""
    return [f.name for f in fields(Contents) if getattr(one, f.name) != getattr(other, f.name)]
