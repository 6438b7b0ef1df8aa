"""A model's folder, and what the files in it hash to."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from fti.store.errors import IntegrityError, ModelUnavailable
from fti.store.types import sha256_hex

ADAPTER_CONFIG = "adapter_config.json"


ADAPTER_WEIGHTS = "adapter_model.safetensors"


COMMIT = re.compile(r"[0-9a-f]{40}")


_SHA256 = re.compile(r"[0-9a-f]{64}")


PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


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
        pickles = sorted(p.name for pattern in PICKLES for p in self.path.glob(pattern))
        if pickles:
            raise ModelUnavailable(
                f"The model {self.id!r} in {str(self.path)!r} has only pickled weights "
                f"({', '.join(pickles[:3])}), which can run code when opened.",
                hint="Use a revision with *.safetensors files, or convert it on a machine that "
                "trusts it: model.save_pretrained(FOLDER, safe_serialization=True).",
            )
        raise ModelUnavailable(
            f"The model {self.id!r} has no *.safetensors files in {str(self.path)!r}.",
            hint=fetch_hint(self.id, self.revision) if COMMIT.fullmatch(self.revision) else "",
        )

    def ends(self) -> list[int]:
        """The ids at which its own settings end a text; several models have none there.

        Raises:
            IntegrityError: the settings cannot be read.
        """
        for name in ("generation_config.json", "config.json"):
            path = self.path / name
            if not path.is_file():
                continue
            try:
                said = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            except (ValueError, AttributeError) as error:
                raise IntegrityError(
                    f"The settings of {self.id!r} in {str(path)!r} cannot be read: {error}",
                    hint="Fetch the model again.",
                ) from error
            return [said] if isinstance(said, int) else list(said or [])
        return []

    def weights_sha256(self) -> str:
        """Hash of the weights: of the file when there is one, else over the shards' hashes; of
        what they were made from, where they were made here.
        """
        if self.made_of:
            return self.made_of
        shards = [file_sha256(path) for path in self.weight_files()]
        return shards[0] if len(shards) == 1 else sha256_hex("\n".join(shards))


def fetch_hint(model: str, revision: str) -> str:
    """The command that fetches a Hub model, for the hint of an error."""
    return f"Fetch it with `hf download {model} --revision {revision}`."


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
