"""A question and candidate texts in, how well each answers the question out.

``Reranker`` is the interface; ``CrossEncoderReranker`` the real one; ``LexicalReranker`` a
deterministic one without weights. None is used unless the profile names one.
"""

from __future__ import annotations

import math
import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fti.pipelines.engines.cross_encoders.cross_encoder import CrossEncoderConfig
from fti.pipelines.engines.model_files import ModelFolder
from fti.pipelines.engines.weights import (
    LOAD_ERRORS,
    pick_device,
    quiet_loading,
    require_safetensors,
)
from fti.store.errors import EngineError, IntegrityError
from fti.store.types import ModelIdentity, Passage

Scores = NDArray[np.float32]


class RerankerConfig(CrossEncoderConfig):
    """Which reranker, and how it runs."""

    engine: Literal["none", "cross-encoder", "lexical"] = Field(
        default="none", description="``lexical`` needs no weights; it counts shared words."
    )

    @model_validator(mode="after")
    def _model_is_named(self) -> RerankerConfig:
        # None may stand beside a model: so that one setting takes a profile's reranker out.
        if self.engine != "none" and (self.engine == "cross-encoder") != bool(self.id):
            raise ValueError("reranker.id belongs to engine 'cross-encoder', which needs it")
        return self


class Reranker(Protocol):
    """A model that judges question and text together. May be shared between threads."""

    @property
    def identity(self) -> ModelIdentity:
        """Which weights judge."""
        ...

    def score(self, question: str, texts: Sequence[str]) -> Scores:
        """One number per text, larger for a better answer; only their order means something."""
        ...


def load_reranker(config: RerankerConfig) -> Reranker | None:
    """Build the reranker that a configuration names; None for engine ``none``.

    Raises:
        ModelUnavailable: its weights are not on this machine.
    """
    if config.engine == "none":
        return None
    if config.engine == "lexical":
        return LexicalReranker()
    return CrossEncoderReranker(
        config.files(),
        device=config.device,
        batch_size=config.batch_size,
        max_tokens=config.max_tokens,
    )


def rerank(reranker: Reranker, question: str, passages: Sequence[Passage]) -> list[Passage]:
    """The passages in the reranker's order (ties as they were), with rank and score renewed."""
    texts = [f"{p.heading}\n{p.text}" if p.heading else p.text for p in passages]
    scores = reranker.score(question, texts)
    order = sorted(range(len(passages)), key=lambda i: -float(scores[i]))
    return [
        passages[i].model_copy(update={"rank": rank, "score": float(scores[i])})
        for rank, i in enumerate(order, start=1)
    ]


class CrossEncoderReranker:
    """A sentence-transformers cross-encoder from local files, in fp32 on a CPU.

    Args:
        folder: the model's files; see ``engines.weights.find_model``.
        device: "auto", "cpu", "cuda" or "mps".
        batch_size: pairs per forward pass.
        max_tokens: length at which a pair is cut.
    """

    def __init__(
        self,
        folder: ModelFolder,
        *,
        device: str = "auto",
        batch_size: int | None = None,
        max_tokens: int = 512,
    ) -> None:
        import torch
        from safetensors import SafetensorError
        from sentence_transformers import CrossEncoder

        folder.weight_files()
        require_safetensors([folder.path], model=folder.id)
        device = pick_device(device)
        try:
            with quiet_loading():
                self._model: Any = CrossEncoder(
                    str(folder.path),
                    device=device,
                    max_length=max_tokens,
                    local_files_only=True,
                    trust_remote_code=False,
                    model_kwargs={"dtype": torch.float32, "use_safetensors": True},
                )
        except (*LOAD_ERRORS, SafetensorError) as error:
            raise IntegrityError(
                f"The reranker {folder.id!r} in {str(folder.path)!r} cannot be loaded: {error}",
            ) from error
        self._batch = batch_size or (8 if device == "cpu" else 64)
        self._lock = threading.Lock()
        self._identity = ModelIdentity(
            id=folder.id, revision=folder.revision, weights_sha256=folder.weights_sha256()
        )

    @property
    def identity(self) -> ModelIdentity:
        """Which weights judge."""
        return self._identity

    def score(self, question: str, texts: Sequence[str]) -> Scores:
        """The model's relevance logits."""
        if not texts:
            return np.zeros(0, dtype=np.float32)
        try:
            with self._lock:
                scores = self._model.predict(
                    [(question, text) for text in texts],
                    batch_size=self._batch,
                    convert_to_numpy=True,
                    show_progress_bar=False,
                )
        except (RuntimeError, MemoryError) as error:
            raise EngineError(
                f"The reranker {self._identity.id!r} failed on {len(texts)} texts: {error}",
                hint="If memory ran out, set a smaller reranker.batch_size.",
            ) from error
        scores = np.asarray(scores, dtype=np.float32)
        if scores.shape != (len(texts),) or not np.isfinite(scores).all():
            raise EngineError(
                f"The reranker {self._identity.id!r} gave scores of shape {scores.shape}, or such "
                f"that are not numbers, for {len(texts)} texts.",
                hint="A reranker is a cross-encoder with one output.",
            )
        return scores


class LexicalReranker:
    """BM25 over the candidates alone: rare shared words count most. Deterministic, no weights."""

    _SATURATION = 1.2
    _LENGTH = 0.75

    @property
    def identity(self) -> ModelIdentity:
        """The method's name."""
        return ModelIdentity(id="lexical", revision="bm25-1")

    def score(self, question: str, texts: Sequence[str]) -> Scores:
        """BM25 with document frequencies of these texts."""
        counted = [Counter(_words(text)) for text in texts]
        if not counted:
            return np.zeros(0, dtype=np.float32)
        lengths = [sum(words.values()) for words in counted]
        mean_length = max(1.0, sum(lengths) / len(lengths))
        scores = np.zeros(len(texts), dtype=np.float32)
        for word in sorted(set(_words(question))):
            holders = sum(1 for words in counted if word in words)
            rarity = math.log1p((len(texts) - holders + 0.5) / (holders + 0.5))
            for row, words in enumerate(counted):
                times = words[word]
                if times:
                    stretch = 1 - self._LENGTH + self._LENGTH * lengths[row] / mean_length
                    gain = (self._SATURATION + 1) * times / (times + self._SATURATION * stretch)
                    scores[row] += rarity * gain
        return scores


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
