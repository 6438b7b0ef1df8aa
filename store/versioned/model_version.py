"""A published model version: what it is, what it was made from, and the files that it holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from fti.store.contracts.embedder_contract import REGISTRY, EmbedderContract
from fti.store.contracts.prompt_contract import Contract
from fti.store.errors import ContractError, StoreError
from fti.store.types import FileEntry, Value
from fti.store.versioned.aliases import CHAMPION

ADAPTER_FILE = "adapter_model.safetensors"
CARD_FILE = "README.md"
LOG_FILE = "training_log.json"


class AdapterInfo(Value):
    """Facts of a LoRA adapter. ``sha256`` is that of its weights; the registry fills it in."""

    rank: int = Field(ge=1)
    alpha: float = Field(gt=0)
    target_modules: tuple[str, ...]
    sha256: str = ""

    def of_files(self, entries: Sequence[FileEntry]) -> AdapterInfo:
        """The same with the digest of the weights among the files of a version.

        Raises:
            StoreError: there are none, or they are others than ``sha256`` says.
        """
        weights = next((entry.sha256 for entry in entries if entry.path == ADAPTER_FILE), None)
        if weights is None:
            raise StoreError(f"The folder holds no {ADAPTER_FILE}, the adapter's weights.")
        if self.sha256 not in ("", weights):
            raise StoreError(f"{ADAPTER_FILE} has sha256 {weights}, not {self.sha256} as said.")
        return self.model_copy(update={"sha256": weights})

    @field_validator("target_modules")
    @classmethod
    def _sorted(cls, modules: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(modules))


class ModelVersion(Value):
    """A published, immutable model version: what it is, and what it was made from.

    Of kind ``llm`` it answers, under a ``Contract``; of kind ``embedder`` it makes vectors, under
    an ``EmbedderContract``. ``dataset`` is ``name/number`` and ``dataset_digest`` what that
    version's rows were; ``parent`` is the model version that training went on from, if any.
    """

    name: str
    version: int = Field(ge=1)
    kind: Literal["llm", "embedder"] = "llm"
    created_at: datetime
    contract: Contract | EmbedderContract
    dataset: str
    dataset_digest: str
    run_id: str
    metrics: Mapping[str, Any] = Field(default_factory=dict)
    parent: str | None = None
    adapter: AdapterInfo | None = None
    files: tuple[FileEntry, ...]

    @property
    def ref(self) -> str:
        """``name/number``, as commands take it."""
        return f"{self.name}/{self.version}"

    @property
    def whole(self) -> bool:
        """Whether it is a whole model by itself, and not an adapter for its base."""
        return self.adapter is None and any(entry.path == "config.json" for entry in self.files)

    @property
    def prompt_contract(self) -> Contract:
        """What it answers under.

        Raises:
            ContractError: it is an embedder.
        """
        if isinstance(self.contract, EmbedderContract):
            raise ContractError(
                f"{self.ref} is an embedder: it makes vectors and answers nothing.",
                hint="Name a model of `fti finetune`, or base. A store is switched to an embedder "
                f"with: fti models promote {self.ref} --alias {CHAMPION}",
            )
        return self.contract

    @property
    def vector_contract(self) -> EmbedderContract:
        """What it makes vectors under.

        Raises:
            ContractError: it is no embedder.
        """
        if isinstance(self.contract, Contract):
            raise ContractError(
                f"{self.ref} is a language model: it makes no vectors.",
                hint="Name a model of `fti finetune-embedder`.",
            )
        return self.contract

    def made_from(self) -> Iterator[tuple[str, str]]:
        """Versions that this one refers to, and how."""
        if self.parent:
            yield self.parent, "from"
        if isinstance(self.contract, Contract):
            embedder = self.contract.embedder.id
            if embedder.startswith(REGISTRY):
                yield embedder.removeprefix(REGISTRY), "behind"

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        if (self.kind == "embedder") != isinstance(self.contract, EmbedderContract):
            raise ValueError(f"the contract is not that of kind {self.kind!r}")
        return self
