"""A model version as a recipe for llama.cpp and Ollama: merged weights, commands, a Modelfile.

The Modelfile's template says what the model's own chat template says. It is not translated from
Jinja but found out: conversations of marked turns are rendered with the trained template, and what
stands around the marks is what stands around turns. A template that says more than that (a date, a
tool, another text for the third turn) is found out too, and refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fti.store.errors import ContractError
from fti.store.types import Message, Role

if TYPE_CHECKING:
    from fti.app.settings import Settings
    from fti.store.contracts.prompt_contract import Contract
    from fti.store.store import Store
    from fti.store.versioned.model_version import ModelVersion

#: Renders turns; the flag asks for the beginning of an answer behind them.
Render = Callable[[Sequence[Message], bool], str]

_MARK = "xQ7{}Zw9"
_QUANTISED = "Q8_0"


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
            hint="Export it with --format merged; llama.cpp's own server reads the chat template "
            "from the converted file (llama-server --jinja).",
        ) from error
    return found


def export_gguf(settings: Settings, store: Store, version: ModelVersion, *, out: Path) -> None:
    """Write merged weights with what turns them into a GGUF file and an Ollama model.

    Raises:
        InputError: ``out`` exists and is not an empty folder.
        ContractError: the profile's base is not the version's, or its chat template is one that a
            Modelfile cannot say.
    """
    from fti.app.operations.releasing.exporting import export_merged, require_new
    from fti.pipelines.engines.causal_lm.loading import load_tokenizer
    from fti.pipelines.engines.model_files import ModelFolder
    from fti.store.files.atomic import staged_folder

    contract = version.prompt_contract
    require_new(out)
    with staged_folder(out.absolute().parent) as folder:
        export_merged(settings, store, version, out=folder / "model")
        tokenizer = load_tokenizer(ModelFolder(version.ref, "", folder / "model"))
        template = turn_template(rendering(tokenizer), model=contract.base.id)
        name = f"{version.name}-{version.version}"
        stops = _stops(folder / "model", tokenizer)
        modelfile = _modelfile(name, contract, template, stops)
        (folder / "Modelfile").write_text(modelfile, "utf-8")
        (folder / "convert.sh").write_text(_commands(name), "utf-8")
        (folder / "README.md").write_text(_readme(name, version, contract), "utf-8")
        if out.exists():
            out.rmdir()
        folder.rename(out)


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


def _stops(model: Path, tokenizer: Any) -> list[str]:
    """The texts of the tokens that end an answer."""
    import json

    from fti.pipelines.engines.encoding import stop_ids

    path = model / "generation_config.json"
    said = json.loads(path.read_text("utf-8")).get("eos_token_id") if path.is_file() else None
    ends = [said] if isinstance(said, int) else list(said or [])
    return sorted(str(tokenizer.convert_ids_to_tokens(i)) for i in stop_ids(tokenizer, ends))


def _modelfile(name: str, contract: Contract, template: TurnTemplate, stops: Sequence[str]) -> str:
    context = contract.max_prompt_tokens + contract.max_new_tokens
    lines = [
        f"FROM ./{name}-{_QUANTISED.lower()}.gguf",
        f'TEMPLATE """{template.as_go()}"""',
    ]
    if contract.form.system:
        lines.append(f'SYSTEM """{contract.form.system}"""')
    lines += [
        "PARAMETER temperature 0",
        f"PARAMETER num_ctx {context}",
        f"PARAMETER num_predict {contract.max_new_tokens}",
        *(f'PARAMETER stop "{stop}"' for stop in stops),
    ]
    return "\n".join(lines) + "\n"


def _commands(name: str) -> str:
    return f"""#!/bin/sh
# Merged weights to a GGUF file, and that to an Ollama model. Needs a clone of llama.cpp, built:
#   git clone https://github.com/ggml-org/llama.cpp && cd llama.cpp
#   cmake -B build && cmake --build build --target llama-quantize
#   pip install -r requirements/requirements-convert_hf_to_gguf.txt
set -e
: "${{LLAMA_CPP:?Set LLAMA_CPP to the clone of llama.cpp}}"
cd "$(dirname "$0")"
python "$LLAMA_CPP/convert_hf_to_gguf.py" model --outtype f16 --outfile {name}-f16.gguf
"$LLAMA_CPP/build/bin/llama-quantize" {name}-f16.gguf {name}-{_QUANTISED.lower()}.gguf {_QUANTISED}
ollama create {name} -f Modelfile
"""


def _readme(name: str, version: ModelVersion, contract: Contract) -> str:
    return f"""# {version.ref} for llama.cpp and Ollama

- `model/`: the merged weights with tokenizer and chat template, and `contract.json`
- `convert.sh`: the commands that make `{name}-{_QUANTISED.lower()}.gguf` and the Ollama model
- `Modelfile`: the chat template that the model was trained with, its stops and its budgets

Conversion was not run here. llama.cpp refuses a tokenizer that it does not know ("BPE
pre-tokenizer was not recognized"); then its list must be told first.

The model was trained to read a question with numbered passages, put together as `contract.json`
says (digest `{contract.digest}`). `fti serve` puts them together and asks the converted model
where a profile names the server, for Ollama:

    generator: {{engine: openai, id: {name}, server: {{base_url: http://127.0.0.1:11434/v1}}}}

Asked without passages it answers from what the base model knows.
"""
