"""Documents that are given to the running service: kept in the store, ingested in the background.

One job at a time, as the store has one writer. A job is bounded in time and in what it may become,
and one that takes long lets others go first: it is broken off after a batch of vectors, which are
remembered, and begun again behind them. What is ingested lasts; the list of jobs does not:
it is this process's memory of what it did lately. A job that a stop cuts short is begun again with
the next upload of the file, or with ``fti ingest`` on the store's uploads.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import threading
import time
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import structlog
from pydantic import Field

from fti.app.service.forms.public_names import PublicNames
from fti.app.service.service_config import ServiceConfig
from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.store.errors import (
    DocumentNotFound,
    ExtractionError,
    FtiError,
    InputError,
    InvalidName,
    JobNotFound,
    Overloaded,
    StoreLocked,
    UploadTooLarge,
)
from fti.store.files.atomic import write_errors_named
from fti.store.lance.shapes import STREAM
from fti.store.progress import ProgressEvent
from fti.store.store import Store
from fti.store.types import SourceRecord, Value, document_id, now
from fti.store.upkeep.moving import is_upload
from fti.store.versioned.versions import check_name

if TYPE_CHECKING:
    from fti.pipelines.feature.ingesting.ingest_report import NotTaken

log = structlog.get_logger("fti.api")
_REMEMBERED = 200  # finished jobs
_LONGEST_NAME = 200  # bytes; file systems hold 255, and a name is written aside with a suffix
_LOCK_WAIT_S = 300.0
_REASONS = 3  # of what was not taken of an upload, in words


class Job(Value):
    """One upload on its way into the store. ``chunks`` is how many passages came of it."""

    id: str
    name: str
    document_id: str
    state: Literal["queued", "running", "done", "failed"]
    stage: str = Field(default="", description="What is being done: read, embed, …")
    reason: str = Field(default="", description="Why it failed, or why there is nothing to index.")
    documents: tuple[str, ...] = ()
    chunks: int = 0
    collection: str | None = Field(
        default=None, description="The collection that it is put into, where one was named."
    )
    retries: bool = Field(default=False, description="Whether it is tried again, unchanged.")
    created_at: datetime
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """What an upload has taken so far: seconds of work, and passages embedded."""

    seconds: float = 0.0
    passages: int = 0


class _SetAsideError(Exception):
    """Others wait: this job goes on behind them."""


class Documents:
    """Takes documents in and out of a store while it is served.

    Args:
        store: where to; a writer of its own is opened on it.
        embedder: gives the one whose vectors the store holds, at the time.
        config: how documents become features.
        limits: how many may wait, how long each may take, and what it may become.
        names: what clients are told in place of paths.
    """

    def __init__(
        self,
        store: Store,
        embedder: Callable[[], Embedder],
        config: FeatureConfig,
        limits: ServiceConfig,
        names: PublicNames,
    ) -> None:
        # A reader may be a second behind; a writer must not be.
        self._store = Store(store.layout.root)
        self._embedder = embedder
        self._config = config
        self._limits = limits
        self._names = names
        self._spent: dict[str, Spent] = {}  # of jobs that were set aside
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ingest")

    def add(self, name: str, content: BinaryIO, collection: str | None = None) -> Job:
        """Keep a file and ingest it in the background; one of the same name is replaced.

        Args:
            name: of the file.
            content: its bytes.
            collection: to put it into; None: it stays in the one that it is in, if any.

        Raises:
            InvalidName: the name is none that a file can have, or the collection's is not plain.
            ExtractionError: files of this kind are not read.
            Overloaded: too many wait already.
            StoreFull: there is no room for it.
            StoreReadOnly: nothing can be written there.
        """
        name = plain_name(name)
        _require_readable(name)
        if collection is not None:
            check_name(collection, "collection")
        path = self._store.layout.uploads / name
        job = Job(
            id=f"j-{secrets.token_hex(6)}",
            name=name,
            document_id=document_id(str(path)),
            state="queued",
            collection=collection,
            created_at=now(),
        )
        self._enqueue(job)
        try:
            aside = path.with_name(f".{job.id}.tmp")
            with write_errors_named(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    with aside.open("wb") as kept:
                        shutil.copyfileobj(content, kept)
                    aside.replace(path)
                finally:
                    aside.unlink(missing_ok=True)
        except BaseException:
            with self._lock:
                del self._jobs[job.id]
            raise
        self._thread.submit(self._run, job.id, str(path))
        return job

    def retry(self, identifier: str) -> Job:
        """Try a document again that could not be taken, in the background, though it is unchanged.

        Raises:
            DocumentNotFound: there is none with this id.
            InputError: it has not failed, or came from a stream, which has nothing to read again.
            Overloaded: too many wait already.
        """
        record = self.record(identifier)
        if record.state != "failed":
            raise InputError(
                f"{record.source!r} has not failed; it is {record.state}.",
                hint="GET /v1/documents?state=failed lists those that have.",
            )
        entries = self._store.features.ledger()
        file = next((e.file for e in entries if e.record.id == identifier), record.source)
        if file == STREAM:
            raise InputError(
                f"{record.source!r} came from a stream, which is not read again.",
                hint="Send its record once more.",
            )
        job = Job(
            id=f"j-{secrets.token_hex(6)}",
            name=file.rsplit("/", 1)[-1],
            document_id=identifier,
            state="queued",
            retries=True,
            created_at=now(),
        )
        self._enqueue(job)
        self._thread.submit(self._run, job.id, file)
        return job

    def _enqueue(self, job: Job) -> None:
        with self._lock:
            waiting = sum(j.state == "queued" for j in self._jobs.values())
            if waiting >= self._limits.max_queue:
                raise Overloaded(
                    f"{waiting} documents wait to be ingested.", hint="Try again in a minute."
                )
            self._forget_oldest()
            self._jobs[job.id] = job

    def job(self, job_id: str) -> Job:
        """How an upload is doing.

        Raises:
            JobNotFound: this process did no such job, or long ago.
        """
        with self._lock:
            found = self._jobs.get(job_id)
        if found is None:
            raise JobNotFound(
                f"There is no job {job_id!r}.",
                hint="Jobs are forgotten when the service restarts; GET /v1/documents says what is "
                "in the store.",
            )
        return found

    def records(self) -> Sequence[SourceRecord]:
        """Every document of the store, uploaded or not, in order of source."""
        return self._store.features.records()

    def is_upload(self, record: SourceRecord) -> bool:
        """Whether a document was given to a service."""
        return is_upload(self._store, record.source)

    def record(self, identifier: str) -> SourceRecord:
        """One document.

        Raises:
            DocumentNotFound: there is none with this id.
        """
        found = next((r for r in self.records() if r.id == identifier), None)
        if found is None:
            raise DocumentNotFound(
                f"There is no document {identifier!r}.", hint="GET /v1/documents lists them."
            )
        return found

    def delete(self, identifier: str) -> SourceRecord:
        """Remove a document with its passages; an uploaded file goes too, once nothing is of it.

        Raises:
            DocumentNotFound: there is none with this id.
            StoreLocked: another process writes to the store.
        """
        record = self.record(identifier)
        with self._store.layout.writing("delete"):
            entries = self._store.features.ledger()
            file = next((e.file for e in entries if e.record.id == identifier), record.source)
            self._store.features.delete([identifier])
            shared = any(e.file == file and e.record.id != identifier for e in entries)
            if self.is_upload(record) and not shared:
                Path(file).unlink(missing_ok=True)
        log.info("document_deleted", document=identifier)
        return record

    def close(self) -> None:
        """Finish the job at hand and drop those that wait."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    # The background

    def _run(self, job_id: str, file: str) -> None:
        began = time.monotonic()
        self._change(job_id, state="running")
        try:
            self._ingest(job_id, file)
        except _SetAsideError:
            self._change(job_id, state="queued", stage="waiting for others")
            with contextlib.suppress(RuntimeError):  # the service stops
                self._thread.submit(self._run, job_id, file)
            return
        except FtiError as error:
            self._fail(job_id, str(error), code=error.code)
        except Exception as error:  # a door of its own: the request is answered long since
            log.error("defect", job=job_id, exc_info=error)
            self._fail(job_id, "An internal error; the service's log has the details.", "internal")
        job = self.job(job_id)
        log.info(
            "document_ingested",
            job=job_id,
            document=job.document_id,
            state=job.state,
            chunks=job.chunks,
            seconds=round(time.monotonic() - began, 3),
        )

    def _ingest(self, job_id: str, file: str) -> None:
        from fti.pipelines.feature.ingesting.ingest import ingest

        spent = self._spent.pop(job_id, Spent())
        began = time.monotonic()

        def note(event: ProgressEvent) -> None:
            self._change(job_id, stage=event.stage)
            turn = time.monotonic() - began
            so_far = Spent(spent.seconds + turn, spent.passages)
            if event.stage == "embed":
                so_far = Spent(so_far.seconds, spent.passages + event.done)
            self._require_within(so_far)
            # Only where something was done that is remembered: so it comes to an end.
            if event.stage == "embed" and turn > self._limits.upload_turn_s and self._others_wait():
                self._spent[job_id] = so_far
                raise _SetAsideError

        deadline = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                report = ingest(
                    [file],
                    store=self._store,
                    embedder=self._embedder(),
                    config=self._config,
                    collection=self.job(job_id).collection,
                    retry_failed=self.job(job_id).retries,
                    progress=note,
                )
                break
            except StoreLocked:  # fti ingest or watch is at work; each wait is bounded by the lock
                if time.monotonic() > deadline:
                    raise
        found = [e.record for e in self._store.features.ledger() if e.file == file]
        # Of an archive or a table some may be taken and some not, as the command reports it.
        nothing = report.failed and not (report.added + report.updated + report.unchanged)
        self._change(
            job_id,
            state="failed" if nothing else "done",
            stage="",
            reason=self._why(file, (*report.failed, *report.empty)),
            documents=tuple(r.id for r in found if r.chunks),
            chunks=sum(r.chunks for r in found),
            finished_at=now(),
        )

    def _why(self, file: str, not_taken: Sequence[NotTaken]) -> str:
        """Why an upload, or what of it, was not taken."""
        inside = [(one.source.removeprefix(file).lstrip("!/#"), one.reason) for one in not_taken]
        said = [f"{name}: {reason}" if name else reason for name, reason in inside]
        more = f"; and {len(said) - _REASONS} more" if len(said) > _REASONS else ""
        return self._names.told("; ".join(said[:_REASONS]) + more)

    def _require_within(self, spent: Spent) -> None:
        limits = self._limits
        hint = "Split it, or take it in with: fti ingest PATH"
        if spent.passages > limits.max_upload_passages:
            raise UploadTooLarge(
                f"It becomes more than {limits.max_upload_passages} passages "
                "(service.max_upload_passages).",
                hint=hint,
            )
        if spent.seconds > limits.upload_timeout_s:
            raise UploadTooLarge(
                f"Ingesting it took longer than {limits.upload_timeout_s:g} s "
                "(service.upload_timeout_s).",
                hint=hint,
            )

    def _others_wait(self) -> bool:
        with self._lock:
            return any(job.state == "queued" for job in self._jobs.values())

    def _fail(self, job_id: str, reason: str, code: str) -> None:
        log.warning("document_failed", job=job_id, code=code)
        told = self._names.told(reason)
        self._change(job_id, state="failed", stage="", reason=told, finished_at=now())

    def _change(self, job_id: str, **changes: object) -> None:
        with self._lock:
            self._jobs[job_id] = self._jobs[job_id].model_copy(update=changes)

    def _forget_oldest(self) -> None:
        finished = [j.id for j in self._jobs.values() if j.finished_at is not None]
        for identifier in finished[: max(0, len(self._jobs) - _REMEMBERED)]:
            del self._jobs[identifier]


def plain_name(name: str) -> str:
    """A file's name without folders, as it may be written into one of ours.

    Raises:
        InvalidName: nothing usable is left of it.
    """
    name = unicodedata.normalize("NFC", name).replace("\\", "/").rsplit("/", 1)[-1].strip()
    usable = ""
    with contextlib.suppress(UnicodeEncodeError):
        name.encode("utf-8")
        usable = "".join(c for c in name if unicodedata.category(c)[0] != "C")
    if not usable or usable != name or name.startswith("."):
        raise InvalidName(
            f"{name!r} is no name for a document.", hint="Send it with a name like handbook.md."
        )
    if len(name.encode("utf-8")) > _LONGEST_NAME:
        raise InvalidName(
            f"The name {name[:40]!r}… is longer than {_LONGEST_NAME} bytes.", hint="Shorten it."
        )
    return name


def _require_readable(name: str) -> None:
    from fti.pipelines.feature.finding.opening import is_read

    if not is_read(name):
        raise ExtractionError(
            f"Files ending in {Path(name).suffix.lower()!r} are not read.",
            hint="Read are text, Markdown, HTML, PDF, Office files, mails, books, tables, code, "
            "and ZIP archives of them.",
        )
