"""Two ways to find passages: what makes them differ is named, what changes nothing is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fti.store.contracts.prompt_contract import Contract
from fti.store.contracts.retrieval_contract import passage_differences, threshold_differences
from fti.store.types import Fusion, ModelIdentity, RetrievalContract
from tests.support.values import a_contract, a_retrieval

RERANKER = ModelIdentity(id="judge", revision="r1", weights_sha256="a" * 64)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mode": "text"}, "search mode: the contract says hybrid, serving has text"),
        (
            {"fusion": Fusion()},
            "fusion of both searches: the contract says weighted, 0.4 by vectors, serving has by "
            "rank (rrf), k 60, 0.5 by vectors",
        ),
        (
            {"reranker": RERANKER},
            "reranker: the contract says none, serving has 'judge' r1 aaaaaaaaaaaa",
        ),
        ({"near_copies": 1.0}, "resemblance of near copies: the contract says 0.8, serving has 1"),
        ({"diversity": 0.5}, "diversity: the contract says 0, serving has 0.5"),
        ({"context": "section"}, "context of a passage: the contract says chunk, serving has "
                                 "section"),
        ({"candidates": 80}, "candidates fetched: the contract says 40, serving has 80"),
        ({"k": 50}, "candidates fetched: the contract says 40, serving has 50"),
    ],
)  # fmt: skip
def test_what_changes_passages_is_named(changes: dict[str, Any], said: str) -> None:
    assert passage_differences(a_retrieval(), a_retrieval(**changes), shown=4) == [said]


@pytest.mark.parametrize(
    ("both", "ours", "theirs"),
    [
        ({}, {"k": 10}, {"k": 20}),
        ({}, {"section_characters": 100}, {"section_characters": 200}),
        ({"mode": "text"}, {}, {"fusion": Fusion()}),
        ({}, {"candidates": 2}, {"candidates": 9}),  # ten are found of either
        (
            {},
            {"fusion": Fusion(method="weighted", rrf_k=9)},
            {"fusion": Fusion(method="weighted")},
        ),
        ({}, {"min_similarity": 0.1}, {"min_similarity": 0.3}),
    ],
)
def test_what_changes_no_passage_is_not(
    both: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    assert (
        passage_differences(a_retrieval(**both, **ours), a_retrieval(**both, **theirs), shown=4)
        == []
    )


def test_sections_join_in_so_far_as_passages_are_found() -> None:
    ours, theirs = (a_retrieval(context="section", k=k) for k in (2, 10))
    assert passage_differences(ours, theirs, shown=4) == [
        "passages found: the contract says 4, serving has 10"
    ]


def test_thresholds_are_named_apart() -> None:
    (said,) = threshold_differences(a_retrieval(), a_retrieval(min_similarity=0.4))
    assert said.endswith("the contract says 0.25, serving has 0.4")
    assert threshold_differences(a_retrieval(), a_retrieval(mode="text")) == []


def test_only_what_both_name_is_compared() -> None:
    assert passage_differences(None, a_retrieval(), shown=4) == []
    assert passage_differences(a_retrieval(), None, shown=4) == []
    older = RetrievalContract.model_construct(
        **{"mode": "hybrid", **a_retrieval(near_copies=1.0).model_dump(exclude={"fusion"})},
        _fields_set={"mode", "k", "candidates", "context"},
        fusion=Fusion(),
    )
    assert passage_differences(older, a_retrieval(), shown=4) == []
    assert passage_differences(older, a_retrieval(mode="text"), shown=4) != []


def test_a_contract_made_before_loads_and_keeps_its_digest() -> None:
    written = json.loads(a_contract().model_dump_json(exclude={"retrieval"}))
    assert "retrieval" not in written
    held = Contract.model_validate(written)
    assert held.retrieval is None
    # The digest that fti 0.1 gave this contract; answers and evaluations name it.
    assert held.digest == "2dfb0af20ea75d3451c51fe28567e258fde4ea5b52a145a9fdf409d5d40f5aee"
    assert a_contract(retrieval=a_retrieval()).digest != held.digest
