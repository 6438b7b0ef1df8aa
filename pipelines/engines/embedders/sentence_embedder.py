"""Embedders of the sentence-transformers family, run as fast as the machine allows."""

from __future__ import annotations

import contextlib
import functools
import itertools
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fti.pipelines.engines.embedders.embedding import Vectors
from fti.pipelines.engines.embedders.numpy_bert import NumpyBert
from fti.pipelines.engines.embedders.plain_bert import PlainBert, read_plain_bert
from fti.pipelines.engines.embedders.text_encoders import (
    PlainEncoder,
    SentenceTransformersEncoder,
    TextEncoder,
)
from fti.pipelines.engines.encoding import encodable
from fti.pipelines.engines.model_files import ModelFolder, file_sha256
from fti.pipelines.engines.weights import (
    pick_device,
    pipeline_sha256,
    require_safetensors,
    tokenizer_sha256,
)
from fti.store.errors import EngineError, IntegrityError, ModelUnavailable
from fti.store.files.combining import Combining
from fti.store.types import EmbedderIdentity, sha256_hex

_CPU_TOKENS = 768
_FEWEST_TOKENS = 128  # of a batch that is made smaller so that every core gets one
_TOKENIZED_AT_ONCE = 256

#: Characters of a text that one core reads as soon as several that wait for one another.
_ONE_CORE = 300

#: Characters of a question that is embedded without torch where nobody has brought that in.
_SHORT = 2000

#: So many questions without torch say that the process stays: torch takes half as long for each.
_FEW = 16


