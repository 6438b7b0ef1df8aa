"""``fti models diff``, ``pin``, ``retire`` and ``gc``: comparing versions, and letting them go."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fti.app.commands.models import ModelArgument
from fti.app.options import CommonOptions

if TYPE_CHECKING:
    from fti.store.versioned.model_version import ModelVersion

MarkKind = Literal["pin", "unpin", "retire", "unretire"]
ReasonOption = Annotated[str, typer.Option("--reason", help="Kept with the mark.")]


def diff(
    common: CommonOptions,
    model: ModelArgument,
    other: Annotated[str, typer.Argument(help="The version to compare with.")],
) -> None:
    """Say in what two versions differ: contract, dataset, settings, metrics, files.

    Example: fti models diff reader/2 reader@champion
    """
    session = common.open()
    left, right = session.store.models.get(model), session.store.models.get(other)
    found = differences(_facts(session.store, left), _facts(session.store, right))
    session.report.result({"left": left.ref, "right": right.ref, "differences": found})
    if not found:
        session.report.say(f"{left.ref} and {right.ref} differ in nothing but their number.")
        return
    session.report.table(
        ["what", left.ref, right.ref],
        [[key, _shown(values[0]), _shown(values[1])] for key, values in found.items()],
    )


def _facts(store: Any, version: ModelVersion) -> dict[str, Any]:
    from fti.store.errors import RunNotFound

    try:
        settings = store.runs.get(version.run_id).settings
    except RunNotFound:  # the run log was cleared; the version still says what it is
        settings = {}
    return {
        "contract": version.contract.model_dump(mode="json"),
        "dataset": version.dataset,
        "dataset_digest": version.dataset_digest,
        "parent": version.parent,
        "adapter": version.adapter.model_dump(mode="json") if version.adapter else None,
        "training": dict(settings),
        "metrics": dict(version.metrics),
        "files": {f.path: f.sha256 for f in version.files},
    }


def differences(left: Any, right: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Where two nested values differ, by dotted path; None stands for what is not there."""
    if isinstance(left, dict) and isinstance(right, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in dict.fromkeys((*left, *right)):
            where = f"{path}.{key}" if path else str(key)
            found |= differences(left.get(key), right.get(key), where)
        return found
    return {} if left == right else {path: (left, right)}


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _mark(kind: MarkKind, model: str, reason: str, session: Any, said: str) -> None:
    version = session.store.models.get(model)
    mark = session.store.models.mark(version.ref, kind, reason=reason)
    session.report.result({"ref": version.ref, **mark.model_dump(mode="json")})
    session.report.say(f"{version.ref} {said}")


def _marking(kind: MarkKind, said: str, about: str) -> Callable[..., None]:
    """The command that puts one mark on a version."""

    def command(common: CommonOptions, model: ModelArgument, reason: ReasonOption = "") -> None:
        _mark(kind, model, reason, common.open(), said)

    command.__name__, command.__doc__ = kind, about
    return command


MARKS = (
    _marking(
        "pin", "is pinned", "Keep a version whatever happens: it cannot be retired or removed."
    ),
    _marking("unpin", "is pinned no more", "Take a pin back."),
    _marking(
        "retire",
        "is retired",
        "Let a version be promoted no more; `fti models gc` then removes it.\n\n"
        "Refused while an alias points at it, or while it is pinned.",
    ),
    _marking("unretire", "may serve again", "Take a retirement back."),
)


def gc(
    common: CommonOptions,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove them; without it, only say what would go.")
    ] = False,
) -> None:
    """Remove retired versions that no alias, pin, way back or later version refers to."""
    from fti.app.embedder_choice import standing_on

    session = common.open()
    made_by = standing_on(session.store)
    in_use = {} if made_by is None else {made_by.ref: "the store's vectors were made by it"}
    standing = session.store.models.removable(in_use)
    freed = session.store.models.collect(in_use) if yes else {}
    kept = {ref: why for ref, why in standing.items() if why}
    able = [ref for ref, why in standing.items() if not why]
    session.report.result({"removed": freed, "removable": able if not yes else [], "kept": kept})
    for ref, size in freed.items():
        session.report.say(f"removed {ref}, {size / 1e6:.1f} MB")
    for ref, why in kept.items():
        session.report.say(f"{ref} stays: {why}")
    if not yes and able:
        session.report.say(f"would remove {', '.join(able)}; do so with: fti models gc --yes")
    if not standing:
        session.report.say("No version is retired. Retire one with: fti models retire NAME/N")
