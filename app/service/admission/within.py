"""What a caller may search and open: all of the store, or the collections of its key.

To a key for certain collections, what stands elsewhere does not exist. Every way in (the HTTP
routes, the tools for agents) looks through here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from fti.app.service.admission.access import Caller
from fti.app.service.forms.public_names import PublicNames
from fti.pipelines.inference.answering.retrieve import Retriever
from fti.pipelines.inference.tracing.cited_source import SourceView, trace_source
from fti.store.errors import DocumentNotFound, NotFoundError
from fti.store.features.feature_store import FeatureStore
from fti.store.features.filters import Condition
from fti.store.store import Store
from fti.store.types import Passage, SearchMode, SourceRecord

#: Conditions as a request has them: pairs that are equal, or as ``fti search --where`` takes them.
Asked = Mapping[str, str] | Sequence[str]


def search(
    retriever: Retriever,
    caller: Caller,
    names: PublicNames,
    query: str,
    *,
    k: int | None = None,
    mode: SearchMode | None = None,
    where: Asked = (),
    collection: str = "",
    at: str = "",
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
        at: an earlier version of the features to search, or a tag; empty: the one of now.

    Raises:
        InvalidFilter: a condition cannot be read, or names what passages lack.
        OutsideCollections: the collection is not one of the caller's, or only versions of now are.
        CollectionNotFound: no document is in it.
        VersionNotFound: there is no such version or tag.
    """
    collections, conditions, features = _kept(
        retriever.features, caller, names, collection=collection, where=where, at=at
    )
    if at:
        retriever = retriever.over(features)
    return retriever.search(query, k, mode, conditions, collections=collections)


def bounds(
    features: FeatureStore,
    caller: Caller,
    names: PublicNames,
    *,
    collection: str = "",
    where: Asked = (),
    at: str = "",
) -> tuple[Sequence[str], Sequence[Condition]]:
    """The collections (none: the whole store) and conditions that a request is kept within.

    Slow where something is asked for: called in a thread. Arguments and errors are those of
    ``search``.
    """
    collections, conditions, _ = _kept(
        features, caller, names, collection=collection, where=where, at=at
    )
    return collections, conditions


def _kept(
    features: FeatureStore,
    caller: Caller,
    names: PublicNames,
    *,
    collection: str,
    where: Asked,
    at: str,
) -> tuple[Sequence[str], Sequence[Condition], FeatureStore]:
    collections, given = caller.within(collection, where)
    caller.require_any_version(at)
    if at:
        features = features.checkout(at)
    if collection:
        features.require_collection(collection, among=caller.collections)
    return collections, names.meant(given), features


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
