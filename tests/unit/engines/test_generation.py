from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fti.pipelines.engines.causal_lm import batching, decoding
from fti.pipelines.engines.causal_lm.batching import Batcher
from fti.pipelines.engines.causal_lm.decoding import Job, TextStream
from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.engines.causal_lm.loading import load_causal_lm
from fti.pipelines.engines.causal_lm.transformers_generator import TransformersGenerator
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.extractive import ExtractiveGenerator
from fti.pipelines.engines.generation import load_generator
from fti.pipelines.engines.generator import (
    Generation,
    GenerationRequest,
    Generator,
    GeneratorConfig,
)
from fti.pipelines.engines.model_config import ModelConfig
from fti.pipelines.engines.sentences import split_sentences
from fti.store.contracts.prompt_contract import PromptForm
from fti.store.errors import ContractError, GenerationFailed, QuestionTooLong
from fti.store.types import Message, Passage
from tests.support.tiny_model import byte_level_tokenizer, make_adapter, metaspace_tokenizer

QUESTIONS = ["Who?", "When is the kiln fired? " * 9, "Where", "Why " * 40, "水温は?", "Who? "]


@pytest.fixture
def generator(loaded_lm: LoadedModel) -> TransformersGenerator:
    return TransformersGenerator(loaded_lm, batch_size=4)


def request(text: str = "Who may use the saw?", **fields: Any) -> GenerationRequest:
    messages = (Message(role="user", content=text),)
    return GenerationRequest(**{"messages": messages, "question": text, **fields})


def streamed(generator: Generator, one: GenerationRequest) -> Generation:
    deltas = list(generator.stream(one))
    assert all(delta.finish_reason is None for delta in deltas[:-1])
    last = deltas[-1]
    assert last.finish_reason is not None
    assert last.usage is not None
    return Generation("".join(delta.text for delta in deltas), last.finish_reason, last.usage)


def reference_ids(loaded: LoadedModel, prompts: Sequence[list[int]], new: int) -> list[list[int]]:
    """What transformers' own generate gives for a left-padded batch, cut at the stop."""
    import torch

    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    out = loaded.model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=new,
        do_sample=False,
        eos_token_id=sorted(loaded.stop_ids),
        pad_token_id=loaded.tokenizer.pad_token_id,
    )
    answers = []
    for row in out[:, width:].tolist():
        end = next((i for i, index in enumerate(row) if index in loaded.stop_ids), len(row))
        answers.append(row[:end])
    return answers


@pytest.mark.parametrize("batch", [1, 3, 6])
def test_the_token_loop_gives_what_generate_gives(loaded_lm: LoadedModel, batch: int) -> None:
    encoder = TransformersGenerator(loaded_lm).counter
    prompts = [encoder.encode(request(text).messages) for text in QUESTIONS[:batch]]
    jobs = [Job(prompt, 48) for prompt in prompts]
    seen: list[int] = []

    def push(index: int) -> str:
        seen.append(index)
        return ""

    pushes = [push, *[lambda index: ""] * (batch - 1)]
    Batcher(loaded_lm, batch_size=batch).finish(list(zip(jobs, pushes, strict=True)), None)

    assert [job.ids for job in jobs] == reference_ids(loaded_lm, prompts, 48)
    assert seen == jobs[0].ids


def test_streams_batches_and_single_answers_are_the_same(generator: TransformersGenerator) -> None:
    requests = [
        request(text, max_new_tokens=8 + 11 * n, temperature=0.9 * (n % 2), seed=n)
        for n, text in enumerate(QUESTIONS)
    ]

    together = generator.generate(requests)

    assert together == [generator.generate([one])[0] for one in requests]
    assert together == [streamed(generator, one) for one in requests]
    assert len({generation.usage.completion_tokens for generation in together}) > 1


def test_an_answer_ends_before_the_first_stop_string_and_never_shows_a_part_of_it(
    generator: TransformersGenerator,
) -> None:
    free = streamed(generator, request(max_new_tokens=40))
    stop = free.text[11:15]
    at = free.text.index(stop)
    asked = request(max_new_tokens=40, stop=("never said", stop))

    cut = streamed(generator, asked)

    assert (cut.text, cut.finish_reason) == (free.text[:at], "stop")
    assert cut.usage.completion_tokens < free.usage.completion_tokens
    other = request("Who else?", max_new_tokens=40)
    assert generator.generate([asked, other]) == [cut, streamed(generator, other)]


