from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fti.pipelines.engines.cross_encoders.reranking import LexicalReranker
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.feature.splitting.chunking import ChunkingConfig
from fti.pipelines.inference.answering.retrieve import (
    Retriever,
    in_sections,
    marginal_order,
    without_copies,
)
from fti.pipelines.inference.inference_config import RetrievalConfig
from fti.store.errors import EmbedderMismatch, EmptyQuestion, InvalidFilter, StoreEmpty
from fti.store.store import Store
from tests.support.values import a_passage
from tests.unit.inference.conftest import DOCUMENTS, World


@pytest.fixture
def retriever(world: World) -> Retriever:
    return Retriever(world.store.features, world.embedder)


@pytest.mark.parametrize("mode", ["hybrid", "vector", "text"])
def test_each_mode_finds_the_passage_that_answers(retriever: Retriever, mode: str) -> None:
    best = retriever.search("When is the kiln fired?", mode=mode)[0]  # type: ignore[arg-type]
    assert best.text == "The kiln is fired on Thursdays and reaches twelve hundred degrees."
    assert best.rank == 1


def test_a_short_list_is_the_beginning_of_a_long_one(retriever: Retriever) -> None:
    long = retriever.search("When does the workshop open?", 6)
    assert len(long) == 6
    assert [p.rank for p in long] == [1, 2, 3, 4, 5, 6]
    assert retriever.search("When does the workshop open?", 2) == long[:2]


def test_every_hybrid_passage_has_a_similarity(retriever: Retriever) -> None:
    assert all(p.similarity is not None for p in retriever.search("renewed by telephone"))


def test_a_filter_narrows_the_search(retriever: Retriever) -> None:
    found = retriever.search("kiln", where={"title": "Loans"})
    assert {p.title for p in found} == {"Loans"}
    with pytest.raises(InvalidFilter, match="'colour'"):
        retriever.search("kiln", where={"colour": "red"})


def test_a_new_commit_is_seen(world: World, retriever: Retriever) -> None:
    assert "pool" not in retriever.search("When is the pool heated?")[0].text
    world.put({"/docs/pool.md": "# Pool\n\nThe pool is heated from May to September."})
    assert retriever.search("When is the pool heated?")[0].source == "/docs/pool.md"


def test_another_embedder_is_refused(world: World) -> None:
    with pytest.raises(EmbedderMismatch, match="--re-embed"):
        Retriever(world.store.features, HashingEmbedder(64))


def test_a_store_embedded_anew_by_another_is_refused_too(world: World) -> None:
    retriever = Retriever(world.store.features, world.embedder)
    other = HashingEmbedder(64)
    rebuilt = world.store.features.rebuilding(other.identity)
    world.store.features.adopt(rebuilt)
    with pytest.raises(EmbedderMismatch):
        retriever.search("kiln")


def test_an_empty_store_says_so(tmp_path: Path) -> None:
    retriever = Retriever(Store(tmp_path).features, HashingEmbedder())
    with pytest.raises(StoreEmpty, match="fti ingest"):
        retriever.search("kiln")


@pytest.mark.parametrize("query", ["", " \n", "\x00"])
def test_an_empty_query_is_refused(retriever: Retriever, query: str) -> None:
    with pytest.raises(EmptyQuestion):
        retriever.search(query)


@pytest.mark.parametrize("query", ['AND (" ~ * :', "\ud800 kiln", "x' OR '1'='1", "kiln\x00"])
def test_hostile_queries_search_as_plain_words(retriever: Retriever, query: str) -> None:
    assert len(retriever.search(query)) == 6


def test_copies_are_dropped(world: World, retriever: Retriever) -> None:
    world.put({f"/copies/{n}/kiln.md": DOCUMENTS["/docs/workshop/kiln.md"] for n in range(3)})
    found = retriever.search("When is the kiln fired?", 10)
    texts = [p.text for p in found]
    assert len(set(texts)) == len(texts)
    assert [p.rank for p in found] == list(range(1, len(found) + 1))


def test_what_is_not_kept_is_as_if_it_were_not_there(world: World) -> None:
    config = RetrievalConfig(k=2, candidates=2)
    retriever = Retriever(world.store.features, world.embedder, None, config)
    question = "When is the kiln fired?"
    everything = Retriever(world.store.features, world.embedder).search(question, 40)
    (best, *_) = everything
    kept = retriever.search(question, keep=lambda p: p.document_id != best.document_id)
    assert best.document_id not in {p.document_id for p in kept}
    assert [p.rank for p in kept] == [1, 2]  # as many as without, from further down
    assert retriever.search(question, keep=lambda p: True) == retriever.search(question)
    assert retriever.search(question, keep=lambda p: False) == []


def test_a_passage_inside_a_better_one_is_a_copy() -> None:
    long = "The kiln is fired on Thursdays and then it cools down for a whole day and a night."
    inside = a_passage("the kiln is fired on thursdays and then it cools down for a whole day")
    assert list(without_copies([a_passage(long), inside])) == [a_passage(long)]
    assert len(list(without_copies([inside, a_passage(long)]))) == 2


def test_short_equal_texts_are_copies_only_under_one_heading() -> None:
    smoking, dogs = (a_passage("No.", section=(s,)) for s in ("May I smoke?", "Dogs?"))
    assert list(without_copies([smoking, dogs, smoking])) == [smoking, dogs]


