"""What an evaluation costs: many questions searched together, and what it adds to answering."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fti.app.build import Engines, build_assistant
from fti.app.settings import Settings, load_settings
from fti.pipelines.inference.answering.retrieve import Retriever
from fti.pipelines.inference.evaluating.evaluation import case_rows, evaluate, evaluate_retrieval
from fti.store.lance.shapes import DocumentUpdate, LedgerEntry
from fti.store.store import Store
from fti.store.types import Case, Chunk, Document, SourceRecord, document_id, now, sha256_hex

CASES = 1_000
DOCUMENTS, CHUNKS = 200, 100  # 20,000 chunks
QUESTIONS = 60  # answered by the built-in model


def a_document(number: int, texts: Sequence[str], vectors: Any) -> DocumentUpdate:
    source = f"/docs/{number:03}.md"
    ident, text = document_id(source), "\n\n".join(texts)
    chunks, at = [], 0
    for ordinal, part in enumerate(texts):
        chunks.append(
            Chunk(
                id=f"c{sha256_hex(f'{ident} {ordinal}')[:24]}",
                document_id=ident,
                ordinal=ordinal,
                start=at,
                end=at + len(part),
                text=part,
                content_hash=sha256_hex(part),
            )
        )
        at += len(part) + 2
    digest = sha256_hex(text)
    record = SourceRecord(
        id=ident, source=source, title=f"Page {number}", state="indexed", content_hash=digest,
        attempted_hash=digest, settings_digest="s", chunks=len(chunks), attempted_at=now(),
        ingested_at=now(),
    )  # fmt: skip
    return DocumentUpdate(
        document=Document(id=ident, source=source, title=f"Page {number}", text=text,
                          content_hash=digest, media_type="text/plain"),
        entry=LedgerEntry(record=record, file=source, file_hash=digest),
        chunks=tuple(chunks),
        vectors=vectors,
        search_texts=tuple(texts),
    )  # fmt: skip


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings(store=tmp_path_factory.mktemp("bench") / "store", environment={})


@pytest.fixture(scope="module")
def engines(settings: Settings) -> Engines:
    return Engines(settings)


@pytest.fixture(scope="module")
def words() -> Callable[[int], str]:
    """So many words, as often as the words of a language are (Zipf)."""
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, 5_001)
    names = np.array([f"w{n}" for n in range(5_000)])
    return lambda count: " ".join(rng.choice(names, count, p=weights / weights.sum()))


@pytest.fixture(scope="module")
def store(settings: Settings, engines: Engines, words: Callable[[int], str]) -> Store:
    """20,000 chunks of 120 words. Their vectors are random: what a search costs is the same."""
    store = Store(settings.store)
    identity = engines.embedder.identity
    rng = np.random.default_rng(1)
    updates = []
    for number in range(DOCUMENTS):
        vectors = rng.normal(size=(CHUNKS, identity.dimension)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        updates.append(a_document(number, [words(120) for _ in range(CHUNKS)], vectors))
    store.features.create(identity)
    store.features.replace(updates)
    store.features.maintain()
    return store


@pytest.fixture(scope="module")
def cases(words: Callable[[int], str]) -> list[Case]:
    return [
        Case(id=str(n), question=f"What is {words(8)}?", document=f"/docs/{n % DOCUMENTS:03}.md")
        for n in range(CASES)
    ]


@pytest.mark.benchmark(group="1,000 cases over 20,000 chunks")
@pytest.mark.parametrize("mode", ["vector", "text", "hybrid"])
def test_retrieval_only(
    benchmark: Any,
    settings: Settings,
    engines: Engines,
    store: Store,
    cases: Any,
    mode: Any,
    capsys: Any,
) -> None:
    config = settings.inference.retrieval.model_copy(update={"mode": mode})
    retriever = Retriever(store.features, engines.embedder, None, config)
    report = benchmark.pedantic(
        lambda: evaluate_retrieval(retriever, cases, store=store), rounds=1, warmup_rounds=0
    )
    with capsys.disabled():
        print(f"\n{mode}: {report.cases} cases in {report.seconds:.1f} s (asked for: 60 s)")
    assert report.cases == CASES


@pytest.mark.benchmark(group="1,000 cases over 20,000 chunks")
def test_the_same_one_by_one(
    benchmark: Any, settings: Settings, engines: Engines, store: Store, cases: Any, capsys: Any
) -> None:
    """The baseline: the first 200 cases, each question embedded by itself."""
    retriever = Retriever(store.features, engines.embedder, None, settings.inference.retrieval)

    def search() -> None:
        for case in cases[:200]:
            retriever.search(case.question, 10)

    benchmark.pedantic(search, rounds=1, warmup_rounds=0)
    started = time.perf_counter()
    evaluate_retrieval(retriever, cases[:200], store=store)
    together = time.perf_counter() - started
    ratio = benchmark.stats["mean"] / together
    with capsys.disabled():
        print(f"\none by one takes {ratio:.2f} times as long as embedded together")


@pytest.mark.benchmark(group="evaluation beyond answering")
def test_overhead(
    benchmark: Any, settings: Settings, engines: Engines, tmp_path: Path, capsys: Any
) -> None:
    """The built-in model is asked questions: what takes time besides answering them."""
    from fti.pipelines.feature.feature_config import FeatureConfig
    from fti.pipelines.feature.ingesting.ingest import ingest

    docs = tmp_path / "docs"
    docs.mkdir()
    cases = []
    for n in range(QUESTIONS):
        (docs / f"{n}.md").write_text(
            f"# Kiln {n}\n\nKiln {n} was built in {1900 + n} and is fired on Thursdays.\n", "utf-8"
        )
        cases.append(Case(id=str(n), question=f"When was kiln {n} built?",
                          answers=(str(1900 + n),), document=f"{n}.md"))  # fmt: skip
    store = Store(tmp_path / "store")
    ingest([str(docs)], store=store, embedder=engines.embedder, config=FeatureConfig())
    assistant = build_assistant(settings, store, model="base", engines=engines)
    report = benchmark.pedantic(
        lambda: evaluate(assistant, cases, store=store, resume=True), rounds=1, warmup_rounds=0
    )
    rows = case_rows(store, report.run)
    generating = sum(row["generate_s"] for row in rows)
    answering = sum(row["total_s"] for row in rows)
    added = (report.seconds - answering) / generating
    beside = (answering - generating) / generating
    with capsys.disabled():
        print(
            f"\n{len(rows)} answers: evaluating adds {added:.1%} to the time that the model writes "
            f"(asked for: 5 %); search and the choice of sentences take {beside:.1%} of it"
        )