class SentenceTransformerEmbedder:
    """A sentence-transformers model from local files, in fp32 on a CPU.

    A plain BERT (``plain_bert``) is run from its files, without the libraries that train it; other
    models, and those on an accelerator, by sentence-transformers itself.

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
        if not (folder.path / "modules.json").is_file():
            raise ModelUnavailable(
                f"{folder.id!r} in {str(folder.path)!r} is not a sentence-transformers model: it "
                "has no modules.json.",
                hint="Name an embedding model; a bare language model does not say how its tokens "
                "become one vector.",
            )
        self._folder = folder
        self._device = device
        self._batch_size = batch_size
        self._made_with: dict[str, Any] = {
            "device": device,
            "batch_size": batch_size,
            "query_prefix": query_prefix,
            "document_prefix": document_prefix,
        }
        parts = [folder.path, *(p.parent for p in folder.path.glob("*/config.json"))]
        require_safetensors(parts, model=folder.id)
        # The device is known once torch is there; what it has to be named for is loaded at once.
        self._plain = read_plain_bert(folder.path) if device in ("auto", "cpu") else None
        if self._plain is not None:
            _require_whole(folder, self._plain)
        self._alone_count = itertools.count(1)  # ``next`` of it is atomic
        self._bringing = threading.Thread(target=self._bring_in, name="fti-encoder")
        # So that a question need not wait for a whole ingest, it waits for one batch.
        self._questions = Combining[str, NDArray[np.float32]](
            lambda texts: list(self._embed(texts, self._query))
        )
        prompts = self._encoder.prompts if self._plain is None else self._plain.prompts
        self._query = query_prefix if query_prefix is not None else prompts.get("query", "")
        self._document = (
            document_prefix
            if document_prefix is not None
            else prompts.get("document", prompts.get("passage", ""))
        )
        # A tokenizer of our own: settings of the model's one (truncation) change during encoding.
        if self._plain is None:
            self._tokenizer = self._encoder.tokenizer()
            self._most_tokens, dimension = self._encoder.most_tokens, self._encoder.dimension
        else:
            self._tokenizer = self._plain.tokenizer(cut=False)
            self._most_tokens, dimension = self._plain.most_tokens, self._plain.hidden
        room = self._most_tokens - self._tokenizer.num_special_tokens_to_add(False)
        longest = max(len(self.token_spans(self._query)), len(self.token_spans(self._document)))
        self._identity = EmbedderIdentity(
            id=folder.id,
            revision=folder.revision or _settings_digest(folder),
            weights_sha256=all_weights_sha256(folder),
            dimension=dimension,
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
        """The sentence-transformers object itself, for training; from then on it is what embeds."""
        if not isinstance(self._encoder, SentenceTransformersEncoder):
            device = pick_device(self._device)
            self._encoder = SentenceTransformersEncoder(self._folder, device, self._batch)
            self._plain = None
        return self._encoder.model

    @property
    def pooling(self) -> str:
        """How the vectors of tokens become one: mean, cls, ...; empty where the model says not."""
        if self._plain is not None:
            return self._plain.pooling
        modes = (getattr(module, "pooling_mode", None) for module in self.model)
        found = next((mode for mode in modes if mode), "")
        return found if isinstance(found, str) else "+".join(found)

    @property
    def tokenizer_sha256(self) -> str:
        """Hash of the token pipeline, as ``engines.causal.tokenizer_sha256`` takes it."""
        if self._plain is not None:
            return pipeline_sha256(self._tokenizer.to_str(), "")
        return tokenizer_sha256(self.model.tokenizer)

    @functools.cached_property
    def tokens_at_once(self) -> int | None:
        """Tokens of a batch with their padding; None where only the number of texts counts.

        Which number is quickest differs from machine to machine, and it may be set; the vectors do
        not differ, but for rounding.
        """
        on_cpu = self._encoder.cores is not None
        return _CPU_TOKENS if self._batch_size is None and on_cpu else None

    @property
    def _batch(self) -> int:
        return self._batch_size or 64

    @functools.cached_property
    def _encoder(self) -> TextEncoder:
        """What embeds, with torch; loaded when it is first needed."""
        device = pick_device(self._device)
        if self._plain is not None and device == "cpu":
            encoder: TextEncoder = PlainEncoder(self._folder, self._plain)
        else:
            encoder = SentenceTransformersEncoder(self._folder, device, self._batch)
        self.__dict__.pop("_alone", None)
        return encoder

    @functools.cached_property
    def _alone(self) -> NumpyBert | None:
        """What embeds a question in a process without torch, and may not need it at all."""
        return None if self._plain is None else NumpyBert(self._plain)

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
        try:
            if self._without_torch(prepared) and self._alone is not None:
                vectors[:] = self._alone.encode(prepared)
                self._count_alone()
            else:
                self._fill(vectors, prepared)
        except (RuntimeError, MemoryError) as error:
            raise EngineError(
                f"The embedder {self._identity.id!r} failed on {len(texts)} texts: {error}",
                hint="If memory ran out, set a smaller embedder.batch_size.",
            ) from error
        if not np.isfinite(vectors).all():
            raise EngineError(
                f"The embedder {self._identity.id!r} gave vectors that are not numbers.",
                hint="Its weights may be damaged; fetch them again.",
            )
        return vectors

    def _without_torch(self, texts: Sequence[str]) -> bool:
        """Whether to do without it: bringing it in takes longer than all the rest of a command."""
        return (
            self._plain is not None
            and ("torch" not in sys.modules or self._bringing.is_alive())
            and sum(map(len, texts)) <= _SHORT
            and len(texts) == 1
        )

    def _count_alone(self) -> None:
        """After a few questions, bring torch in beside them."""
        if next(self._alone_count) == _FEW:
            self._bringing.start()

    def _bring_in(self) -> None:
        with contextlib.suppress(IntegrityError):  # the next question raises it where it is seen
            _ = self._encoder

    def _fill(self, vectors: Vectors, texts: list[str]) -> None:
        def fill(batch: list[int]) -> None:
            vectors[batch] = self._encoder.encode([texts[i] for i in batch])

        # The longest first: what is left for the end, when a core may be idle, is short.
        batches = list(self._batches(texts))[::-1]
        if self._encoder.cores is not None:
            small = len(texts) == 1 and len(texts[0]) <= _ONE_CORE
            self._encoder.cores.map(fill, batches, small=small)
        else:
            for batch in batches:
                fill(batch)

    def _batches(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Indices of texts of like length, so that little of a batch is padding."""
        if len(texts) == 1:
            yield [0]
            return
        lengths = [0] * len(texts)
        for at in range(0, len(texts), _TOKENIZED_AT_ONCE):
            some = self._tokenizer.encode_batch(texts[at : at + _TOKENIZED_AT_ONCE])
            for i, encoded in enumerate(some, start=at):
                lengths[i] = min(len(encoded), self._most_tokens)
        tokens, cores = self.tokens_at_once, self._encoder.cores
        if tokens is not None and cores is not None:
            share = -(-sum(lengths) // cores.workers)
            tokens = min(tokens, max(share, _FEWEST_TOKENS))
        yield from like_lengths(lengths, most_texts=self._batch, most_tokens=tokens)


def _require_whole(folder: ModelFolder, plain: PlainBert) -> None:
    from safetensors import SafetensorError

    try:
        lacking = plain.lacking()
    except (SafetensorError, OSError, ValueError) as error:
        raise IntegrityError(
            f"The embedder {folder.id!r} in {str(folder.path)!r} cannot be loaded: {error}",
        ) from error
    if lacking:
        raise IntegrityError(
            f"The embedder {folder.id!r} in {str(folder.path)!r} lacks weights that its config "
            f"promises ({lacking[0]!r} and {len(lacking) - 1} more).",
        )


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
