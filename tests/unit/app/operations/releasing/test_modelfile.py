"""The Modelfile's template is the trained chat template, or there is none."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoTokenizer

from fti.app.operations.releasing.modelfile import rendering, turn_template
from fti.store.errors import ContractError
from fti.store.types import Message
from tests.support.tiny_model import CHAT_TEMPLATE, CHATML_TEMPLATE, byte_level_tokenizer

WITH_DEFAULT = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe good.<|im_end|>\n{% endif %}"
    + CHATML_TEMPLATE
)
TALK = [
    Message(role="user", content="When?"),
    Message(role="assistant", content="At nine [1]"),
    Message(role="user", content="And {{ .Content }} on Mondays?"),
]
SYSTEM = Message(role="system", content="Answer.")


def found(template: str) -> Any:
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = template
    return turn_template(rendering(tokenizer), model="tiny"), rendering(tokenizer)


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, CHATML_TEMPLATE, WITH_DEFAULT])
def test_what_is_found_renders_as_the_template_does(template: str) -> None:
    turns, render = found(template)
    for talk in (TALK, TALK[:1], [SYSTEM, *TALK]):
        assert turns.render(talk) == render(talk, True)
    assert turns.head == ("<|im_start|>system\nBe good.<|im_end|>\n" if "good" in template else "")


def test_the_go_template_says_the_same() -> None:
    turns, _ = found(WITH_DEFAULT)
    assert turns.as_go() == (
        "{{ if not .System }}<|im_start|>system\nBe good.<|im_end|>\n{{ end }}"
        '{{ range .Messages }}{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}'
        '<|im_end|>\n{{ else if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n'
        "{{ end }}{{ end }}<|im_start|>assistant\n"
    )


def test_the_template_of_the_model_that_ships_can_be_said() -> None:
    from fti.pipelines.engines.builtin_model import SHIPPED

    tokenizer = AutoTokenizer.from_pretrained(SHIPPED, local_files_only=True)
    turns = turn_template(rendering(tokenizer), model="builtin")
    assert turns.render(TALK) == rendering(tokenizer)(TALK, True)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ messages[0]['content'] | upper }}", "cannot be said"),
        (CHAT_TEMPLATE + "{{ messages | length }}", "cannot be said in a Modelfile"),
        ("{% for m in messages %}{{ m['role'] + m['content'] + loop.index|string }}{% endfor %}",
         "cannot be said in a Modelfile"),
        ('{% for m in messages %}"""{{ m["role"] }}: {{ m["content"] }}\n{% endfor %}', '"""'),
    ],
)  # fmt: skip
def test_a_template_that_says_more_is_refused(template: str, why: str) -> None:
    with pytest.raises(ContractError, match=why) as caught:
        found(template)
    assert "--jinja" in caught.value.hint
