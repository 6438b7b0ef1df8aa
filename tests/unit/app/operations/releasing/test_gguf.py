"""A version goes to llama.cpp as one file, with all that belongs to it beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fti.app.operations.releasing.gguf import export_gguf
from fti.app.settings import Settings, load_settings
from fti.store.errors import ContractError, InputError
from fti.store.store import Store
from fti.store.versioned.model_version import ModelVersion
from tests.support.llama_cpp import metadata
from tests.support.tiny_model import CHAT_TEMPLATE, make_adapter, make_tiny_lm
from tests.support.values import a_contract, publish_adapter


@pytest.fixture
def version(tmp_path: Path, tiny_lm: Path, loaded_lm: Any) -> ModelVersion:
    adapter = make_adapter(tiny_lm, tmp_path / "adapter")
    (adapter / "README.md").write_text("# reader", "utf-8")
    store = Store(tmp_path / "store")
    return publish_adapter(store, adapter, a_contract(base=loaded_lm.identity))


def settings_of(folder: Path, model: Path) -> tuple[Settings, Store]:
    profile = [f"generator.id={model}", "generator.device=cpu"]
    return load_settings(store=folder, environment={}, overrides=profile), Store(folder)


@pytest.mark.heavy
def test_the_file_and_the_modelfile_stand_beside_one_another(
    version: ModelVersion, tmp_path: Path, tiny_lm: Path
) -> None:
    settings, store = settings_of(tmp_path / "store", tiny_lm)
    out = tmp_path / "out"
    done = export_gguf(settings, store, version, out=out)
    assert (done.file, done.no_modelfile) == ("reader-1-q8_0.gguf", "")
    names = {"reader-1-q8_0.gguf", "Modelfile", "README.md", "contract.json"}
    assert {path.name for path in out.iterdir()} == names
    said = metadata(out / done.file)
    assert said["general.name"] == "reader-1"
    assert said["tokenizer.chat_template"] == CHAT_TEMPLATE
    modelfile = (out / "Modelfile").read_text("utf-8")
    assert modelfile.startswith('FROM ./reader-1-q8_0.gguf\nTEMPLATE """{{ range .Messages }}')
    assert '{{ else if eq .Role "user" }}<|user|>\n{{ .Content }}<|end|>\n' in modelfile
    assert 'SYSTEM """Answer the question from the numbered passages' in modelfile
    assert "PARAMETER num_ctx 232\nPARAMETER num_predict 32\n" in modelfile
    assert 'PARAMETER stop "<|end|>"' in modelfile
    assert "ollama create reader-1 -f Modelfile" in (out / "README.md").read_text("utf-8")
    with pytest.raises(InputError, match="is not empty"):
        export_gguf(settings, store, version, out=out)


@pytest.mark.heavy
def test_a_template_that_a_modelfile_cannot_say_still_goes_into_the_file(
    tmp_path: Path, loaded_lm: Any, tiny_lm: Path
) -> None:
    from fti.pipelines.engines.causal_lm.loading import load_causal_lm
    from fti.pipelines.engines.model_config import ModelConfig

    model = make_tiny_lm(tmp_path / "lm")
    template = CHAT_TEMPLATE + "{{ messages | length }}"
    (model / "chat_template.jinja").write_text(template, "utf-8")
    adapter = make_adapter(model, tmp_path / "adapter")
    store = Store(tmp_path / "store")
    base = load_causal_lm(ModelConfig(id=str(model), device="cpu")).identity
    version = publish_adapter(store, adapter, a_contract(base=base))
    settings, store = settings_of(tmp_path / "store", model)
    out = tmp_path / "out"
    done = export_gguf(settings, store, version, out=out, kind="f16")
    assert "cannot be said in a Modelfile" in done.no_modelfile
    assert not (out / "Modelfile").exists()
    assert "There is no Modelfile for Ollama" in (out / "README.md").read_text("utf-8")
    assert metadata(out / "reader-1-f16.gguf")["tokenizer.chat_template"] == template


def test_another_base_than_it_was_trained_on_is_refused(
    version: ModelVersion, tmp_path: Path
) -> None:
    other = make_tiny_lm(tmp_path / "other-lm", seed=3)
    settings, store = settings_of(tmp_path / "store", other)
    with pytest.raises(ContractError, match="was trained on"):
        export_gguf(settings, store, version, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
