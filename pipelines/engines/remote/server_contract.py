"""What of a contract can be checked of a model behind HTTP: that it reads the same prompts.

A server shows no weights. Its model's name is compared where the model is loaded
(``inference.answering``); here a fixed conversation is rendered by both sides, where the server has
vLLM's ``/tokenize``.
"""

from __future__ import annotations

import logging
from typing import Any

import httpx

from fti.pipelines.engines.encoding import PromptEncoder
from fti.pipelines.engines.generator import ServerConfig
from fti.store.errors import ContractError, EngineError
from fti.store.types import Message

log = logging.getLogger(__name__)

_PROBE = (
    Message(role="system", content="Answer shortly, in the words of the passages."),
    Message(role="user", content="[1] Fired on 12 days, à 1,024.50 €.\n\nQuestion: When?"),
)


def same_prompts(
    client: httpx.Client, server: ServerConfig, model: str, encoder: PromptEncoder
) -> bool:
    """Whether the server makes the same ids of a fixed conversation; False where it cannot tell.

    Args:
        client: of the server.
        server: where it is.
        model: the name that it knows the model by.
        encoder: of the tokenizer that is configured for it.

    Raises:
        ContractError: it makes other ids.
        httpx.HTTPError: it cannot be reached.
    """
    theirs = _their_ids(client, server, model)
    if theirs is None:
        log.warning(
            "The server at %s has no /tokenize: that it renders prompts as trained is unchecked.",
            server.base_url,
        )
        return False
    ours = _our_ids(encoder)
    if theirs != ours:
        pairs = enumerate(zip(ours, theirs, strict=False))
        at = next((n for n, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
        raise ContractError(
            f"The server at {server.base_url!r} makes {len(theirs)} ids of a prompt of which the "
            f"tokenizer {server.tokenizer!r} makes {len(ours)}; they differ from place {at} on.",
            hint="Start it with the chat template that was trained with (vllm serve ... "
            "--chat-template FOLDER/chat_template.jinja), or correct generator.server.tokenizer.",
        )
    return True


def _our_ids(encoder: PromptEncoder) -> list[int]:
    try:
        return encoder.encode(_PROBE)
    except EngineError:  # some templates take no system turn
        return encoder.encode(_PROBE[1:])


def _their_ids(client: httpx.Client, server: ServerConfig, model: str) -> list[int] | None:
    url = server.base_url.rstrip("/").removesuffix("/v1") + "/tokenize"
    for turns in (_PROBE, _PROBE[1:]):
        body: dict[str, Any] = {
            "model": model,
            "messages": [turn.model_dump() for turn in turns],
            "add_generation_prompt": True,
        }
        response = client.post(url, json=body)
        if response.status_code == 200:
            try:
                ids = response.json()["tokens"]
            except (ValueError, KeyError, TypeError):
                return None
            # llama.cpp's route of the same name takes no conversation, and gives none back.
            return [int(index) for index in ids] or None
        if response.status_code in (404, 405, 501):
            return None
    return None