def test_a_reranker_reorders(world: World) -> None:
    plain = Retriever(world.store.features, world.embedder)
    reranked = Retriever(world.store.features, world.embedder, LexicalReranker())
    found = reranked.search("maps from 1900 are read where", 6)
    assert found[0].text.startswith("Maps from before 1900")
    assert [p.rank for p in found] == [1, 2, 3, 4, 5, 6]
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)
    assert {p.chunk_id for p in found} == {p.chunk_id for p in plain.search("maps 1900", 6)}


def test_relevance_is_decided_by_the_nearest_passage(world: World) -> None:
    config = RetrievalConfig(min_similarity=0.5)
    retriever = Retriever(world.store.features, world.embedder, None, config)
    assert retriever.relevant([a_passage(similarity=0.1), a_passage(similarity=0.6)])
    assert not retriever.relevant([a_passage(similarity=0.49)])
    assert retriever.relevant([a_passage(similarity=None)])
    assert not retriever.relevant([])


def test_retrieval_names_the_version_it_searched(world: World, retriever: Retriever) -> None:
    before = retriever.retrieve("kiln").features_version
    assert before == world.store.features.version()
    world.put({"/docs/pool.md": "# Pool\n\nThe pool is heated."})
    assert retriever.retrieve("kiln").features_version > before


def test_nearly_the_same_passage_is_dropped_where_that_is_asked() -> None:
    words = [f"word{n}" for n in range(60)]
    first = a_passage(" ".join(words))
    changed = a_passage(" ".join([*words[:30], "another", *words[31:]]))  # shares 51 of 61 runs
    other = a_passage(" ".join([*words[:30], *(f"new{n}" for n in range(30))]))
    assert list(without_copies([first, changed, other], resemblance=0.8)) == [first, other]
    assert list(without_copies([first, changed, other], resemblance=0.9)) == [first, changed, other]
    assert list(without_copies([first, changed, other])) == [first, changed, other]


def test_diversity_puts_what_is_unlike_the_best_next() -> None:
    vectors = np.asarray([[1, 0], [1, 0.01], [0, 1]], np.float32)
    scores = np.asarray([1.0, 0.9, 0.5])
    assert marginal_order(scores, vectors, 0.0) == [0, 1, 2]
    assert marginal_order(scores, vectors, 0.5) == [0, 2, 1]
    assert marginal_order(np.ones(3), vectors, 1.0) == [0, 2, 1]
    assert marginal_order(scores, np.zeros((3, 2), np.float32), 0.5) == [0, 1, 2]


def test_a_varied_list_holds_the_same_passages(world: World) -> None:
    plain = Retriever(world.store.features, world.embedder)
    varied = Retriever(world.store.features, world.embedder, config=RetrievalConfig(diversity=0.7))
    question = "When does the workshop open?"
    found = varied.search(question, 6)
    assert found[0].chunk_id == plain.search(question, 1)[0].chunk_id
    assert {p.chunk_id for p in found} == {p.chunk_id for p in plain.search(question, 6)}
    assert varied.search(question, 3) == found[:3]


LONG = "# Manual\n\n## Saw\n\n" + "\n\n".join(
    f"Rule {n} of the saw says that {word} comes before the blade is set, and after that nobody "
    f"may speak of {word} until the blade has come to rest."
    for n, word in enumerate(("oil", "chalk", "paper", "water"))
) + "\n\n## Lathe\n\nThe lathe is never oiled.\n"  # fmt: skip


@pytest.fixture
def manual(world: World, tmp_path: Path) -> str:
    """The manual, cut into a chunk per rule; its source."""
    page = tmp_path / "manual.md"
    page.write_text(LONG, "utf-8")
    cut = ChunkingConfig(max_tokens=40, overlap_tokens=0, min_tokens=0)
    config = FeatureConfig(chunking=cut)
    ingest([str(page)], store=world.store, embedder=world.embedder, config=config)
    return str(page)


def test_a_model_is_given_the_section_around_a_small_chunk(world: World, manual: str) -> None:
    config = RetrievalConfig(context="section", section_characters=4000)
    small = Retriever(world.store.features, world.embedder, config=config)
    hit = small.search("which rule speaks of chalk and the blade", 1)[0]
    whole = small.retrieve("which rule speaks of chalk and the blade", 1).passages[0]
    assert "chalk" in hit.text
    assert "water" not in hit.text
    assert "oil" in whole.text
    assert "water" in whole.text
    assert "lathe" not in whole.text, "another section"
    assert whole.chunk_id == hit.chunk_id
    text = world.store.features.document(manual).text
    assert text[whole.start : whole.end] == whole.text


def test_a_section_is_bounded_and_given_once(world: World, manual: str) -> None:
    features = world.store.features
    hits = [p for p in features.search_text("saw blade", 9) if p.source == manual]
    assert len(hits) >= 3
    (whole,) = in_sections(hits, features, limit=4000)
    assert whole.rank == 1
    short = in_sections(hits, features, limit=100)
    assert [p.text for p in short] == [p.text for p in hits], "what was found is never cut"
    stale = [hits[0].model_copy(update={"text": "no longer there"})]
    assert in_sections(stale, features, limit=4000) == stale
