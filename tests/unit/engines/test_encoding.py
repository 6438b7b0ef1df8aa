from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from fti.pipelines.engines.encoding import (
    PromptEncoder,
    encode_example,
    encode_prompt,
    encode_text,
    stop_ids,
)
from fti.store.errors import EngineError
from fti.store.types import Message
from tests.support.tiny_model import byte_level_tokenizer, chatml_tokenizer, unigram_tokenizer


def user(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def test_a_tokenizer_without_a_chat_template_is_refused_with_what_to_do() -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = None

    with pytest.raises(EngineError, match="no chat template") as caught:
        encode_prompt(tokenizer, user("hi"))

    assert "instruct" in caught.value.hint


def test_a_template_that_refuses_a_role_is_an_error_that_names_the_roles() -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
        "{% for m in messages %}{{ '<|user|>' + m['content'] + '<|end|>' }}{% endfor %}"
    )

    with pytest.raises(EngineError, match="no system turn"):
        encode_prompt(tokenizer, (Message(role="system", content="s"), *user("hi")))


def test_a_tokenizer_without_any_end_of_turn_is_refused() -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tokenizer.eos_token = None

    with pytest.raises(EngineError, match="no end-of-turn token"):
        encode_prompt(tokenizer, user("hi"))


def test_a_changed_template_is_read_anew() -> None:
    tokenizer = byte_level_tokenizer()
    before = encode_prompt(tokenizer, user("hi"))

    tokenizer.chat_template = tokenizer.chat_template.replace("<|assistant|>", "<|system|>")

    assert encode_prompt(tokenizer, user("hi")) != before


def test_added_tokens_that_the_template_writes_are_control_tokens_too() -> None:
    tokenizer = chatml_tokenizer()
    think = tokenizer.convert_tokens_to_ids("<think>")
    assert think in encode_text(tokenizer, "<think>")  # nothing gives it a meaning yet

    tokenizer.chat_template = tokenizer.chat_template.replace(
        "assistant\n' }}", "assistant\n<think>' }}"
    )

    assert think not in encode_text(tokenizer, "<think>")
    assert encode_prompt(tokenizer, user("<think>")).count(think) == 1
    assert think not in stop_ids(tokenizer)  # a model may think in the middle of its answer


def test_a_vocabulary_that_lists_control_tokens_does_not_make_them_of_text() -> None:
    """A unigram model takes the longest listed piece, and '＜' becomes '<' before it looks."""
    tokenizer = unigram_tokenizer()
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    assert end in tokenizer.encode("＜|end|＞", add_special_tokens=False)

    assert encode_prompt(tokenizer, user("＜|end|＞ <|end|>")).count(end) == 1
    assert end not in encode_text(tokenizer, "＜|end|＞ <|end|>")


def test_a_lone_surrogate_is_read_as_an_unknown_character() -> None:
    tokenizer = byte_level_tokenizer()

    assert encode_text(tokenizer, "a\ud83db") == encode_text(tokenizer, "a\ufffdb")
    assert encode_prompt(tokenizer, user("\ud83d")) == encode_prompt(tokenizer, user("\ufffd"))


def test_a_long_prompt_is_encoded_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.model_max_length = 16

    assert len(encode_example(tokenizer, user("word " * 100), "answer " * 100).input_ids) > 200
    assert "longer than" not in caplog.text


def test_encoding_in_many_threads_gives_what_one_gives() -> None:
    tokenizer = byte_level_tokenizer()
    texts = [f"<|end|> {n} café" * (n % 7 + 1) for n in range(200)]
    alone = [(encode_text(tokenizer, t), encode_prompt(tokenizer, user(t))) for t in texts]

    with ThreadPoolExecutor(8) as pool:
        together = list(
            pool.map(
                lambda t: (encode_text(tokenizer, t), encode_prompt(tokenizer, user(t))), texts
            )
        )

    assert together == alone


def test_the_counter_counts_the_prompt_that_is_encoded() -> None:
    encoder = PromptEncoder(byte_level_tokenizer())

    for text in ("a", "b" * 50, "a"):
        assert encoder.count(user(text)) == len(encode_prompt(encoder.tokenizer, user(text)))
        assert encoder.encode(user(text)) == encode_prompt(encoder.tokenizer, user(text))


def test_a_caller_cannot_change_a_remembered_prompt() -> None:
    encoder = PromptEncoder(byte_level_tokenizer())
    encoder.encode(user("a")).clear()

    assert encoder.encode(user("a")) == encode_prompt(encoder.tokenizer, user("a"))


def test_a_cut_never_splits_a_character() -> None:
    encoder = PromptEncoder(byte_level_tokenizer())
    text = "水温は二十度です。"

    for most in range(30):
        cut = encoder.truncate(text, most)
        assert text.startswith(cut)
        assert len(encode_text(encoder.tokenizer, cut)) <= most
