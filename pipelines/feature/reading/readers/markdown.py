"""Parts of a document as Markdown: what the readers of Office files, books and mails share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fti.pipelines.feature.reading.cleaning import clean_line

_MAX_HEADING = 1000


def heading(level: int, text: str) -> str:
    """A heading of one line; empty where there are no words."""
    words = clean_line(text, max_characters=_MAX_HEADING)
    return f"{'#' * min(max(level, 1), 6)} {words}" if words else ""


class Item(str):
    """An item of a list: items that follow one another stand on consecutive lines."""


def item(depth: int, text: str, mark: str = "-") -> Item:
    """An item of a list, ``depth`` counted from 0, behind its number or another mark."""
    return Item(f"{'  ' * min(max(depth, 0), 8)}{mark} {' '.join(text.split())}")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as ``| a | b |`` with a rule below the first; rows without a value are left out."""
    return "\n".join(_table_lines(rows))


def _table_lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    first = True
    for row in rows:
        cells = [" ".join(cell.split()).replace("|", "\\|") for cell in row]
        if not any(cells):
            continue
        yield f"| {' | '.join(cells)} |"
        if first:
            yield f"|{' --- |' * len(cells)}"
            first = False


def fenced(code: str, language: str = "") -> str:
    """Code in a fence that nothing inside it closes; empty where there is no code."""
    if not code.strip():
        return ""
    fence = "```"
    while fence in code:
        fence += "`"
    return f"{fence}{language}\n{code.strip(chr(10))}\n{fence}"


def join_blocks(blocks: Sequence[str]) -> str:
    """Blocks as paragraphs; items of one list on consecutive lines. Empty blocks are left out."""
    parts: list[str] = []
    before_is_item = False
    for block in filter(None, blocks):
        is_item = isinstance(block, Item) or block.lstrip(" ").startswith("- ")
        if parts:
            parts.append("\n" if is_item and before_is_item else "\n\n")
        parts.append(block)
        before_is_item = is_item
    return "".join(parts)
