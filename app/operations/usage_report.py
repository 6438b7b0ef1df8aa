"""What keys used, as commands print it and the API sends it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fti.store.store import Store

_COUNTED = ("requests", "prompt_tokens", "completion_tokens")


def usage_json(store: Store, *, days: int, keys: Iterable[str] | None = None) -> dict[str, Any]:
    """Usage by day and key, and in all by key, with names and what is left of today's tokens.

    Args:
        store: whose keys.
        days: how far back; today is one.
        keys: ids; all without.
    """
    made = {key.id: key for key in store.keys.list()}
    found = store.usage.list(days=days, keys=keys)
    in_all: dict[str, dict[str, Any]] = {}
    for used in found:
        whole = in_all.setdefault(used.key, {"key": used.key, **dict.fromkeys(_COUNTED, 0)})
        for name in _COUNTED:
            whole[name] += getattr(used, name)
    for key, whole in in_all.items():
        kept = made.get(key)
        quota = kept.tokens_per_day if kept else None
        whole["name"] = kept.name if kept else ""
        whole["tokens_per_day"] = quota
        whole["tokens_today"] = store.usage.today(key).tokens
    return {
        "object": "list",
        "days": days,
        "data": [used.model_dump(mode="json") for used in found],
        "keys": [in_all[key] for key in sorted(in_all)],
    }
