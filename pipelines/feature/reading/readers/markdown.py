"""Parts of a document as Markdown: what the readers of Office files, books and mails share."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from fti.store.plain_text import clean_line

_MAX_HEADING = 1000
_FENCE = re.compile(r"[ \t>]*(?P<mark>`{3,}|~{3,})(?P<info>[^\n]*)")
_INDENTED = re.compile(r" {4}| {0,3}\t")
_ITEM = re.compile(r"(?:[-*+]|[0-9]{1,9}[.)])[ \t]")
_MAX_CODE = 2000  # characters of a code span
_COMMENT_OR_CODE = re.compile(r"<!--|`+")


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
    """Rows as ``| a | b |`` with a rule below the first; rows without a value are left out.

    A bar inside a cell is escaped: it would begin another column.
    """
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


def without_comments(text: str) -> str:
    """Markdown without its HTML comments; those inside code stay, as does one that never ends."""
    if "<!--" not in text:
        return text
    kept: list[str] = []
    fence = ""  # the mark that ends the block of code
    may_be_code, in_list = True, False
    position = 0
    while position < len(text):
        end = _line_end(text, position)
        line = text[position:end]
        mark = _FENCE.match(line)
        if fence:
            if mark and mark["mark"].startswith(fence) and not mark["info"].strip():
                fence = ""
        elif mark and not (mark["mark"][0] == "`" and "`" in mark["info"]):
            fence = mark["mark"]
        elif not (may_be_code and not in_list and _INDENTED.match(line)):
            line, end = _line_without_comments(text, position)
        kept.append(line)
        position = end
        indented = bool(_INDENTED.match(line))
        may_be_code = not line.strip() or (may_be_code and indented)
        if line.strip() and not line[0].isspace():
            in_list = bool(_ITEM.match(line))
    return "".join(kept)


def _line_without_comments(text: str, start: int) -> tuple[str, int]:
    """The line at ``start``, and where the next one begins; a comment may end lines further on."""
    pieces: list[str] = []
    position = kept_to = start
    end = _line_end(text, start)
    while found := _COMMENT_OR_CODE.search(text, position, end):
        position = found.end()
        if found[0] != "<!--":
            closing = text.find(found[0], position, min(end, position + _MAX_CODE))
            position = max(position, closing + len(found[0]))
            continue
        closing = text.find("-->", found.start() + 2)
        if closing < 0:
            break
        pieces.append(text[kept_to : found.start()])
        position = kept_to = closing + len("-->")
        end = _line_end(text, position)
    line = "".join(pieces) + text[kept_to:end]
    return ("" if pieces and not line.strip() else line), end


def _line_end(text: str, start: int) -> int:
    return text.find("\n", start) + 1 or len(text)
