"""Which rows hold words of a text, asked of LanceDB in one go."""

from __future__ import annotations

from typing import Any

from fti.store.lance.library import looked_through
from fti.store.plain_text import utf8


def best_by_words(table: Any, text: str, k: int) -> Any:
    """Arrow's table of the ``k`` rows that fit best by BM25, with ``_rowid`` and ``_score``.

    LanceDB's synchronous query asks its own thread five times: for the schema, the query, each
    batch and the end, and waits for each. That took longer than the search itself. What is beneath
    it, its asynchronous query, asks once.

    Args:
        table: an open table with an index for words.
        text: the words; none of them: no rows.
        k: how many rows at most.
    """
    if not looked_through():
        query = table.search(utf8(text), query_type="fts").limit(k)
        return query.with_row_id(True).select(["_score"]).to_arrow()
    from lancedb.background_loop import LOOP

    query = table._table.query().nearest_to_text(utf8(text)).limit(k)
    return LOOP.run(query.with_row_id().select(["_score"]).to_arrow())
