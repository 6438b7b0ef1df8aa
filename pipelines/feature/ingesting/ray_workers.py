"""The work of an ingest on Ray: one pool of actors reads and splits files, one embeds texts.

Actors share with this process what the pipelines share, the store: they read the sources where they
lie and write vectors as fragments of the store's table of remembered vectors, where nobody sees
them. One commit here makes all of them part of it, and the ingest then goes on as one whose texts
were all embedded before. Both folders must be reachable from every machine of the cluster.

Documentation: https://docs.ray.io/en/latest/data/data.html (Ray Data),
https://lance.org/guide/distributed_write/ (fragments and their commit).
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fti.pipelines.engines.embedders.cores import limit_threads
from fti.pipelines.engines.embedders.embedding import Embedder, Vectors
from fti.pipelines.engines.replicas.cluster import (
    packed,
    places,
    ray_data,
    ray_errors,
    require_ray,
    unpacked,
    with_actors,
)
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.preparing import Job, Prepared, Split, prepare
from fti.pipelines.feature.reading.parsing import Parser
from fti.store.features.feature_store import FeatureStore
from fti.store.features.fragments import write_fragment
from fti.store.progress import Progress, ProgressEvent

_TEXTS = 256  # embedded and written by an actor at once


class RayWorkers:
    """Actors of a Ray cluster; to be asked inside ``engines.replicas.cluster.cluster``.

    Args:
        embedder: which; every actor loads it anew.
        config: how files are read and split.
        features: whose remembered vectors are added to.
        workers: actors of each kind at most; None: one for each of the cluster's processors.
        progress: told while texts are embedded.

    Raises:
        ConfigError: Ray or pylance is not installed.
    """

    def __init__(
        self,
        embedder: Embedder,
        config: FeatureConfig,
        features: FeatureStore,
        *,
        workers: int | None,
        progress: Progress,
    ) -> None:
        require_ray("lance")
        self._embedder = embedder
        self._config = config
        self._features = features
        self._workers = workers
        self._progress = progress
        self.embedded = 0

    def prepare(self, jobs: Iterable[Job]) -> Iterator[Prepared]:
        """Read, split and embed all files; afterwards they are given out in their order."""
        listed = list(jobs)
        if not listed:
            return
        with ray_errors("read and embed the documents"):
            prepared = self._read(listed)
            self._remember(self._new_texts(prepared))
            for row in prepared.iter_rows():
                yield _read_back(row)

    def embed(self, slices: Sequence[Sequence[str]]) -> Iterator[Vectors]:
        """What was not read by ``prepare``, here."""
        for texts in slices:
            self.embedded += len(texts)
            yield self._embedder.embed_documents(texts)

    def _read(self, jobs: Sequence[Job]) -> Any:
        """The jobs' results, held by the cluster."""
        data = ray_data(ordered=True)
        rows = data.from_items(
            [{"job": pickle.dumps(job)} for job in jobs],
            override_num_blocks=self._blocks(len(jobs)),
        )
        return with_actors(
            rows.map,
            _Reading,
            fn_constructor_args=(self._embedder, self._config),
            compute=self._pool(),
        ).materialize()

    def _new_texts(self, prepared: Any) -> Iterator[tuple[str, str]]:
        """Keys and texts that no vector is remembered for, each once."""
        seen: set[str] = set()
        for rows in _by(_TEXTS, prepared.iter_rows()):
            texts = {
                key: text
                for row in rows
                for found in _read_back(row).found
                if isinstance(found, Split)
                for key, text in zip(found.keys, found.texts, strict=True)
                if key not in seen
            }
            seen |= texts.keys()
            known = self._features.known_vectors(list(texts), self._embedder.identity)
            yield from ((key, text) for key, text in texts.items() if key not in known)

    def _remember(self, texts: Iterator[tuple[str, str]]) -> None:
        """Embed texts on actors, and make what they wrote part of the store in one commit."""
        wanted = [{"key": key, "text": text} for key, text in texts]
        if not wanted:
            return
        identity = self._embedder.identity
        address = self._features.vectors_address(identity)
        data = ray_data(ordered=True)
        rows = data.from_items(wanted, override_num_blocks=self._blocks(len(wanted), _TEXTS))
        written = with_actors(
            rows.map_batches,
            _Embedding,
            fn_constructor_args=(self._embedder, address),
            batch_size=_TEXTS,
            compute=self._pool(),
        )
        fragments: list[str] = []
        for row in written.iter_rows():
            fragments += unpacked(row["fragments"])
            self.embedded += int(row["texts"])
            self._progress(
                ProgressEvent("embed", self.embedded, len(wanted), f"{row['texts']} chunks")
            )
        self._features.commit_fragments(fragments, identity)

    def _pool(self) -> Any:
        import ray.data

        return ray.data.ActorPoolStrategy(min_size=1, max_size=places(self._workers))

    def _blocks(self, rows: int, at_least: int = 1) -> int:
        """Enough blocks for every actor, and some more so that none waits for a slow one."""
        return max(1, min(-(-rows // at_least), 4 * places(self._workers)))


class _Reading:
    """An actor that reads and splits files."""

    def __init__(self, embedder: Embedder, config: FeatureConfig) -> None:
        limit_threads(1)  # as many actors as processors
        self._embedder = embedder
        self._config = config
        self._parser = Parser(config.sources)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row of a job to the row of its result."""
        return {"prepared": packed(lambda: self._prepared(pickle.loads(row["job"])))}

    def _prepared(self, job: Job) -> Prepared:
        return prepare(
            job,
            embedder=self._embedder,
            sources=self._config.sources,
            chunking=self._config.chunking,
            parser=self._parser,
        )


class _Embedding:
    """An actor that embeds texts and writes their vectors where nobody sees them yet."""

    def __init__(self, embedder: Embedder, address: str) -> None:
        limit_threads(1)  # as many actors as processors
        self._embedder = embedder
        self._address = address

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Keys and texts to the fragments that hold their vectors."""
        keys = [str(key) for key in batch["key"]]
        texts = [str(text) for text in batch["text"]]
        return {"fragments": [packed(lambda: self._written(keys, texts))], "texts": [len(keys)]}

    def _written(self, keys: Sequence[str], texts: Sequence[str]) -> list[str]:
        vectors = self._embedder.embed_documents(texts)
        return write_fragment(self._address, keys, vectors, self._embedder.identity)


def _read_back(row: dict[str, Any]) -> Prepared:
    prepared: Prepared = unpacked(row["prepared"])
    return prepared


def _by(size: int, rows: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(rows)
    while some := list(itertools.islice(iterator, size)):
        yield some
