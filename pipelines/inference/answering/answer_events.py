"""An answer while it comes to be: its events as a stream, and what is known of it so far."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from opentelemetry.trace import INVALID_SPAN, Span

from fti.store.answer_types import Answer, Sampling, Usage
from fti.store.features.filters import Condition
from fti.store.logs.answers import new_answer_id
from fti.store.types import Message, Passage, now

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class AnswerEvent:
    """A step of an answer: first ``passages``, then ``text`` pieces, last ``done``.

    The concatenated ``text`` equals ``answer.text``. ``passages`` are those that the model is
    shown, cut as it sees them; ``retrieved`` are all that were found. ``created`` is Unix time,
    ``model`` what the answer will name as its model.
    """

    kind: Literal["passages", "text", "done"]
    answer_id: str
    created: int
    model: str
    text: str = ""
    passages: tuple[Passage, ...] = ()
    retrieved: tuple[Passage, ...] = ()
    answer: Answer | None = None


class AnswerStream(Iterator[AnswerEvent]):
    """The events of one answer. Closing it, from any thread, stops the generation.

    An answer that is closed early is logged with what had been shown of it and the finish reason
    "cancelled".
    """

    def __init__(self, events: Iterator[AnswerEvent], cancel: threading.Event) -> None:
        self._events = events
        self._cancel = cancel

    def __next__(self) -> AnswerEvent:
        return next(self._events)

    def __enter__(self) -> AnswerStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def cancel(self) -> None:
        """Ask the generation to stop, from any thread; returns at once, and events still end."""
        self._cancel.set()

    def close(self) -> None:
        """Stop; a second time does nothing."""
        self.cancel()
        closed(self._events)


@dataclass
class Draft:
    """What is known of an answer while it comes to be."""

    question: str
    asked: str  # the question as it is understood without the conversation
    run_id: str
    model: str
    sampling: Sampling
    id: str = field(default_factory=new_answer_id)
    created_at: datetime = field(default_factory=now)
    started: float = field(default_factory=time.perf_counter)
    features_version: int = 0
    vector: NDArray[np.float32] | None = None  # of what was asked, where retrieval needed it
    passages: tuple[Passage, ...] = ()
    usage: Usage = field(default_factory=Usage)
    timings: dict[str, float] = field(default_factory=dict)
    span: Span = INVALID_SPAN
    collections: tuple[str, ...] = ()
    where: tuple[Condition, ...] = ()
    at: str = ""
    key: str = ""  # of whoever asks
    user: str = ""
    previous: str = ""  # the answer that this one goes on from
    kept: tuple[Message, ...] | None = None  # turns that are logged with it

    def event(
        self,
        kind: Literal["passages", "text", "done"],
        *,
        text: str = "",
        retrieved: tuple[Passage, ...] = (),
        answer: Answer | None = None,
    ) -> AnswerEvent:
        """A step of this answer."""
        return AnswerEvent(
            kind=kind,
            answer_id=self.id,
            created=int(self.created_at.timestamp()),
            model=self.model,
            text=text,
            passages=self.passages if kind == "passages" else (),
            retrieved=retrieved,
            answer=answer,
        )

    def since_start(self) -> float:
        """Seconds since it was asked."""
        return time.perf_counter() - self.started


def closed(events: Iterator[object]) -> None:
    """Close a generator, from any thread."""
    close = getattr(events, "close", None)
    if close is not None:
        # "generator already executing": another thread is inside, sees the cancel flag and ends.
        with contextlib.suppress(ValueError):
            close()
