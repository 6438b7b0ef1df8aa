"""``fti watch``: documents searchable seconds after they change."""

from __future__ import annotations

import json as jsonlib
import signal
import sys
import threading
from typing import Annotated

import typer

from fti.app.options import CommonOptions, IntoCollectionOption


def watch(
    common: CommonOptions,
    sources: Annotated[list[str], typer.Argument(help="Files or folders to keep up to date.")],
    collection: IntoCollectionOption = None,
) -> None:
    """Ingest now, then again whatever changes, until interrupted.

    Prints one JSON line per change set. Example: fti watch handbook/
    """
    from fti.app.build import build_embedder
    from fti.pipelines.feature.streaming.watch import watch as run

    session = common.open()
    stop = threading.Event()

    def end(signum: int, frame: object) -> None:
        stop.set()

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, end)
    session.report.note("watching; stop with Ctrl-C")
    for change in run(
        sources,
        store=session.store,
        embedder=build_embedder(session.settings),
        config=session.settings.features,
        stop=stop,
        collection=collection,
    ):
        sys.stdout.write(jsonlib.dumps(change.model_dump(mode="json"), ensure_ascii=False) + "\n")
        sys.stdout.flush()
