"""What is served is what was trained on, and text never becomes a control token.

Held over real tokenizers of the families that chat models come with, and over random text.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fti.pipelines.engines.encoding import (
    IGNORED,
    PromptEncoder,
    encode_example,
    encode_prompt,
    encode_text,
    end_ids,
    stop_ids,
)
from fti.store.contracts.prompt_contract import PromptForm
from fti.store.types import Message, Passage
from tests.support.tiny_model import TOKENIZERS

FAMILIES = sorted(TOKENIZERS)
CONTROL_SPELLINGS = [
    "<|system|>",
    "<|user|>",
    "<|assistant|>\n",
    "<|end|>",
    "<|pad|>",
    "<|im_start|>system\n",
    "<|im_end|>",
    "<|endoftext|>",
    "<s>",
    "</s>",
    "<unk>",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "[UNK]",
    "[INST]",
    # other spellings that a normaliser makes into the same, and pieces that could join
    "＜|end|＞",
    "<|ＥＮＤ|>",
    "<|us<|user|>er|>",
    "<|e\u200bnd|>",
    "<|e\ue000nd|>",
    "</S>",
    "[sep]",
    "<|",
    "|>",
    "end",
]
# Any characters, lone surrogates and private use among them, with control tokens spelt in between.
texts = st.lists(
    st.one_of(
        st.text(max_size=20),
        st.sampled_from(CONTROL_SPELLINGS),
        st.sampled_from(["é", "👩‍🔬", "\u0301", "\ud83d", "ﬁ", "½", "\n\n", "  ", "\t", "مرحبا"]),
        st.characters(codec=None).map(lambda character: character * 2),
    ),
    max_size=8,
).map("".join)
questions = texts.map(lambda text: f"{text}?")
passages = st.lists(
    st.builds(
        Passage,
        rank=st.just(1),
        chunk_id=st.just("c"),
        document_id=st.just("d"),
        source=st.just("s"),
        title=texts,
        section=st.lists(texts, max_size=2).map(tuple),
        text=texts,
    ),
    max_size=3,
)
histories = st.sampled_from([(), (Message(role="user", content="a"),)]).flatmap(
    lambda start: (
        st.just(start)
        if not start
        else texts.map(lambda text: (*start, Message(role="assistant", content=text)))
    )
)
examples = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


@cache
def tokenizer(family: str) -> Any:
    return TOKENIZERS[family]()


def control_ids(family: str) -> set[int]:
    """Ids that only a template may write: all special ones but "unknown", which is no control."""
    special = {int(i) for i in tokenizer(family).all_special_ids}
    return special - {tokenizer(family).unk_token_id}


def controls(family: str, ids: list[int]) -> list[int]:
    return [index for index in ids if index in control_ids(family)]


@pytest.mark.parametrize("family", FAMILIES)
@examples
@given(question=questions, shown=passages, history=histories, response=texts)
def test_serving_ids_are_the_unlabelled_prefix_of_the_training_ids(
    family: str,
    question: str,
    shown: list[Passage],
    history: tuple[Message, ...],
    response: str,
) -> None:
    messages = PromptForm().messages(question, shown, history)

    served = encode_prompt(tokenizer(family), messages)
    trained = encode_example(tokenizer(family), messages, response)

    unlabelled = [label for label in trained.labels if label == IGNORED]
    assert len(trained.labels) == len(trained.input_ids)
    assert trained.input_ids[: len(unlabelled)] == served
    assert trained.labels[len(unlabelled) :] == trained.input_ids[len(unlabelled) :]
    assert trained.input_ids[-1:] == end_ids(tokenizer(family))


@pytest.mark.parametrize("family", FAMILIES)
@examples
@given(question=questions, shown=passages, history=histories, response=texts)
def test_text_never_becomes_a_control_token(
    family: str,
    question: str,
    shown: list[Passage],
    history: tuple[Message, ...],
    response: str,
) -> None:
    messages = PromptForm().messages(question, shown, history)
    bare = [
        message.model_copy(update={"content": "x" if message.content.strip() else ""})
        for message in messages
    ]

    ids = encode_prompt(tokenizer(family), messages)

    written = controls(family, encode_prompt(tokenizer(family), bare))
    assert controls(family, ids) == written
    assert controls(family, encode_text(tokenizer(family), response)) == []


@pytest.mark.parametrize("family", FAMILIES)
@examples
@given(text=texts, max_tokens=st.integers(min_value=-1, max_value=30))
def test_a_cut_text_is_a_prefix_within_its_tokens(family: str, text: str, max_tokens: int) -> None:
    cut = PromptEncoder(tokenizer(family)).truncate(text, max_tokens)

    assert text.startswith(cut)
    assert len(encode_text(tokenizer(family), cut)) <= max(0, max_tokens)
    if len(encode_text(tokenizer(family), text)) <= max(0, max_tokens):
        assert cut == text


@pytest.mark.parametrize("family", FAMILIES)
def test_ordinary_text_is_encoded_as_the_tokenizer_itself_does(family: str) -> None:
    """Keeping control tokens out must not change how the model has learned to read text."""
    text = (
        "Members collect their pots on Saturday.\n\n    def f(x): return x[0]  # naïve café 20 °C"
    )
    messages = PromptForm().messages("Who may use the kiln?", (), ())
    turns = [{"role": m.role, "content": m.content} for m in messages]

    plain = tokenizer(family)(text, add_special_tokens=False)["input_ids"]
    rendered = tokenizer(family).apply_chat_template(turns, add_generation_prompt=True)["input_ids"]

    assert encode_text(tokenizer(family), text) == plain
    assert encode_prompt(tokenizer(family), messages) == rendered


GOLDEN = {
    "byte-level": (
        "<|system|>\nBe brief.<|end|>\n<|user|>\nQuestion: Hi?<|end|>\n<|assistant|>\nHo!<|end|>\n"
        "<|user|>\n[1] Kiln\nFired on Thursdays.\n\nQuestion: When?<|end|>\n<|assistant|>\n"
        "Thursdays [1]<|end|>"
    ),
    "chatml": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nQuestion: Hi?<|im_end|>\n"
        "<|im_start|>assistant\nHo!<|im_end|>\n<|im_start|>user\n[1] Kiln\nFired on Thursdays.\n\n"
        "Question: When?<|im_end|>\n<|im_start|>assistant\nThursdays [1]<|im_end|>"
    ),
    "metaspace": (
        "<s>[INST] Be brief. [/INST][INST] Question: Hi? [/INST]Ho!</s>[INST] [1] Kiln\n"
        "Fired on Thursdays.\n\nQuestion: When? [/INST] Thursdays [1]</s>"
    ),
    "unigram": (
        "<|system|>\nBe brief.<|end|>\n<|user|>\nQuestion: Hi?<|end|>\n<|assistant|>\nHo!<|end|>\n"
        "<|user|>\n[1] Kiln\nFired on Thursdays.\n\nQuestion: When?<|end|>\n<|assistant|>\n"
        " Thursdays [1]<|end|>"
    ),
    "wordpiece": (
        "[CLS] system : be brief . [SEP] user : question : hi ? [SEP] assistant : ho ! [SEP] user "
        ": [ 1 ] kiln fired on thursdays . question : when ? [SEP] assistant : thursdays [ 1 ] "
        "[SEP]"
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_golden_rendering(family: str) -> None:
    form = PromptForm(system="Be brief.")
    passage = Passage(
        rank=1, chunk_id="c", document_id="d", source="s", title="Kiln", text="Fired on Thursdays."
    )
    history = (
        Message(role="user", content="Question: Hi?"),
        Message(role="assistant", content="Ho!"),
    )
    messages = form.messages("When?", [passage], history)

    example = encode_example(tokenizer(family), messages, form.response("Thursdays", [1]))

    # Its decoder does not give the text back; its tokens are what there is to compare.
    if family == "wordpiece":
        tokens = tokenizer(family).convert_ids_to_tokens(example.input_ids)
        rendered = " ".join(tokens).replace(" ##", "")
    else:
        rendered = tokenizer(family).decode(example.input_ids)
    assert rendered == GOLDEN[family]


def test_the_end_of_a_turn_is_what_the_template_writes_and_not_the_end_of_text() -> None:
    tokens = tokenizer("chatml").convert_ids_to_tokens

    assert tokens(end_ids(tokenizer("chatml"))) == ["<|im_end|>"]
    assert set(tokens(sorted(stop_ids(tokenizer("chatml"), [0])))) == {
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
    }
