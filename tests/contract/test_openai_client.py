"""The service as OpenAI's own Python client sees it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from openai.types.chat.chat_completion_message import Annotation
from pydantic import SecretStr

from fti.app.service.api import create_app
from fti.app.service.service_config import ServiceConfig
from fti.pipelines.engines.causal_lm.transformers_generator import TransformersGenerator
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.store.answer_types import Sampling
from fti.store.errors import GenerationFailed
from fti.store.store import Store
from tests.support.own_loop import run_apart
from tests.support.service import Scripted, assistant_over, filled_store, serving

QUESTION = "When does the workshop open on Saturdays?"
ANSWER = "The workshop opens at nine on Saturdays. [1]"
KEY = "a-key-for-tests"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled_store(tmp_path_factory.mktemp("service") / "store")


@pytest.fixture(scope="module")
def address(store: Store) -> Iterator[str]:
    config = ServiceConfig(api_keys=(SecretStr(KEY),), max_body_bytes=10_000)
    with serving(create_app(assistant_over(store), config)) as base:
        yield base


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, question: str = QUESTION, **options: Any) -> Any:
    return client.chat.completions.create(
        model="base",
        messages=[{"role": "user", "content": question}],
        **options,
    )


def test_a_completion_parses_with_typed_annotations_and_our_sources(client: openai.OpenAI) -> None:
    completion = ask(client)
    message = completion.choices[0].message
    assert message.content == ANSWER
    assert completion.choices[0].finish_reason == "stop"
    (note,) = message.annotations
    assert isinstance(note, Annotation)
    assert ANSWER[note.url_citation.start_index : note.url_citation.end_index] == "[1]"
    assert note.url_citation.title == "Opening hours"
    assert completion.usage.total_tokens == (
        completion.usage.prompt_tokens + completion.usage.completion_tokens
    )
    sources = completion.model_extra["sources"]
    assert [s["document"] for s in sources if s["cited"]] == ["handbook/hours.md"]
    assert completion.model_extra["abstained"] is False


def test_a_stream_adds_up_to_the_answer_and_ends_with_its_sources(client: openai.OpenAI) -> None:
    chunks = list(ask(client, stream=True))
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert text == ANSWER
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    (annotated,) = [c for c in chunks if "annotations" in c.choices[0].delta.model_extra]
    note = annotated.choices[0].delta.model_extra["annotations"][0]["url_citation"]
    assert ANSWER[note["start_index"] : note["end_index"]] == "[1]"
    assert any(s["cited"] for s in chunks[-1].model_extra["sources"])


def test_the_usage_of_a_stream_comes_in_one_more_chunk_when_asked_for(
    client: openai.OpenAI,
) -> None:
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens > 0
    assert all(c.choices and c.usage is None for c in chunks[:-1])


def test_the_streaming_helper_assembles_the_same_message(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="base", messages=[{"role": "user", "content": QUESTION}]
    ) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content == ANSWER


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
def test_embeddings_are_the_embedders_own(client: openai.OpenAI, encoding: Any) -> None:
    embedder = HashingEmbedder()
    options = {"encoding_format": encoding} if encoding else {}
    texts = ["The kiln fires stoneware.", "水温は二十度です"]
    made = client.embeddings.create(model=embedder.identity.id, input=texts, **options)
    expected = embedder.embed_documents(texts)
    assert [e.index for e in made.data] == [0, 1]
    for row, vector in zip(made.data, expected, strict=True):
        if encoding == "base64":  # then the client leaves it as it came
            row.embedding = np.frombuffer(base64.b64decode(row.embedding), "<f4").tolist()
        np.testing.assert_allclose(row.embedding, vector, atol=1e-6)
    assert made.usage.prompt_tokens == sum(len(embedder.token_spans(t)) for t in texts)


def test_embeddings_that_cannot_be_made_are_refused(client: openai.OpenAI) -> None:
    name = HashingEmbedder().identity.id
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="text-embedding-3-small", input="x")
    for wrong in ({"input": ""}, {"input": []}, {"input": [1, 2]}, {"input": "x", "dimensions": 7}):
        with pytest.raises(openai.BadRequestError):
            client.embeddings.create(model=name, **wrong)


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    model, embedder = client.models.list()
    assert (model.id, model.model_extra["kind"]) == ("base", "llm")
    assert (embedder.id, embedder.model_extra["kind"]) == (
        HashingEmbedder().identity.id,
        "embedder",
    )
    for each in (model, embedder):
        assert client.models.retrieve(each.id).created == each.created > 0


def test_the_embedder_answers_no_questions_and_says_where_it_is_asked(
    client: openai.OpenAI,
) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(
            model=HashingEmbedder().identity.id, messages=[{"role": "user", "content": "?"}]
        )
    assert "/v1/embeddings" in refused.value.message


def test_fields_that_other_servers_take_are_accepted(client: openai.OpenAI) -> None:
    completion = ask(
        client, temperature=0.7, top_p=0.9, user="me", extra_body={"chat_id": "x", "tools": []}
    )
    assert completion.choices[0].message.content == ANSWER


def test_errors_arrive_as_the_clients_own_classes_with_their_codes(
    client: openai.OpenAI, address: str
) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "?"}])
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        ask(client, n=3)
    assert (bad.value.code, bad.value.param) == ("invalid_request", "n")
    with pytest.raises(openai.BadRequestError) as empty:
        ask(client, " ", stream=True)
    assert empty.value.code == "empty_question"
    with pytest.raises(openai.APIStatusError) as large:
        ask(client, "word " * 5_000)
    assert (large.value.status_code, large.value.code) == (413, "body_too_large")
    with (
        openai.OpenAI(base_url=f"{address}/v1", api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        stranger.models.list()
    assert refused.value.code == "invalid_api_key"


def test_an_empty_store_is_an_internal_server_error_that_may_be_tried_again(
    tmp_path: Path,
) -> None:
    with (
        serving(create_app(assistant_over(Store(tmp_path / "store")))) as base,
        openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as client,
        pytest.raises(openai.InternalServerError) as empty,
    ):
        ask(client)
    assert (empty.value.status_code, empty.value.code) == (503, "store_empty")
    assert int(empty.value.response.headers["retry-after"]) > 0


def test_a_failure_in_the_middle_of_a_stream_is_raised_after_the_pieces_before_it(
    store: Store,
) -> None:
    generator = Scripted(fails=GenerationFailed("The model broke off."))
    seen: list[str] = []
    with (
        serving(create_app(assistant_over(store, generator))) as base,
        openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as client,
    ):
        chunks = ask(client, stream=True)
        with pytest.raises(openai.APIError) as broken:
            seen.extend(chunk.choices[0].delta.content for chunk in chunks)
        assert broken.value.code == "generation_failed"
    assert "At" in seen  # the word after it may go on


async def _whole_stream(address: str) -> str:
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=KEY) as client:
        stream = await client.chat.completions.create(
            model="base", messages=[{"role": "user", "content": QUESTION}], stream=True
        )
        return "".join([c.choices[0].delta.content or "" async for c in stream])


def test_the_asynchronous_client_reads_the_same(address: str) -> None:
    assert run_apart(_whole_stream(address)) == ANSWER


@pytest.fixture(scope="module")
def by_model(store: Store, loaded_lm: Any) -> Iterator[openai.OpenAI]:
    """A client of a service whose answers a (tiny) language model makes."""
    with (
        serving(create_app(assistant_over(store, TransformersGenerator(loaded_lm)))) as base,
        openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def content(completion: Any) -> str:
    text: str = completion.choices[0].message.content
    return text


@pytest.mark.heavy
def test_answers_are_greedy_unless_asked_otherwise_and_a_seed_repeats_a_sample(
    by_model: openai.OpenAI,
) -> None:
    assert (
        content(ask(by_model))
        == content(ask(by_model, seed=1))
        == content(ask(by_model, top_p=0.1))
    )
    samples = [content(ask(by_model, temperature=1.5, seed=seed)) for seed in (1, 2, 1)]
    assert samples[0] == samples[2] != samples[1]
    assert content(ask(by_model, temperature=1.5, seed=1, top_p=0)) == content(ask(by_model))
    assert len({content(ask(by_model, temperature=1.5)) for _ in range(3)}) > 1


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_an_answer_is_cut_at_the_tokens_that_a_client_wants(
    by_model: openai.OpenAI, name: str
) -> None:
    cut = ask(by_model, **{name: 5})
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage.completion_tokens == 5
    whole = ask(by_model, **{name: 100_000})
    assert whole.usage == ask(by_model).usage, "the contract's own limit stands"


@pytest.mark.heavy
def test_an_answer_ends_before_a_stop_string_whole_and_streamed(by_model: openai.OpenAI) -> None:
    free = content(ask(by_model))
    stop = free[10:13]
    cut = ask(by_model, stop=[stop, "never said"])
    chunks = list(ask(by_model, stop=stop, stream=True))
    assert cut.choices[0].finish_reason == chunks[-1].choices[0].finish_reason == "stop"
    assert content(cut) == free[: free.index(stop)].rstrip()
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == content(cut)


@pytest.mark.heavy
def test_how_tokens_were_chosen_is_kept_with_the_answer(
    by_model: openai.OpenAI, store: Store
) -> None:
    made = ask(by_model, temperature=0.5, top_p=0.9, seed=7, max_tokens=6, stop=["END"])
    kept = store.answers.get(made.id).sampling
    assert kept == Sampling(temperature=0.5, top_p=0.9, seed=7, max_tokens=6, stop=("END",))
    assert store.answers.get(ask(by_model).id).sampling.temperature == 0


@pytest.mark.parametrize(
    "unsupported",
    [
        {"response_format": {"type": "json_object"}},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"logprobs": True},
        {"presence_penalty": 1.0},
    ],
)
def test_what_is_not_supported_is_a_bad_request_that_names_the_field(
    client: openai.OpenAI, unsupported: dict[str, Any]
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, **unsupported)
    assert refused.value.param in ("response_format.type", *unsupported)


@pytest.mark.heavy
def test_a_causal_language_model_streams_what_it_answers_whole_and_counts_its_tokens(
    store: Store, loaded_lm: Any
) -> None:
    generator = TransformersGenerator(loaded_lm)
    with (
        serving(create_app(assistant_over(store, generator))) as base,
        openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as client,
    ):
        whole = ask(client)
        chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert whole.usage.completion_tokens > 0
    assert len(whole.model_extra["sources"]) == 3
