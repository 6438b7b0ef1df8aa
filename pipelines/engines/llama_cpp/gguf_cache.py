"""GGUF files made of a model once, in the cache folder that all stores share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fti.pipelines.engines.builtin_model import cache_folder
from fti.pipelines.engines.causal_lm.loading import load_causal_lm, load_tokenizer
from fti.pipelines.engines.causal_lm.saving import merged
from fti.pipelines.engines.llama_cpp.gguf_file import write_gguf
from fti.pipelines.engines.llama_cpp.gguf_weights import (
    Tensor,
    folder_tensors,
    model_tensors,
    require_known,
)
from fti.pipelines.engines.made_folders import make_once
from fti.pipelines.engines.model_config import GgufType, ModelConfig
from fti.pipelines.engines.model_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    ModelFolder,
    file_sha256,
)
from fti.pipelines.engines.weights import LOAD_ERRORS, find_model, tokenizer_sha256
from fti.store.errors import EngineError, IntegrityError
from fti.store.types import ModelIdentity, sha256_hex

_FORMAT = 1  # of what is written; another number makes all files anew
_FILE = "model.gguf"
_MADE = "made.json"
_WAIT_S = 1800.0  # a model of billions of weights is merged and written in minutes


@dataclass(frozen=True, slots=True)
class GgufSource:
    """What a GGUF file is made of: a model's folder, and an adapter to merge into it or none.

    ``config`` finds the base again, where the adapter is merged.
    """

    base: ModelFolder
    config: ModelConfig
    adapter: Path | None = None

    def digest(self, tokenizer: Any) -> str:
        """sha256 over everything that decides what the file says, but the format of weights."""
        parts = [str(_FORMAT), self.base.weights_sha256(), tokenizer_sha256(tokenizer)]
        parts.append(file_sha256(self.base.path / "config.json"))
        if self.adapter is not None:
            names = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
            parts += [file_sha256(self.adapter / name) for name in names]
        return sha256_hex("\n".join(parts))

    def write(self, path: Path, tokenizer: Any, *, name: str, kind: GgufType) -> None:
        """Write the file.

        Raises:
            ContractError: the adapter was made for another base, or llama.cpp would compute or
                read otherwise than transformers does.
            IntegrityError: the files are damaged, or weights are no numbers.
        """
        config = self.shape()
        require_known(config, model=name)  # before weights are read
        write_gguf(path, self._tensors(), config, tokenizer, name=name, kind=kind)

    def shape(self) -> Any:
        """The model's transformers configuration."""
        from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(
                str(self.base.path), local_files_only=True, trust_remote_code=False
            )
        except LOAD_ERRORS as error:
            raise IntegrityError(
                f"The configuration of {self.base.id!r} in {str(self.base.path)!r} cannot be "
                f"read: {error}",
            ) from error

    def _tensors(self) -> list[Tensor]:
        if self.adapter is None:
            return folder_tensors(self.base.weight_files())
        whole = {"device": "cpu", "dtype": "float32", "quantization": "none"}
        loaded = load_causal_lm(self.config.model_copy(update=whole))
        return model_tensors(merged(loaded, self.adapter))


def gguf_source(
    config: ModelConfig, *, adapter: Path | None = None, whole: Path | None = None
) -> GgufSource:
    """What the file of a configuration's model is made of.

    Args:
        config: names the base.
        adapter: folder of an adapter to merge into it.
        whole: folder of a version that is a model by itself, in the base's place.

    Raises:
        ModelUnavailable: the base is not on this machine; says how to get it.
    """
    if whole is not None:
        return GgufSource(ModelFolder(whole.name, "", whole), config)
    found = find_model(config.id, revision=config.revision, allow_download=config.allow_download)
    return GgufSource(found, config, adapter)


def source_identity(source: GgufSource, tokenizer: Any) -> ModelIdentity:
    """The identity of the folder that a file is made of, as ``load_causal_lm`` gives it."""
    return ModelIdentity(
        id=source.base.id,
        revision=source.base.revision,
        weights_sha256=source.base.weights_sha256(),
        tokenizer_sha256=tokenizer_sha256(tokenizer),
    )


def cached_gguf(source: GgufSource, kind: GgufType) -> Path:
    """The file of a model; made first, where this machine has none yet.

    Raises:
        ContractError: llama.cpp cannot run the model.
        IntegrityError: its files are damaged.
        EngineError: the cache folder cannot be written.
    """
    tokenizer = load_tokenizer(source.base)
    made_of = source.digest(tokenizer)
    folder = cache_folder() / f"gguf-{made_of[:16]}-{kind}"
    if not _is_whole(folder, made_of):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _make(folder, source, tokenizer, made_of, kind)
        except OSError as error:
            raise EngineError(
                f"The GGUF file of {source.base.id!r} cannot be made in {str(folder)!r}: "
                f"{error.strerror or error}.",
                hint="Set FTI_CACHE to a folder with room for it that you may write.",
            ) from error
    return folder / _FILE


def _is_whole(folder: Path, made_of: str) -> bool:
    """Whether a folder holds the file, unharmed: a damaged one is made again."""
    try:
        made = json.loads((folder / _MADE).read_text(encoding="utf-8"))
        return bool(made["made_of"] == made_of and file_sha256(folder / _FILE) == made["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _make(folder: Path, source: GgufSource, tokenizer: Any, made_of: str, kind: GgufType) -> None:
    def write(aside: Path) -> None:
        source.write(aside / _FILE, tokenizer, name=source.base.id, kind=kind)
        made = {"made_of": made_of, "sha256": file_sha256(aside / _FILE)}
        (aside / _MADE).write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")

    make_once(
        folder,
        what="the GGUF file",
        wait_s=_WAIT_S,
        is_whole=lambda: _is_whole(folder, made_of),
        write=write,
    )
