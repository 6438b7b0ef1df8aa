"""Embedders of the sentence-transformers family, run as fast as the machine allows."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fti.pipelines.engines.embedders.bert import BertEncoder, bert_encoder
from fti.pipelines.engines.embedders.cores import shared_cores
from fti.pipelines.engines.embedders.embedding import Vectors
from fti.pipelines.engines.encoding import encodable
from fti.pipelines.engines.model_files import ModelFolder, file_sha256
from fti.pipelines.engines.packed import pack_linears
from fti.pipelines.engines.weights import (
    LOAD_ERRORS,
    pick_device,
    quiet_loading,
    require_safetensors,
    tokenizer_sha256,
)
from fti.store.errors import EngineError, IntegrityError, ModelUnavailable
from fti.store.files.combining import Combining
from fti.store.types import EmbedderIdentity, sha256_hex

_CPU_TOKENS = 768


_FEWEST_TOKENS = 128  # of a batch that is made smaller so that every core gets one


_TOKENIZED_AT_ONCE = 256


class SentenceTransformerEmbedder:
    """A sentence-transformers model from local files, in fp32 on a CPU.

    Args:
        folder: the model's files; see ``engines.weights.find_model``.
        device: "auto", "cpu", "cuda" or "mps".
        batch_size: texts per forward pass.
        query_prefix: overrides the model's own "query" prompt.
        document_prefix: overrides the model's own "document" prompt.
    """

    def __init__(
        self,
        folder: ModelFolder,
        *,
        device: str = "auto",
        batch_size: int | None = None,
        query_prefix: str | None = None,
        document_prefix: str | None = None,
    ) -> None:
        import torch
        from safetensors import SafetensorError
        from sentence_transformers import SentenceTransformer
        from tokenizers import Tokenizer

        if not (folder.path / "modules.json").is_file():
            raise ModelUnavailable(
                f"{folder.id!r} in {str(folder.path)!r} is not a sentence-transformers model: it "
                "has no modules.json.",
                hint="Name an embedding model; a bare language model does not say how its tokens "
                "become one vector.",
            )
        self._folder = folder
        self._made_with: dict[str, Any] = {
            "device": device,
            "batch_size": batch_size,
            "query_prefix": query_prefix,
            "document_prefix": document_prefix,
        }
        parts = [folder.path, *(p.parent for p in folder.path.glob("*/config.json"))]
        require_safetensors(parts, model=folder.id)
        device = pick_device(device)
        try:
            with quiet_loading():
                self._model: Any = SentenceTransformer(
                    str(folder.path),
                    device=device,
                    local_files_only=True,
                    trust_remote_code=False,
                    model_kwargs={"dtype": torch.float32, "use_safetensors": True},
                )
        except (*LOAD_ERRORS, SafetensorError) as error:
            raise IntegrityError(
                f"The embedder {folder.id!r} in {str(folder.path)!r} cannot be loaded: {error}",
            ) from error
        self._model.eval()
        #: Tokens of a batch with their padding; None where only the number of texts counts. Which
        #: number is quickest differs from machine to machine; the vectors do not, but for rounding.
        self.tokens_at_once = _CPU_TOKENS if batch_size is None and device == "cpu" else None
        self._batch = batch_size or 64
        self._cores = shared_cores() if device == "cpu" else None
        self._encoder = self._lean_encoder() if device == "cpu" else None
        # The tokenizer's settings change as it is used, and a device does one batch at a time: so
        # that a question need not wait for a whole ingest, it waits for one batch.
        self._lock = threading.Lock()
        self._questions = Combining[str, NDArray[np.float32]](
            lambda texts: list(self._embed(texts, self._query))
        )
        prompts = self._model.prompts or {}
        self._query = query_prefix if query_prefix is not None else prompts.get("query", "")
        self._document = (
            document_prefix
            if document_prefix is not None
            else prompts.get("document", prompts.get("passage", ""))
        )
        # A tokenizer of our own: settings of the model's one (truncation) change during encoding.
        self._tokenizer: Any = Tokenizer.from_str(self._model.tokenizer.backend_tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        room = int(self._model.max_seq_length) - self._tokenizer.num_special_tokens_to_add(False)
        longest = max(len(self.token_spans(self._query)), len(self.token_spans(self._document)))
        self._identity = EmbedderIdentity(
            id=folder.id,
            revision=folder.revision or _settings_digest(folder),
            weights_sha256=all_weights_sha256(folder),
            dimension=int(self._model.get_embedding_dimension()),
            normalized=True,
            query_prefix=self._query,
            document_prefix=self._document,
            max_tokens=room - longest,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Sent to another process, it is loaded anew there from the same files."""
        make = functools.partial(SentenceTransformerEmbedder, **self._made_with)
        return make, (self._folder,), {"tokens_at_once": self.tokens_at_once}

    @property
    def identity(self) -> EmbedderIdentity:
        """What the vectors' passport says."""
        return self._identity

    @property
    def model(self) -> Any:
        """The sentence-transformers object itself, for training."""
        return self._model

    @property
    def pooling(self) -> str:
        """How the vectors of tokens become one: mean, cls, ...; empty where the model says not."""
        modes = (getattr(module, "pooling_mode", None) for module in self._model)
        found = next((mode for mode in modes if mode), "")
        return found if isinstance(found, str) else "+".join(found)

    @property
    def tokenizer_sha256(self) -> str:
        """Hash of the token pipeline, as ``engines.causal.tokenizer_sha256`` takes it."""
        return tokenizer_sha256(self._model.tokenizer)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Character spans of the model's own tokens of ``text``."""
        return list(self._tokenizer.encode(encodable(text), add_special_tokens=False).offsets)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of document texts."""
        return self._embed(texts, self._document)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Unit vector of a question; those of other threads that wait are embedded with it."""
        return self._questions(text)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of many questions."""
        return self._embed(texts, self._query)

    def _embed(self, texts: Sequence[str], prefix: str) -> Vectors:
        vectors = np.zeros((len(texts), self._identity.dimension), dtype=np.float32)
        prepared = [encodable(prefix + text) for text in texts]

        def fill(batch: list[int]) -> None:
            vectors[batch] = self._encode([prepared[i] for i in batch])

        # The longest first: what is left for the end, when a core may be idle, is short.
        batches = list(self._batches(prepared))[::-1]
        if self._cores is not None:
            self._cores.map(fill, batches)
        else:
            for batch in batches:
                fill(batch)
        if not np.isfinite(vectors).all():
            raise EngineError(
                f"The embedder {self._identity.id!r} gave vectors that are not numbers.",
                hint="Its weights may be damaged; fetch them again.",
            )
        return vectors

    def _batches(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Indices of texts of like length, so that little of a batch is padding."""
        if len(texts) == 1:
            yield [0]
            return
        lengths = [0] * len(texts)
        for at in range(0, len(texts), _TOKENIZED_AT_ONCE):
            some = self._tokenizer.encode_batch(texts[at : at + _TOKENIZED_AT_ONCE])
            for i, encoded in enumerate(some, start=at):
                lengths[i] = min(len(encoded), int(self._model.max_seq_length))
        tokens = self.tokens_at_once
        if tokens is not None and self._cores is not None:
            share = -(-sum(lengths) // self._cores.workers)
            tokens = min(tokens, max(share, _FEWEST_TOKENS))
        yield from like_lengths(lengths, most_texts=self._batch, most_tokens=tokens)

    def _encode(self, texts: list[str]) -> Vectors:
        try:
            if self._cores is not None:
                return self._encode_here(texts)
            with self._lock:
                vectors: Vectors = self._model.encode(
                    texts,
                    prompt="",  # the prefix is in the texts: a default prompt must not join it
                    batch_size=self._batch,
                    convert_to_numpy=True,
                    normalize_embeddings=True,
                    show_progress_bar=False,
                )
        except (RuntimeError, MemoryError) as error:
            raise EngineError(
                f"The embedder {self._identity.id!r} failed on {len(texts)} texts: {error}",
                hint="If memory ran out, set a smaller embedder.batch_size.",
            ) from error
        return vectors

    def _encode_here(self, texts: list[str]) -> Vectors:
        """What ``encode`` of sentence-transformers does, less what threads would wait for."""
        import torch

        with torch.inference_mode():
            with self._lock:
                features = self._model.preprocess(texts, prompt="")
            if self._encoder is None:
                features = self._model(features)
            else:
                first, *rest = self._model.children()
                features[first.module_output_name] = self._encoder(
                    features["input_ids"],
                    features["attention_mask"],
                    features.get("token_type_ids"),
                )
                for module in rest:
                    features = module(features)
            vectors = features["sentence_embedding"]
            if self._model.truncate_dim is not None:
                vectors = vectors[..., : self._model.truncate_dim]
            return np.asarray(torch.nn.functional.normalize(vectors, p=2, dim=1).numpy())

    def _lean_encoder(self) -> BertEncoder | None:
        """Stands in for the first module, where that is a plain BERT."""
        from sentence_transformers.sentence_transformer.modules import Transformer

        first = self._model[0]
        if type(first) is not Transformer or first.module_output_name != "token_embeddings":
            return None
        encoder = bert_encoder(first.model)
        if encoder is not None:
            # In float32, so that vectors differ by rounding only: a store's outlive a machine.
            pack_linears(first.model, bfloat16=False)
        return encoder


def like_lengths(
    lengths: Sequence[int], *, most_texts: int, most_tokens: int | None
) -> Iterator[list[int]]:
    """Indices in batches of like length, shortest first.

    A batch takes ``most_texts``, and as many as have ``most_tokens`` with their padding; one text
    always.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        # This text is the longest so far: all are padded to it.
        padded = (len(batch) + 1) * lengths[index]
        full = len(batch) == most_texts or (most_tokens is not None and padded > most_tokens)
        if batch and full:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def all_weights_sha256(folder: ModelFolder) -> str:
    """Hash over the weights of all parts (a pooling or dense layer may have its own)."""
    own = folder.weights_sha256()
    others = [file_sha256(path) for path in sorted(folder.path.glob("*/*.safetensors"))]
    return sha256_hex("\n".join([own, *others])) if others else own


def _settings_digest(folder: ModelFolder) -> str:
    """Stands for the revision of a local folder: its settings shape the vectors as weights do."""
    files = [folder.path / "tokenizer.json", *folder.path.glob("*.json")]
    files += folder.path.glob("*/config.json")
    texts = [
        f"{path.relative_to(folder.path)} {sha256_hex(path.read_bytes())}"
        for path in sorted(set(files))
        if path.is_file()
    ]
    return sha256_hex("\n".join(texts))[:16]
