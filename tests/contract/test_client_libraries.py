"""Libraries that speak OpenAI's API, each by its own client: LangChain, LlamaIndex."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog.testing
from pydantic import SecretStr

from fti.app.service.api import create_app
from fti.app.service.service_config import ServiceConfig
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.inference.answering.plain_model import PlainAssistant
from tests.support.service import Scripted, assistant_over, filled_store, serving

QUESTION = "When does the workshop open on Saturdays?"
ANSWER = "The workshop opens at nine on Saturdays. [1]"
KEY = "a-key-for-tests"
TEXTS = ["The kiln fires stoneware.", "A locker costs four euros."]
#: Of an environment of its own with llama-index-llms-openai-like, where there is one.
LLAMA_INDEX = os.environ.get("FTI_TEST_LLAMA_INDEX_PYTHON", "")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    base = assistant_over(filled_store(tmp_path_factory.mktemp("libraries") / "store"))
    model = Scripted(pieces=["Saturday", " Hours"])
    plain = PlainAssistant(base.store, base.retriever.embedder, model, base.config)
    app = create_app(
        base,
        ServiceConfig(api_keys=(SecretStr(KEY),)),
        build=lambda ref: {"plain": plain}[ref],
        built_in=("base", "extractive", "plain"),
    )
    with structlog.testing.capture_logs(), serving(app) as address:
        yield f"{address}/v1"


def chat(address: str, **options: Any) -> Any:
    langchain = pytest.importorskip("langchain_openai")
    fields = {"model": "base", "base_url": address, "api_key": KEY, "max_retries": 0}
    return langchain.ChatOpenAI(**(fields | options))


def text(message: Any) -> str:
    """The text of a message, whichever form the library has for it."""
    content = message.content
    if isinstance(content, str):
        return content
    return "".join(block.get("text", "") for block in content)


def test_langchain_asks_and_is_told_the_tokens(address: str) -> None:
    answered = chat(address).invoke([("system", "Be brief."), ("user", QUESTION)])
    assert answered.content == ANSWER
    assert answered.usage_metadata["total_tokens"] > 0
    assert answered.response_metadata["finish_reason"] == "stop"
    named = chat(address, model="plain").invoke([("system", "Write titles."), ("user", QUESTION)])
    assert named.content == "Saturday Hours"


def test_langchain_streams_the_same(address: str) -> None:
    pieces = list(chat(address, stream_usage=True).stream(QUESTION))
    assert "".join(map(text, pieces)) == ANSWER
    assert sum((p.usage_metadata or {}).get("total_tokens", 0) for p in pieces) > 0


def test_langchain_asks_by_responses_too_and_goes_on(address: str) -> None:
    model = chat(address, use_responses_api=True)
    first = model.invoke(QUESTION)
    assert text(first) == ANSWER
    (note,) = (n for block in first.content for n in block.get("annotations", ()))
    assert note["type"] in ("citation", "url_citation")
    assert note["title"] == "Opening hours"
    more = model.invoke("How hot is the kiln?", previous_response_id=first.response_metadata["id"])
    assert "1240" in text(more)
    assert "".join(map(text, model.stream(QUESTION))) == ANSWER


def test_langchain_embeds_with_the_stores_embedder(address: str) -> None:
    langchain = pytest.importorskip("langchain_openai")
    embedder = HashingEmbedder()
    client = langchain.OpenAIEmbeddings(
        model=embedder.identity.id,
        base_url=address,
        api_key=KEY,
        # Else it sends token ids of OpenAI's own tokenizer, which it would have to download.
        check_embedding_ctx_length=False,
    )
    np.testing.assert_allclose(
        client.embed_documents(TEXTS), embedder.embed_documents(TEXTS), atol=1e-6
    )
    (expected,) = embedder.embed_documents(TEXTS[:1])
    np.testing.assert_allclose(client.embed_query(TEXTS[0]), expected, atol=1e-6)


@pytest.mark.skipif(
    not LLAMA_INDEX,
    reason="LlamaIndex needs openai<3, and these tests openai 3: set FTI_TEST_LLAMA_INDEX_PYTHON "
    "to the python of an environment with llama-index-llms-openai-like",
)
def test_llama_index_asks_and_streams(address: str) -> None:
    script = Path(__file__).parent.parent / "support" / "llama_index_client.py"
    done = subprocess.run(
        [LLAMA_INDEX or sys.executable, script, address, KEY, QUESTION],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [ANSWER, ANSWER, ANSWER, "Saturday Hours"]
