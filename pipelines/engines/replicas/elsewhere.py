"""What replicas are, as the process sees it that asks them and has none of their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Never

from fti.pipelines.engines.generator import GenerationRequest
from fti.pipelines.engines.replicas.cluster import this_machine
from fti.store.contracts.prompt_contract import TokenCounter
from fti.store.errors import ContractError
from fti.store.types import ModelIdentity


@dataclass(frozen=True)
class Elsewhere:
    """A generator whose weights are with replicas: what it is, and nothing that generates.

    ``engine`` is how it is run there, as ``generation.engine_settings`` says it.
    """

    identity: ModelIdentity
    context_tokens: int
    engine: Mapping[str, Any]
    counter: TokenCounter

    def stream(self, request: GenerationRequest) -> Never:
        """Nothing: replicas are asked."""
        raise AssertionError("the weights of this generator are with replicas")

    def generate(self, requests: Sequence[GenerationRequest]) -> Never:
        """Nothing: replicas are asked."""
        raise AssertionError("the weights of this generator are with replicas")


def require_same(what: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Refuse a replica that is not what is asked for: rows of one run come from one model.

    Args:
        what: is replicated: "assistant".
        ours: what is asked for, part by part.
        theirs: what the replica is.

    Raises:
        ContractError: a part differs.
    """
    other = [
        f"its {part} is {theirs.get(part)!r}, and {ours[part]!r} is asked for"
        for part in ours
        if ours[part] != theirs.get(part)
    ]
    if other:
        raise ContractError(
            f"The replica on {this_machine()!r} is another {what}: {'; '.join(other)}.",
            hint="Give all machines the same weights, the same fti and the same kind of device; "
            "where they differ in their devices, name one: --set generator.device=cpu",
        )
