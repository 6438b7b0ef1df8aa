"""What the chat API understands of a request, and how an answer looks in OpenAI's form."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from fti.app.service.forms import schemas
from fti.store.page_starts import PAGE
from fti.store.types import Answer, Citation, ModelIdentity, Passage, Sampling, Usage

ASKED = [{"role": "user", "content": "When?"}]


def request(**fields: Any) -> schemas.ChatRequest:
    return schemas.ChatRequest.model_validate({"messages": ASKED, **fields})


def passage(number: int) -> Passage:
    return Passage(
        rank=number,
        chunk_id=f"c{number}",
        document_id=f"d{number}",
        title=f"Title {number}",
        source=f"/docs/{number}.md",
        section=("Part",),
        start=10,
        end=30,
        text="It opens at nine. It closes at five.",
        similarity=0.5,
    )


def citation(marker: int, start: int, quote: str) -> Citation:
    return Citation(
        marker=marker,
        chunk_id=f"c{marker}",
        document_id=f"d{marker}",
        source=f"/docs/{marker}.md",
        title=f"Title {marker}",
        start=start,
        end=start + 3,
        quote=quote,
    )


ANSWER = Answer(
    id="a-20260101-000000000000",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    question="When?",
    text="At nine [2]. Until five [2].",
    citations=(citation(2, 8, "at nine"), citation(2, 24, "at five")),
    passages=(passage(1), passage(2)),
    abstained=False,
    model="reader/1",
    base=ModelIdentity(id="tiny"),
    contract_digest="0" * 64,
    features_version=3,
    usage=Usage(prompt_tokens=5, completion_tokens=4),
)


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


def test_annotations_give_the_place_of_each_marker_and_a_link_to_its_source() -> None:
    notes = schemas.url_citations(ANSWER, "http://host/")
    assert [n["url_citation"]["url"] for n in notes] == [
        f"http://host/v1/sources/c2?answer={ANSWER.id}"
    ] * 2
    places = [(n["url_citation"]["start_index"], n["url_citation"]["end_index"]) for n in notes]
    assert [ANSWER.text[start:end] for start, end in places] == ["[2]", "[2]"]


def test_sources_name_every_shown_passage_and_every_quote_of_a_cited_one() -> None:
    first, second = schemas.extras(ANSWER, "http://host/")["sources"]
    assert (first["marker"], first["cited"], first["quotes"]) == (1, False, [])
    assert (second["marker"], second["cited"]) == (2, True)
    assert second["quotes"] == ["at nine", "at five"]
    assert second["document"] == "/docs/2.md"


def test_sources_say_which_sentences_carry_the_answer_and_which_words_of_them() -> None:
    first, second = schemas.extras(ANSWER, "http://host/")["sources"]
    assert first["evidence"] == []
    text = second["text"]
    assert [
        (text[e["start"] : e["end"]], [text[w["start"] : w["end"]] for w in e["words"]])
        for e in second["evidence"]
    ] == [("It opens at nine.", ["at nine"]), ("It closes at five.", ["five"])]


def test_sources_say_the_page_that_a_passage_stands_on() -> None:
    paged = passage(1).model_copy(update={"metadata": {PAGE: "3-4"}})
    body = schemas.passage_body(paged, "http://host/")
    assert body["page"] == "3-4"
    assert schemas.passage_body(passage(2), "http://host/")["page"] == ""


def test_a_refusal_says_what_came_nearest_and_an_answer_does_not() -> None:
    assert schemas.extras(ANSWER, "http://host/")["nearest"] is None
    refusal = ANSWER.model_copy(
        update={"question": "When does it close?", "citations": (), "abstained": True}
    )
    nearest = schemas.extras(refusal, "http://host/")["nearest"]
    text = passage(1).text
    assert nearest["marker"] == 1
    assert text[nearest["start"] : nearest["end"]] == "It closes at five."
    assert [text[w["start"] : w["end"]] for w in nearest["words"]] == ["closes"]


@pytest.mark.parametrize("abstained", [False, True])
def test_an_answer_is_what_the_api_describes(abstained: bool) -> None:
    answer = ANSWER.model_copy(update={"abstained": abstained})
    body = schemas.completion(answer, "http://host/")
    schemas.Completion.model_validate_json(json.dumps(body), strict=True)


@pytest.mark.parametrize(
    ("ended", "said"), [("stop", "stop"), ("length", "length"), ("cancelled", "stop")]
)
def test_a_finish_reason_is_one_that_openai_has(ended: Any, said: str) -> None:
    assert schemas.finish_reason(ANSWER.model_copy(update={"finish_reason": ended})) == said


def test_a_completion_counts_its_tokens() -> None:
    body = schemas.completion(ANSWER, "http://host/")
    assert body["usage"] == {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
    assert body["created"] == 1767225600
