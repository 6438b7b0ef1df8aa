"""Where records come from: lines of a pipe, or a Redis stream read by a consumer group.

Both deliver at least once. A Redis record is acknowledged after its commit; until then it comes
again after a crash, to the same consumer at its next start or to another one after a while. Lines
have nobody to acknowledge to: whoever writes them sees the last committed position in what is
printed per batch.
"""

from __future__ import annotations

import json
import os
import select
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from fti.store.moments import from_epoch_ms
from fti.store.streams.redis_connection import RedisConnection
from fti.store.streams.stream_config import StreamConfig
from fti.store.types import now

_POLL_S = 0.2
_READ_BYTES = 1 << 16
_COUNT = 64  # records asked of Redis at once


@dataclass(frozen=True, slots=True)
class Delivery:
    """A record as it came. ``at`` is when the stream got it, ``position`` where it stands there.

    ``name`` is the record's for ever, wherever reading begins; empty where the stream gives none.
    """

    position: str
    data: bytes
    at: datetime
    name: str = ""


class RecordStream(Protocol):
    """A source of records that ends when told to, or when there are no more."""

    @property
    def name(self) -> str:
        """What it is called in the run log; no secrets."""

    def deliveries(self, stop: threading.Event) -> Iterator[Delivery]:
        """Records as they come, until ``stop`` is set or the stream ends."""

    def acknowledge(self, positions: Sequence[str]) -> None:
        """These are in the store: they need not come again."""


class LineStream:
    """Lines of a file descriptor, such as standard input. Positions are line numbers.

    Args:
        descriptor: read until its end.
        config: how much is read.
        name: for the run log.
    """

    def __init__(self, descriptor: int, config: StreamConfig, *, name: str = "stdin") -> None:
        self.name = name
        self._descriptor = descriptor
        self._longest = config.max_record_bytes

    def deliveries(self, stop: threading.Event) -> Iterator[Delivery]:
        """Lines that are not blank. One that is too long is cut, and so refused by its reader."""
        number, line = 0, b""
        while not stop.is_set():
            if not select.select([self._descriptor], [], [], _POLL_S)[0]:
                continue
            block = os.read(self._descriptor, _READ_BYTES)
            *ended, rest = (line + block).split(b"\n") if block else [line, b""]
            line = rest[: self._longest + 1]
            for text in ended:
                number += 1
                if text.strip():
                    yield Delivery(str(number), text[: self._longest + 1], now())
            if not block:
                return

    def acknowledge(self, positions: Sequence[str]) -> None:
        """Nobody to tell."""


class RedisStream:
    """A Redis stream, read as one consumer of a group.

    An entry holds the record as JSON in its field ``record``, or the record's keys as its fields.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        stream: key of the stream; made when it is not there.
        group: consumers of one group share the records; made when it is not there.
        consumer: this one. Under the same name it goes on with what it was given before.
        config: waits.

    Raises:
        ConfigError: the package ``redis`` is not installed.
        SourceNotFound: nothing answers at the address.
        InputError: it is no address of a Redis, or the key holds something else than a stream.
    """

    def __init__(
        self, url: str, *, stream: str, group: str, consumer: str, config: StreamConfig
    ) -> None:
        self._connection = RedisConnection(url, what=stream)
        self._client = self._connection.client
        self._ask = self._connection.ask
        self._stream, self._group, self._consumer = stream, group, consumer
        self._config = config
        self.name = f"{self._connection.shown} {stream} as {group}/{consumer}"
        self._ask(self._make_group)
        self._connection.try_again_for(config.reconnect_s)

    def deliveries(self, stop: threading.Event) -> Iterator[Delivery]:
        """What this consumer was given before and did not acknowledge, then what is new."""
        after = "0"
        while not stop.is_set():
            again = self._ask(partial(self._read, after))
            if not again:
                break
            yield from self._usable(again)
            after = again[-1][0]
        looked = time.monotonic()
        while not stop.is_set():
            if time.monotonic() - looked > self._config.claim_idle_s / 2:
                looked = time.monotonic()
                yield from self._usable(self._ask(self._claim))
            yield from self._usable(self._ask(partial(self._read, ">")))

    def acknowledge(self, positions: Sequence[str]) -> None:
        """Tell Redis that these are in the store.

        Raises:
            SourceNotFound: the connection is lost; they come again, and change nothing then.
        """
        if positions:
            self._ask(lambda: self._client.xack(self._stream, self._group, *positions))

    def _make_group(self) -> None:
        from redis import ResponseError

        try:
            self._client.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):  # it is there
                raise

    def _read(self, after: str) -> list[tuple[str, dict[bytes, bytes] | None]]:
        found: Any = self._client.xreadgroup(
            self._group,
            self._consumer,
            {self._stream: after},
            count=_COUNT,
            block=round(_POLL_S * 1000) if after == ">" else None,
        )
        # A list of pairs under protocol 2, a mapping to lists of lists under protocol 3.
        entries = next(iter(found.values()))[0] if isinstance(found, dict) and found else found
        if isinstance(found, list) and found:
            entries = found[0][1]
        return [(key.decode("ascii"), fields) for key, fields in entries or []]

    def _claim(self) -> list[tuple[str, dict[bytes, bytes] | None]]:
        reply: Any = self._client.xautoclaim(
            self._stream,
            self._group,
            self._consumer,
            min_idle_time=round(self._config.claim_idle_s * 1000),
            count=_COUNT,
        )
        return [(key.decode("ascii"), fields) for key, fields in reply[1]]

    def _usable(
        self, entries: Sequence[tuple[str, dict[bytes, bytes] | None]]
    ) -> Iterator[Delivery]:
        for position, fields in entries:
            if not fields:  # deleted from the stream since it was given to us
                self.acknowledge([position])
                continue
            # Whoever adds an entry may give its id; not every one is a moment.
            at = from_epoch_ms(int(position.split("-")[0]))
            yield Delivery(position, _as_json(fields), at or now(), name=position)


def _as_json(fields: dict[bytes, bytes]) -> bytes:
    if b"record" in fields:
        return fields[b"record"]
    readable = {
        k.decode("utf-8", "replace"): v.decode("utf-8", "replace") for k, v in fields.items()
    }
    return json.dumps(readable, ensure_ascii=False).encode("utf-8")
