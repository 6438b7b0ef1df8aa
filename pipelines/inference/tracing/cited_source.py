"""What a citation points at: the passage as it was shown, and what stands around it now."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fti.pipelines.inference.answering.highlighting import Evidence, Span, evidence_of, nearest_to
from fti.pipelines.inference.tracing.answer_lineage import Standing
from fti.store.errors import DocumentNotFound
from fti.store.logs.answers import Visible, everybodys
from fti.store.page_starts import PAGE, passage_metadata
from fti.store.types import Value

if TYPE_CHECKING:
    from fti.store.store import Store


class SourceView(Value):
    """What a citation points at.

    ``text`` is the passage as the answer was shown it, or as it stands now when no answer is
    named. ``quotes`` are the stretches of ``text`` that the answer repeats word for word,
    ``evidence`` the sentences of it that carry the answer (of a refusal: the one that came nearest
    to the question). ``page`` is such as 3 or 3-4, empty where the document has none.
    ``start``/``end`` place ``text`` in the document. ``before`` and ``after`` are what stands
    around it there; they are empty where the document no longer holds it.
    """

    chunk_id: str
    document_id: str
    document: str
    title: str
    section: tuple[str, ...]
    page: str = ""
    standing: Standing
    start: int
    end: int
    text: str
    quotes: tuple[Span, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    before: str = ""
    after: str = ""


def trace_source(
    store: Store,
    chunk_id: str,
    answer_id: str = "",
    *,
    around: int = 1200,
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
    evidence: tuple[Evidence, ...] = ()
    page = ""
    if answer_id:
        answer = store.answers.get(answer_id, visible=visible)
        number = next((n for n, p in enumerate(answer.passages) if p.chunk_id == chunk_id), None)
        if number is None:
            shown = ", ".join(p.chunk_id for p in answer.passages) or "none"
            raise DocumentNotFound(
                f"The answer {answer_id!r} was not shown the passage {chunk_id!r}.",
                hint=f"It was shown: {shown}.",
            )
        passage = answer.passages[number]
        said = {c.quote for c in answer.citations if c.chunk_id == chunk_id and c.quote}
        places = sorted((passage.text.find(quote), len(quote)) for quote in said)
        quotes = tuple(Span(start=at, end=at + length) for at, length in places if at >= 0)
        evidence = evidence_of(answer)[number]
        nearest = nearest_to(answer)
        if nearest is not None and nearest.marker == number + 1:
            evidence = (nearest.evidence,)
        document_id_, title, source = passage.document_id, passage.title, passage.source
        text, start, section = passage.text, passage.start, passage.section
        page = passage.metadata.get(PAGE, "")
    else:
        chunk, title, source = store.features.chunk(chunk_id)
        document_id_, text, start, section = (
            chunk.document_id, chunk.text, chunk.start, chunk.section,
        )  # fmt: skip
    standing: Standing = "deleted"
    before = after = ""
    with contextlib.suppress(DocumentNotFound):
        document = store.features.document(document_id_)
        whole = document.text
        at = start if whole.startswith(text, start) else whole.find(text)
        standing = "changed" if at < 0 else "stands"
        if at >= 0:
            start = at
            before = whole[max(0, at - around) : at]
            after = whole[at + len(text) : at + len(text) + around]
            page = page or passage_metadata(document.metadata, at, at + len(text)).get(PAGE, "")
    return SourceView(
        chunk_id=chunk_id,
        document_id=document_id_,
        document=source,
        title=title,
        section=section,
        page=page,
        standing=standing,
        start=start,
        end=start + len(text),
        text=text,
        quotes=quotes,
        evidence=evidence,
        before=before,
        after=after,
    )