@given(text=st.text("ab🙂x", max_size=24), stop=st.lists(st.text("ab🙂", min_size=1), max_size=3))
def test_pieces_before_a_stop_string_add_up_to_the_text_before_it(
    text: str, stop: list[str]
) -> None:
    tokenizer = SimpleNamespace(decode=lambda ids, **_: "".join(map(chr, ids)))
    stream = TextStream(tokenizer, stop)
    seen = ""
    for character in text:
        seen += stream.push(ord(character))
        if stream.stopped:
            break
    seen += stream.finish()
    # Where two overlap, the one that is complete first ends the text, as it ends the generation.
    prefixes = (text[:n] for n in range(len(text) + 1))
    ended = next((p for p in prefixes if any(s in p for s in stop)), text)
    assert seen == min((ended.split(s)[0] for s in stop), key=len, default=ended)
    assert stream.stopped == any(s in text for s in stop)


def test_no_requests_give_no_answers(generator: TransformersGenerator) -> None:
    assert generator.generate([]) == []


def test_a_long_prompt_is_read_in_pieces_with_the_same_result(
    generator: TransformersGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = streamed(generator, request("word " * 150))

    monkeypatch.setattr(decoding, "PREFILL_TOKENS", 37)

    assert streamed(generator, request("word " * 150)) == whole


def test_generation_ends_at_a_stop_id_which_is_no_part_of_the_text(
    loaded_lm: LoadedModel, generator: TransformersGenerator
) -> None:
    free = streamed(generator, request(max_new_tokens=12))
    assert free.finish_reason == "length"
    job = Job(generator.counter.encode(request().messages), 12)
    Batcher(loaded_lm, batch_size=1).finish([(job, lambda index: "")], None)
    stop = job.ids[7]
    first = job.ids.index(stop)
    stopping = TransformersGenerator(replace(loaded_lm, stop_ids=frozenset({stop})))

    stopped = streamed(stopping, request(max_new_tokens=12))

    assert stopped.finish_reason == "stop"
    assert stopped.usage.completion_tokens == first
    assert free.text.startswith(stopped.text)
    assert stopping.generate([request(max_new_tokens=12)]) == [stopped]


def test_a_set_cancel_stops_a_stream_within_two_tokens(
    generator: TransformersGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set while the eighth token is computed, not by a reader that may lag behind the model."""
    cancel, steps = threading.Event(), []

    def step(*given: Any) -> Any:
        steps.append(1)
        if len(steps) == 8:
            cancel.set()
        return decoding.forward(*given)

    monkeypatch.setattr(batching, "forward", step)

    *_, last = generator.stream(request(max_new_tokens=200, cancel=cancel))

    assert last.finish_reason == "cancelled"
    assert last.usage is not None
    assert last.usage.completion_tokens <= 8 + 2
    assert len(steps) <= 8 + 2


def test_a_cancelled_answer_leaves_the_others_of_its_batch_alone(
    generator: TransformersGenerator,
) -> None:
    cancelled = threading.Event()
    cancelled.set()
    requests = [request(text, max_new_tokens=20) for text in QUESTIONS[:3]]
    expected = generator.generate(requests)

    got = generator.generate([requests[0], replace(requests[1], cancel=cancelled), requests[2]])

    assert (got[0], got[2]) == (expected[0], expected[2])
    assert (got[1].text, got[1].finish_reason) == ("", "cancelled")


def test_an_abandoned_stream_leaves_the_model_free(generator: TransformersGenerator) -> None:
    stream = generator.stream(request(max_new_tokens=100))
    next(stream)

    assert streamed(generator, request()).text  # while the other one is held
    stream.close()
    assert streamed(generator, request()).text


def test_a_stream_leaves_torch_as_it_found_it(generator: TransformersGenerator) -> None:
    import torch

    for _ in generator.stream(request(max_new_tokens=4)):
        assert not torch.is_inference_mode_enabled()


def test_a_prompt_over_the_context_is_too_long(generator: TransformersGenerator) -> None:
    with pytest.raises(QuestionTooLong, match="1024"):
        list(generator.stream(request("word " * 1200)))
    with pytest.raises(QuestionTooLong):
        generator.generate([request(), request("word " * 1200)])


def test_an_answer_gets_no_more_tokens_than_the_context_has_left(loaded_lm: LoadedModel) -> None:
    small = TransformersGenerator(replace(loaded_lm, context_tokens=40))
    prompt = small.counter.count(request().messages)

    answer = streamed(small, request(max_new_tokens=500))

    assert answer.finish_reason == "length"
    assert answer.usage.completion_tokens == 40 - prompt


def test_sampling_repeats_with_its_seed_and_varies_without(
    generator: TransformersGenerator,
) -> None:
    def sampled(seed: int, top_p: float = 1.0) -> str:
        one = request(temperature=1.0, top_p=top_p, seed=seed, max_new_tokens=16)
        return streamed(generator, one).text

    assert sampled(1) == sampled(1)
    assert sampled(1) != sampled(2)
    greedy = streamed(generator, request(max_new_tokens=16)).text
    assert sampled(1, top_p=1e-9) == greedy


def test_streams_under_different_adapters_may_run_at_once(tiny_lm: Path, tmp_path: Path) -> None:
    loaded = load_causal_lm(ModelConfig(id=str(tiny_lm), device="cpu"))
    adapters = [None, *(make_adapter(tiny_lm, tmp_path / str(n), seed=n) for n in (1, 2))]
    generators = [TransformersGenerator(loaded, adapter) for adapter in adapters]
    alone = [streamed(g, request(max_new_tokens=40)) for g in generators]
    together: dict[int, Generation] = {}

    def run(n: int) -> None:
        together[n] = streamed(generators[n % 3], request(max_new_tokens=40))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert len({generation.text for generation in alone}) == 3
    assert [together[n] for n in range(6)] == alone * 2
    generators[1].close()
    assert streamed(generators[0], request(max_new_tokens=40)) == alone[0]
    assert streamed(generators[2], request(max_new_tokens=40)) == alone[2]


class _Broken:
    """A model whose forward pass fails at a given step."""

    def __init__(self, model: Any, error: Exception, step: int) -> None:
        self._model, self._error, self._step = model, error, step

    def forward(self, logits_to_keep: int = 0) -> None: ...

    def __call__(self, **inputs: Any) -> Any:
        self._step -= 1
        if self._step < 0:
            raise self._error
        return self._model(**inputs)


@pytest.mark.parametrize("step", [0, 3])
def test_an_error_in_the_model_reaches_the_consumer(loaded_lm: LoadedModel, step: int) -> None:
    broken = _Broken(loaded_lm.model, RuntimeError("weights on two devices"), step)
    generator = TransformersGenerator(replace(loaded_lm, model=broken))

    with pytest.raises(GenerationFailed, match="weights on two devices"):
        list(generator.stream(request()))
    with pytest.raises(GenerationFailed, match="weights on two devices"):
        generator.generate([request(), request("another")])
    assert TransformersGenerator(loaded_lm).generate([request()])  # and the lock is free


def test_running_out_of_memory_comes_with_a_hint(loaded_lm: LoadedModel) -> None:
    error = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")
    generator = TransformersGenerator(replace(loaded_lm, model=_Broken(loaded_lm.model, error, 0)))

    with pytest.raises(GenerationFailed) as caught:
        generator.generate([request()])

    assert "batch_size" in caught.value.hint


def test_output_that_is_not_a_number_is_a_failure_and_no_answer(loaded_lm: LoadedModel) -> None:
    import torch

    class _NotANumber(_Broken):
        def __call__(self, **inputs: Any) -> Any:
            out = self._model(**inputs)
            return SimpleNamespace(
                logits=torch.full_like(out.logits, float("nan")),
                past_key_values=out.past_key_values,
            )

    nan = _NotANumber(loaded_lm.model, RuntimeError(), 0)
    generator = TransformersGenerator(replace(loaded_lm, model=nan))

    for temperature in (0.0, 1.0):
        with pytest.raises(GenerationFailed, match="not a number"):
            generator.generate([request(temperature=temperature)])


FAMILIES = {"byte-level": byte_level_tokenizer(), "byte-fallback": metaspace_tokenizer()}


@pytest.mark.parametrize("family", sorted(FAMILIES))
@settings(deadline=None, derandomize=True)
@given(text=st.text(max_size=40))
def test_pieces_of_a_text_join_to_the_text(family: str, text: str) -> None:
    tokenizer = FAMILIES[family]
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    stream = TextStream(tokenizer)

    pieces = [stream.push(index) for index in ids] + [stream.finish()]

    assert "".join(pieces) == stream.text == tokenizer.decode(ids)
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@settings(deadline=None, derandomize=True)
@given(data=st.data())
def test_pieces_of_any_ids_join_to_one_text_that_is_never_taken_back(
    family: str, data: st.DataObject
) -> None:
    tokenizer = FAMILIES[family]
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=30))
    stream = TextStream(tokenizer)
    shown = ""

    for index in ids:
        shown += stream.push(index)
        assert stream.text == shown

    assert shown + stream.finish() == stream.text


def passage(text: str, title: str = "Page") -> Passage:
    return Passage(rank=1, chunk_id="c", document_id="d", source="s", title=title, text=text)


PASSAGES = (
    passage("# Hours\n\nThe workshop opens at nine. It closes at six."),
    passage("- The kiln is fired on Thursdays.\n- Only a steward may open it."),
)


def asked(question: str, passages: tuple[Passage, ...] = PASSAGES) -> GenerationRequest:
    messages = PromptForm().messages(question, passages)
    return GenerationRequest(messages=messages, question=question, passages=passages)


def test_extraction_repeats_the_nearest_sentence_and_cites_its_passage() -> None:
    generator = ExtractiveGenerator(HashingEmbedder(1024))

    answers = generator.generate([asked("When is the kiln fired?"), asked("Who opens at nine?")])

    assert [answer.text for answer in answers] == [
        "The kiln is fired on Thursdays. [2]",
        "The workshop opens at nine. [1]",
    ]
    assert [streamed(generator, asked("When is the kiln fired?"))] == answers[:1]


def test_extraction_takes_the_first_of_equals() -> None:
    same = (passage("The kiln is hot."), passage("The kiln is hot."))

    answer = ExtractiveGenerator(HashingEmbedder()).generate([asked("Is the kiln hot?", same)])

    assert answer[0].text == "The kiln is hot. [1]"


@pytest.mark.parametrize("passages", [(), PASSAGES, (passage("# Heading\n\n---"),)])
def test_extraction_abstains_when_nothing_is_near(passages: tuple[Passage, ...]) -> None:
    generator = ExtractiveGenerator(HashingEmbedder(1024))

    answer = generator.generate([asked("Zanzibar exports cloves?", passages)])[0]

    assert answer.text == ""
    assert PromptForm().parse(answer.text, len(passages)).abstained


def test_a_text_is_split_into_sentences_without_marks_and_headings() -> None:
    text = '## Kiln\n\n* Fired "daily." Ask first!\n2) 二度です。 Really?\n\n| --- |\n'

    assert split_sentences(text) == ['Fired "daily.', "Ask first!", "二度です。", "Really?"]


def test_the_engine_is_chosen_by_the_configuration(tiny_lm: Path, tmp_path: Path) -> None:
    embedder = HashingEmbedder()
    adapter = make_adapter(tiny_lm, tmp_path / "adapter")
    config = GeneratorConfig(id=str(tiny_lm), device="cpu")
    loaded = load_causal_lm(config)

    base = load_generator(config, embedder=embedder)
    tuned = load_generator(config, embedder=embedder, adapter=adapter, loaded=loaded)
    extractive = load_generator(GeneratorConfig(engine="extractive"), embedder=embedder)

    assert isinstance(base, TransformersGenerator)
    assert isinstance(tuned, TransformersGenerator)
    assert isinstance(extractive, ExtractiveGenerator)
    assert tuned.loaded is loaded
    assert base.generate([request()]) != tuned.generate([request()])


def test_an_engine_that_cannot_carry_an_adapter_refuses_it(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="extractive"):
        load_generator(
            GeneratorConfig(engine="extractive"), embedder=HashingEmbedder(), adapter=tmp_path
        )


def test_a_server_is_named_for_the_openai_engine_and_for_no_other() -> None:
    with pytest.raises(ValidationError, match=r"generator\.server"):
        GeneratorConfig(engine="openai")
    with pytest.raises(ValidationError, match=r"generator\.server"):
        GeneratorConfig.model_validate({"server": {"base_url": "http://localhost/v1"}})


def test_the_extractive_answer_is_cut_at_stop_strings_and_says_when_it_was_too_long(
    embedder: HashingEmbedder,
) -> None:
    passage = Passage(
        rank=1, chunk_id="c", document_id="d", title="T", source="s",
        text="The kiln is fired on Thursdays by a steward.",
    )  # fmt: skip
    generator = ExtractiveGenerator(embedder, min_similarity=0.1)
    asked = request("When is the kiln fired?", passages=(passage,))

    def said(**fields: Any) -> tuple[str, str]:
        (answer,) = generator.generate([replace(asked, **fields)])
        return answer.text, answer.finish_reason

    assert said(stop=(" by",)) == ("The kiln is fired on Thursdays", "stop")
    assert said(max_new_tokens=4)[1] == "length"
    assert said(max_new_tokens=4, stop=("kiln",)) == ("The ", "stop")
