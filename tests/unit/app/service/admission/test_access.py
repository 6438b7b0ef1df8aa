"""Who may call, how often, and from where the service may be reached without keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from fti.app.service.admission.access import Access, require_private
from fti.app.service.service_config import ServiceConfig
from fti.store.errors import ConfigError, InvalidApiKey, RateLimitExceeded
from fti.store.files.layout import Layout
from fti.store.logs.keys import KeyStore


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    return KeyStore(Layout(tmp_path))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_requests_come_back_at_the_rate_of_the_key(keys: KeyStore) -> None:
    key, text = keys.create("slow", requests_per_minute=6)
    clock = Clock()
    access = Access(keys, ServiceConfig(), clock)

    def admit() -> str:
        admitted = access.admit(f"Bearer {text}", "GET", "/v1/models")
        return admitted.id if admitted else ""

    assert [admit() for _ in range(6)] == [key.id] * 6
    with pytest.raises(RateLimitExceeded) as refused:
        admit()
    assert refused.value.retry_after_s == 10
    clock.now += 9.5
    with pytest.raises(RateLimitExceeded) as refused:
        admit()
    assert refused.value.retry_after_s == 1
    clock.now += 0.6
    assert admit() == key.id
    clock.now += 3600
    for _ in range(6):
        admit()
    with pytest.raises(RateLimitExceeded):
        admit()


def test_a_key_without_a_rate_of_its_own_has_the_services(keys: KeyStore) -> None:
    config = ServiceConfig(api_keys=(SecretStr("configured"),), requests_per_minute=1)
    access = Access(keys, config, Clock())
    access.admit("Bearer configured", "GET", "/")
    with pytest.raises(RateLimitExceeded):
        access.admit("Bearer configured", "GET", "/")


def test_without_keys_nobody_is_asked_and_with_one_everybody(keys: KeyStore) -> None:
    access = Access(keys, ServiceConfig())
    assert access.admit("", "POST", "/v1/documents") is None
    keys.create("first")
    for sent in ("", "Bearer", "Bearer x", "Basic eA=="):
        with pytest.raises(InvalidApiKey):
            access.admit(sent, "GET", "/v1/models")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.9.9.9"])
def test_this_machine_alone_needs_no_key(keys: KeyStore, host: str) -> None:
    config = ServiceConfig()
    require_private(host, Access(keys, config), config)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_others_are_let_in_with_keys_or_when_that_is_said(keys: KeyStore, host: str) -> None:
    config = ServiceConfig()
    with pytest.raises(ConfigError, match="without API keys"):
        require_private(host, Access(keys, config), config)
    said = ServiceConfig(allow_anonymous=True)
    require_private(host, Access(keys, said), said)
    keys.create("first")
    require_private(host, Access(keys, config), config)
