"""A sample of live answers, judged by a model: the same sample again costs nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np
import pytest

from fti.pipelines.engines.cross_encoders.entailment import Probabilities
from fti.pipelines.engines.remote.openai_server import OpenAIGenerator, ServerConfig
from fti.pipelines.inference.evaluating.judge_config import JudgeConfig
from fti.pipelines.inference.evaluating.judging import Judge
from fti.pipelines.inference.live.answer_sample import drawn
from fti.pipelines.inference.live.live_answers import monitor_answers
from fti.store.answer_types import Answer
from fti.store.types import ModelIdentity
from tests.support.chat_server import Server, says, serving
from tests.support.values import an_answer
from tests.unit.inference.conftest import World

QUESTIONS = ("When does the workshop open?", "When is the kiln fired?", "How long are books lent?",
             "Who composed the anthem of the moon?")  # fmt: skip


class NotOfMars:
    """Every premise entails every claim that does not name Mars."""

    identity = ModelIdentity(id="not-of-mars", weights_sha256="7" * 64)

    def probabilities(self, pairs: Sequence[tuple[str, str]]) -> Probabilities:
        return np.asarray([float("Mars" not in claim) for _, claim in pairs], dtype=np.float32)


@pytest.fixture
def answers(world: World) -> list[Answer]:
    assistant = world.assistant()
    return [assistant.answer(question) for question in QUESTIONS]


def test_what_answers_claim_is_looked_for_in_the_passages_they_cite(
    world: World, answers: list[Answer]
) -> None:
    strange = answers[0].model_copy(update={"text": "It opens on Mars. [1]"})
    found = monitor_answers([strange, *answers[1:]], store=world.store, entailment=NotOfMars())
    told = [a for a in answers if not a.abstained]
    assert found.answers == found.sampled == len(told)
    assert found.lowest == (strange.id,)
    assert found.groundedness.mean == pytest.approx(1 - 1 / len(told))
    rows = list(world.store.runs.attached(found.run, "answers"))
    assert {row["answer"] for row in rows} == {a.id for a in told}
    assert world.store.runs.get(found.run).pipeline == "monitor-answers"


def test_the_same_days_are_judged_once(world: World, answers: list[Answer]) -> None:
    first = monitor_answers(answers, store=world.store, entailment=NotOfMars(), sample=2)
    again = monitor_answers(answers[::-1], store=world.store, entailment=NotOfMars(), sample=2)
    assert (first.reused, again.reused) == (0, 2)
    assert first.groundedness == again.groundedness


def test_refusals_claim_nothing_and_are_not_drawn() -> None:
    said = [an_answer(f"a-20260301-{n:012x}", abstained=n < 5) for n in range(8)]
    assert {a.id for a in drawn(said, 99)} == {a.id for a in said[5:]}
    assert len(drawn(said, 2)) == 2
    assert drawn(said, 2) == drawn([*reversed(said)], 2)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


def test_a_judge_reads_passages_and_answer_and_nothing_that_is_known_to_be_right(
    world: World, answers: list[Answer], server: Server
) -> None:
    read: list[str] = []

    def verdict(server: Server, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        asked = body["messages"][-1]["content"]
        read.append(asked)
        code = re.match("check: (.*)", asked)
        assert code is not None
        reply = {"check": code.group(1), "reason": "It is there.", "score": 4}
        says(json.dumps(reply))(server, handler, body)

    server.responses, server.repeats = [verdict], True
    config = JudgeConfig(id="judge", server=ServerConfig(base_url=server.url))
    assert config.server is not None
    judge = Judge(OpenAIGenerator("judge", config.server, section="evaluation.judge"), config)
    found = monitor_answers(answers[:2], store=world.store, judge=judge)
    assert (found.by, found.sampled) == ("judge", 2)
    assert found.groundedness.mean == pytest.approx(0.75)
    assert found.lowest
    assert all('"passages"' in asked and '"accepted_answers"' not in asked for asked in read)
