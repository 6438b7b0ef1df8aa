"""Options that commands share, what they open, and commands that take them."""

from __future__ import annotations

import functools
import inspect
import json as jsonlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from fti.store.errors import InputError

if TYPE_CHECKING:
    from fti.app.reporting import Reporter
    from fti.app.settings import Settings
    from fti.store.store import Store

_Command = TypeVar("_Command", bound=Callable[..., None])

#: Heading of the options of a stream, in the help.
REDIS = "Redis streams (with --follow)"

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


@dataclass(frozen=True)
class Session:
    """What a command works with: the resolved settings, the store, and where to report."""

    settings: Settings
    store: Store
    report: Reporter


@dataclass(frozen=True, kw_only=True)
class StoreOptions:
    """Which store, under which profile."""

    store: StoreOption = None
    config: ConfigOption = None
    set_: SetOption = None

    json = False

    def settings(self, overrides: Iterable[str] = ()) -> Settings:
        """The resolved settings, with ``overrides`` after those of ``--set``."""
        from fti.app.settings import load_settings

        every = [*(self.set_ or ()), *overrides]
        return load_settings(self.config, store=self.store, overrides=every)

    def reporter(self) -> Reporter:
        """Where to report; ``open`` gives it too."""
        from fti.app.reporting import Reporter

        return Reporter(json=self.json)

    def open(self, overrides: Iterable[str] = ()) -> Session:
        """Resolve the settings and open the store; loads no model."""
        from fti.store.store import Store

        settings = self.settings(overrides)
        return Session(settings=settings, store=Store(settings.store), report=self.reporter())


@dataclass(frozen=True, kw_only=True)
class CommonOptions(StoreOptions):
    """What every command takes that prints a result."""

    json: JsonOption = False


@dataclass(frozen=True, kw_only=True)
class WithinOptions:
    """Which documents answers keep to."""

    where: WhereOption = None
    collection: CollectionOption = ""
    at: AtOption = ""

    def overrides(self) -> list[str]:
        """The settings that keep retrieval within these documents."""
        found = in_collection(self.collection)
        if self.where:
            found.append(f"inference.retrieval.where={jsonlib.dumps(self.where)}")
        if self.at:
            found.append(f"inference.retrieval.at={jsonlib.dumps(self.at)}")
        return found


@dataclass(frozen=True, kw_only=True)
class ConsumerOptions:
    """As which consumer a Redis stream is read."""

    group: Annotated[
        str,
        typer.Option(
            "--group",
            help="Consumer group; its consumers share what comes.",
            rich_help_panel=REDIS,
        ),
    ] = "fti"
    consumer: Annotated[
        str | None,
        typer.Option(
            "--consumer",
            help="Name in the group; under the same name it goes on where it was killed.",
            show_default="this machine's name",
            rich_help_panel=REDIS,
        ),
    ] = None


def in_collection(collection: str) -> list[str]:
    """The setting that keeps retrieval within a collection, where one is named."""
    return [f"inference.retrieval.collection={jsonlib.dumps(collection)}"] if collection else []


class Commands(typer.Typer):
    """Commands, or a group of them, that may take groups of options such as ``CommonOptions``."""

    def __init__(self, name: str, help: str, **settings: Any) -> None:
        super().__init__(
            name=name, help=help, no_args_is_help=True, rich_markup_mode="markdown", **settings
        )

    def command(self, name: str | None = None, **settings: Any) -> Callable[[_Command], _Command]:
        """Add a command as ``typer.Typer`` does, with its groups of options spelled out."""
        add = super().command(name, **settings)

        def added(command: _Command) -> _Command:
            add(_spelled_out(command))
            return command

        return added


def _spelled_out(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` as the parser is to see it: each group of options as the options it has."""
    own: list[inspect.Parameter] = []
    groups: dict[str, type] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation):
            groups[parameter.name] = parameter.annotation
        else:
            own.append(parameter)
    options = {
        name: inspect.signature(group, eval_str=True).parameters for name, group in groups.items()
    }

    @functools.wraps(command)
    def spelled(**given: Any) -> None:
        made = {
            name: group(**{option: given.pop(option) for option in options[name]})
            for name, group in groups.items()
        }
        command(**given, **made)

    every = [*own, *(option for of_group in options.values() for option in of_group.values())]
    words = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in every]
    spelled.__signature__ = inspect.Signature(words)  # type: ignore[attr-defined]
    spelled.__annotations__ = {p.name: p.annotation for p in words}
    return spelled
