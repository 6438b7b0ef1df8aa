"""A server is told to load tuned versions, and its prompts are compared with the trained ones."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.generation import load_generator
from fti.pipelines.engines.generator import GenerationRequest, Generator, GeneratorConfig
from fti.pipelines.engines.model_files import file_sha256
from fti.store.errors import ContractError, ModelUnavailable
from fti.store.types import Message
from tests.support.tiny_model import CHATML_TEMPLATE, byte_level_tokenizer, make_adapter
from tests.support.vllm_server import VllmLike, vllm_like


@pytest.fixture(scope="module")
def version(tiny_lm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter where the store keeps the second version of ``reader``."""
    return make_adapter(tiny_lm, tmp_path_factory.mktemp("models") / "reader" / "2")


def loaded(server: VllmLike, adapter: Path | None, **changes: str) -> Generator:
    where = {"base_url": server.url, "timeout_s": 10, "retries": 0} | changes
    config = GeneratorConfig(engine="openai", id="tiny", server=where)  # type: ignore[arg-type]
    return load_generator(config, embedder=HashingEmbedder(16), adapter=adapter)


def said(generator: Generator) -> str:
    asked = GenerationRequest((Message(role="user", content="When?"),), "When?")
    return generator.generate([asked])[0].text


def test_a_version_is_loaded_under_a_name_that_says_which_weights_it_has(version: Path) -> None:
    digest = file_sha256(version / "adapter_model.safetensors")[:8]
    with vllm_like("tiny") as server:
        tuned = loaded(server, version)
        assert said(tuned) == f"asked reader-2-{digest}"
        assert tuned.identity.id == "tiny"  # what its contract names
        assert server.adapters == {f"reader-2-{digest}": str(version.resolve())}
        loaded(server, version)
        assert len(server.loaded) == 1  # it was there
        assert said(loaded(server, None)) == "asked tiny"


def test_the_server_may_see_the_versions_elsewhere(version: Path, tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.symlink_to(version.parent.parent)
    with vllm_like("tiny") as server:
        loaded(server, version, versions_path=str(mounted))
        assert list(server.adapters.values()) == [str(mounted / "reader" / "2")]


def test_a_server_that_cannot_load_says_how_to_restart_it(version: Path) -> None:
    with vllm_like("tiny", loads=False) as server:
        with pytest.raises(ContractError, match=r"loads no versions while it runs \(404\)") as no:
            loaded(server, version)
        assert "--lora-modules reader-2-" in no.value.hint
        assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True" in no.value.hint
    with vllm_like("tiny") as server:
        with pytest.raises(ContractError, match="No adapter found") as unseen:
            loaded(server, version, versions_path="/nowhere")
        assert "generator.server.versions_path" in unseen.value.hint
    with pytest.raises(ModelUnavailable, match="No server answers"):
        loaded(server, version)


def test_an_adapter_of_another_base_is_refused(version: Path) -> None:
    with vllm_like("other") as server, pytest.raises(ContractError, match="on 'other'") as caught:
        loaded(server, version)
    assert "generator.id=other" in caught.value.hint


def test_prompts_that_the_server_renders_alike_are_asked(tiny_lm: Path) -> None:
    with vllm_like("tiny", tokenizer=byte_level_tokenizer()) as server:
        assert said(loaded(server, None, tokenizer=str(tiny_lm))) == "asked tiny"


def test_prompts_that_it_renders_otherwise_are_refused(tiny_lm: Path) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = CHATML_TEMPLATE
    with vllm_like("tiny", tokenizer=tokenizer) as server:
        generator = loaded(server, None, tokenizer=str(tiny_lm))
        for _ in range(2):  # and again
            with pytest.raises(ContractError, match=r"makes \d+ ids of a prompt") as caught:
                said(generator)
        assert "--chat-template" in caught.value.hint
        assert server.asked == []


def test_what_cannot_be_checked_is_told_once(
    tiny_lm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with vllm_like("tiny") as server, caplog.at_level(logging.WARNING):
        generator = loaded(server, None, tokenizer=str(tiny_lm))
        assert said(generator) == said(generator) == "asked tiny"
    assert caplog.text.count("has no /tokenize") == 1
