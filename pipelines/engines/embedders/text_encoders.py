"""What makes vectors of a batch of texts with torch: a plain BERT by itself, others by their own
library."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from fti.pipelines.engines.embedders.bert import BertEncoder, bert_encoder
from fti.pipelines.engines.embedders.cores import Cores, shared_cores
from fti.pipelines.engines.embedders.embedding import Vectors
from fti.pipelines.engines.embedders.plain_bert import PlainBert, assembled
from fti.pipelines.engines.model_files import ModelFolder
from fti.pipelines.engines.packed import pack_linears
from fti.pipelines.engines.weights import LOAD_ERRORS, quiet_loading
from fti.store.errors import IntegrityError


class TextEncoder(Protocol):
    """Texts in, unit vectors out. May be called from several threads."""

    @property
    def cores(self) -> Cores | None:
        """On which batches are worked side by side; None where a device does one at a time."""
        ...

    @property
    def prompts(self) -> Mapping[str, str]:
        """Texts that the model's settings put before others, by kind."""
        ...

    @property
    def most_tokens(self) -> int:
        """Tokens read of a text, those that the model puts around it included."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def tokenizer(self) -> Any:
        """A tokenizer of the tokenizers library that neither cuts nor fills up."""
        ...

    def encode(self, texts: list[str]) -> Vectors:
        """Shape ``(len(texts), dimension)``."""
        ...


class PlainEncoder:
    """A plain BERT on a CPU, in fp32, from its files.

    Args:
        folder: the model's files.
        plain: what they say.

    Raises:
        IntegrityError: the weights cannot be loaded.
    """

    def __init__(self, folder: ModelFolder, plain: PlainBert) -> None:
        from safetensors import SafetensorError

        self._plain = plain
        try:
            model = assembled(plain)
        except (*LOAD_ERRORS, SafetensorError) as error:
            raise _unloadable(folder, error) from error
        # In float32, so that vectors differ by rounding only: a store's outlive a machine.
        pack_linears(model, bfloat16=False)
        self._encoder = BertEncoder(model, heads=plain.heads)
        self._tokenizer = plain.tokenizer(cut=True)
        self._tokenizer.enable_padding(pad_id=plain.padding)
        self.cores = shared_cores()
        self.prompts = plain.prompts
        self.most_tokens = plain.most_tokens
        self.dimension = plain.hidden

    def tokenizer(self) -> Any:
        """A tokenizer of the tokenizers library that neither cuts nor fills up."""
        return self._plain.tokenizer(cut=False)

    def encode(self, texts: list[str]) -> Vectors:
        """Shape ``(len(texts), dimension)``."""
        import torch

        read = self._tokenizer.encode_batch(texts)
        ids = torch.tensor([each.ids for each in read])
        mask = torch.tensor([each.attention_mask for each in read])
        with torch.inference_mode():
            hidden = self._encoder(ids, mask)
            if self._plain.pooling == "cls":
                vectors = hidden[:, 0]
            else:
                kept = mask[..., None].to(hidden.dtype)
                vectors = (hidden * kept).sum(1) / kept.sum(1).clamp(min=1e-9)
            return np.asarray(torch.nn.functional.normalize(vectors, p=2, dim=1).numpy())


class SentenceTransformersEncoder:
    """Any model of the family, run by sentence-transformers.

    Args:
        folder: the model's files.
        device: "cpu", "cuda" or "mps".
        batch_size: texts per forward pass of its own.

    Raises:
        IntegrityError: the files cannot be loaded.
    """

    def __init__(self, folder: ModelFolder, device: str, batch_size: int) -> None:
        import torch
        from safetensors import SafetensorError
        from sentence_transformers import SentenceTransformer

        try:
            with quiet_loading():
                self.model: Any = SentenceTransformer(
                    str(folder.path),
                    device=device,
                    local_files_only=True,
                    trust_remote_code=False,
                    model_kwargs={"dtype": torch.float32, "use_safetensors": True},
                )
        except (*LOAD_ERRORS, SafetensorError) as error:
            raise _unloadable(folder, error) from error
        self.model.eval()
        self._batch = batch_size
        self.cores = shared_cores() if device == "cpu" else None
        self._encoder = self._lean_encoder() if device == "cpu" else None
        # The tokenizer's settings change as it is used, and a device does one batch at a time.
        self._lock = threading.Lock()

    @property
    def prompts(self) -> Mapping[str, str]:
        """Texts that the model's settings put before others, by kind."""
        return self.model.prompts or {}

    @property
    def most_tokens(self) -> int:
        """Tokens read of a text, those that the model puts around it included."""
        return int(self.model.max_seq_length)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self.model.get_embedding_dimension())

    def tokenizer(self) -> Any:
        """A tokenizer of the tokenizers library that neither cuts nor fills up."""
        from tokenizers import Tokenizer

        made = Tokenizer.from_str(self.model.tokenizer.backend_tokenizer.to_str())
        made.no_truncation()
        made.no_padding()
        return made

    def encode(self, texts: list[str]) -> Vectors:
        """Shape ``(len(texts), dimension)``."""
        if self.cores is not None:
            return self._encode_here(texts)
        with self._lock:
            vectors: Vectors = self.model.encode(
                texts,
                prompt="",  # the prefix is in the texts: a default prompt must not join it
                batch_size=self._batch,
                convert_to_numpy=True,
                normalize_embeddings=True,
                show_progress_bar=False,
            )
        return vectors

    def _encode_here(self, texts: list[str]) -> Vectors:
        """What ``encode`` of sentence-transformers does, less what threads would wait for."""
        import torch

        with torch.inference_mode():
            with self._lock:
                features = self.model.preprocess(texts, prompt="")
            if self._encoder is None:
                features = self.model(features)
            else:
                first, *rest = self.model.children()
                features[first.module_output_name] = self._encoder(
                    features["input_ids"],
                    features["attention_mask"],
                    features.get("token_type_ids"),
                )
                for module in rest:
                    features = module(features)
            vectors = features["sentence_embedding"]
            if self.model.truncate_dim is not None:
                vectors = vectors[..., : self.model.truncate_dim]
            return np.asarray(torch.nn.functional.normalize(vectors, p=2, dim=1).numpy())

    def _lean_encoder(self) -> BertEncoder | None:
        """Stands in for the first module, where that is a plain BERT."""
        from sentence_transformers.sentence_transformer.modules import Transformer

        first = self.model[0]
        if type(first) is not Transformer or first.module_output_name != "token_embeddings":
            return None
        encoder = bert_encoder(first.model)
        if encoder is not None:
            # In float32, so that vectors differ by rounding only: a store's outlive a machine.
            pack_linears(first.model, bfloat16=False)
        return encoder


def _unloadable(folder: ModelFolder, error: BaseException) -> IntegrityError:
    return IntegrityError(
        f"The embedder {folder.id!r} in {str(folder.path)!r} cannot be loaded: {error}",
    )
