"""Batches out of what comes one by one: the first that is waiting, and all that came with it."""

from __future__ import annotations

import queue
import time
from typing import TypeVar

_Item = TypeVar("_Item")


def gather(
    items: queue.Queue[_Item],
    *,
    wait_s: float,
    linger_s: float = 0.0,
    limit: int | None = None,
) -> list[_Item]:
    """What is waiting, in order; nothing when nothing comes within ``wait_s``.

    Args:
        items: where they come from.
        wait_s: how long to wait for the first.
        linger_s: how long to wait for more after the first, so that a trickle is not committed
            one by one; 0 takes what is there already.
        limit: the most that are taken.
    """
    found: list[_Item] = []
    try:
        found.append(items.get(timeout=wait_s))
        until = time.monotonic() + linger_s
        while limit is None or len(found) < limit:
            left = until - time.monotonic()
            found.append(items.get(timeout=left) if left > 0 else items.get_nowait())
    except queue.Empty:
        pass
    return found
