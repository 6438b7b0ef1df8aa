"""A Redis stream, against a real server: groups, what a crash leaves, what cannot be read."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.streaming.follow import follow
from fti.pipelines.feature.streaming.follow_report import FollowReport, StreamBatch
from fti.store.errors import ConfigError, InputError, SourceNotFound
from fti.store.store import Store
from fti.store.streams.record_streams import RedisStream
from fti.store.streams.stream_config import StreamConfig
from fti.store.types import now
from tests.support.redis import redis_server


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with redis_server() as url:
        yield url


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    import redis

    with redis.Redis.from_url(address) as found:
        found.flushall()
        yield found


@pytest.fixture
def store(tmp_path: Any) -> Store:
    return Store(tmp_path / "store")


def a_stream(address: str, consumer: str = "one", **settings: Any) -> RedisStream:
    config = StreamConfig(**({"reconnect_s": 0} | settings))
    return RedisStream(address, stream="docs", group="fti", consumer=consumer, config=config)


def send(client: Any, source: str, text: str) -> None:
    client.xadd("docs", {"record": json.dumps({"source": source, "text": text})})


def test_an_entry_whose_id_is_no_moment_is_dated_when_it_comes(address: str, client: Any) -> None:
    client.xadd("docs", {"record": "{}"}, id=f"{2**64 - 1}-0")
    stream = a_stream(address)
    before = now()
    delivery = next(iter(stream.deliveries(threading.Event())))
    assert before <= delivery.at <= now()


def run(store: Store, stream: RedisStream, until: int) -> FollowReport:
    """Follow until so many records were committed."""
    stop = threading.Event()
    seen = [0]

    def count(batch: StreamBatch) -> None:
        seen[0] += batch.records
        if seen[0] >= until:
            stop.set()

    return follow(stream, store=store, embedder=HashingEmbedder(64), stop=stop, on_batch=count,
                  config=FeatureConfig(stream=StreamConfig(linger_s=0)))  # fmt: skip


def sources(store: Store) -> set[str]:
    return {d.source for d in store.features.documents()}


def pending(client: Any) -> int:
    return int(client.xpending("docs", "fti")["pending"])


def test_records_are_acknowledged_after_their_commit(
    address: str, client: Any, store: Store
) -> None:
    for n in range(3):
        send(client, f"t/{n}", f"Note number {n}.")
    report = run(store, a_stream(address), until=3)
    assert (report.added, report.failed_records, report.ended) == (3, 0, "stop")
    assert pending(client) == 0
    assert sources(store) == {"t/0", "t/1", "t/2"}
    assert report.freshness is not None, "an entry's id says when it came"


def test_fields_may_be_the_record_themselves(address: str, client: Any, store: Store) -> None:
    client.xadd("docs", {"source": "t/1", "text": "The kiln fires.", "title": "Kiln"})
    run(store, a_stream(address), until=1)
    assert store.features.document("t/1").title == "Kiln"


def test_a_bad_entry_is_acknowledged_and_kept(address: str, client: Any, store: Store) -> None:
    client.xadd("docs", {"record": "{"})
    client.xadd("docs", {"colour": "red"})
    report = run(store, a_stream(address), until=2)
    assert report.failed_records == 2
    assert pending(client) == 0
    assert [r.record for r in store.rejected.list()] == ["{", '{"colour": "red"}']


def test_what_a_killed_consumer_was_given_comes_again_to_the_same_name(
    address: str, client: Any, store: Store
) -> None:
    send(client, "t/1", "The kiln fires.")
    a_stream(address)
    client.xreadgroup("fti", "one", {"docs": ">"})  # given, and never acknowledged
    send(client, "t/2", "The hall opens.")
    report = run(store, a_stream(address), until=2)
    assert report.added == 2
    assert pending(client) == 0


def test_what_another_consumer_left_is_taken_over(address: str, client: Any, store: Store) -> None:
    send(client, "t/1", "The kiln fires.")
    a_stream(address)
    client.xreadgroup("fti", "dead", {"docs": ">"})
    report = run(store, a_stream(address, "alive", claim_idle_s=0.05), until=1)
    assert report.added == 1
    assert pending(client) == 0


def test_an_entry_deleted_since_it_was_given_is_let_go(
    address: str, client: Any, store: Store
) -> None:
    gone = client.xadd("docs", {"record": "x"})
    a_stream(address)
    client.xreadgroup("fti", "one", {"docs": ">"})
    client.xdel("docs", gone)
    send(client, "t/1", "The kiln fires.")
    assert run(store, a_stream(address), until=1).added == 1
    assert pending(client) == 0


def test_two_consumers_share_the_records(address: str, client: Any, store: Store) -> None:
    first, second = a_stream(address, "one"), a_stream(address, "two")
    stop = threading.Event()
    reading = first.deliveries(stop)
    send(client, "t/1", "The kiln fires.")
    assert next(reading).data
    send(client, "t/2", "The hall opens.")
    report = run(store, second, until=1)
    assert report.added == 1
    assert sources(store) == {"t/2"}


def test_a_key_that_is_no_stream_is_refused(address: str, client: Any) -> None:
    client.set("docs", "text")
    with pytest.raises(InputError, match=r"'docs'.*cannot be used: WRONGTYPE"):
        a_stream(address)


def test_a_lost_connection_is_named_and_nothing_is_lost(store: Store) -> None:
    import redis

    with redis_server() as url:
        stream = a_stream(url)
        client = redis.Redis.from_url(url)
        send(client, "t/1", "The kiln fires.")
        client.close()
        reading = stream.deliveries(threading.Event())
        assert next(reading).data
    with pytest.raises(SourceNotFound, match="No Redis answers"):
        next(reading)


def test_nobody_at_the_address_is_named_without_the_password() -> None:
    pytest.importorskip("redis")
    with pytest.raises(SourceNotFound) as refused:
        a_stream("redis://user:hunter2@127.0.0.1:9/0")
    assert "127.0.0.1:9" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_an_address_that_is_none_is_refused() -> None:
    pytest.importorskip("redis")
    with pytest.raises(InputError, match="no address of a Redis"):
        a_stream("http://localhost")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigError, match="needs the package redis") as refused:
        a_stream("redis://localhost")
    assert "fti-llm[stream]" in refused.value.hint
