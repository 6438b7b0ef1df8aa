"""What answers under which name, with a tiny real model and adapters in a real registry."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog.testing

from fti.app.build import Engines, build_assistant, built_in
from fti.app.service.api import create_app
from fti.app.service.service_config import ServiceConfig
from fti.app.settings import Settings, load_settings
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.generator import GeneratorConfig
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.reembedding import re_embedded
from fti.pipelines.inference.answering.answer import Assistant
from fti.store.contracts.prompt_contract import Contract
from fti.store.errors import ConfigError, IntegrityError
from fti.store.store import Store
from tests.support.service import HANDBOOK, Client, add_document, serving
from tests.support.tiny_model import make_adapter
from tests.support.values import publish_adapter
from tests.support.vllm_server import vllm_like

pytestmark = pytest.mark.heavy
QUESTION = "When does the workshop open on Saturdays?"


@pytest.fixture(scope="module")
def adapters(tiny_lm: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return [make_adapter(tiny_lm, folder / str(seed), seed=seed) for seed in (1, 2)]


class Service:
    """A registry with two versions of a model, and a service that follows its champion."""

    def __init__(self, root: Path, base: Path, adapters: list[Path], **config: Any) -> None:
        profile = root / "profile.yaml"
        profile.write_text(
            "embedder: {engine: hashing, dimension: 256}\n"
            f"generator: {{engine: transformers, id: {base}, device: cpu}}\n"
            "prompt: {max_prompt_tokens: 512, max_new_tokens: 24, max_passages: 2}\n"
            "inference: {retrieval: {min_similarity: 0.05}}\n",
            "utf-8",
        )
        self.settings: Settings = load_settings(profile, store=root / "store", environment={})
        self.store = Store(self.settings.store)
        for source, (title, text) in HANDBOOK.items():
            add_document(self.store, source, title, text)
        self.engines = Engines(self.settings)
        for adapter in adapters:
            publish_adapter(self.store, adapter, self.contract())
        self.store.models.promote("reader", 1, "champion", reason="a test")
        self.built: list[str] = []
        self.app = create_app(
            self.build("reader@champion"),
            ServiceConfig(alias_poll_s=0.05, **config),
            name="reader@champion",
            build=self.build_noted,
            built_in=built_in(self.settings),
        )

    def build(self, ref: str) -> Assistant:
        return build_assistant(self.settings, self.store, model=ref, engines=self.engines)

    def contract(self) -> Contract:
        return self.build("base").contract

    def build_noted(self, ref: str) -> Assistant:
        self.built.append(ref)
        return self.build(ref)


@pytest.fixture
def service(tmp_path: Path, tiny_lm: Path, adapters: list[Path]) -> Service:
    return Service(tmp_path, tiny_lm, adapters)


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def ask(base: str, model: str | None = None, **fields: Any) -> Any:
    message = {"role": "user", "content": QUESTION}
    body = {"messages": [message], **({"model": model} if model else {}), **fields}
    return httpx.post(f"{base}/v1/chat/completions", json=body, timeout=60)


def text(response: Any) -> str:
    assert response.status_code == 200, response.text
    said: str = response.json()["choices"][0]["message"]["content"]
    return said


def eventually(claim: Callable[[], bool], within_s: float = 5) -> None:
    deadline = time.monotonic() + within_s
    while not claim():
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.02)


def test_the_model_of_a_request_chooses_among_base_versions_and_aliases(service: Service) -> None:
    with serving(service.app) as base:
        listed = {m["id"]: m for m in httpx.get(f"{base}/v1/models").json()["data"]}
        assert next(iter(listed)) == "reader@champion"
        embedder = HashingEmbedder().identity.id
        assert listed.pop(embedder)["kind"] == "embedder"
        assert {model["kind"] for model in listed.values()} == {"llm"}
        assert set(listed) == {
            "reader@champion", "base", "extractive", "plain", "reader/1", "reader/2",
        }  # fmt: skip
        assert listed["reader@champion"]["resolved"] == "reader/1"
        assert listed["reader/2"]["created"] > 1_700_000_000
        said = {name: ask(base, name).json() for name in listed}
        for name, answer in said.items():
            assert answer["model"] == listed[name]["resolved"], name
        texts = {name: a["choices"][0]["message"]["content"] for name, a in said.items()}
        assert texts["reader@champion"] == texts["reader/1"] == text(ask(base))
        assert len({texts[n] for n in ("base", "extractive", "reader/1", "reader/2")}) == 4
        assert httpx.get(f"{base}/v1/models/reader/2").json()["id"] == "reader/2"
        for unknown in ("gpt-4o", "llama3:latest", "reader/9", "reader@nobody", "../x", "READER"):
            refused = ask(base, unknown)
            assert (refused.status_code, refused.json()["error"]["code"]) == (
                404,
                "model_not_found",
            ), unknown
            assert "reader/2" in refused.json()["error"]["message"]


def test_a_moved_alias_is_served_at_once_and_rolled_back_as_fast(service: Service) -> None:
    with serving(service.app) as base:
        one, two = text(ask(base, "reader/1")), text(ask(base, "reader/2"))
        service.store.models.promote("reader", 2, "champion", reason="a test")
        eventually(lambda: ask(base).json()["model"] == "reader/2")
        assert text(ask(base)) == text(ask(base, "reader@champion")) == two != one
        service.store.models.rollback("reader", "champion", reason="a test")
        eventually(lambda: ask(base).json()["model"] == "reader/1")
        assert text(ask(base)) == one
        assert service.built == ["reader/2"], "what is loaded is not loaded again"


def test_a_server_is_told_to_load_what_an_alias_moves_to(
    service: Service, tiny_lm: Path, adapters: list[Path], logged: list[Any]
) -> None:
    with vllm_like(tiny_lm.name) as vllm:
        where = {"base_url": vllm.url, "retries": 0, "timeout_s": 10}
        remote = {"engine": "openai", "id": tiny_lm.name, "server": where}
        settings = service.settings.model_copy(
            update={"generator": GeneratorConfig.model_validate(remote)}
        )

        def build(ref: str) -> Assistant:
            return build_assistant(settings, service.store, model=ref)

        app = create_app(
            build("reader@champion"),
            ServiceConfig(alias_poll_s=0.05),
            name="reader@champion",
            build=build,
            built_in=built_in(settings),
        )
        with serving(app) as base:
            assert text(ask(base)).startswith("asked reader-1-")
            service.store.models.promote("reader", 2, "champion", reason="a test")
            eventually(lambda: text(ask(base)).startswith("asked reader-2-"))
            assert [name.rpartition("-")[0] for name in vllm.loaded] == ["reader-1", "reader-2"]
            # Where the next cannot be loaded, the one that answered goes on, and the log says why.
            vllm.loads = False
            publish_adapter(service.store, adapters[0], service.contract())
            vllm.adapters.clear()
            service.store.models.promote("reader", 3, "champion", reason="a test")
            eventually(lambda: any(line["event"] == "model_refused" for line in logged))
            (refused,) = (line for line in logged if line["event"] == "model_refused")
            assert "loads no versions while it runs" in refused["reason"]
            assert ask(base).json()["error"]["message"].startswith("The server at")


def test_a_switch_to_another_embedder_is_taken_up(
    service: Service, tmp_path: Path, logged: list[Any]
) -> None:
    other = service.settings.embedder.model_copy(update={"dimension": 128})
    switched = service.settings.model_copy(update={"embedder": other})

    def build(ref: str) -> Assistant:
        held = service.store.features.identity()
        assert held is not None
        settings = switched if held.dimension == 128 else service.settings
        return build_assistant(settings, service.store, model=ref)

    app = create_app(
        build("base"), ServiceConfig(alias_poll_s=0.05), build=build, features=FeatureConfig()
    )
    with serving(app) as base:
        assert text(ask(base, "extractive"))
        reader = Store(service.settings.store)
        embedder = HashingEmbedder(128)
        with re_embedded(reader, embedder, config=FeatureConfig()) as made:
            made.adopt()
        eventually(lambda: any(line["event"] == "embedder_swapped" for line in logged))
        assert httpx.get(f"{base}/readyz").status_code == 200
        assert all(text(ask(base, name)) for name in ("base", "extractive"))
        body = {"model": embedder.identity.id, "input": "kiln"}
        vectors = httpx.post(f"{base}/v1/embeddings", json=body).json()["data"]
        assert len(vectors[0]["embedding"]) == 128
        page = {"file": ("kiln.md", b"# Kiln\n\nIt is fired on Thursdays.", "text/markdown")}
        job = httpx.post(f"{base}/v1/documents", files=page).json()["id"]
        eventually(
            lambda: httpx.get(f"{base}/v1/documents/jobs/{job}").json()["state"] == "done", 30
        )


def test_no_request_is_dropped_while_models_change_and_none_mixes_two(service: Service) -> None:
    statuses: list[int] = []
    wrong: list[Any] = []
    stop = threading.Event()
    with serving(service.app) as base:
        expected = {ref: text(ask(base, ref)) for ref in ("reader/1", "reader/2")}

        def keep_asking() -> None:
            while not stop.is_set():
                response = ask(base)
                statuses.append(response.status_code)
                answer = response.json()
                said = answer["choices"][0]["message"]["content"]
                if said != expected[answer["model"]]:
                    wrong.append(answer)

        threads = [threading.Thread(target=keep_asking) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in (2, 1, 2):
            service.store.models.promote("reader", number, "champion", reason="a test")
            eventually(lambda n=number: ask(base).json()["model"] == f"reader/{n}")  # type: ignore[misc]
        stop.set()
        for thread in threads:
            thread.join(30)
    assert len(statuses) > 5
    assert set(statuses) == {200}
    assert wrong == []


def test_a_version_that_cannot_be_served_is_refused_and_the_old_one_stays(
    service: Service, adapters: list[Path], logged: list[Any]
) -> None:
    contract = service.build("base").contract
    foreign = contract.base.model_copy(update={"weights_sha256": "0" * 64})
    publish_adapter(service.store, adapters[1], contract.model_copy(update={"base": foreign}))
    with serving(service.app) as base:
        before = text(ask(base))
        service.store.models.promote("reader", 3, "champion", reason="a test")
        eventually(lambda: any(line["event"] == "model_refused" for line in logged))
        answer = ask(base).json()
        assert answer["model"] == "reader/1"
        assert answer["choices"][0]["message"]["content"] == before
        assert ask(base, "reader/3").json()["error"]["code"] == "contract"
        assert ask(base, "base").status_code == 200
    (refused,) = [line for line in logged if line["event"] == "model_refused"]
    assert (refused["wanted"], refused["serving"]) == ("reader/3", "reader/1")


def test_a_version_that_was_damaged_on_disk_is_refused_and_the_old_one_stays(
    service: Service, logged: list[Any]
) -> None:
    service.store.models.promote("reader", 2, "champion", reason="a test")
    weights = next(service.store.layout.models.glob("reader/2/**/adapter_model.safetensors"))
    weights.chmod(0o644)
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    with serving(service.app) as base:
        eventually(lambda: any(line["event"] == "model_refused" for line in logged))
        assert ask(base).json()["model"] == "reader/1"
        refused = ask(base, "reader/2")
        assert (refused.status_code, refused.json()["error"]["code"]) == (500, "integrity")
    with pytest.raises(IntegrityError):
        service.store.models.promote("reader", 2, "challenger", reason="a test")


def test_what_is_damaged_of_one_model_hides_no_other_name(service: Service) -> None:
    service.store.models.promote("reader", 2, "challenger", reason="a test")
    manifest = service.store.models.path("reader/2") / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_text("{", "utf-8")
    with Client(service.app) as client:

        def names() -> set[str]:
            return {card["id"] for card in client.get("/v1/models").json()["data"]}

        assert {"reader/1", "reader@champion"} <= names()
        assert not {"reader/2", "reader@challenger"} & names()
        (service.store.layout.models / "reader" / "marks.json").write_text("{", "utf-8")
        assert {"base", "extractive", "reader@champion"} <= names()
        (service.store.layout.models / "reader" / "aliases.json").write_text("{", "utf-8")
        assert {"base", "extractive"} <= names()


def test_the_plain_model_alone_is_told_the_callers_system_text(service: Service) -> None:
    system = {"role": "system", "content": "You name conversations in five words. " * 3}
    question = {"role": "user", "content": QUESTION}

    def read(base: str, model: str, *messages: Any) -> int:
        body = {"model": model, "messages": [*messages, question], "max_tokens": 4}
        said = httpx.post(f"{base}/v1/chat/completions", json=body, timeout=60).json()
        return int(said["usage"]["prompt_tokens"])

    with serving(service.app) as base:
        bare = read(base, "plain")
        assert read(base, "plain", system) > bare + 20
        assert read(base, "base", system) == read(base, "base") > bare
        body = {"model": "plain", "input": QUESTION, "instructions": system["content"]}
        said = httpx.post(f"{base}/v1/responses", json=body, timeout=60).json()
        assert said["usage"]["input_tokens"] > bare + 20
        assert (said["model"], said["sources"]) == ("plain", [])
    kept = service.store.answers.by_model("plain")
    assert len(kept) == 3
    assert all(answer.passages == () for answer in kept)


def test_a_profile_without_a_language_model_has_no_plain_one(service: Service) -> None:
    generator = service.settings.generator.model_copy(update={"engine": "extractive"})
    settings = service.settings.model_copy(update={"generator": generator})
    assert built_in(settings) == ("base", "extractive")
    with pytest.raises(ConfigError, match="no language model"):
        build_assistant(settings, service.store, model="plain")


def test_versions_that_nobody_uses_leave_memory(
    tmp_path: Path, tiny_lm: Path, adapters: list[Path]
) -> None:
    service = Service(tmp_path, tiny_lm, adapters, max_models=2)
    with serving(service.app) as base:
        two = text(ask(base, "reader/2"))
        extractive = text(ask(base, "extractive"))
        assert text(ask(base, "reader/2")) == two != extractive
        assert service.built == ["reader/2", "extractive", "reader/2"]
        assert text(ask(base)) == text(ask(base, "reader/1"))
    assert "reader/1" not in service.built, "the default is never dropped"
