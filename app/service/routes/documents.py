"""Documents in and out of the store while it is served."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, UploadFile

from fti.app.service.documents import Documents, Job
from fti.app.service.forms.public_names import PublicNames
from fti.app.service.routes.parts import CallerPart, DocumentsPart, NamesPart, StorePart
from fti.pipelines.inference.tracing.document_lineage import DocumentLineage, trace_document
from fti.store.types import SourceRecord, SourceState

router = APIRouter(prefix="/v1/documents", tags=["documents"])


@router.post("", status_code=202)
def upload(
    file: UploadFile, documents: DocumentsPart, collection: Annotated[str | None, Form()] = None
) -> Job:
    """Ingest one document in the background; one of the same name is replaced.

    ``collection`` puts it into one; without, a document stays in the one that it is in.

    Ask ``/v1/documents/jobs/ID`` until its state is done or failed.
    """
    return documents.add(file.filename or "", file.file, collection or None)


@router.get("")
def list_documents(
    documents: DocumentsPart,
    names: NamesPart,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
    state: SourceState | None = None,
) -> dict[str, Any]:
    """What is in the store, and what became of every source, in order of source."""
    found = [r for r in documents.records() if state in (None, r.state)]
    return {
        "object": "list",
        "total": len(found),
        "data": [_body(documents, names, r) for r in found[offset : offset + limit]],
    }


@router.get("/jobs/{job_id}")
def get_job(job_id: str, documents: DocumentsPart) -> Job:
    """How an upload is doing."""
    return documents.job(job_id)


@router.get("/{document_id}")
def get_document(document_id: str, documents: DocumentsPart, names: NamesPart) -> dict[str, Any]:
    """One document."""
    return _body(documents, names, documents.record(document_id))


@router.post("/{document_id}/retry", status_code=202)
def retry_document(document_id: str, documents: DocumentsPart) -> Job:
    """Try a document again that could not be taken, although it has not changed."""
    return documents.retry(document_id)


@router.get("/{document_id}/lineage")
def document_lineage(
    document_id: str, store: StorePart, caller: CallerPart, names: NamesPart
) -> DocumentLineage:
    """What came of a document: chunks, datasets, models, and the caller's answers."""
    return names.document(trace_document(store, document_id, visible=caller.may_see))


@router.delete("/{document_id}")
def delete_document(document_id: str, documents: DocumentsPart) -> dict[str, Any]:
    """Remove a document with its passages.

    A file that was uploaded is removed with it. One in a folder stays where it is, and the next
    ``fti ingest`` of that folder takes it again.
    """
    record = documents.delete(document_id)
    return {"id": record.id, "object": "document", "deleted": True}


def _body(documents: Documents, names: PublicNames, record: SourceRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "object": "document",
        "source": names.of(record.source),
        "name": record.source.rsplit("/", 1)[-1],
        "title": record.title,
        "state": record.state,
        "reason": names.told(record.cause),
        "chunks": record.chunks,
        "collection": record.collection,
        "uploaded": documents.is_upload(record),
        "ingested_at": record.ingested_at.isoformat() if record.ingested_at else None,
    }
