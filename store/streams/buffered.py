"""A stream read by a thread of its own into a bounded buffer, and taken from there in groups."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from fti.store.streams.gathering import gather
from fti.store.streams.record_streams import Delivery, RecordStream
from fti.store.streams.stream_config import StreamConfig

_WAIT_S = 0.2


class Buffered:
    """Deliveries of a stream, some at a time. Use as a context: it ends the thread.

    While nobody takes anything, no more is read than the buffer holds.

    Args:
        stream: where they come from.
        config: how much is held, and how long a group waits for more.
        stop: ends the reading; what was read is still to be taken.
    """

    def __init__(self, stream: RecordStream, config: StreamConfig, stop: threading.Event) -> None:
        self._stream = stream
        self._config = config
        self._stop = stop
        self._items: queue.Queue[Delivery | Exception | None] = queue.Queue(config.buffer_records)
        self._abandoned = threading.Event()
        self._reader = threading.Thread(target=self._read, name="fti-stream", daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._abandoned.set()
        if error is None:
            self._reader.join()

    def groups(self, limit: int) -> Iterator[list[Delivery]]:
        """Groups of at most ``limit``; an empty one now and then while nothing comes.

        Ends with the stream, once all that was read is taken.

        Raises:
            SourceNotFound, InputError: the stream is lost; after what was read of it is taken.
        """
        ended = False
        while not ended:
            taken = gather(self._items, wait_s=_WAIT_S, linger_s=self._config.linger_s, limit=limit)
            yield [item for item in taken if isinstance(item, Delivery)]
            for item in taken:
                if isinstance(item, Exception):
                    raise item
                ended = ended or item is None

    def _read(self) -> None:
        """Into the buffer, which makes us wait when it is full; last None, or what went wrong."""
        last: Exception | None = None
        try:
            for delivery in self._stream.deliveries(self._stop):
                if not self._put(delivery):
                    return
        except Exception as error:  # raised where somebody listens
            last = error
        self._put(last)

    def _put(self, item: Delivery | Exception | None) -> bool:
        """Wait for room, unless nobody will make any."""
        while not self._abandoned.is_set():
            try:
                self._items.put(item, timeout=_WAIT_S)
            except queue.Full:
                continue
            return True
        return False
