"""``fti search``: which passages a question finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fti.app.options import CommonOptions, WithinOptions, in_collection

if TYPE_CHECKING:
    from fti.store.types import Passage


def search(
    within: WithinOptions,
    common: CommonOptions,
    query: Annotated[str, typer.Argument(help="Words or a question.")],
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="How many passages.")] = 5,
    mode: Annotated[
        Literal["hybrid", "vector", "text"],
        typer.Option("--mode", help="Vectors, words (BM25), or both fused."),
    ] = "hybrid",
) -> None:
    """Find passages, best first.

    Example: fti search "opening hours" -k 3 --where media_type=text/markdown
    """
    from fti.app.build import build_retriever
    from fti.store.features.filters import parse
    from fti.store.page_starts import PAGE

    conditions = parse(within.where or [])
    session = common.open(in_collection(within.collection))
    retriever = build_retriever(session.settings, session.store, at=within.at)
    passages = retriever.search(query, k=k, mode=mode, where=conditions)
    report = session.report
    report.result(
        {
            "query": query,
            "mode": mode,
            "features_version": retriever.features.version(),
            "passages": [passage_json(p) for p in passages],
        }
    )
    for passage in passages:
        page = passage.metadata.get(PAGE)
        report.say(
            f"{passage.rank:>2}. {passage.heading}  "
            f"({passage.source}:{passage.start}-{passage.end}, "
            f"{f'page {page}, ' if page else ''}score {passage.score:.4f}, "
            f"{'+'.join(passage.found_by)})",
            style="bold",
        )
        report.say(f"    {snippet(passage.text)}")
    if not passages:
        report.say("Nothing was found.")


def passage_json(passage: Passage) -> dict[str, Any]:
    """A passage as commands print it: ``document`` is the source it came from."""
    return {
        "rank": passage.rank,
        "score": passage.score,
        "document": passage.source,
        "title": passage.title,
        "section": list(passage.section),
        "start": passage.start,
        "end": passage.end,
        "text": passage.text,
        "chunk_id": passage.chunk_id,
        "document_id": passage.document_id,
        "similarity": passage.similarity,
        "text_score": passage.text_score,
        "found_by": list(passage.found_by),
        "metadata": dict(passage.metadata),
    }


def snippet(text: str, width: int = 240) -> str:
    """The beginning of a passage in one line."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"
