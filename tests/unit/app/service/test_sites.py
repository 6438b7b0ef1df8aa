"""Which names the service answers to, and which pages may use it, with keys and without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from pydantic import ValidationError

from fti.app.service.api import create_app
from fti.app.service.service_config import ServiceConfig
from fti.store.errors import ConfigError
from fti.store.store import Store
from tests.support.service import Client, assistant_over, filled_store

ASKED = {"messages": [{"role": "user", "content": "When does the workshop open?"}]}
ELSEWHERE = "https://evil.example"
PAGE = "https://chat.example.org"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled_store(tmp_path_factory.mktemp("sites") / "store")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path / "store")


def serve(store: Store, **settings: Any) -> Client:
    return Client(create_app(assistant_over(store), ServiceConfig(**settings)))


def status(client: Client, path: str = "/v1/models", **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.get(path, headers=named).status_code


@pytest.mark.parametrize(
    "host",
    [
        "evil.com", "evil.com:8000", "localhost.evil.com", "evil.com.", "127.0.0.1.evil.com", "",
        "testserver", "localhost:8000@evil.com", "localhost/evil.com", "192.168.1.5", "8.8.8.8",
        "[2001:db8::1]", "[::1", "0x7f.1", "127.1", "localhost:port", "a b", "*",
    ],
)  # fmt: skip
def test_without_keys_no_strange_name_is_answered(shared: Store, host: str) -> None:
    with serve(shared) as client:
        for path in ("/", "/v1/models", "/v1/documents", "/healthz", "/metrics", "/nothing"):
            refused = client.get(path, headers={"Host": host})
            assert (refused.status_code, refused.json()["error"]["code"]) == (421, "unknown_host")
        asked = client.post("/v1/chat/completions", json=ASKED, headers={"Host": host})
        assert asked.status_code == 421
        file = {"file": ("x.md", b"# X")}
        assert client.post("/v1/documents", files=file, headers={"Host": host}).status_code == 421
        identifier = shared.features.records()[0].id
        gone = client.delete(f"/v1/documents/{identifier}", headers={"Host": host})
        assert gone.status_code == 421
    assert len(shared.features.records()) == 3


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1", "127.0.0.1:8000", "127.9.9.9",
        "[::1]", "[::1]:8000", "[::ffff:127.0.0.1]",
    ],
)  # fmt: skip
def test_names_of_this_machine_are_answered(shared: Store, host: str) -> None:
    with serve(shared) as client:
        assert status(client, host=host) == 200


@pytest.mark.parametrize(
    ("settings", "host", "expected"),
    [
        ({"host": "fti.example.org"}, "fti.example.org:8000", 200),
        ({"host": "fti.example.org"}, "other.example.org", 421),
        ({"host": "192.168.1.5"}, "192.168.1.5:8000", 200),
        ({"host": "192.168.1.5"}, "192.168.1.6:8000", 421),
        ({"host": "0.0.0.0"}, "192.168.1.6:8000", 200),
        ({"host": "::"}, "[2001:db8::1]:8000", 200),
        ({"host": "0.0.0.0"}, "evil.com", 421),
        ({"allowed_hosts": ("fti.example.org",)}, "FTI.example.org", 200),
        ({"allowed_hosts": ("fti.example.org",)}, "a.fti.example.org", 421),
        ({"allowed_hosts": ("*.example.org",)}, "a.b.example.org", 200),
        ({"allowed_hosts": ("*.example.org",)}, "example.org", 421),
        ({"allowed_hosts": ("*.example.org",)}, "evilexample.org", 421),
        ({"allowed_hosts": ("2001:db8::1",)}, "[2001:0db8::1]:80", 200),
        ({"allowed_hosts": ("*",)}, "evil.com", 200),
    ],
)
def test_other_names_are_answered_when_that_is_said(
    shared: Store, settings: dict[str, Any], host: str, expected: int
) -> None:
    with serve(shared, **settings) as client:
        assert status(client, host=host) == expected


def test_a_refused_name_says_what_to_do(shared: Store) -> None:
    with serve(shared) as client:
        error = client.get("/v1/models", headers={"Host": "fti.lan"}).json()["error"]
    assert "'fti.lan'" in error["message"]
    assert "service.allowed_hosts" in error["message"]
    assert "fti keys create" in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "null"},
        {"Origin": ELSEWHERE},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://localhost.evil.com"},
        {"Origin": "http://localhost, http://evil.com"},
        {"Origin": ""},
        {"Origin": "localhost"},
        {"Origin": ELSEWHERE, "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_without_keys_a_page_of_another_site_changes_nothing(
    shared: Store, headers: dict[str, str]
) -> None:
    identifier = shared.features.records()[0].id
    with serve(shared) as client:
        for response in (
            client.post("/v1/chat/completions", json=ASKED, headers=headers),
            client.post("/v1/documents", files={"file": ("x.md", b"# X")}, headers=headers),
            client.delete(f"/v1/documents/{identifier}", headers=headers),
            client.post("/v1/feedback", json={}, headers=headers),
        ):
            assert response.status_code == 403
            assert response.json()["error"]["code"] == "cross_site"
        assert client.get("/healthz", headers=headers).status_code == 200
    assert len(shared.features.records()) == 3


@pytest.mark.parametrize(
    ("base_url", "origin"),
    [
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://localhost", "http://localhost:80"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("http://[::1]:9000", "http://[::1]:9000"),
        ("http://fti.example.org", "https://fti.example.org"),  # behind a proxy that speaks TLS
    ],
)
def test_the_services_own_pages_change_things(shared: Store, base_url: str, origin: str) -> None:
    app = create_app(assistant_over(shared), ServiceConfig(allowed_hosts=("fti.example.org",)))
    with Client(app, base_url=base_url) as client:
        sent = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
        assert client.post("/v1/chat/completions", json=ASKED, headers=sent).status_code == 200
        assert client.post("/v1/chat/completions", json=ASKED).status_code == 200, "no browser"


def test_with_a_valid_key_neither_name_nor_site_matter(store: Store) -> None:
    _, text = store.keys.create("ours")
    sent = {
        "Authorization": f"Bearer {text}",
        "Host": "fti.lan",
        "Origin": ELSEWHERE,
        "Sec-Fetch-Site": "cross-site",
    }
    with serve(store) as client:
        assert client.post("/v1/chat/completions", json=ASKED, headers=sent).status_code == 200
        assert client.get("/v1/models", headers=sent).status_code == 200
        wrong = {**sent, "Authorization": "Bearer fti_no"}
        assert client.post("/v1/chat/completions", json=ASKED, headers=wrong).status_code == 401


def preflight(client: Client, origin: str, method: str = "POST") -> Any:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
    }
    return client.options("/v1/chat/completions", headers=asked)


def test_a_listed_page_is_let_in_by_its_browser(store: Store) -> None:
    _, text = store.keys.create("ours")
    with serve(store, cors_origins=(PAGE,)) as client:
        for method in ("POST", "GET", "DELETE"):
            asked = preflight(client, PAGE, method)
            assert asked.status_code == 200
            assert asked.headers["access-control-allow-origin"] == PAGE
            assert method in asked.headers["access-control-allow-methods"]
            assert "x-stainless-os" in asked.headers["access-control-allow-headers"]
        sent = {"Origin": PAGE, "Authorization": f"Bearer {text}"}
        answer = client.post("/v1/chat/completions", json=ASKED, headers=sent)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "X-Request-Id" in answer.headers["access-control-expose-headers"]
        refused = client.post("/v1/chat/completions", json=ASKED, headers={"Origin": PAGE})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == PAGE, "a page can read why"
        missing = client.get("/nothing", headers=sent)
        assert missing.headers["access-control-allow-origin"] == PAGE


def test_a_page_that_is_not_listed_is_kept_out_by_its_browser(store: Store) -> None:
    _, text = store.keys.create("ours")
    for settings in ({}, {"cors_origins": (PAGE,)}):
        with serve(store, **settings) as client:
            asked = preflight(client, ELSEWHERE)
            assert asked.status_code >= 400
            assert "access-control-allow-origin" not in asked.headers
            sent = {"Origin": ELSEWHERE, "Authorization": f"Bearer {text}"}
            answer = client.post("/v1/chat/completions", json=ASKED, headers=sent)
            assert "access-control-allow-origin" not in answer.headers


def test_every_page_may_be_let_in_where_keys_are_asked_for(store: Store) -> None:
    with pytest.raises(ConfigError, match="cors_origins"):
        serve(store, cors_origins=("*",))
    _, text = store.keys.create("ours")
    with serve(store, cors_origins=("*",)) as client:
        assert preflight(client, ELSEWHERE).headers["access-control-allow-origin"]
        sent = {"Origin": ELSEWHERE, "Authorization": f"Bearer {text}"}
        answer = client.post("/v1/chat/completions", json=ASKED, headers=sent)
        assert answer.headers["access-control-allow-origin"] == "*"


def test_a_listed_page_is_trusted_without_keys_too(shared: Store) -> None:
    with serve(shared, cors_origins=(PAGE,)) as client:
        sent = {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}
        assert client.post("/v1/chat/completions", json=ASKED, headers=sent).status_code == 200
        other = {"Origin": ELSEWHERE, "Sec-Fetch-Site": "cross-site"}
        assert client.post("/v1/chat/completions", json=ASKED, headers=other).status_code == 403


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("allowed_hosts", "http://fti.lan", "a name or an address alone"),
        ("allowed_hosts", "fti.lan:8000", "a name or an address alone"),
        ("allowed_hosts", "", "a name or an address alone"),
        ("allowed_hosts", "a.*.lan", "a name or an address alone"),
        ("cors_origins", "chat.example.org", "like https://chat.example.org"),
        ("cors_origins", "https://chat.example.org/path", "like https://chat.example.org"),
        ("cors_origins", "null", "like https://chat.example.org"),
        ("cors_origins", "https://*.example.org", "like https://chat.example.org"),
    ],
)
def test_a_setting_that_would_match_nothing_is_refused(name: str, value: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        ServiceConfig(**{name: (value,)})


def test_an_origin_with_a_slash_at_its_end_is_meant_without() -> None:
    config = ServiceConfig(cors_origins=("HTTPS://Chat.example.org:8443/", "tauri://localhost"))
    assert config.cors_origins == ("https://chat.example.org:8443", "tauri://localhost")
