"""What a caller may search and open: all of the store, or the collections of its key.

To a key for certain collections, what stands elsewhere does not exist. Every way in (the HTTP
routes, the tools for agents) looks through here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from fti.app.service.access import Caller
from fti.app.service.public_names import PublicNames
from fti.pipelines.inference.answering.retrieve import Retriever
from fti.pipelines.inference.tracing.cited_source import SourceView, trace_source
from fti.store.errors import DocumentNotFound, NotFoundError, OutsideCollections
from fti.store.features import filters
from fti.store.lance.shapes import COLLECTION
from fti.store.store import Store
from fti.store.types import Passage, SearchMode, SourceRecord


def search(
    retriever: Retriever,
    caller: Caller,
    names: PublicNames,
    query: str,
    *,
    k: int | None = None,
    mode: SearchMode | None = None,
    where: Mapping[str, str] | Sequence[str] = (),
    collection: str = "",
) -> Sequence[Passage]:
    """The passages that a caller's query finds, best first. Slow: called in a thread.

    Args:
        retriever: searches.
        caller: who asks.
        names: what clients call documents, in conditions too.
        query: words or a question.
        k: how many; None: as configured.
        mode: vectors, words or both; None: as configured.
        where: only passages for which all hold: pairs that are equal, or conditions as
            ``fti search --where`` takes them.
        collection: only passages of it; empty: of all that the caller may see.

    Raises:
        InvalidFilter: a condition cannot be read, or names what passages lack.
        OutsideCollections: the collection is not one of the caller's.
        CollectionNotFound: no document is in it.
    """
    given = where if isinstance(where, Mapping) else filters.parse(where)
    conditions = names.meant(filters.conditions(given))
    among = caller.collections
    if among and collection and collection not in among:
        raise OutsideCollections(
            f"This key is for {', '.join(among)} alone, not for {collection!r}."
        )
    if collection:
        retriever.features.require_collection(collection, among=among)
        conditions = (*conditions, filters.Condition(COLLECTION, "=", (collection,)))
    return retriever.search(query, k, mode, conditions, collections=among)


def open_source(
    store: Store, caller: Caller, names: PublicNames, chunk_id: str, answer_id: str = ""
) -> SourceView:
    """What a citation points at, as far as the caller may see it.

    Raises:
        AnswerNotFound: the caller has asked no such answer.
        DocumentNotFound: there is no such passage for the caller.
    """
    if not caller.collections:
        view = trace_source(store, chunk_id, answer_id, visible=caller.may_see)
        return view.model_copy(update={"document": names.of(view.document)})
    with contextlib.suppress(NotFoundError):
        view = trace_source(store, chunk_id, answer_id, visible=caller.may_see)
        record = next((r for r in store.features.records() if r.id == view.document_id), None)
        if record is not None and record.collection in caller.collections:
            return view.model_copy(update={"document": names.of(view.document)})
    raise DocumentNotFound(f"There is no passage {chunk_id!r}.")


def records(store: Store, caller: Caller) -> Sequence[SourceRecord]:
    """The documents that are there for a caller, in order of source."""
    found = store.features.records()
    if not caller.collections:
        return found
    return [record for record in found if record.collection in caller.collections]
