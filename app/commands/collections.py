"""``fti collections``: what documents are grouped into."""

from __future__ import annotations

from fti.app.options import CommonOptions


def collections(common: CommonOptions) -> None:
    """List the collections, with what is in each.

    Documents come into one by: fti ingest PATH --collection NAME
    """
    session = common.open()
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
