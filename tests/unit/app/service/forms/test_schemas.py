"""What the chat API understands of a request."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from fti.app.service.forms import schemas
from fti.store.answer_types import Sampling

ASKED = [{"role": "user", "content": "When?"}]


def request(**fields: Any) -> schemas.ChatRequest:
    return schemas.ChatRequest.model_validate({"messages": ASKED, **fields})


def test_the_last_user_turn_is_the_question_and_system_turns_are_left_out() -> None:
    asked = request(
        messages=[
            {"role": "system", "content": "Talk like a pirate."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Good day"},
            {"role": "user", "content": [{"type": "text", "text": "When "},
                                         {"type": "text", "text": "is it open?"}]},
        ]
    )  # fmt: skip
    question, history = asked.conversation()
    assert question == "When is it open?"
    assert [(m.role, m.content) for m in history] == [
        ("user", "Hello"),
        ("assistant", "Good day"),
    ]


def test_a_conversation_that_ends_with_the_assistant_holds_no_question() -> None:
    asked = request(messages=[*ASKED, {"role": "assistant", "content": "At"}])
    assert asked.conversation() == ("", ())


def test_fields_that_fti_does_not_know_are_ignored() -> None:
    asked = request(
        metadata={"chat_id": "1"}, tools=[], n=1, stream_options=None, logit_bias={},
        response_format={"type": "text"}, store=True, presence_penalty=0, frequency_penalty=0.0,
    )  # fmt: skip
    assert not hasattr(asked, "metadata")
    assert not asked.includes_usage


def test_what_a_request_leaves_open_is_chosen_as_configured() -> None:
    configured = Sampling(temperature=0.0, seed=4)
    assert request().sampling(configured) == configured
    assert request(temperature=0).sampling(Sampling(temperature=1)).temperature == 0


def test_a_request_says_how_tokens_are_chosen() -> None:
    asked = request(temperature=0.7, top_p=0.5, seed=-3, max_tokens=9, stop=["END", "END", "\n"])
    expected = Sampling(temperature=0.7, top_p=0.5, seed=-3, max_tokens=9, stop=("END", "\n"))
    assert asked.sampling(Sampling()) == expected
    assert request(max_tokens=9, max_completion_tokens=5).sampling(Sampling()).max_tokens == 5
    assert request(stop="END").sampling(Sampling()).stop == ("END",)
    assert 0 < request(top_p=0).sampling(Sampling()).top_p < 0.001


def test_a_sampled_answer_without_a_seed_gets_one_of_its_own() -> None:
    seeds = {request(temperature=1).sampling(Sampling(seed=4)).seed for _ in range(5)}
    assert len(seeds) > 1


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"42": 1}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"temperature": 2.5}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"seed": 2**63}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["", "x"]}, "stop"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "42"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
    ],
)
def test_what_would_change_an_answers_meaning_is_refused(
    fields: dict[str, Any], where: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        request(**fields)
    assert refused.value.errors()[0]["loc"][0] == where
