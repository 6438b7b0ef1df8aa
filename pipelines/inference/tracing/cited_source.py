"""What a citation points at: the passage as it was shown, and what stands around it now."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fti.pipelines.inference.tracing.answer_lineage import Standing
from fti.store.errors import DocumentNotFound
from fti.store.logs.answers import Visible, everybodys
from fti.store.types import Value

if TYPE_CHECKING:
    from fti.store.store import Store


class Span(Value):
    """A stretch of a text, in characters."""

    start: int
    end: int


class SourceView(Value):
    """What a citation points at.

    ``text`` is the passage as the answer was shown it, or as it stands now when no answer is
    named. ``quotes`` are the stretches of ``text`` that the answer repeats word for word;
    ``start``/``end`` place ``text`` in the document. ``before`` and ``after`` are what stands
    around it there; they are empty where the document no longer holds it.
    """

    chunk_id: str
    document_id: str
    document: str
    title: str
    section: tuple[str, ...]
    standing: Standing
    start: int
    end: int
    text: str
    quotes: tuple[Span, ...] = ()
    before: str = ""
    after: str = ""


def trace_source(
    store: Store,
    chunk_id: str,
    answer_id: str = "",
    *,
    around: int = 400,
    visible: Visible = everybodys,
) -> SourceView:
    """Look up what a citation points at.

    Args:
        store: where answers and documents lie.
        chunk_id: of the citation.
        answer_id: the answer that cites it: then the passage is found even when its document was
            changed or deleted since.
        around: how many characters of the document to give on either side.
        visible: which answers there are for whoever looks.

    Raises:
        AnswerNotFound: no such answer was logged.
        DocumentNotFound: there is no such chunk now, or the answer was not shown it.
    """
    quotes: tuple[Span, ...] = ()
    if answer_id:
        answer = store.answers.get(answer_id, visible=visible)
        passage = next((p for p in answer.passages if p.chunk_id == chunk_id), None)
        if passage is None:
            shown = ", ".join(p.chunk_id for p in answer.passages) or "none"
            raise DocumentNotFound(
                f"The answer {answer_id!r} was not shown the passage {chunk_id!r}.",
                hint=f"It was shown: {shown}.",
            )
        said = {c.quote for c in answer.citations if c.chunk_id == chunk_id and c.quote}
        places = sorted((passage.text.find(quote), len(quote)) for quote in said)
        quotes = tuple(Span(start=at, end=at + length) for at, length in places if at >= 0)
        document_id_, title, source = passage.document_id, passage.title, passage.source
        text, start, section = passage.text, passage.start, passage.section
    else:
        chunk, title, source = store.features.chunk(chunk_id)
        document_id_, text, start, section = (
            chunk.document_id, chunk.text, chunk.start, chunk.section,
        )  # fmt: skip
    standing, before, after = "deleted", "", ""
    with contextlib.suppress(DocumentNotFound):
        whole = store.features.document(document_id_).text
        at = start if whole.startswith(text, start) else whole.find(text)
        standing = "changed" if at < 0 else "stands"
        if at >= 0:
            start = at
            before = whole[max(0, at - around) : at]
            after = whole[at + len(text) : at + len(text) + around]
    return SourceView.model_validate(
        {
            "chunk_id": chunk_id,
            "document_id": document_id_,
            "document": source,
            "title": title,
            "section": section,
            "standing": standing,
            "start": start,
            "end": start + len(text),
            "text": text,
            "quotes": quotes,
            "before": before,
            "after": after,
        }
    )
