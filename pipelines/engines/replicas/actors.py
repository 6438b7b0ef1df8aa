"""Batches of work done in this process, or by replicas of what does it on a Ray cluster.

A replica is an actor of a Ray Data pipeline. It builds what works once, weights included, and is
given one batch at a time. Where an actor dies, another one does its batch; each result comes once.
Replicas compute and the process that asked keeps: what they make goes nowhere else.

Documentation: https://docs.ray.io/en/latest/data/data.html (Ray Data).
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Literal, Protocol, TypeVar

from fti.pipelines.engines.embedders.cores import limit_threads
from fti.pipelines.engines.replicas.cluster import (
    gpus,
    packed,
    places,
    processors,
    ray_data,
    ray_errors,
    unpacked,
    with_actors,
)
from fti.store.errors import EngineError, FtiError

ExecutorName = Literal["local", "ray"]

Batch = TypeVar("Batch")
Made = TypeVar("Made")
_Given = TypeVar("_Given", contravariant=True)
_Given_back = TypeVar("_Given_back", covariant=True)


class Executor(Protocol[_Given, _Given_back]):
    """Does a piece of work for each of several batches."""

    def each(self, batches: Sequence[_Given]) -> Iterator[tuple[int, _Given_back]]:
        """The number of a batch and what was made of it, as they are done; every one once."""
        ...


class InProcess(Generic[Batch, Made]):
    """One batch after the other, here, each when it is asked for."""

    def __init__(self, work: Callable[[Batch], Made]) -> None:
        self._work = work

    def each(self, batches: Sequence[Batch]) -> Iterator[tuple[int, Made]]:
        """In their order."""
        for number, batch in enumerate(batches):
            yield number, self._work(batch)


class Replicas(Generic[Batch, Made]):
    """Actors that each hold what does the work. To be asked inside ``cluster``.

    Args:
        build: makes what does the work, on the machine where it is to work; it is pickled, and so
            are batches and what is made of them.
        doing: what the work is, for errors: "answer questions".
        workers: how many actors; None: see ``places``.
        gpu: whether each needs a GPU of its own, where the cluster has any.
    """

    def __init__(
        self,
        build: Callable[[], Callable[[Batch], Made]],
        *,
        doing: str,
        workers: int | None = None,
        gpu: bool = False,
    ) -> None:
        self._build = build
        self._doing = doing
        self._workers = workers
        self._gpu = gpu

    def each(self, batches: Sequence[Batch]) -> Iterator[tuple[int, Made]]:
        """In the order in which they are done.

        Raises:
            FtiError: what the work raised, as it raised it.
            EngineError: actors keep dying, or run out of memory.
        """
        if not batches:
            return
        done: set[int] = set()
        with ray_errors(self._doing):
            for row in self._rows(batches).iter_batches(
                batch_size=None, prefetch_batches=0, batch_format="pyarrow"
            ):
                made = zip(row["number"].to_pylist(), row["made"].to_pylist(), strict=True)
                for number, result in made:
                    if number not in done:
                        done.add(number)
                        yield number, unpacked(result)
        if len(done) < len(batches):
            raise EngineError(
                f"Ray gave back {len(done)} of {len(batches)} batches that it was to "
                f"{self._doing} for.",
                hint="What was given back is kept; run the same command again.",
            )

    def _rows(self, batches: Sequence[Batch]) -> Any:
        import ray.data

        size = min(places(self._workers, gpu=self._gpu), len(batches))
        # A block each: what one holds is given back together.
        rows = ray_data(ordered=False).from_items(
            [{"number": n, "batch": pickle.dumps(batch)} for n, batch in enumerate(batches)],
            override_num_blocks=len(batches),
        )
        return with_actors(
            rows.map,
            _Replica,
            fn_constructor_args=(self._build, max(1, processors() // size)),
            # One at a time: a second one would wait for its actor while others are idle.
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
            num_gpus=gpus(self._gpu),
            scheduling_strategy="SPREAD",
        )


class _Replica:
    """An actor, and what it does the work with."""

    def __init__(self, build: Callable[[], Callable[[Any], Any]], threads: int) -> None:
        self._work: Callable[[Any], Any] | None = None
        self._refused: FtiError | MemoryError | None = None
        os.environ["OMP_NUM_THREADS"] = str(threads)  # its share of its machine's processors
        try:
            self._work = build()
        except (FtiError, MemoryError) as error:
            self._refused = error  # what an actor cannot be made of is told with its first batch
        limit_threads(threads)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row of a batch to the row of what is made of it."""
        return {"number": row["number"], "made": packed(lambda: self._made(row["batch"]))}

    def _made(self, batch: bytes) -> Any:
        if self._work is None:
            assert self._refused is not None
            raise self._refused
        return self._work(pickle.loads(batch))  # what this program sent, to itself
