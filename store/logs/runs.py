"""The run log: what ran, from which inputs, with which settings, to which outputs.

``runs/<id>/run.json`` is the record; JSONL files beside it hold what belongs to the run, such as
scores per case. While a run goes on its process holds a kernel lock on ``runs/<id>/process``; a run
that says "running" while nobody holds it has lost its process, and is shown as failed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import re
import resource
import secrets
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from itertools import groupby
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from fti.store.errors import FtiError, IntegrityError, RunNotFound
from fti.store.files.atomic import dump_sealed, open_line, open_sealed, sealed_json
from fti.store.files.layout import Layout
from fti.store.tabular.value_tables import also_pandas, table_of_values
from fti.store.tabular.where import Where
from fti.store.types import Run, RunKind, RunStatus, now
from fti.store.versioned.versions import check_name

if TYPE_CHECKING:
    import pyarrow as pa

_ID = re.compile(r"r-[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")
_DIED = "the process died"
_LIBRARIES = ("torch", "transformers", "peft", "sentence-transformers", "accelerate", "lancedb")


@dataclass
class OpenRun:
    """A run going on: set what came of it, and ``status`` when it is "partial"."""

    run: Run
    outputs: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    status: RunStatus = "done"
    error: str = ""

    @property
    def id(self) -> str:
        """The run's id."""
        return self.run.id


