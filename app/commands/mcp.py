"""``fti mcp``: the store as tools for an agent on this machine."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from fti.app.options import ModelOption, StoreOptions

if TYPE_CHECKING:
    from fti.pipelines.inference.answering.answer import Assistant


def mcp(
    common: StoreOptions,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Offer no tool that adds documents.")
    ] = False,
    collection: Annotated[
        list[str] | None,
        typer.Option(
            "--collection",
            help="Answer from this collection alone, and show nothing else. Repeatable.",
            show_default="the whole store",
        ),
    ] = None,
    model: ModelOption = None,
) -> None:
    """Offer the store to an agent as tools, by the Model Context Protocol on standard input.

    The tools are search, ask, open_source, list_documents and add_document. An agent's program
    starts this command; a service offers the same at /mcp. Standard output carries the protocol
    alone. Example: fti mcp --store handbook.fti --read-only
    """
    import asyncio

    from fti.app.build import Engines, build_assistant
    from fti.app.service.admission.access import Caller
    from fti.app.service.agents.mcp_server import agent_server, serve_stdio
    from fti.app.service.agents.tools import Parts
    from fti.app.service.answerers import Answerers
    from fti.app.service.counters import Metrics
    from fti.app.service.documents import Documents
    from fti.app.service.forms.public_names import PublicNames
    from fti.app.service.logs import configure_logs
    from fti.app.service.worker import Worker
    from fti.store.store import Store
    from fti.store.versioned.versions import check_name

    for name in collection or ():
        check_name(name, "collection")
    session = common.open()
    settings, service = session.settings, session.settings.service
    configure_logs(logging.WARNING)
    opened = Store(settings.store, read_consistency_s=service.read_consistency_s)
    named = model or settings.model
    session.report.note(f"loading model {named}")
    engines = Engines(settings)

    def build(ref: str) -> Assistant:
        engines.follow(opened)
        return build_assistant(settings, opened, model=ref, engines=engines, may_be_empty=True)

    # A library that prints while it loads would end the conversation.
    with contextlib.redirect_stdout(sys.stderr):
        assistant = build(named)
    answerers = Answerers(assistant, service, name=named, build=build)
    worker = Worker(answerers, service, Metrics())
    names = PublicNames(opened)
    documents = Documents(
        opened, lambda: answerers.first.retriever.embedder, settings.features, service, names
    )
    caller = Caller(collections=tuple(collection or ()), read_only=read_only)
    server = agent_server(Parts(worker, documents, service, names), caller)

    async def speak() -> None:
        following = asyncio.create_task(answerers.follow())
        try:
            await serve_stdio(server)
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following

    session.report.note(f"offering {settings.store} as tools over MCP on standard input and output")
    try:
        asyncio.run(speak())
    finally:
        documents.close()
        worker.close()
