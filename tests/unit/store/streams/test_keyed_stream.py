"""A stream that takes each key once, against a real Redis."""

from __future__ import annotations

import pytest

from fti.store.errors import InputError
from fti.store.streams.keyed_stream import KeyedRecord, KeyedStream
from fti.store.streams.stream_config import StreamConfig
from tests.support.redis import redis_server

QUICK = StreamConfig(linger_s=0, reconnect_s=0)


def test_a_stream_takes_each_key_once_also_from_two_writers() -> None:
    import redis

    with redis_server() as url, redis.Redis.from_url(url) as client:
        one, two = (KeyedStream(url, stream="out", config=QUICK, remember_s=60) for _ in range(2))
        record = KeyedRecord("k", "d1", b"{}")
        assert (one.put([record, record]), two.put([record])) == (1, 0)
        assert one.written(["k", "other"]) == {"k": "d1"}
        assert two.put([KeyedRecord("k", "d2", b"{}")]) == 1  # another answer
        assert client.xlen("out") == 2
        assert 0 < client.ttl("{out}:written:k") <= 60
        client.set("text", "x")
        with pytest.raises(InputError, match="WRONGTYPE"):
            KeyedStream(url, stream="text", config=QUICK, remember_s=60)