class RunLog:
    """Runs under the store's root."""

    def __init__(self, layout: Layout) -> None:
        self._storage = layout.storage
        self._require_format = layout.require_format
        self._held: dict[str, Callable[[], None]] = {}  # what lets go of runs started here

    def start(
        self,
        kind: RunKind,
        *,
        pipeline: str = "",
        inputs: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Run:
        """Record that a run begins. ``settings`` are kept: hand over none that are secret.

        ``pipeline`` is that of the contract, where it is not called like the kind.

        Raises:
            StoreFormatError: another fti changed the store's format since it was opened.
        """
        self._require_format()
        at = now()
        run = Run(
            id=f"r-{at:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
            kind=kind,
            pipeline=pipeline or kind,
            status="running",
            started_at=at,
            inputs=inputs or {},
            settings=settings or {},
            code_version=code_version(),
            libraries=libraries(),
        )
        # The lock first: from the moment the record is there, the run is seen as alive.
        self._held[run.id] = self._storage.hold(_process(run.id))
        self._write(run)
        return run

    def finish(
        self,
        run: Run,
        *,
        status: RunStatus,
        outputs: Mapping[str, str] | None = None,
        metrics: Mapping[str, Any] | None = None,
        error: str = "",
    ) -> Run:
        """Record how a run ended."""
        ended = run.model_copy(
            update={
                "status": status,
                "finished_at": now(),
                "outputs": dict(outputs or {}),
                "metrics": dict(metrics or {}),
                "memory_mb": peak_memory_mb(),
                "error": error,
            }
        )
        self._write(ended)
        let_go = self._held.pop(run.id, None)
        if let_go is not None:
            let_go()
        return self.get(run.id)

    @contextlib.contextmanager
    def running(
        self,
        kind: RunKind,
        *,
        pipeline: str = "",
        inputs: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Iterator[OpenRun]:
        """A run around a block: done when the block ends, failed with the cause when it raises."""
        going = OpenRun(self.start(kind, pipeline=pipeline, inputs=inputs, settings=settings))
        try:
            yield going
        except BaseException as error:
            cause = str(error) if isinstance(error, FtiError) else _named(error)
            self.finish(
                going.run,
                status="failed",
                outputs=going.outputs,
                metrics=going.metrics,
                error=cause,
            )
            raise
        going.run = self.finish(
            going.run,
            status=going.status,
            outputs=going.outputs,
            metrics=going.metrics,
            error=going.error,
        )

    def amend(self, run_id: str, metrics: Mapping[str, Any]) -> None:
        """Add figures to a run: of one that goes on what is known so far, of one that ended what
        showed afterwards.

        Raises:
            RunNotFound, IntegrityError: as ``get``.
        """
        run = self._read(run_id)
        self._write(run.model_copy(update={"metrics": {**run.metrics, **metrics}}))

    def get(self, run_id: str) -> Run:
        """One run.

        Raises:
            RunNotFound: there is none with this id; names recent ones.
            IntegrityError: its record cannot be read.
        """
        run = self._read(run_id)
        if run.status == "running" and not self._storage.is_held(_process(run_id)):
            # It may have ended between reading the record and looking at the lock.
            run = self._read(run_id)
            if run.status == "running":
                return run.model_copy(update={"status": "failed", "error": _DIED})
        return run

    def list(self, kind: RunKind | None = None, limit: int | None = None) -> Sequence[Run]:
        """Runs, newest first.

        Raises:
            IntegrityError: the record of one cannot be read; ``survey`` tells of the others.
        """
        return self._newest(kind, limit, self.get)

    def survey(
        self, kind: RunKind | None = None, limit: int | None = None
    ) -> tuple[Sequence[Run], Mapping[str, str]]:
        """Runs that can be read, as ``list``, and why others of their time cannot, by id."""
        damaged: dict[str, str] = {}

        def load(run_id: str) -> Run | None:
            try:
                return self.get(run_id)
            except IntegrityError as error:
                damaged[run_id] = error.message
                return None

        return self._newest(kind, limit, load), damaged

    def to_arrow(
        self, columns: Sequence[str] | None = None, where: Where | None = None
    ) -> pa.Table:
        """The runs as an Arrow table, newest first; settings and metrics are JSON texts there.

        Args:
            columns: some of the fields of ``Run``; all without.
            where: only runs for which these conditions hold, as ``kind=finetune`` or
                ``metrics.validation_loss<1``; see ``tabular.value_tables``.

        Raises:
            InputError, InvalidFilter: a column or a condition does not exist.
            IntegrityError: the record of a run cannot be read.
        """
        return table_of_values(self.list(), Run, columns=columns, where=where)

    to_pandas = also_pandas(to_arrow)

    def _newest(
        self, kind: RunKind | None, limit: int | None, load: Callable[[str], Run | None]
    ) -> Sequence[Run]:
        found: list[Run] = []
        with self._storage.still():
            # Ids of one second do not sort by time, so whole seconds are read at once.
            for _, second in groupby(self._ids(), key=lambda run_id: run_id[:17]):
                runs = [run for run in map(load, second) if run is not None]
                found += sorted(
                    (run for run in runs if kind is None or run.kind == kind),
                    key=lambda run: run.started_at,
                    reverse=True,
                )
                if limit is not None and len(found) >= limit:
                    return found[:limit]
        return found

    def since(self, moment: datetime) -> Sequence[Run]:
        """Runs that began since a moment or go on still, newest first; broken records are left out.

        A session that follows a stream may have begun long before.
        """
        first = f"r-{moment.astimezone(UTC):%Y%m%d-%H%M%S}"
        found = []
        with self._storage.still():
            ids = self._ids()
            earlier = [run_id for run_id in ids if run_id[: len(first)] < first]
            going = self._storage.held(map(_process, earlier))
            for run_id in ids:
                if run_id[: len(first)] >= first or _process(run_id) in going:
                    with contextlib.suppress(IntegrityError, RunNotFound):
                        found.append(self.get(run_id))
        return sorted(found, key=lambda run: run.started_at, reverse=True)

    def beside(self, known: Collection[str]) -> Iterator[Run]:
        """The runs whose ids are not among the known; what cannot be read is passed over."""
        found = []
        with self._storage.still():
            for run_id in self._ids():
                if run_id not in known:
                    with contextlib.suppress(IntegrityError, RunNotFound):
                        found.append(self.get(run_id))
        yield from found

    def attach(self, run_id: str, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Keep rows with a run, as JSONL; replaces what had this name.

        Raises:
            InvalidName: ``name`` is not a plain name.
            RunNotFound: there is no such run.
        """
        key = f"{self._folder(run_id)}/{check_name(name, 'attachment')}.jsonl"
        plain = (to_jsonable_python(row, inf_nan_mode="null") for row in rows)
        text = "".join(dump_sealed(row) + "\n" for row in plain)
        self._storage.write(key, text.encode("utf-8"))

    def attached(self, run_id: str, name: str) -> Iterator[dict[str, Any]]:
        """The rows kept with a run under ``name``.

        Raises:
            RunNotFound: there is no such run, or it has no such rows; says what it has.
        """
        key = f"{self._folder(run_id)}/{check_name(name, 'attachment')}.jsonl"
        try:
            found = self._storage.read(key)
        except FileNotFoundError as error:
            raise RunNotFound(
                f"Run {run_id!r} has nothing named {name!r} attached.",
                hint=f"It has: {', '.join(self.attachments(run_id)) or 'nothing'}.",
            ) from error
        return (open_line(line) for line in found.split(b"\n") if line.strip())

    def attachments(self, run_id: str) -> Sequence[str]:
        """Names of what is kept with a run."""
        found = self._storage.find(f"{self._folder(run_id)}/*.jsonl")
        return sorted(PurePosixPath(key).stem for key in found)

    def _ids(self) -> Sequence[str]:
        # A folder without a record was left by a crash before its run began.
        found = (key.split("/")[1] for key in self._storage.find("runs/*/run.json"))
        return sorted((run_id for run_id in found if _ID.fullmatch(run_id)), reverse=True)

    def _folder(self, run_id: str) -> str:
        """Under which key all of a run lies."""
        known = _ID.fullmatch(run_id) and self._storage.stamp(_record(run_id)) is not None
        if not known:
            recent = ", ".join(self._ids()[:5])
            raise RunNotFound(
                f"There is no run {run_id!r}.",
                hint=f"The newest are: {recent}." if recent else "Nothing has run yet.",
            )
        return f"runs/{run_id}"

    def _read(self, run_id: str) -> Run:
        self._folder(run_id)
        try:
            return Run.model_validate(open_sealed(self._storage.read(_record(run_id))))
        except ValueError as error:  # broken JSON, and pydantic's ValidationError
            raise IntegrityError(
                f"The record of run {run_id!r} cannot be read.",
                hint=f"Restore {self._storage.at(_record(run_id))!r} from a backup, or delete it.",
            ) from error

    def _write(self, run: Run) -> None:
        self._storage.write(_record(run.id), sealed_json(run.model_dump(mode="json")))


def _record(run_id: str) -> str:
    return f"runs/{run_id}/run.json"


def _process(run_id: str) -> str:
    return f"runs/{run_id}/process"


def peak_memory_mb() -> float:
    """The most resident memory that this process has held so far, in units of 2**20 bytes."""
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(held / (2**20 if sys.platform == "darwin" else 2**10), 1)


@cache
def libraries() -> Mapping[str, str]:
    """The versions of what computes here; those that are not installed are left out."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@cache
def code_version() -> str:
    """Which fti this is."""
    try:
        return importlib.metadata.version("fti-llm")
    except importlib.metadata.PackageNotFoundError:  # run from a bare source tree
        return "unknown"


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
