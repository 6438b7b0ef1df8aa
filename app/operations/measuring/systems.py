"""What an evaluation compares, as the command line writes it.

A system is a model with a way to find passages, or a search by itself.

    MODEL              answers from its weights alone
    MODEL+rag          with passages, found as the profile says
    MODEL+vector       with passages found by vectors only; likewise +text and +hybrid
    MODEL+oracle       with the gold passage: what perfect retrieval would give
    vector text hybrid the search alone, without reranker
    rerank             the search alone, as the profile says, with its reranker

MODEL is ``base``, ``extractive``, ``NAME/N``, ``NAME@ALIAS``, or ``tuned`` for the model that the
command was given.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from fti.app.build import BASE, EXTRACTIVE
from fti.store.errors import InputError
from fti.store.types import SearchMode

if TYPE_CHECKING:
    from fti.store.store import Store

TUNED = "tuned"
Passages = Literal["none", "rag", "vector", "text", "hybrid", "oracle"]
_SEARCHES = ("vector", "text", "hybrid", "rerank")
_MODEL = r"(?:base|extractive|tuned|[a-z0-9][a-z0-9._-]*[/@][a-z0-9][a-z0-9._-]*)"
_SYSTEM = re.compile(
    rf"{_MODEL}(?:\+(?:{'|'.join(get_args(Passages)[1:])}))?|vector|text|hybrid|rerank"
)


@dataclass(frozen=True, slots=True)
class System:
    """A model with a way to find passages; without a model, the search alone.

    ``name`` is what the report calls it; ``model`` is ``base``, ``extractive`` or ``name/number``.
    """

    name: str
    model: str | None
    passages: Passages
    rerank: bool = True

    @property
    def mode(self) -> SearchMode | None:
        """The search mode that it insists on; None leaves the profile's."""
        if self.passages in ("vector", "text", "hybrid"):
            return self.passages
        return None


def looks_like_systems(text: str) -> bool:
    """Whether a word is a list of systems rather than, say, a file: two names and a comma."""
    return "," in text and all(_SYSTEM.fullmatch(part) for part in text.split(","))


def parse_systems(text: str, *, store: Store, tuned: str | None) -> list[System]:
    """The systems that a list names, in its order.

    Args:
        text: names joined by commas.
        store: where model versions are looked up.
        tuned: what ``tuned`` means; None when no model was given.

    Raises:
        InputError: a name means nothing, one stands there twice, or no model was given.
        ModelNotFound, AliasNotFound: there is no such version.
    """
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise InputError(
            "There is no system to compare.", hint="For example: --compare base+rag,tuned+rag"
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"The system {twice!r} stands there twice.", hint="Name each once.")
    return [_system(name, store, tuned) for name in names]


def _system(name: str, store: Store, tuned: str | None) -> System:
    if not _SYSTEM.fullmatch(name):
        raise InputError(
            f"{name!r} is no system that can be compared.",
            hint="Write MODEL, MODEL+rag, MODEL+vector, MODEL+text, MODEL+hybrid or MODEL+oracle, "
            "with base, extractive, tuned, NAME/N or NAME@ALIAS as MODEL; or a search alone: "
            + ", ".join(_SEARCHES)
            + ".",
        )
    if name in _SEARCHES:
        mode: Passages = "rag" if name == "rerank" else name  # type: ignore[assignment]  # checked above
        return System(name, None, mode, rerank=name == "rerank")
    model, _, passages = name.partition("+")
    if model == TUNED:
        if tuned in (None, BASE, EXTRACTIVE):
            raise InputError(
                f"'tuned' means the model of --model, which is {tuned or 'not given'}.",
                hint="Add --model NAME/N, or write the version in the list: base+rag,NAME/N+rag",
            )
        model = str(tuned)
    if model not in (BASE, EXTRACTIVE):
        model = store.models.get(model).ref
    found: Passages = passages or "none"  # type: ignore[assignment]  # the pattern allows no other
    return System(name, model, found)


def answering(systems: Sequence[System]) -> System:
    """The system that thresholds and reports are about: the last that answers, else the last."""
    return next((s for s in reversed(systems) if s.model is not None), systems[-1])
