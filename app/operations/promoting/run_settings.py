"""What shaped the answers of two evaluations, compared in words: settings, engines, contracts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fti.app.build import EXTRACTIVE
from fti.store.types import Run

#: What an evaluation's run says of what shaped its answers (``Assistant.shaped_by``) and scores.
_SHAPING = ("inference", "reranker", "embedder", "engine", "judge", "entailment")
#: What of a contract a profile decides for a model that is no version, so that no version owns it.
_PROMPT = (
    "form", "max_prompt_tokens", "max_new_tokens", "max_passages", "max_passage_tokens",
    "evidence_sentences", "evidence_choice", "refuse_above",
)  # fmt: skip


def other_settings(challenger: Run, champion: Run) -> list[str]:
    """What shaped the answers of one evaluation and not of the other, in words.

    What belongs to a version, its contract, is what is measured and does not count; the contract of
    a model that is no version is settings of the profile, and does. What neither run says, since an
    older fti made both, cannot be compared.
    """
    found = []
    sides = [_shaping(run) for run in (challenger, champion)]
    names = [run.inputs.get("model", "") for run in (challenger, champion)]
    if EXTRACTIVE in names:  # it has no other settings of a generator
        for side in sides:
            side.pop("engine")
    if all("/" in name for name in names):
        for side in sides:
            side.pop("contract")
    for part in sides[0]:
        ours, theirs = (side[part] for side in sides)
        if part in ("judge", "entailment") and not (ours and theirs):
            continue  # a score that one side lacks is not compared
        if (ours is None) != (theirs is None):
            silent = challenger if ours is None else champion
            found.append(f"{part}: {silent.id} does not say")
            continue
        flat = [_flat(part, value) for value in (ours, theirs)]
        for key in dict.fromkeys((*flat[0], *flat[1])):
            one, other = (side.get(key) for side in flat)
            if one != other:
                found.append(f"{key}: {one!r} for {names[0]}, {other!r} for {names[1]}")
    return found


def other_contracts(challenger: Run, champion: Run) -> list[str]:
    """What the two models' contracts say otherwise: a part of what was compared, and no fault."""
    ours, theirs = (
        _flat("contract", run.settings.get("contract") or {}) for run in (challenger, champion)
    )
    return [
        f"{key}: {ours.get(key)!r}, before {theirs.get(key)!r}"
        for key in dict.fromkeys((*ours, *theirs))
        if ours and theirs and ours.get(key) != theirs.get(key)
    ]


def _shaping(run: Run) -> dict[str, Any]:
    settings = run.settings
    retrieval, contract = settings.get("retrieval"), settings.get("contract")
    said: dict[str, Any] = {part: settings.get(part) for part in _SHAPING}
    if retrieval is not None:
        said["reranker"] = retrieval.get("reranker") or "none"
    if contract is not None:
        contract = {key: contract.get(key) for key in _PROMPT}
    return said | {"contract": contract, "fti": run.code_version or None}


def _flat(name: str, value: Any) -> dict[str, Any]:
    """A nested value by dotted names, as ``--set`` takes them."""
    if not isinstance(value, Mapping):
        return {name: value}
    return {
        key: inner
        for part, held in value.items()
        for key, inner in _flat(f"{name}.{part}", held).items()
    }
