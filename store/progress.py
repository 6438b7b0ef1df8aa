"""How long-running work says where it is, without knowing who listens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """Where one stage of a run is.

    Args:
        stage: what is being done, in one or two words.
        done: units finished.
        total: units in all; None when not known.
        detail: the item in hand, for people.
        values: figures worth showing, such as the loss.
    """

    stage: str
    done: int
    total: int | None = None
    detail: str = ""
    values: Mapping[str, float] = field(default_factory=dict)


Progress = Callable[[ProgressEvent], None]


def quiet(event: ProgressEvent) -> None:
    """Listen to nothing."""


def one_at_a_time(progress: Progress) -> Progress:
    """The same listener, for several threads: told of one event after the other."""
    lock = threading.Lock()

    def tell(event: ProgressEvent) -> None:
        with lock:
            progress(event)

    return tell
