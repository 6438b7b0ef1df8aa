"""An Ollama Modelfile, whose template says what the model's own chat template says.

It is not translated from Jinja but found out: conversations of marked turns are rendered with the
trained template, and what stands around the marks is what stands around turns. A template that says
more than that (a date, a tool, another text for the third turn) is found out too, and refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fti.store.errors import ContractError
from fti.store.types import Message, Role

if TYPE_CHECKING:
    from fti.store.contracts.prompt_contract import Contract

#: Renders turns; the flag asks for the beginning of an answer behind them.
Render = Callable[[Sequence[Message], bool], str]

_MARK = "xQ7{}Zw9"


@dataclass(frozen=True, slots=True)
class TurnTemplate:
    """What stands around turns, by role before and after; ``head`` where no system turn begins."""

    head: str
    around: Mapping[Role, tuple[str, str]]
    lead: str

    def render(self, messages: Sequence[Message]) -> str:
        """A conversation with the beginning of an answer, as the Modelfile's template has it."""
        begins = bool(messages) and messages[0].role == "system"
        parts = ["" if begins else self.head]
        for message in messages:
            before, after = self.around[message.role]
            parts.append(f"{before}{message.content}{after}")
        return "".join([*parts, self.lead])

    def as_go(self) -> str:
        """The same as a Go template, as Ollama reads it."""
        branches = [
            f'{{{{ {"if" if n == 0 else "else if"} eq .Role "{role}" }}}}{_go(before)}'
            f"{{{{ .Content }}}}{_go(after)}"
            for n, (role, (before, after)) in enumerate(self.around.items())
        ]
        head = f"{{{{ if not .System }}}}{_go(self.head)}{{{{ end }}}}" if self.head else ""
        turns = f"{{{{ range .Messages }}}}{''.join(branches)}{{{{ end }}}}{{{{ end }}}}"
        return f"{head}{turns}{_go(self.lead)}"


def turn_template(render: Render, *, model: str) -> TurnTemplate:
    """Find out what a chat template puts around turns.

    Args:
        render: renders with the trained template.
        model: whose it is, for messages.

    Raises:
        ContractError: the template is not made of turns alone; a Modelfile cannot say it.
    """
    one, two, three, four = (_MARK.format(n) for n in range(1, 5))
    asked = [_turn("user", one), _turn("assistant", two), _turn("user", three)]
    try:
        rendered = render(asked, False)
        begun = render(asked, True)
        first, rest = rendered.split(one)
        middle, rest = rest.split(two)
        between, last = rest.split(three)
        if not begun.startswith(rendered):
            raise ValueError("the beginning of an answer does not stand at the end")
        lead = begun.removeprefix(rendered)
        if not middle.startswith(last):
            raise ValueError("the last turn ends otherwise than the others")
        after_answer = render(asked[:2], False).split(two)[1]
        if not between.startswith(after_answer):
            raise ValueError("an answer ends otherwise where another turn follows")
        before_user = between.removeprefix(after_answer)
        if not first.endswith(before_user):
            raise ValueError("the first turn begins otherwise than the others")
        around: dict[Role, tuple[str, str]] = {
            "user": (before_user, last),
            "assistant": (middle.removeprefix(last), after_answer),
        }
        head = first.removesuffix(before_user)
        told = _with_system(render, four, one, before_user)
        if told is not None:
            around = {"system": told, **around}
        found = TurnTemplate(head=head, around=around, lead=lead)
        for conversation in _conversations("system" in around):
            if found.render(conversation) != render(conversation, True):
                said = " ".join(m.role for m in conversation)
                raise ValueError(f"a conversation of {said} comes out otherwise")
        if '"""' in found.as_go():
            raise ValueError('it holds """, which ends a text in a Modelfile')
    except ValueError as error:
        raise ContractError(
            f"The chat template of {model!r} cannot be said in a Modelfile: {error}.",
            hint="llama.cpp's own server reads the chat template from the GGUF file (llama-server "
            "--jinja).",
        ) from error
    return found


def rendering(tokenizer: Any) -> Render:
    """What a tokenizer's chat template makes of turns; a refusal of roles is a ``ValueError``."""
    from jinja2 import TemplateError

    def render(messages: Sequence[Message], begin: bool) -> str:
        turns = [m.model_dump() for m in messages]
        try:
            return str(
                tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=begin)
            )
        except TemplateError as error:
            raise ValueError(f"it refuses these turns: {error}") from error

    return render


def _with_system(
    render: Render, mark: str, question: str, before_user: str
) -> tuple[str, str] | None:
    """What stands around a system turn; None where the template takes none."""
    try:
        rendered = render([_turn("system", mark), _turn("user", question)], False)
        before, rest = rendered.split(mark)
        after, _ = rest.split(question)
    except ValueError:
        return None
    if not after.endswith(before_user):
        raise ValueError("the turn after the system's begins otherwise than others")
    return before, after.removesuffix(before_user)


def _conversations(system: bool) -> list[list[Message]]:
    """What the template found is tried on."""
    user, answer = _turn("user", "Is the hall open? [1] {x} <b>"), _turn("assistant", "Yes. [1]")
    other = _turn("user", "And\non Mondays?")
    found = [[user], [user, answer, other], [user, answer, other, answer, user]]
    if system:
        found += [[_turn("system", "Answer shortly."), *turns] for turns in found[:3]]
    return found


def _turn(role: Role, content: str) -> Message:
    return Message(role=role, content=content)


def _go(text: str) -> str:
    """Text as it stands in a Go template."""
    return text.replace("{{", '{{ "{{" }}')


def modelfile(file: str, contract: Contract, template: TurnTemplate, stops: Sequence[str]) -> str:
    """The Modelfile of a GGUF file beside it.

    Args:
        file: its name.
        contract: what the model was trained under.
        template: its turns.
        stops: texts of the tokens that end an answer.
    """
    context = contract.max_prompt_tokens + contract.max_new_tokens
    lines = [f"FROM ./{file}", f'TEMPLATE """{template.as_go()}"""']
    if contract.form.system:
        lines.append(f'SYSTEM """{contract.form.system}"""')
    lines += [
        "PARAMETER temperature 0",
        f"PARAMETER num_ctx {context}",
        f"PARAMETER num_predict {contract.max_new_tokens}",
        *(f'PARAMETER stop "{stop}"' for stop in stops),
    ]
    return "\n".join(lines) + "\n"
