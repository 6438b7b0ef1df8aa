"""``fti serve``: the chat API and page."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Annotated

import typer

from fti.app.options import CommonOptions, ModelOption

if TYPE_CHECKING:
    from fti.pipelines.inference.answering.answer import Assistant


def serve(
    common: CommonOptions,
    host: Annotated[
        str | None, typer.Option("--host", help="Address.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="Port; 0: a free one.", show_default="8000"),
    ] = None,
    allow_anonymous: Annotated[
        bool,
        typer.Option(
            "--allow-anonymous",
            help="Listen beyond this machine although no API key is asked for.",
        ),
    ] = False,
    model: ModelOption = None,
) -> None:
    """Serve the OpenAI-compatible chat API at /v1 and a chat page at /.

    Ctrl-C and SIGTERM stop it: no new requests, and answers in flight are finished. A second Ctrl-C
    stops at once. Example: fti serve --model reader@champion --port 8080
    """
    from fti.app.build import Engines, build_assistant, built_in
    from fti.app.service.admission.access import Access, require_private
    from fti.app.service.api import create_app
    from fti.app.service.job_starter import Profile
    from fti.app.service.logs import configure_logs
    from fti.app.service.server import make_server
    from fti.store.store import Store

    session = common.open()
    settings = session.settings
    service = settings.service
    if allow_anonymous:
        service = service.model_copy(update={"allow_anonymous": True})
    if host:
        service = service.model_copy(update={"host": host})
    opened = Store(settings.store, read_consistency_s=service.read_consistency_s)
    require_private(service.host, Access(opened.keys, service), service)
    name = model or settings.model
    session.report.note(f"loading model {name}")
    engines = Engines(settings)

    def build(ref: str) -> Assistant:
        engines.follow(opened)
        return build_assistant(settings, opened, model=ref, engines=engines, may_be_empty=True)

    assistant = build(name)
    configure_logs()
    app = create_app(
        assistant,
        service,
        name=name,
        build=build,
        built_in=built_in(settings),
        features=settings.features,
        answers=settings.answers,
        profile=Profile(common.config, (*(common.set_ or ()), f"model={name}")),
    )
    server = make_server(app, service, port=port)
    session.report.note(f"serving model {name} from {settings.store}; stop with Ctrl-C")
    # uvicorn stops on these signals and then sends them to us once more.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stopped)
    server.run()
    if not server.started:
        raise typer.Exit(1)


def _stopped(number: int, frame: object) -> None:
    """What was asked for has been done."""
