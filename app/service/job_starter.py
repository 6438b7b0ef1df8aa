"""Starts jobs in processes of their own, looks after them, and stops them.

A job belongs to the store, not to this process: it goes on when the service ends, another service
on the store shows and stops it too, and one whose process died is taken up again when a service
starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from fti.app.operations.job_kinds import Job
from fti.app.service.admission.access import Caller
from fti.app.service.service_config import ServiceConfig
from fti.app.service.sites import is_loopback
from fti.store.errors import FtiError, InputError, JobRunning, JobsNotAllowed
from fti.store.files.atomic import full_disk_named
from fti.store.logs.jobs import JobRecord
from fti.store.store import Store

log = structlog.get_logger("fti.api")
_ATTEMPTS = 3  # begun by itself; what died so often is left for a person to look at
_GRACE_S = 20.0  # for a process to end by itself
_MODULE = "fti.app.operations.job_process"


@dataclass(frozen=True, slots=True)
class Profile:
    """How the service's own settings came about: jobs resolve theirs the same way."""

    config: Path | None = None
    overrides: Sequence[str] = field(default=())


class Jobs:
    """The jobs of a store, as a service starts them.

    Args:
        store: where they are recorded.
        profile: settings of their processes; None: none can be started.
        config: where the service listens.
    """

    def __init__(self, store: Store, profile: Profile | None, config: ServiceConfig) -> None:
        self._store = Store(store.layout.root)
        self._log = self._store.jobs
        self._profile = profile
        self._config = config

    def start(self, job: Job, caller: Caller) -> JobRecord:
        """Start a job.

        Raises:
            JobsNotAllowed: the caller may not.
            JobRunning: another one goes on.
            NotFoundError: something that it names is not there.
        """
        self._require_allowed(caller)
        job.check(self._store)
        record, handle = self._log.start(
            job.kind, job.model_dump(mode="json", exclude_defaults=True), key=caller.key
        )
        self._spawn(record, handle)
        return record

    def resume(self, job_id: str, caller: Caller) -> JobRecord:
        """Take a job up again that ended without being done; training goes on where it was.

        Raises:
            JobsNotAllowed: the caller may not.
            JobNotFound: there is no such job.
            JobRunning: one goes on.
            InputError: it is done.
        """
        self._require_allowed(caller)
        if self._log.get(job_id).state == "done":
            raise InputError(f"The job {job_id!r} is done.", hint="Start another one.")
        record, handle = self._log.again(job_id)
        self._spawn(record, handle)
        return record

    def resume_interrupted(self) -> JobRecord | None:
        """Take up the newest job if its process died, unless it did so again and again."""
        if self._profile is None:
            return None
        newest = next(iter(self._log.list(limit=1)), None)
        if newest is None or newest.state != "interrupted" or newest.attempts >= _ATTEMPTS:
            return None
        try:
            record, handle = self._log.again(newest.id)
            self._spawn(record, handle)
        except JobRunning:  # another service was faster
            return None
        except FtiError as error:  # no reason not to serve
            log.error("job_not_resumed", job=newest.id, reason=str(error))
            return None
        log.info("job_resumed", job=record.id, kind=record.kind, attempt=record.attempts)
        return record

    def stop(self, job_id: str, caller: Caller) -> JobRecord:
        """Ask a job's process to end, and end it if it does not.

        Raises:
            JobsNotAllowed: the caller may not.
            JobNotFound: there is no such job.
            InputError: its process runs where it cannot be reached from here.
        """
        self._require_allowed(caller)
        if self._log.get(job_id).state != "running":
            return self._log.get(job_id)
        process = self._log.ask_to_stop(job_id)
        if process is None and self._log.get(job_id).state == "running":
            raise InputError(
                f"The process of the job {job_id!r} cannot be reached from here: it runs in "
                "another container, or starts at this moment.",
                hint="Stop it by the service there, or try again.",
            )
        if process is not None:
            _signal(process, signal.SIGTERM)
            late = threading.Timer(_GRACE_S, self._end, (job_id, process))
            late.daemon = True
            late.start()
        log.info("job_stopped", job=job_id)
        return self._log.get(job_id)

    def get(self, job_id: str) -> JobRecord:
        """One job; ``JobNotFound`` where there is none."""
        return self._log.get(job_id)

    def list(self, limit: int) -> Sequence[JobRecord]:
        """Jobs, newest first."""
        return self._log.list(limit)

    def close(self) -> None:
        """Say what goes on without this service."""
        with contextlib.suppress(FtiError):
            going = self._log.running()
            if going is not None:
                log.warning("job_goes_on", job=going.id, kind=going.kind)

    def _require_allowed(self, caller: Caller) -> None:
        if self._profile is None:
            raise JobsNotAllowed(
                "This service starts no jobs.", hint="One that fti serve starts does."
            )
        if caller.key and not caller.jobs:
            raise JobsNotAllowed(
                f"The key {caller.key!r} may not start or stop jobs.",
                hint="Make one that may: fti keys create NAME --jobs",
            )
        if not caller.key and not is_loopback(self._config.host):
            raise JobsNotAllowed(
                "Without a key, jobs are started and stopped only on a service that listens on "
                "this machine alone.",
                hint="Make a key: fti keys create NAME --jobs",
            )

    def _spawn(self, record: JobRecord, handle: int) -> None:
        assert self._profile is not None  # nothing is started without
        given = {
            "store": str(self._store.layout.root),
            "config": str(self._profile.config) if self._profile.config else None,
            "overrides": list(self._profile.overrides),
            "job": record.id,
            "handle": handle,
        }
        path = self._log.text_file(record.id)
        try:
            with full_disk_named(path), path.open("ab") as printed:
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", _MODULE],
                    stdin=subprocess.PIPE,
                    stdout=printed,
                    stderr=printed,
                    pass_fds=(handle,),
                    start_new_session=True,  # Ctrl-C is for the service
                )
            assert process.stdin is not None
            self._log.handed_over(record.id, handle, process.pid)
            with contextlib.suppress(BrokenPipeError):  # it ended at once, and its log says why
                process.stdin.write(json.dumps(given).encode() + b"\n")
                process.stdin.close()
        except BaseException as error:
            cause = str(error) if isinstance(error, FtiError) else type(error).__name__
            self._log.finish(record, "failed", error=f"Its process did not start: {cause}")
            raise
        finally:
            os.close(handle)
        log.info("job_started", job=record.id, kind=record.kind, process=process.pid)
        # So that a process that ended is not kept by the system for our sake.
        threading.Thread(
            target=self._wait, args=(record.id, process), name="job", daemon=True
        ).start()

    def _wait(self, job_id: str, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        log.info("job_ended", job=job_id, code=code)

    def _end(self, job_id: str, process: int) -> None:
        with contextlib.suppress(FtiError):
            if self._log.get(job_id).state == "running" and self._log.is_asked_to_stop(job_id):
                _signal(process, signal.SIGKILL)


def _signal(process: int, number: signal.Signals) -> None:
    """To a job's process and those that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, number)
