"""Pushing a version to a hub, through the installed command and over real HTTP; the hub is ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fti.store.store import Store
from tests.e2e.conftest import Fti
from tests.support.hub import COMMIT, TOKEN, FakeHub, fake_hub
from tests.support.values import a_contract, publish_adapter

pytestmark = pytest.mark.heavy


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub() as running:
        yield running


@pytest.fixture
def pushing(fti: Fti, hub: FakeHub, tmp_path: Path) -> Fti:
    fti.env |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0",
                "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
                "HF_HOME": str(tmp_path / "hf")}  # fmt: skip
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"weights" * 1000)
    (adapter / "adapter_config.json").write_text("{}", "utf-8")
    (adapter / "README.md").write_text('---\nbase_model: "tiny"\ntags: [lora]\n---\n# reader\n')
    publish_adapter(Store(fti.home / "store"), adapter, a_contract())
    return fti


def test_a_version_is_pushed_in_one_commit_and_the_token_is_told_nobody(
    pushing: Fti, hub: FakeHub
) -> None:
    done = pushing.raw("models", "push", "reader/1", "--repo", "acme/reader", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["ref"], told["commit"]) == ("reader/1", COMMIT)
    assert told["url"] == f"{hub.url}/acme/reader/commit/{COMMIT}"
    assert set(told["files"]) == set(hub.repos["acme/reader"]["files"])
    assert hub.repos["acme/reader"]["visibility"] == "private"
    assert hub.messages == ["Add reader/1"]
    assert hub.file("acme/reader", "adapter_model.safetensors") == b"weights" * 1000
    manifest = json.loads(hub.file("acme/reader", "manifest.json"))
    assert manifest["contract"]["base"]["id"] == "tiny"
    card = hub.file("acme/reader", "README.md").decode()
    assert "base_model" not in card, "no hub has a model of that name"
    assert "tags: [lora]" in card
    kept = [p for p in (pushing.home / "store").rglob("*") if p.is_file()]
    for text in (done.stdout, done.stderr, *(p.read_bytes().decode("latin-1") for p in kept)):
        assert TOKEN not in text

    again = pushing.run("models", "push", "reader/1", "--repo", "acme/reader", "--branch", "v1")
    assert again["repo"] == "acme/reader"
    assert hub.branches == ["v1"]
    public = pushing.run("models", "push", "reader/1", "--repo", "acme/open", "--public")
    assert public["repo"] == "acme/open"
    assert hub.repos["acme/open"]["visibility"] == "public"


def test_what_a_hub_refuses_is_said_with_what_to_do(pushing: Fti, hub: FakeHub) -> None:
    push = ("models", "push", "reader/1", "--repo", "acme/reader")
    hub.refuse["/api/repos/create"] = (403, f"the token {TOKEN} may not")
    refused = pushing.raw(*push, "--json")
    assert refused.returncode == 1
    error = json.loads(refused.stdout)["error"]
    assert error["code"] == "hub"
    assert "answered 403 to pushing 'acme/reader'" in error["message"]
    assert "write access" in error["hint"]
    assert TOKEN not in refused.stdout + refused.stderr

    hub.refuse.clear()
    pushing.env["HF_TOKEN"] = "hf_another"
    error = pushing.run(*push, code=1)["error"]
    assert "answered 401" in error["message"]
    assert "HF_TOKEN" in error["hint"]
    pushing.env["HF_HUB_OFFLINE"] = "1"
    assert "HF_HUB_OFFLINE" in pushing.run(*push, code=1)["error"]["hint"]
    pushing.env |= {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    assert "cannot be reached" in pushing.run(*push, code=1)["error"]["message"]
    wrong = pushing.run("models", "push", "reader/1", "--repo", "reader", code=2)["error"]
    assert "'reader' is no repository" in wrong["message"]
    assert hub.repos == {}
    damaged = pushing.home / "store" / "models" / "reader" / "1" / "adapter_config.json"
    damaged.write_text("[]", "utf-8")
    assert pushing.run(*push, code=1)["error"]["code"] == "integrity"
