"""``fti dataset``: instruction datasets from the stored chunks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.options import ConfigOption, JsonOption, SetOption, StoreOption, open_session

if TYPE_CHECKING:
    from store.types import DatasetVersion

group = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Build, list, show and export instruction datasets.",
)


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(group, name="dataset")


def dataset_json(dataset: DatasetVersion) -> dict[str, Any]:
    """A dataset version as commands print it."""
    return {
        "name": dataset.name,
        "version": dataset.version,
        "rows": dict(dataset.rows),
        "kinds": dict(dataset.kinds),
        "documents": {split: len(names) for split, names in dataset.documents.items()},
        "digest": dataset.digest,
        "created_at": dataset.created_at.isoformat(),
        "run": dataset.run_id,
        "features_version": dataset.features_version,
    }


@group.command("build")
def build(
    name: Annotated[str, typer.Argument(help="Name of the dataset; each build is a new version.")],
    cases: Annotated[
        Path | None,
        typer.Option("--cases", help="Question and answer cases (CASES.jsonl) to build from too."),
    ] = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Make instruction examples from the stored documents; no language model is needed.

    Documents are split into train, validation and test before any example is made.
    Example: fti dataset build handbook --cases questions.jsonl
    """
    from app.build import build_embedder, make_dataset

    session = open_session(store, config, set_, json)
    loaded = None
    if cases is not None:
        from pipelines.inference.cases import load_cases

        loaded = load_cases(cases)
    with session.report.progress() as progress:
        dataset = make_dataset(
            session.settings,
            session.store,
            name=name,
            embedder=build_embedder(session.settings),
            cases=loaded,
            progress=progress,
        )
    session.report.result(dataset_json(dataset))
    session.report.say(
        f"{dataset.ref}: "
        + ", ".join(f"{count} {split}" for split, count in dataset.rows.items())
        + " rows ("
        + ", ".join(f"{count} {kind}" for kind, count in sorted(dataset.kinds.items()))
        + f"); digest {dataset.digest[:12]}"
    )
    session.report.note(f"fine-tune on it with: fti finetune {dataset.ref} --name MODEL")


@group.command("list")
def list_(
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """List the dataset versions."""
    session = open_session(store, config, set_, json)
    found = session.store.datasets.list()
    session.report.result({"datasets": [dataset_json(d) for d in found]})
    if not found:
        session.report.say("There is no dataset yet. Make one with: fti dataset build NAME")
        return
    session.report.table(
        ["dataset", "created", "train", "validation", "test", "digest"],
        [
            [
                d.ref,
                f"{d.created_at:%Y-%m-%d %H:%M}",
                *(d.rows.get(s, 0) for s in ("train", "validation", "test")),
                d.digest[:12],
            ]
            for d in found
        ],
    )


@group.command("show")
def show(
    dataset: Annotated[str, typer.Argument(help="NAME or NAME/N.")],
    rows: Annotated[int, typer.Option("--rows", min=0, help="Examples to show.")] = 3,
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Show one dataset version and some of its rows."""
    from itertools import islice

    session = open_session(store, config, set_, json)
    version = session.store.datasets.get(dataset)
    examples = list(islice(session.store.datasets.rows(version.ref, "train"), rows))
    sources = {r.id: r.source for r in session.store.features.records()}
    session.report.result(
        dataset_json(version)
        | {
            "sources": {
                split: [sources.get(i, i) for i in ids] for split, ids in version.documents.items()
            },
            "settings": dict(version.settings),
            "examples": [e.model_dump(mode="json") for e in examples],
        }
    )
    session.report.table(
        ["split", "rows", "documents"],
        [[s, version.rows[s], len(version.documents.get(s, ()))] for s in version.rows],
        title=f"{version.ref} (digest {version.digest[:12]}, run {version.run_id})",
    )
    for example in examples:
        session.report.say(f"\n[{example.kind}] {example.question}", style="bold")
        session.report.say(f"  → {example.response}")


@group.command("export")
def export(
    dataset: Annotated[str, typer.Argument(help="NAME or NAME/N.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must be new or empty.")],
    format_: Annotated[
        Literal["messages", "rows", "arrow"],
        typer.Option(
            "--format",
            help="messages: chat JSONL for other trainers; rows: everything; arrow: datasets' "
            "save_to_disk.",
        ),
    ] = "messages",
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Write a dataset version for other tools."""
    from app.exporting import export_dataset

    session = open_session(store, config, set_, json)
    version = session.store.datasets.get(dataset)
    files = export_dataset(session.store, version, out=out, format=format_)
    session.report.result(
        {"name": version.name, "version": version.version, "files": [str(f) for f in files]}
    )
    for file in files:
        session.report.say(str(file))
