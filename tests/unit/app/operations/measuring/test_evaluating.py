"""Systems compared on the same cases: what names mean, what is asked twice, what is resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fti.app.build import Engines
from fti.app.operations.measuring.evaluating import evaluate_model, evaluate_systems, find_cases
from fti.app.operations.measuring.systems import (
    System,
    answering,
    looks_like_systems,
    parse_systems,
)
from fti.app.settings import Settings, load_settings
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.inference.evaluating import evaluation
from fti.pipelines.inference.evaluating.evaluation import case_rows
from fti.store.errors import ConfigError, InputError, InvalidCases, ModelNotFound
from fti.store.progress import ProgressEvent
from fti.store.store import Store
from fti.store.types import Case

TEXTS = {
    "kiln.md": "# Kiln\n\nThe kiln is fired on Thursdays and reaches twelve hundred degrees.\n",
    "loans.md": "# Loans\n\nBooks are lent for three weeks and can be renewed twice.\n",
    "hours.md": "# Hours\n\nThe workshop opens at nine and closes at six in the evening.\n",
}
CASES = [
    Case(id="1", question="When is the kiln fired?", answers=("Thursdays",), document="kiln.md"),
    Case(id="2", question="For how long are books lent?", answers=("three weeks",),
         document="loans.md"),
    Case(id="3", question="What colour is the kiln?", document="kiln.md"),
]  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path, tiny_lm: Path) -> Settings:
    profile = tmp_path / "tiny.yaml"
    profile.write_text(
        "embedder: {engine: hashing, dimension: 256}\n"
        f"generator: {{engine: transformers, id: {tiny_lm}, min_similarity: 0.1}}\n"
        "inference: {retrieval: {min_similarity: 0.05}}\n"
        "prompt: {max_prompt_tokens: 500, max_new_tokens: 8, max_passages: 2}\n",
        "utf-8",
    )
    return load_settings(profile, store=tmp_path / "store", environment={})


@pytest.fixture
def store(tmp_path: Path, settings: Settings) -> Store:
    docs = tmp_path / "docs"
    docs.mkdir()
    for name, text in TEXTS.items():
        (docs / name).write_text(text, "utf-8")
    store = Store(settings.store)
    embedder = Engines(settings).embedder
    ingest([str(docs)], store=store, embedder=embedder, config=FeatureConfig())
    return store


def compared(settings: Settings, store: Store, names: str, **how: Any) -> Any:
    systems = parse_systems(names, store=store, tuned=None)
    how = {"progress": lambda event: None} | how
    return evaluate_systems(settings, store, CASES, systems, **how)


def test_names_of_systems_say_model_and_passages(store: Store) -> None:
    found = parse_systems(
        "base,base+rag,extractive+oracle,text,rerank", store=store, tuned="reader/1"
    )
    assert found == [
        System("base", "base", "none"),
        System("base+rag", "base", "rag"),
        System("extractive+oracle", "extractive", "oracle"),
        System("text", None, "text", rerank=False),
        System("rerank", None, "rag", rerank=True),
    ]
    assert found[3].mode == "text"
    assert found[1].mode is None
    assert answering(found).name == "extractive+oracle"
    assert answering(found[3:]).name == "rerank"


@pytest.mark.parametrize(
    ("names", "tuned", "fault"),
    [
        ("base,bse", None, "'bse' is no system"),
        ("base+rag+rag", None, "no system"),
        ("base,base", None, "twice"),
        (",", None, "no system to compare"),
        ("base,tuned+rag", None, "not given"),
        ("base,tuned", "extractive", "'tuned' means"),
    ],
)
def test_what_is_no_system_is_refused(
    store: Store, names: str, tuned: str | None, fault: str
) -> None:
    with pytest.raises(InputError, match=fault):
        parse_systems(names, store=store, tuned=tuned)


def test_a_version_that_does_not_exist_is_refused(store: Store) -> None:
    with pytest.raises(ModelNotFound):
        parse_systems("base,reader/1+rag", store=store, tuned=None)


@pytest.mark.parametrize(
    ("word", "is_list"),
    [
        ("base,tuned+rag", True),
        ("base,reader/1+oracle,text", True),
        ("base", False),  # one system is no comparison: a file may have such a name
        ("cases.jsonl", False),
        ("questions,old.jsonl", False),
        ("--json", False),
    ],
)
def test_a_list_of_systems_is_told_from_a_file_name(word: str, is_list: bool) -> None:
    assert looks_like_systems(word) == is_list


def test_systems_are_asked_the_same_cases_and_compared_with_the_first(
    settings: Settings, store: Store
) -> None:
    found = compared(settings, store, "base,base+rag,extractive+rag,extractive+oracle,text,vector")
    assert list(found.reports) == [
        "base", "base+rag", "extractive+rag", "extractive+oracle", "text", "vector",
    ]  # fmt: skip
    assert (found.reference, found.main) == ("base", "extractive+oracle")
    ids = {name: [r["id"] for r in case_rows(store, report.run)]
           for name, report in found.reports.items()}  # fmt: skip
    assert set(map(tuple, ids.values())) == {("1", "2", "3")}
    assert found.reports["base"].retrieval == {}
    assert found.reports["text"].answers is None
    assert found.reports["text"].mode == "text"
    assert found.reports["extractive+oracle"].oracle
    assert found.reports["extractive+oracle"].retrieval["recall@1"] == 1.0
    answered = found.reports["extractive+oracle"].answers
    assert answered is not None
    assert answered["citation_recall"].mean == 1.0, "only the gold passage was there to cite"
    assert set(found.differences) == set(found.reports) - {"base"}
    assert found.differences["extractive+rag"]["f1"].n == 3
    assert "f1" not in found.differences["text"], "a search alone answers nothing"
    body = json.loads(json.dumps(found.as_json(several=True)))
    assert body["system"] == "extractive+oracle"
    assert body["systems"]["base+rag"]["model"] == "base"
    assert {"mean", "low", "high", "n", "p", "p_holm"} == set(body["differences"]["base+rag"]["f1"])


def test_an_evaluation_that_was_broken_off_goes_on_where_it_stopped(
    settings: Settings, store: Store
) -> None:
    class Killed(Exception):
        pass

    def kill(event: ProgressEvent) -> None:
        if event.stage == "base+rag" and event.done == 2:
            raise Killed

    with pytest.raises(Killed):
        compared(settings, store, "base,base+rag", progress=kill)
    asked = len(store.answers.list())
    assert asked == 5
    found = compared(settings, store, "base,base+rag")
    assert [r.reused for r in found.reports.values()] == [3, 2]
    assert len(store.answers.list()) == 6, "only the case that was missing is asked"
    again = compared(settings, store, "base,base+rag", resume=False)
    assert [r.reused for r in again.reports.values()] == [0, 0]
    for name in ("base", "base+rag"):
        assert again.reports[name].answers == found.reports[name].answers


def test_a_search_that_was_broken_off_goes_on_and_finds_the_same(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    def kill(event: ProgressEvent) -> None:
        if event.stage == "text" and event.done == 3:
            raise Killed

    monkeypatch.setattr(evaluation, "_BATCH", 2)
    with pytest.raises(Killed):
        compared(settings, store, "vector,text", progress=kill)
    found = compared(settings, store, "vector,text")
    assert [r.reused for r in found.reports.values()] == [3, 2]
    again = compared(settings, store, "vector,text", resume=False)
    assert [r.reused for r in again.reports.values()] == [0, 0]
    for name in ("vector", "text"):
        assert again.reports[name].retrieval == found.reports[name].retrieval
        ids = [row["id"] for row in case_rows(store, found.reports[name].run)]
        assert ids == ["1", "2", "3"], "in the order of the cases"


def test_the_search_of_another_embedder_or_index_is_searched_again(
    settings: Settings, store: Store
) -> None:
    compared(settings, store, "vector,text")
    fewer = settings.inference.retrieval.model_copy(update={"candidates": 2})
    inference = settings.inference.model_copy(update={"retrieval": fewer})
    narrow = settings.model_copy(update={"inference": inference})
    assert compared(narrow, store, "vector,text").reports["text"].reused == 0
    reranked = settings.model_copy(
        update={"reranker": settings.reranker.model_copy(update={"engine": "lexical"})}
    )
    found = compared(reranked, store, "hybrid,rerank,text")
    assert [r.reused for r in found.reports.values()] == [0, 0, 3]


def test_what_was_asked_of_other_documents_or_settings_is_asked_again(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    compared(settings, store, "base+rag,extractive+rag")
    cooler = settings.model_copy(
        update={"inference": settings.inference.model_copy(update={"seed": 7})}
    )
    assert compared(cooler, store, "base+rag,extractive+rag").reports["base+rag"].reused == 0
    (tmp_path / "docs" / "new.md").write_text("# New\n\nThe kiln is green.\n", "utf-8")
    embedder = Engines(settings).embedder
    ingest([str(tmp_path / "docs")], store=store, embedder=embedder, config=FeatureConfig())
    found = compared(settings, store, "base+rag,extractive+rag")
    assert [r.reused for r in found.reports.values()] == [0, 0]


def test_a_reranker_is_measured_when_there_is_one(settings: Settings, store: Store) -> None:
    with pytest.raises(ConfigError, match="no reranker"):
        compared(settings, store, "hybrid,rerank")
    reranked = settings.model_copy(
        update={"reranker": settings.reranker.model_copy(update={"engine": "lexical"})}
    )
    found = compared(reranked, store, "hybrid,rerank")
    assert found.main == "rerank"
    assert found.differences["rerank"]["mrr"].n == 3


def test_one_model_alone_is_no_comparison(settings: Settings, store: Store) -> None:
    found = evaluate_model(
        settings, store, CASES, model="extractive", compare=True, progress=lambda event: None
    )
    assert (found.reference, found.differences) == ("extractive", {})
    assert found.report.system == "extractive"


def test_cases_come_from_a_file_or_a_frozen_set(store: Store, tmp_path: Path) -> None:
    store.cases.freeze("handbook", CASES)
    assert find_cases(store, "handbook/1") == CASES
    path = tmp_path / "cases.jsonl"
    path.write_text(
        json.dumps({"id": "1", "question": "Who?", "answers": [], "document": "a.md"}), "utf-8"
    )
    assert find_cases(store, str(path))[0].question == "Who?"
    with pytest.raises(InvalidCases, match=r"neither a file nor a frozen.*\(handbook\)"):
        find_cases(store, "handbok")
