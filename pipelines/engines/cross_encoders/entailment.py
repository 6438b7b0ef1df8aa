"""Pairs of premise and hypothesis in, how likely the premise entails the hypothesis out.

``Entailment`` is the interface; ``NliModel`` a sequence classifier for natural language inference
(a cross-encoder, as sentence-transformers calls it) from local files. None is used unless the
profile names one.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fti.pipelines.engines.cross_encoders.cross_encoder import CrossEncoderConfig
from fti.pipelines.engines.model_files import ModelFolder
from fti.pipelines.engines.weights import LOAD_ERRORS, pick_device, quiet_loading
from fti.store.errors import ConfigError, EngineError, IntegrityError
from fti.store.types import ModelIdentity

Probabilities = NDArray[np.float32]


class EntailmentConfig(CrossEncoderConfig):
    """Which NLI model, and how it runs."""

    id: str = Field(
        default="",
        description="Local folder or Hub model of an NLI cross-encoder; empty: none, and "
        "groundedness is measured by words alone.",
    )
    label: str = Field(
        default="entailment",
        min_length=1,
        description="What the model's configuration calls entailment, in any case.",
    )


class Entailment(Protocol):
    """A model of natural language inference. May be shared between threads."""

    @property
    def identity(self) -> ModelIdentity:
        """Which weights judge."""
        ...

    def probabilities(self, pairs: Sequence[tuple[str, str]]) -> Probabilities:
        """How likely each (premise, hypothesis) is an entailment, from 0 to 1."""
        ...


def load_entailment(config: EntailmentConfig) -> Entailment | None:
    """The NLI model that a configuration names; None where it names none.

    Raises:
        ModelUnavailable: its weights are not on this machine.
        ConfigError: it has no label of the configured name.
        IntegrityError: its files cannot be loaded.
    """
    if not config.id:
        return None
    return NliModel(
        config.files(),
        label=config.label,
        device=config.device,
        batch_size=config.batch_size,
        max_tokens=config.max_tokens,
    )


class NliModel:
    """A sequence classifier with an entailment label, in fp32.

    Args:
        folder: the model's files; see ``engines.weights.find_model``.
        label: of entailment, as the model's configuration names it.
        device: "auto", "cpu", "cuda" or "mps".
        batch_size: pairs per forward pass.
        max_tokens: length of a pair, special tokens included, above which its longer text is cut.
    """

    def __init__(
        self,
        folder: ModelFolder,
        *,
        label: str = "entailment",
        device: str = "auto",
        batch_size: int | None = None,
        max_tokens: int = 512,
    ) -> None:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        folder.weight_files()
        device = pick_device(device)
        how: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            with quiet_loading():
                self._tokenizer: Any = AutoTokenizer.from_pretrained(str(folder.path), **how)
                self._model: Any = (
                    AutoModelForSequenceClassification.from_pretrained(
                        str(folder.path), dtype=torch.float32, use_safetensors=True, **how
                    )
                    .to(device)
                    .eval()
                )
        except (*LOAD_ERRORS, SafetensorError) as error:
            raise IntegrityError(
                f"The NLI model {folder.id!r} in {str(folder.path)!r} cannot be loaded: {error}",
            ) from error
        self._label = _label_index(self._model.config.id2label, label, model=folder.id)
        self._device = device
        self._batch = batch_size or (8 if device == "cpu" else 64)
        positions = getattr(self._model.config, "max_position_embeddings", None) or max_tokens
        self._max_tokens = min(max_tokens, positions, self._tokenizer.model_max_length)
        self._lock = threading.Lock()
        self._identity = ModelIdentity(
            id=folder.id, revision=folder.revision, weights_sha256=folder.weights_sha256()
        )

    @property
    def identity(self) -> ModelIdentity:
        """Which weights judge."""
        return self._identity

    def probabilities(self, pairs: Sequence[tuple[str, str]]) -> Probabilities:
        """How likely each (premise, hypothesis) is an entailment: the softmax's share of its label.

        Raises:
            EngineError: the model failed, or gave what is no number.
        """
        import torch

        found = np.zeros(len(pairs), dtype=np.float32)
        # Pairs of like length together, so that little is padded.
        order = sorted(range(len(pairs)), key=lambda i: -sum(map(len, pairs[i])))
        try:
            with self._lock, torch.inference_mode():
                for at in range(0, len(order), self._batch):
                    batch = order[at : at + self._batch]
                    encoded = self._tokenizer(
                        [pairs[i][0] for i in batch],
                        [pairs[i][1] for i in batch],
                        padding=True,
                        truncation="longest_first",
                        max_length=self._max_tokens,
                        return_tensors="pt",
                    ).to(self._device)
                    shares = self._model(**encoded).logits.softmax(dim=-1)[:, self._label]
                    found[batch] = shares.float().cpu().numpy()
        except (RuntimeError, MemoryError, ValueError, IndexError) as error:
            raise EngineError(
                f"The NLI model {self._identity.id!r} failed on {len(pairs)} pairs: {error}",
                hint="If memory ran out, set a smaller evaluation.entailment.batch_size.",
            ) from error
        if not np.isfinite(found).all():
            raise EngineError(
                f"The NLI model {self._identity.id!r} gave what is no number for one of "
                f"{len(pairs)} pairs."
            )
        return found


def _label_index(labels: dict[int, str], wanted: str, *, model: str) -> int:
    """Where the label stands among the model's outputs.

    Raises:
        ConfigError: no label has this name; says which there are.
    """
    for index, name in labels.items():
        if str(name).casefold() == wanted.casefold():
            return int(index)
    raise ConfigError(
        f"The NLI model {model!r} has no label {wanted!r}, but "
        f"{', '.join(repr(str(name)) for name in labels.values())}.",
        hint="Name the one that means entailment: --set evaluation.entailment.label=NAME",
    )
