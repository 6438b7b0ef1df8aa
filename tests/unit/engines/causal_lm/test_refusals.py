"""A refusal that the model itself thinks unlikely does not stand, in every way of asking."""

from __future__ import annotations

import math

import pytest

from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.engines.causal_lm.refusals import DECISIVE, Refusal
from fti.pipelines.engines.causal_lm.transformers_generator import TransformersGenerator
from fti.pipelines.engines.encoding import encode_text
from fti.pipelines.engines.generator import GenerationRequest
from fti.store.types import Message
from tests.unit.engines.test_generation import reference_ids, request, streamed

STANDS, FALLS = 1e-12, 1.0  # what a refusal of any probability does at this bound


def logits(*chances: float) -> object:
    import torch

    return torch.tensor([math.log(chance) for chance in chances])


@pytest.fixture
def generator(loaded_lm: LoadedModel) -> TransformersGenerator:
    return TransformersGenerator(loaded_lm, batch_size=4)


@pytest.fixture
def refusing(generator: TransformersGenerator) -> GenerationRequest:
    """A question whose answer begins, by what the random model says to it, with a refusal."""
    tokenizer = generator.loaded.tokenizer
    for number in range(200):
        question = f"Question {number}?"
        prompt = generator.counter.encode((Message(role="user", content=question),))
        ids = reference_ids(generator.loaded, [prompt], DECISIVE)[0]
        start = tokenizer.decode(ids)
        if len(ids) == DECISIVE and encode_text(tokenizer, start) == ids:
            return request(question, max_new_tokens=12, refusal=start)
    raise AssertionError("the model never begins with two tokens that come back from their text")


def with_least(one: GenerationRequest, least: float) -> GenerationRequest:
    return request(
        one.question, max_new_tokens=one.max_new_tokens, refusal=one.refusal, refuse_above=least
    )


def test_a_refusal_likely_enough_stands(
    refusing: GenerationRequest, generator: TransformersGenerator
) -> None:
    plain = generator.generate([request(refusing.question, max_new_tokens=12)])
    assert generator.generate([with_least(refusing, STANDS)]) == plain
    assert generator.generate([refusing]) == plain  # refuse_above is 0


def test_an_unlikely_refusal_gives_way_to_an_answer(
    refusing: GenerationRequest, generator: TransformersGenerator
) -> None:
    import torch

    one = with_least(refusing, FALLS)
    first = encode_text(generator.loaded.tokenizer, refusing.refusal)[0]
    answer = generator.generate([one])[0]

    assert not answer.text.startswith(refusing.refusal)
    prompt = generator.counter.encode((Message(role="user", content=one.question),))
    made = generator.loaded.model.generate(
        torch.tensor([prompt]),
        max_new_tokens=12,
        do_sample=False,
        begin_suppress_tokens=[first],
        eos_token_id=sorted(generator.loaded.stop_ids),
        pad_token_id=generator.loaded.tokenizer.pad_token_id,
    )[0, len(prompt) :].tolist()
    end = next((i for i, k in enumerate(made) if k in generator.loaded.stop_ids), len(made))
    assert answer.text == generator.loaded.tokenizer.decode(made[:end], skip_special_tokens=True)
    assert answer.usage.completion_tokens == end


def test_a_stream_never_shows_a_refusal_that_is_overruled(
    refusing: GenerationRequest, generator: TransformersGenerator
) -> None:
    others = [request(f"Other {n}?", max_new_tokens=9) for n in range(3)]
    for least in (STANDS, FALLS):
        one = with_least(refusing, least)
        alone = generator.generate([one])[0]
        assert streamed(generator, one) == alone
        assert generator.generate([others[0], one, *others[1:]])[1] == alone


def test_a_refusal_cut_short_by_the_limit_is_shown_as_far_as_it_goes(
    refusing: GenerationRequest, generator: TransformersGenerator
) -> None:
    short = request(
        refusing.question, max_new_tokens=1, refusal=refusing.refusal, refuse_above=FALLS
    )
    plain = generator.generate([request(refusing.question, max_new_tokens=1)])[0]
    assert streamed(generator, short) == generator.generate([short])[0] == plain


def test_sampling_weighs_nothing(
    refusing: GenerationRequest, generator: TransformersGenerator
) -> None:
    for seed in range(3):
        fields = {"max_new_tokens": 6, "temperature": 1.0, "seed": seed}
        plain = request(refusing.question, **fields)
        weighed = request(refusing.question, **fields, refusal=refusing.refusal, refuse_above=FALLS)
        assert generator.generate([weighed]) == generator.generate([plain])


def test_both_tokens_count() -> None:
    refusal = Refusal((0, 1), least=0.5)
    assert refusal.weigh([], 0, logits(0.8, 0.1, 0.1)) == 0
    assert not refusal.overruled
    assert refusal.begun([0])
    refusal.weigh([0], 1, logits(0.2, 0.6, 0.2))  # 0.8 * 0.6 is below a half
    assert refusal.overruled
    assert refusal.dropped([0, 1])
    assert refusal.weigh([], 0, logits(0.8, 0.05, 0.15)) == 2
    assert not refusal.dropped([2])


def test_an_answer_that_begins_like_the_refusal_is_none() -> None:
    refusal = Refusal((0, 1), least=0.9)
    assert refusal.weigh([], 0, logits(0.6, 0.2, 0.2)) == 0
    assert refusal.weigh([0], 2, logits(0.2, 0.2, 0.6)) == 2
    assert not refusal.overruled
    assert not refusal.begun([0, 2])


def test_a_refusal_stands_where_it_is_likely_enough_though_an_answer_is_likelier() -> None:
    refusal = Refusal((0, 1), 0.3)
    assert refusal.weigh([], 2, logits(0.4, 0.05, 0.55)) == 0
    assert refusal.weigh([0], 1, logits(0.05, 0.9, 0.05)) == 1
    assert not refusal.overruled


def test_below_its_probability_an_answer_that_is_likelier_goes_on_unharmed() -> None:
    refusal = Refusal((0, 1), 0.5)
    assert refusal.weigh([], 2, logits(0.4, 0.05, 0.55)) == 2
    assert refusal.weigh([2], 1, logits(0.1, 0.8, 0.1)) == 1
    assert not refusal.overruled


def test_a_beginning_that_was_tried_and_was_none_is_taken_back() -> None:
    # "The" begins the refusal and answers alike: only the word after it tells.
    refusal = Refusal((0, 1), 0.3)
    assert refusal.weigh([], 2, logits(0.4, 0.05, 0.55)) == 0
    refusal.weigh([0], 2, logits(0.05, 0.1, 0.85))
    assert refusal.overruled
    assert refusal.dropped([0, 1])
    assert refusal.weigh([], 2, logits(0.4, 0.05, 0.55)) == 2
