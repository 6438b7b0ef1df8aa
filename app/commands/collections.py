"""``fti collections``: what documents are grouped into."""

from __future__ import annotations

import typer

from fti.app.options import ConfigOption, JsonOption, SetOption, StoreOption, open_session


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("collections")(collections)


def collections(
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """List the collections, with what is in each.

    Documents come into one by: fti ingest PATH --collection NAME
    """
    session = open_session(store, config, set_, json)
    found = session.store.features.collections()
    session.report.result(
        {
            "collections": [
                {"name": name, "documents": documents, "chunks": chunks}
                for name, (documents, chunks) in found.items()
            ]
        }
    )
    if not found:
        session.report.say("No document is in a collection. See: fti ingest --help")
        return
    rows = [[name, documents, chunks] for name, (documents, chunks) in found.items()]
    session.report.table(["collection", "documents", "chunks"], rows)
