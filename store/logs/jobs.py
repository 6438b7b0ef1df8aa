"""Jobs: what somebody started through a service, done by a process of its own.

``jobs/<id>/job.json`` is the record; beside it lie how far the job came (``progress.jsonl``) and
what its process printed (``log.txt``). That process holds a lock on ``process``, so that it can be
told what became of a job whoever is killed: the service, or the job. One job at a time goes on in a
store.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO

from pydantic import Field

from fti.store.errors import IntegrityError, JobNotFound, JobRunning
from fti.store.files.atomic import (
    dump_sealed,
    full_disk_named,
    iter_lines,
    open_line,
    read_sealed,
    write_bytes,
    write_sealed,
    writer_lock,
)
from fti.store.files.layout import Layout
from fti.store.files.liveness import hand_over, hold, holder, is_held
from fti.store.progress import ProgressEvent
from fti.store.types import Value, now

_ID = re.compile(r"j-[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")
_STARTING_S = 10.0  # two who start one at once
_EVERY_S = 0.5  # between notes of one stage
_ALL_OF = 2_000  # notes of a loss; later ones are thinned as others are

JobState = Literal["running", "done", "refused", "failed", "stopped", "interrupted"]


class JobRecord(Value):
    """A job. ``interrupted``: its process died without a word; ``refused``: a gate said no.

    ``asked`` is what was asked for, ``key`` the id of the API key that did, ``outputs`` what was
    made. ``attempts`` counts how often it was begun.
    """

    id: str
    kind: str
    asked: Mapping[str, Any]
    state: JobState = "running"
    key: str = ""
    attempts: int = Field(default=1, ge=1)
    created_at: datetime
    started_at: datetime
    finished_at: datetime | None = None
    summary: str = ""
    error: str = ""
    outputs: Mapping[str, str] = Field(default_factory=dict)


class JobNote(Value):
    """How far a job was at a time."""

    at: datetime
    attempt: int
    stage: str
    done: int
    total: int | None = None
    detail: str = ""
    values: Mapping[str, float] = Field(default_factory=dict)


class JobLog:
    """Jobs under the store's root."""

    def __init__(self, layout: Layout) -> None:
        self._root = layout.jobs
        self._lock = layout.root / "locks" / "jobs.lock"
        self._require_format = layout.require_format

    def start(self, kind: str, asked: Mapping[str, Any], *, key: str = "") -> tuple[JobRecord, int]:
        """Record that a job begins.

        Returns:
            The record, and a handle that holds the job; ``handed_over`` gives it to the process
            that does the work.

        Raises:
            JobRunning: another one goes on.
        """
        self._require_format()
        with self._alone():
            at = now()
            record = JobRecord(
                id=f"j-{at:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
                kind=kind,
                asked=asked,
                key=key,
                created_at=at,
                started_at=at,
            )
            return record, self._begin(record)

    def again(self, job_id: str) -> tuple[JobRecord, int]:
        """Record that a job that has ended, but is not done, begins once more; as ``start``.

        Raises:
            JobNotFound: there is no such job.
            JobRunning: a job goes on.
        """
        self._require_format()
        with self._alone():
            before = self.get(job_id)
            record = before.model_copy(
                update={
                    "state": "running",
                    "attempts": before.attempts + 1,
                    "started_at": now(),
                    "finished_at": None,
                    "summary": "",
                    "error": "",
                }
            )
            return record, self._begin(record)

    def handed_over(self, job_id: str, handle: int, pid: int) -> None:
        """Note which process does a job; it was given the handle."""
        self._folder(job_id)
        hand_over(handle, pid)

    def finish(
        self,
        record: JobRecord,
        state: JobState,
        *,
        summary: str = "",
        error: str = "",
        outputs: Mapping[str, str] | None = None,
    ) -> JobRecord:
        """Record how a job ended."""
        ended = record.model_copy(
            update={
                "state": state,
                "finished_at": now(),
                "summary": summary,
                "error": error,
                "outputs": dict(outputs or {}),
            }
        )
        self._write(ended)
        return ended

    def get(self, job_id: str) -> JobRecord:
        """One job.

        Raises:
            JobNotFound: there is none with this id.
            IntegrityError: its record cannot be read.
        """
        folder = self._folder(job_id)
        record = self._read(folder)
        if record.state == "running" and not is_held(folder / "process"):
            # It may have ended between reading the record and looking at the lock.
            record = self._read(folder)
            if record.state == "running":
                return _left(record, stopped=(folder / "stop").exists())
        return record

    def list(self, limit: int | None = None) -> Sequence[JobRecord]:
        """Jobs, newest first; one whose record cannot be read hides no other."""
        found = [self._shown(job_id) for job_id in self.ids()]
        return sorted(found, key=lambda job: job.created_at, reverse=True)[:limit]

    def running(self) -> JobRecord | None:
        """The job that goes on, if one does."""
        return next((job for job in self.list() if job.state == "running"), None)

    def ask_to_stop(self, job_id: str) -> int | None:
        """Note that a job is to stop; its process, where this can be signalled from here.

        Raises:
            JobNotFound: there is no such job.
        """
        folder = self._folder(job_id)
        write_bytes(folder / "stop", b"")
        return holder(folder / "process")

    def is_asked_to_stop(self, job_id: str) -> bool:
        """Whether somebody wants it to stop."""
        return (self._folder(job_id) / "stop").exists()

    def text_file(self, job_id: str) -> Path:
        """Where its process prints to."""
        return self._folder(job_id) / "log.txt"

    def text(self, job_id: str, most: int) -> str:
        """The last ``most`` bytes of what it printed, from the beginning of a line on."""
        try:
            with self.text_file(job_id).open("rb") as printed:
                size = printed.seek(0, os.SEEK_END)
                printed.seek(max(0, size - most))
                found = printed.read()
        except FileNotFoundError:
            return ""
        if size > most:
            found = found.partition(b"\n")[2]
        return found.decode("utf-8", "replace")

    def notes(self, job_id: str) -> Iterator[JobNote]:
        """How far it came, oldest first; a line that a crash broke is left out."""
        path = self._folder(job_id) / "progress.jsonl"
        with contextlib.suppress(FileNotFoundError):
            for line in iter_lines(path):
                with contextlib.suppress(ValueError):
                    yield JobNote.model_validate(open_line(line))

    @contextlib.contextmanager
    def noting(self, record: JobRecord) -> Iterator[Notes]:
        """A listener for progress events that keeps them with the job, now and then."""
        path = self._folder(record.id) / "progress.jsonl"
        with full_disk_named(path), path.open("a", encoding="utf-8") as kept:
            yield Notes(kept, record.attempts)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with writer_lock(self._lock, timeout_s=_STARTING_S, what="start a job"):
            going = self.running()
            if going is not None:
                raise JobRunning(
                    f"The job {going.id!r} ({going.kind}) goes on; there is one at a time.",
                    hint="Wait for it, or stop it.",
                )
            yield

    def _begin(self, record: JobRecord) -> int:
        folder = self._root / record.id
        (folder / "stop").unlink(missing_ok=True)
        handle = hold(folder / "process")  # the lock first, as for runs
        self._write(record)
        return handle

    def _read(self, folder: Path) -> JobRecord:
        path = folder / "job.json"
        try:
            return JobRecord.model_validate(read_sealed(path))
        except ValueError as error:  # broken JSON, and pydantic's ValidationError
            raise IntegrityError(
                f"The record of the job {folder.name!r} cannot be read.",
                hint=f"Delete its folder {str(folder)!r}: what it made is in the registry.",
            ) from error

    def _write(self, record: JobRecord) -> None:
        write_sealed(self._root / record.id / "job.json", record.model_dump(mode="json"))

    def _shown(self, job_id: str) -> JobRecord:
        try:
            return self.get(job_id)
        except IntegrityError as error:
            began = datetime.strptime(job_id[2:17], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
            return JobRecord(
                id=job_id,
                kind="unknown",
                asked={},
                state="failed",
                created_at=began,
                started_at=began,
                error=str(error),
            )

    def ids(self) -> Sequence[str]:
        """Of all jobs."""
        if not self._root.is_dir():
            return []
        return [
            path.name
            for path in self._root.iterdir()
            if _ID.fullmatch(path.name) and (path / "job.json").exists()
        ]

    def _folder(self, job_id: str) -> Path:
        folder = self._root / job_id
        if not _ID.fullmatch(job_id) or not (folder / "job.json").exists():
            raise JobNotFound(f"There is no job {job_id!r}.", hint="GET /v1/jobs lists them.")
        return folder


class Notes:
    """Keeps progress events, thinned so that an hour of steps is not millions of lines."""

    def __init__(self, kept: TextIO, attempt: int) -> None:
        self._kept = kept
        self._attempt = attempt
        self._last: tuple[str, float] = ("", 0.0)
        self._losses = 0

    def __call__(self, event: ProgressEvent) -> None:
        """Keep one, unless one of its stage was kept just now."""
        stage, at = self._last
        finished = event.total is not None and event.done >= event.total
        lossy = "loss" in event.values and self._losses < _ALL_OF
        recent = stage == event.stage and time.monotonic() - at < _EVERY_S
        if recent and not finished and not lossy:
            return
        self._losses += "loss" in event.values
        self._last = (event.stage, time.monotonic())
        note = JobNote(
            at=now(),
            attempt=self._attempt,
            stage=event.stage,
            done=event.done,
            total=event.total,
            detail=event.detail[:500],
            values=event.values,
        )
        self._kept.write(dump_sealed(note.model_dump(mode="json")) + "\n")
        self._kept.flush()


def _left(record: JobRecord, *, stopped: bool) -> JobRecord:
    """A job whose process is gone without having said how it ended."""
    error = (
        "It was stopped."
        if stopped
        else "Its process died: it was killed, or the machine went down. It can be taken up again."
    )
    state: JobState = "stopped" if stopped else "interrupted"
    return record.model_copy(update={"state": state, "error": error})
