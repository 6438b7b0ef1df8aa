"""``fti models rebuild``, ``fti dataset rebuild``: is a version what its recorded inputs make?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fti.app.commands.models import ModelArgument
from fti.app.options import CommonOptions

if TYPE_CHECKING:
    from fti.app.operations.training.rebuild_contract import Rebuild
    from fti.app.options import Session


def rebuild(
    common: CommonOptions,
    model: ModelArgument,
) -> None:
    """Train a version again from what was recorded, and say whether it comes out the same.

    Dataset version, contract, configuration and seed are those of the version; the profile must
    name the base that it was trained from. Nothing is registered. Exits with 1 when the files
    differ, and says where first. Example: fti models rebuild reader/2
    """
    from fti.app.operations.training.rebuilding import rebuild as run

    session = common.open()
    with session.report.progress() as progress:
        found = run(session.settings, session.store, model, progress=progress)
    _show(session, found)


def rebuild_dataset(
    common: CommonOptions,
    dataset: Annotated[str, typer.Argument(help="The version, NAME/N.")],
) -> None:
    """Build a version again from what was recorded, and say whether it comes out the same.

    Features, cases, reviews, imports, a writer's replies and settings are those of the version; the
    profile must name its embedder, reranker and writer. Nothing is published. Exits with 1 when
    rows differ, and says which first. Example: fti dataset rebuild handbook/2
    """
    from fti.app.operations.training.dataset_rebuilding import rebuild_dataset as run

    session = common.open()
    with session.report.progress() as progress:
        found = run(session.settings, session.store, dataset, progress=progress)
    _show(session, found)


def _show(session: Session, found: Rebuild) -> None:
    session.report.result(found.model_dump(mode="json"))
    for line in found.circumstances:
        session.report.note(
            f"then and now: {line.what}: {_shown(line.recorded)}, {_shown(line.rebuilt)}"
        )
    if found.equal:
        session.report.say(f"{found.ref} comes out the same, to the byte: {', '.join(found.files)}")
        return
    session.report.table(
        ["what differs", "recorded", "rebuilt"],
        [[d.what, _shown(d.recorded), _shown(d.rebuilt)] for d in found.differences],
        title=f"{found.ref} does not come out the same",
    )
    raise typer.Exit(1)


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
