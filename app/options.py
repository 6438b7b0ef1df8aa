"""Options that every command shares, and what they open."""

from __future__ import annotations

import json as jsonlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fti.store.errors import InputError

if TYPE_CHECKING:
    from fti.app.reporting import Reporter
    from fti.app.settings import Settings
    from fti.store.store import Store

StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Folder of the shared storage.",
        show_default="$FTI_STORE, else ./.fti",
        rich_help_panel="Common options",
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Profile: a YAML file, or the name of one that ships (default, small, gpu, server).",
        show_default="$FTI_CONFIG, else default",
        rich_help_panel="Common options",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change one setting for this run: section.key=value. Repeatable.",
        rich_help_panel="Common options",
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print exactly one JSON object on stdout.",
        rich_help_panel="Common options",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Which model answers: base, extractive (no language model), plain (no documents), "
        "NAME@ALIAS or NAME/N.",
        show_default="the profile's `model`",
    ),
]
IntoCollectionOption = Annotated[
    str | None,
    typer.Option(
        "--collection",
        help="Put these documents into a collection, which searches can be kept within.",
        show_default="documents stay in theirs",
    ),
]
CollectionOption = Annotated[
    str,
    typer.Option("--collection", help="Only passages of this collection.", show_default="all"),
]


WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        help="Only passages for which this holds: K=V, K!=V, K<V, 'K in A, B', 'K in 3..7'. "
        "Repeatable.",
    ),
]
AtOption = Annotated[
    str,
    typer.Option(
        "--at", help="An earlier version of the features: a number or a tag.", show_default="now"
    ),
]
ExecutorOption = Annotated[
    Literal["local", "ray"],
    typer.Option(
        "--executor",
        help="Where models work: local (this process) or ray (replicas on the cluster of "
        "RAY_ADDRESS, else on one on this machine; needs the extra scale).",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="How many replicas, with --executor ray.",
        show_default="one for each GPU, else for each core",
    ),
]


def require_ray_for_workers(executor: str, workers: int | None) -> None:
    """Refuse a number of replicas where there are none.

    Raises:
        InputError: ``workers`` is given, and this process does the work.
    """
    if workers is not None and executor == "local":
        raise InputError(
            f"--workers {workers} is for replicas, and this process does the work itself.",
            hint="Add --executor ray.",
        )


def within(
    collection: str, where: list[str] | None, at: str, overrides: list[str] | None
) -> list[str]:
    """The overrides with those that keep retrieval within these documents."""
    found = in_collection(collection, overrides)
    if where:
        found.append(f"inference.retrieval.where={jsonlib.dumps(where)}")
    if at:
        found.append(f"inference.retrieval.at={jsonlib.dumps(at)}")
    return found


def in_collection(collection: str, overrides: list[str] | None) -> list[str]:
    """The overrides with the one that keeps retrieval within a collection."""
    named = f"inference.retrieval.collection={jsonlib.dumps(collection)}"
    return [*(overrides or ()), *([named] if collection else ())]


@dataclass(frozen=True)
class Session:
    """What a command works with: the resolved settings, the store, and where to report."""

    settings: Settings
    store: Store
    report: Reporter


def open_session(
    store: Path | None, config: Path | None, overrides: list[str] | None, json: bool
) -> Session:
    """Resolve the settings and open the store; loads no model."""
    from fti.app.reporting import Reporter
    from fti.app.settings import load_settings
    from fti.store.store import Store

    settings = load_settings(config, store=store, overrides=overrides or ())
    return Session(settings=settings, store=Store(settings.store), report=Reporter(json=json))
