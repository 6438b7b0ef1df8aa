"""Where the pages of a document begin in its text, so that a citation can say the page.

Kept in the document's metadata, since it is the document's; chunks carry their own pages instead.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence

from fti.store.types import CONTEXT

#: In a document's metadata: the offset at which each page begins, page 1 first.
PAGE_STARTS = "page_starts"
#: In a passage's metadata: the page that it stands on, such as ``3`` or ``3-4``.
PAGE = "page"


def encode_page_starts(starts: Sequence[int]) -> str:
    """Offsets in ascending order as a metadata value; a page without text repeats the next's."""
    return " ".join(map(str, starts))


def passage_metadata(
    metadata: Mapping[str, str], start: int, end: int, *, context: str = ""
) -> dict[str, str]:
    """What a chunk at ``start:end`` says of its document's metadata: its own pages and context."""
    own = (PAGE_STARTS, CONTEXT)
    kept = {key: value for key, value in metadata.items() if key not in own}
    if context:
        kept[CONTEXT] = context
    if encoded := metadata.get(PAGE_STARTS):
        starts = [int(offset) for offset in encoded.split()]
        # Of pages that begin at the same offset only the last has text there.
        first = max(bisect_right(starts, start), 1)
        last = max(bisect_left(starts, end), first)
        kept[PAGE] = str(first) if first == last else f"{first}-{last}"
    return kept
