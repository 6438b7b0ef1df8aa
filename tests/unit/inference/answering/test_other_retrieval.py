"""A model is served behind the retrieval of its contract, or with a warning where that is said."""

from __future__ import annotations

import json
import logging
from typing import Any, Literal

import pytest

from fti.pipelines.engines.cross_encoders.reranking import LexicalReranker
from fti.pipelines.inference.answering.answer import Assistant
from fti.pipelines.inference.answering.retrieve import retrieval_contract
from fti.pipelines.inference.inference_config import InferenceConfig, RetrievalConfig
from fti.store.answer_types import Answer
from fti.store.errors import ContractError
from fti.store.types import RetrievalContract
from tests.unit.inference.conftest import World

TRAINED = retrieval_contract(RetrievalConfig(mode="vector"), None)


def served(
    world: World,
    trained: RetrievalContract | None = TRAINED,
    *,
    retrieval: RetrievalConfig | None = None,
    reranker: Any = None,
    other: Literal["refuse", "warn"] = "refuse",
    use_retrieval: bool = True,
    **contract: Any,
) -> Assistant:
    generator = world.extractive()
    config = InferenceConfig(retrieval=retrieval or RetrievalConfig(), other_retrieval=other)
    return Assistant(
        world.store, world.embedder, reranker, generator,
        world.contract(generator, retrieval=trained, **contract), config,
        model="reader/3", use_retrieval=use_retrieval,
    )  # fmt: skip


def test_other_passages_than_it_was_trained_with_are_refused(world: World) -> None:
    with pytest.raises(ContractError) as refused:
        served(world, reranker=LexicalReranker())
    assert "'reader/3'" in refused.value.message
    assert "search mode: the contract says vector, serving has hybrid" in refused.value.message
    assert "reranker: the contract says none, serving has 'lexical' bm25-1" in refused.value.message
    assert "inference.other_retrieval=warn" in refused.value.hint


def test_who_says_so_is_served_with_a_warning_in_log_and_answer(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assistant = served(world, other="warn")
    (said,) = assistant.warnings
    assert said == "search mode: the contract says vector, serving has hybrid"
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert said in record.getMessage()
    answer = assistant.answer("When is the kiln fired?")
    assert answer.warnings == (said,)
    assert world.store.answers.get(answer.id).warnings == (said,)


def test_other_thresholds_are_served_and_said(world: World) -> None:
    retrieval = RetrievalConfig(mode="vector", min_similarity=0.2)
    (said,) = served(world, retrieval=retrieval).warnings
    assert "min_similarity" in said
    assert served(world, retrieval=retrieval, abstain_below=0.3).warnings == ()  # has its own


def test_nothing_is_compared_where_nothing_is_retrieved_or_agreed(world: World) -> None:
    assert served(world, use_retrieval=False).warnings == ()
    assert served(world, None).warnings == ()
    assert served(world, retrieval=RetrievalConfig(mode="vector")).warnings == ()


def test_an_answer_of_an_earlier_fti_reads(world: World) -> None:
    answer = served(world, None).answer("When is the kiln fired?")
    written = json.loads(answer.model_dump_json())
    for field in ("warnings",):
        del written[field]
    assert Answer.model_validate(written) == answer
