"""Tuned versions on a server: it is told to load their adapters beside its model, as vLLM can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from fti.pipelines.engines.generator import ServerConfig
from fti.pipelines.engines.model_files import ADAPTER_WEIGHTS, file_sha256
from fti.pipelines.engines.remote.openai_server import server_client
from fti.store.errors import ContractError, ModelUnavailable

_NO_SUCH_ROUTE = (404, 405, 501)


def serve_version(server: ServerConfig, base: str, adapter: Path) -> str:
    """Have a server load a version's adapter; the name that it then has there.

    The name ends in a digest of the weights, so a server that several stores share never answers
    with another's version of the same name. One that is loaded stays loaded: others may ask it.

    Args:
        server: where it is.
        base: the name that it knows the base model by.
        adapter: folder ``.../NAME/NUMBER`` of the version.

    Raises:
        ModelUnavailable: the server cannot be reached, or refuses the key.
        ContractError: it loads no adapters, or not this one; says how to restart it.
    """
    version = adapter.resolve()
    digest = file_sha256(version / ADAPTER_WEIGHTS)[:8]
    name = f"{version.parent.name}-{version.name}-{digest}"
    root = Path(server.versions_path) if server.versions_path else version.parent.parent
    seen_as = root / version.parent.name / version.name
    url = server.base_url.rstrip("/")
    try:
        with server_client(server) as client:
            served = _served(client, url)
            if name not in served:
                _load(client, url, name, seen_as)
                served = _served(client, url)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ModelUnavailable(
            f"No server answers at {url!r} ({type(error).__name__}).",
            hint="Start it, or correct generator.server.base_url.",
        ) from error
    parent = served.get(name)
    if parent and parent != base:
        raise ContractError(
            f"The server at {url!r} has {name!r} on {parent!r}, and generator.id is {base!r}.",
            hint=f"Set generator.id={parent}, or serve {base!r} there.",
        )
    return name


def _served(client: httpx.Client, url: str) -> dict[str, str]:
    """The names of the models that a server has, each with that of its base, if it says it."""
    response = client.get(f"{url}/models")
    if response.status_code in (401, 403):
        raise ModelUnavailable(
            f"The server at {url!r} answered {response.status_code}.",
            hint="Check generator.server.api_key.",
        )
    try:
        models: list[dict[str, Any]] = response.json()["data"]
        return {str(model["id"]): str(model.get("parent") or "") for model in models}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelUnavailable(
            f"The server at {url!r} lists no models ({response.status_code}).",
            hint="Is it an OpenAI-compatible server? Correct generator.server.base_url.",
        ) from error


def _load(client: httpx.Client, url: str, name: str, folder: Path) -> None:
    body = {"lora_name": name, "lora_path": str(folder)}
    response = client.post(f"{url}/load_lora_adapter", json=body)
    if response.status_code == 200:
        return
    restart = f"vllm serve BASE --enable-lora --lora-modules {name}={folder}"
    if response.status_code in _NO_SUCH_ROUTE and "adapter" not in response.text.lower():
        raise ContractError(
            f"The server at {url!r} loads no versions while it runs ({response.status_code}).",
            hint=f"Restart it with the version: {restart}; or, for all versions to come, with "
            "--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment.",
        )
    said = " ".join(response.text.split())[:300]
    if "already" in said:  # by another process of ours, meanwhile
        return
    raise ContractError(
        f"The server at {url!r} does not load {name!r} ({response.status_code}): {said}",
        hint=f"It must see the folder {str(folder)!r} (else set generator.server.versions_path) "
        f"and take adapters of its rank (--max-lora-rank). Or restart it with it: {restart}",
    )
