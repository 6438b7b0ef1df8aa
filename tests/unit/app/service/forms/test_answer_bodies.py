"""How an answer looks in OpenAI's form."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from fti.app.service.forms import answer_bodies
from fti.store.answer_types import Answer, Citation, Usage
from fti.store.page_starts import PAGE
from fti.store.types import ModelIdentity, Passage


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


def test_annotations_give_the_place_of_each_marker_and_a_link_to_its_source() -> None:
    notes = answer_bodies.url_citations(ANSWER, "http://host/")
    assert [n["url_citation"]["url"] for n in notes] == [
        f"http://host/v1/sources/c2?answer={ANSWER.id}"
    ] * 2
    places = [(n["url_citation"]["start_index"], n["url_citation"]["end_index"]) for n in notes]
    assert [ANSWER.text[start:end] for start, end in places] == ["[2]", "[2]"]


def test_sources_name_every_shown_passage_and_every_quote_of_a_cited_one() -> None:
    first, second = answer_bodies.extras(ANSWER, "http://host/")["sources"]
    assert (first["marker"], first["cited"], first["quotes"]) == (1, False, [])
    assert (second["marker"], second["cited"]) == (2, True)
    assert second["quotes"] == ["at nine", "at five"]
    assert second["document"] == "/docs/2.md"


def test_sources_say_which_sentences_carry_the_answer_and_which_words_of_them() -> None:
    first, second = answer_bodies.extras(ANSWER, "http://host/")["sources"]
    assert first["evidence"] == []
    text = second["text"]
    assert [
        (text[e["start"] : e["end"]], [text[w["start"] : w["end"]] for w in e["words"]])
        for e in second["evidence"]
    ] == [("It opens at nine.", ["at nine"]), ("It closes at five.", ["five"])]


def test_sources_say_the_page_that_a_passage_stands_on() -> None:
    paged = passage(1).model_copy(update={"metadata": {PAGE: "3-4"}})
    body = answer_bodies.passage_body(paged, "http://host/")
    assert body["page"] == "3-4"
    assert answer_bodies.passage_body(passage(2), "http://host/")["page"] == ""


def test_a_refusal_says_what_came_nearest_and_an_answer_does_not() -> None:
    assert answer_bodies.extras(ANSWER, "http://host/")["nearest"] is None
    refusal = ANSWER.model_copy(
        update={"question": "When does it close?", "citations": (), "abstained": True}
    )
    nearest = answer_bodies.extras(refusal, "http://host/")["nearest"]
    text = passage(1).text
    assert nearest["marker"] == 1
    assert text[nearest["start"] : nearest["end"]] == "It closes at five."
    assert [text[w["start"] : w["end"]] for w in nearest["words"]] == ["closes"]


@pytest.mark.parametrize("abstained", [False, True])
def test_an_answer_is_what_the_api_describes(abstained: bool) -> None:
    answer = ANSWER.model_copy(update={"abstained": abstained})
    body = answer_bodies.completion(answer, "http://host/")
    answer_bodies.Completion.model_validate_json(json.dumps(body), strict=True)


@pytest.mark.parametrize(
    ("ended", "said"), [("stop", "stop"), ("length", "length"), ("cancelled", "stop")]
)
def test_a_finish_reason_is_one_that_openai_has(ended: Any, said: str) -> None:
    assert answer_bodies.finish_reason(ANSWER.model_copy(update={"finish_reason": ended})) == said


def test_a_completion_counts_its_tokens() -> None:
    body = answer_bodies.completion(ANSWER, "http://host/")
    assert body["usage"] == {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
    assert body["created"] == 1767225600
