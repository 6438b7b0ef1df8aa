"""All chunks of a store under another embedder's vectors, beside the present ones.

Unlike ``ingest --re-embed`` this reads no file and cuts nothing anew: it is for an embedder that
sees as much of a text as the present one, and lets both be searched before one is chosen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fti.pipelines.engines.embedders.embedding import Embedder, Vectors
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.requirements import memory, recall
from fti.store.errors import ContractError, PostconditionFailed, StoreEmpty
from fti.store.features.feature_store import FeatureStore
from fti.store.lance.shapes import LedgerEntry, document_hash
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.store import Store
from fti.store.types import EmbedderIdentity, sha256_hex

RE_EMBED = PipelineContract("re-embed")
ADOPT = PipelineContract("adopt")


@RE_EMBED.precondition("There are chunks to embed", raises=StoreEmpty)
def has_chunks(store: Store) -> None:
    """Of whichever embedder."""
    if store.features.identity() is None:
        raise StoreEmpty(
            f"The store {str(store.layout.root)!r} is empty.",
            hint="Ingest documents first: fti ingest PATH",
        )


@RE_EMBED.precondition(
    "The embedder sees as much of a text as the chunks were cut for", raises=ContractError
)
def sees_whole_chunks(store: Store, embedder: Embedder) -> None:
    """The end of a longer chunk would be in no vector."""
    held = store.features.identity()
    if held is not None and embedder.identity.max_tokens < held.max_tokens:
        raise ContractError(
            f"The embedder {embedder.identity.id!r} sees {embedder.identity.max_tokens} tokens "
            f"of a text, and the chunks were cut for {held.max_tokens}.",
            hint="Cut and embed all documents anew: fti ingest PATH --re-embed --set "
            f"embedder.id={embedder.identity.id}",
        )


@ADOPT.postcondition("What is searched now has the vectors of the embedder that made them")
def one_passport(self: ReEmbedded) -> None:
    """The table's passport says so."""
    held = self.store.features.identity()
    if held != self.embedder:
        raise PostconditionFailed(
            f"The store's vectors are said to be by {held.id if held else 'nobody'!r}, and "
            f"{self.embedder.id!r} made them."
        )


@ADOPT.postcondition("As many chunks are searched as were embedded")
def none_is_lost(self: ReEmbedded) -> None:
    """A chunk without a vector would never be found again."""
    there = self.store.features.stats().chunks
    if there != self.chunks:
        raise PostconditionFailed(f"{self.chunks} chunks were embedded, and {there} are searched.")


RE_EMBED.requires("index_recall", "at least", "", recall)
RE_EMBED.requires("memory_mb", "at most", "MB", memory("re-embed"))


@dataclass
class ReEmbedded:
    """A store's chunks under new vectors; ``features`` can be searched."""

    features: FeatureStore
    chunks: int
    embedder: EmbedderIdentity
    store: Store
    _config: FeatureConfig
    _lines: Sequence[LedgerEntry]
    adopted: bool = False

    @ADOPT.enforced
    def adopt(self, progress: Progress = quiet) -> int:
        """Put these chunks in the place of the present ones; the new features version.

        A crash between the two commits leaves documents that the next ingest takes again.
        """
        features = self.store.features
        settings = {"re_embed": True, "embedder": self.embedder.model_dump(mode="json")}
        with self.store.runs.running(
            "ingest", pipeline="re-embed", inputs={"sources": "[]"}, settings=settings
        ) as run:
            features.adopt(self.features)
            self.adopted = True
            features.note(self._lines)
            features.maintain(ann_threshold=self._config.ann_threshold, progress=progress)
            version = features.record_version(run.id).version
            run.outputs["features_version"] = str(version)
            run.metrics["chunks"] = self.chunks
        return version


@contextlib.contextmanager
@RE_EMBED.enforced
def re_embedded(
    store: Store, embedder: Embedder, *, config: FeatureConfig, progress: Progress = quiet
) -> Iterator[ReEmbedded]:
    """The store's chunks under the vectors of ``embedder``, while nobody else may write.

    Dropped when the block ends without adopting them. Vectors are remembered, so that a second
    time embeds nothing.

    Raises:
        StoreEmpty: there are no chunks.
        StoreLocked: another process writes to the store.
        ContractError: the embedder sees less of a text than the chunks were cut for.
    """
    with store.layout.writing("re-embed"):
        features = store.features
        held = features.identity()
        assert held is not None  # the precondition
        before, after = config.digest(held), config.digest(embedder.identity)
        lines = [
            LedgerEntry(
                entry.record.model_copy(update={"settings_digest": after}),
                entry.file,
                entry.file_hash,
                entry.file_documents,
            )
            for entry in features.ledger()
            if entry.record.settings_digest == before
        ]
        hashes = {line.record.id: document_hash(line.record.content_hash, after) for line in lines}
        total = sum(features.chunk_counts().values())
        done = 0

        def embed(texts: Sequence[str]) -> Vectors:
            nonlocal done
            vectors = _remembered(features, embedder, texts)
            done += len(texts)
            progress(ProgressEvent("embed", done, total))
            return vectors

        rebuilt = features.rebuilding(embedder.identity)
        found: ReEmbedded | None = None
        try:
            chunks = rebuilt.refill(features, embed, document_hashes=hashes)
            found = ReEmbedded(rebuilt, chunks, embedder.identity, store, config, lines)
            yield found
        finally:
            if found is None or not found.adopted:
                features.discard(rebuilt)


def _remembered(features: FeatureStore, embedder: Embedder, texts: Sequence[str]) -> Vectors:
    keys = [sha256_hex(text) for text in texts]
    identity = embedder.identity
    known = features.known_vectors(keys, identity)
    new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    if new:
        made = embedder.embed_documents(list(new.values()))
        features.remember_vectors(list(new), made, identity)
        known.update(zip(new, made, strict=True))
    return np.stack([known[key] for key in keys]).astype(np.float32, copy=False)
