"""A model version as a GGUF file for llama.cpp, with the Modelfile that Ollama reads beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fti.store.errors import ContractError

if TYPE_CHECKING:
    from fti.app.settings import Settings
    from fti.pipelines.engines.model_config import GgufType
    from fti.pipelines.engines.model_files import ModelFolder
    from fti.store.contracts.prompt_contract import Contract
    from fti.store.store import Store
    from fti.store.versioned.model_version import ModelVersion


@dataclass(frozen=True, slots=True)
class ExportedGguf:
    """The file's name, and why there is no Modelfile beside it; empty where there is one."""

    file: str
    no_modelfile: str = ""


def export_gguf(
    settings: Settings,
    store: Store,
    version: ModelVersion,
    *,
    out: Path,
    kind: GgufType = "q8_0",
) -> ExportedGguf:
    """Write a verified version, merged into its base, as a GGUF file with tokenizer and template.

    Beside it lie ``contract.json``, a README and a Modelfile, where one can say what the chat
    template says.

    Raises:
        InputError: ``out`` exists and is not an empty folder.
        ContractError: the profile's base is not the version's, or llama.cpp has no such model or
            tokenizer.
    """
    from fti.app.operations.releasing.exporting import require_base, require_new
    from fti.pipelines.engines.causal_lm.loading import load_tokenizer
    from fti.pipelines.engines.llama_cpp.gguf_cache import gguf_source, source_identity
    from fti.store.files.atomic import staged_folder, write_json

    contract = version.prompt_contract
    require_new(out)
    trained = store.models.open(version.ref)
    side = {"whole": trained} if version.whole else {"adapter": trained}
    source = gguf_source(settings.generator, **side)
    tokenizer = load_tokenizer(source.base)
    if not version.whole:
        require_base(version, source_identity(source, tokenizer))
    name = f"{version.name}-{version.version}"
    file = f"{name}-{kind}.gguf"
    with staged_folder(out.absolute().parent) as folder:
        source.write(folder / file, tokenizer, name=name, kind=kind)
        refused = _write_modelfile(folder, file, source.base, tokenizer, contract)
        write_json(folder / "contract.json", version.contract.model_dump(mode="json"))
        readme = _readme(name, file, version, contract, refused)
        (folder / "README.md").write_text(readme, "utf-8")
        if out.exists():
            out.rmdir()
        folder.rename(out)
    return ExportedGguf(file, refused)


def _write_modelfile(
    folder: Path, file: str, model: ModelFolder, tokenizer: Any, contract: Contract
) -> str:
    """Write the Modelfile; why there can be none, or nothing."""
    from fti.app.operations.releasing.modelfile import modelfile, rendering, turn_template
    from fti.pipelines.engines.encoding import stop_ids

    try:
        template = turn_template(rendering(tokenizer), model=contract.base.id)
    except ContractError as error:
        return error.message
    ids = stop_ids(tokenizer, model.ends())
    stops = sorted(str(tokenizer.convert_ids_to_tokens(index)) for index in ids)
    (folder / "Modelfile").write_text(modelfile(file, contract, template, stops), "utf-8")
    return ""


def _readme(name: str, file: str, version: ModelVersion, contract: Contract, refused: str) -> str:
    ollama = f"There is no Modelfile for Ollama: {refused}"
    if not refused:
        ollama = f"or with Ollama, by the Modelfile:\n\n    ollama create {name} -f Modelfile"
    return f"""# {version.ref} for llama.cpp and Ollama

- `{file}`: the merged weights, with tokenizer and the chat template that was trained with
- `contract.json`: how a question and passages become the prompt (digest `{contract.digest}`)

Run it with llama.cpp's own server:

    llama-server -m {file} --jinja --host 127.0.0.1 --port 8080

{ollama}

The model was trained to read a question with numbered passages. `fti serve` puts them together as
the contract says, and asks a server where a profile names it:

    generator: {{engine: openai, id: {name}, server: {{base_url: http://127.0.0.1:8080/v1}}}}

(Ollama's is http://127.0.0.1:11434/v1.) fti also runs versions on llama.cpp itself, without an
export: `--config llamacpp`.

Asked without passages it answers from what the base model knows. A server that is given text reads
control tokens that are spelt in it as control tokens; fti's own engines do not.
"""
