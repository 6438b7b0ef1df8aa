"""The process of a job: ``python -m fti.app.operations.job_process``, started by the service.

What to do comes as one line of JSON on standard input, so that nothing of it is seen in the list of
processes; the job's lock comes as a handle that is inherited and held until the process ends. What
is printed goes to the job's log. It outlives the service that started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from fti.app.operations.job_kinds import job_of
from fti.app.reporting import Reporter
from fti.app.settings import load_settings
from fti.store.errors import FtiError, GateRefused
from fti.store.logs.jobs import JobRecord
from fti.store.progress import Progress, ProgressEvent
from fti.store.store import Store

_NICE = 10  # answers of the service go before
#: Stages whose details are ours. Those of others quote documents, and nobody would look for what is
#: to be forgotten in the log of a job.
_OWN_WORDS = ("preflight", "finetune")


def main() -> int:
    """Do the job that standard input names; the process's exit code."""
    given = json.loads(sys.stdin.readline())
    signal.signal(signal.SIGTERM, _stop)
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    # As the command does: our own progress is enough.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    store = Store(given["store"])
    record = store.jobs.get(given["job"])
    # The service may have died before it could say which process this is.
    store.jobs.handed_over(record.id, given["handle"], os.getpid())
    return do(record, store, config=given["config"], overrides=given["overrides"])


def do(
    record: JobRecord, store: Store, *, config: str | None = None, overrides: list[str] | None
) -> int:
    """Do a job and record how it ended.

    Args:
        record: which.
        store: its store.
        config: the profile; None: as the environment says.
        overrides: settings of the service's own command line.

    Returns:
        0 when it is done, 1 otherwise.
    """
    reporter = Reporter()
    finish = store.jobs.finish
    try:
        job = job_of(record.asked)
        settings = load_settings(
            None if config is None else Path(config),
            store=store.layout.root,
            overrides=[*(overrides or ()), *job.overrides()],
        )
        reporter.note(f"{record.kind}, attempt {record.attempts}")
        with reporter.progress() as shown, store.jobs.noting(record) as noted:
            made = job.do(settings, store, _both(shown, noted))
    except GateRefused as refusal:
        reporter.note(str(refusal))
        finish(record, "refused", error=str(refusal))
        return 1
    except FtiError as error:
        reporter.note(str(error))
        finish(record, "failed", error=str(error))
        return 1
    except KeyboardInterrupt:
        reporter.note("stopped; what was finished is kept")
        finish(record, "stopped", error="It was stopped.")
        return 1
    except Exception as error:  # a door of its own: nobody else is told of a defect here
        traceback.print_exc()
        finish(record, "failed", error=f"A defect ({type(error).__name__}); its log says more.")
        return 1
    reporter.note(made.summary)
    finish(record, "done", summary=made.summary, outputs=made.outputs)
    return 0


def _both(shown: Progress, noted: Progress) -> Progress:
    def tell(event: ProgressEvent) -> None:
        if event.stage not in _OWN_WORDS:
            event = replace(event, detail="")
        noted(event)
        shown(event)

    return tell


def _stop(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise KeyboardInterrupt("it was stopped")


if __name__ == "__main__":
    sys.exit(main())
