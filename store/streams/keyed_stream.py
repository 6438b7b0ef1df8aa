"""A Redis stream that holds one record per key, however often it is written.

Beside each record stands a key that remembers, for a while, under which digest it was written. Both
are set in one script, which Redis runs as a whole or not at all: a writer that dies in between, or
two at once, leave neither a record without its mark nor two records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from fti.store.streams.redis_connection import RedisConnection
from fti.store.streams.stream_config import StreamConfig

# Braces keep a record and its mark in one slot of a Redis cluster.
_APPEND = """
if redis.call('GET', KEYS[2]) == ARGV[1] then return 0 end
redis.call('XADD', KEYS[1], '*', 'id', ARGV[3], 'record', ARGV[4])
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
return 1
"""


@dataclass(frozen=True, slots=True)
class KeyedRecord:
    """A record with its key, and the digest under which a second time is the same."""

    key: str
    digest: str
    record: bytes


class KeyedStream:
    """A stream to write to.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        stream: key of the stream; made when it is not there.
        config: waits.
        remember_s: for how long a key is known to be written.

    Raises:
        ConfigError: the package ``redis`` is not installed.
        SourceNotFound: nothing answers at the address.
        InputError: it is no address of a Redis, or the key holds something else than a stream.
    """

    def __init__(self, url: str, *, stream: str, config: StreamConfig, remember_s: int) -> None:
        self._connection = RedisConnection(url, what=stream)
        self._stream = stream
        self._remember_s = remember_s
        self.name = f"{self._connection.shown} {stream}"
        client = self._connection.client
        kind = self._connection.ask(lambda: client.type(stream))
        if kind not in (b"none", b"stream"):
            # Says what Redis says where a record would be written, before the work is done.
            self._connection.ask(lambda: client.xlen(stream))
        self._append = client.register_script(_APPEND)
        self._connection.try_again_for(config.reconnect_s)

    def written(self, keys: Sequence[str]) -> Mapping[str, str]:
        """The digests of those of the keys that were written, as far as that is remembered.

        Raises:
            SourceNotFound, InputError: Redis is lost, or refuses.
        """
        if not keys:
            return {}
        client = self._connection.client
        marks = self._connection.ask(lambda: client.mget([self._mark(key) for key in keys]))
        return {key: mark.decode("ascii") for key, mark in zip(keys, marks, strict=True) if mark}

    def put(self, records: Sequence[KeyedRecord]) -> int:
        """Write what is not written under its digest; how many records that were.

        Raises:
            SourceNotFound, InputError: Redis is lost, or refuses.
        """
        written = 0
        for one in records:
            keys = [self._stream, self._mark(one.key)]
            values: list[str | int | bytes] = [one.digest, self._remember_s, one.key, one.record]
            written += int(self._connection.ask(partial(self._append, keys=keys, args=values)))
        return written

    def _mark(self, key: str) -> str:
        return f"{{{self._stream}}}:written:{key}"
