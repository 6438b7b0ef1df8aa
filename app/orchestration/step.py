"""What a step of a pipeline is: what it reads and writes, and the function that it calls.

A step calls the very function that its command calls, and hands nothing to the next one: what it
read and wrote lies in the store or in files, and is named here. From these names come the order of
steps, the digests that decide whether one may be skipped, and the picture of the pipeline.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field

from fti.app.orchestration.resources import Context, Resource
from fti.store.errors import InvalidName
from fti.store.types import Value, sha256_hex
from fti.store.versioned.versions import check_name

if TYPE_CHECKING:
    from fti.app.settings import Settings


def _plain_name(name: str) -> str:
    try:
        return check_name(name, "dataset, model, case set or alias")
    except InvalidName as error:  # pydantic collects ValueErrors
        raise ValueError(str(error)) from error


PlainName = Annotated[str, AfterValidator(_plain_name)]


class Outcome(Value):
    """What a step did. ``partial``: done with some failures; ``refused``: a gate said no."""

    status: Literal["done", "partial", "refused"] = "done"
    summary: str
    run: str = ""


class Step(Value):
    """One step of a pipeline, as YAML writes it. ``id`` tells steps of one kind apart."""

    kind: ClassVar[str]
    #: Sections of the settings that the result depends on.
    sections: ClassVar[tuple[str, ...]]
    #: Whether the output must be as the step left it; otherwise it must only be there.
    owns_output: ClassVar[bool] = False
    #: Why it runs every time, where what it looks at changes by itself.
    always: ClassVar[str] = ""

    id: str = Field(default="", description="Name of the step; its kind where there is only one.")

    @property
    def name(self) -> str:
        """What the step is called."""
        return self.id or self.kind

    def under(self, settings: Settings) -> Self:
        """The step with what it takes from the settings named in it."""
        return self

    def settings_read(self) -> tuple[str, ...]:
        """The sections of the settings that the result depends on, as the step is written."""
        return self.sections

    @abstractmethod
    def reads(self) -> tuple[Resource, ...]:
        """What it depends on."""

    @abstractmethod
    def writes(self) -> tuple[Resource, ...]:
        """What it makes."""

    @abstractmethod
    def run(self, context: Context) -> Outcome:
        """Do it, by the function that the command calls."""

    def inputs(self, context: Context) -> dict[str, str]:
        """Digests of all that the result depends on, by what they are of."""
        from importlib.metadata import version

        settings = context.settings.model_dump(mode="json", include=set(self.settings_read()))
        return {
            "step": sha256_hex(self.model_dump_json()),
            "settings": sha256_hex(json.dumps(settings, sort_keys=True)),
            "fti": version("fti-llm"),
        } | {str(resource): resource.digest(context) for resource in self.reads()}

    def outputs(self, context: Context) -> dict[str, str]:
        """Digests of what it makes, as it lies there now."""
        return {str(resource): resource.digest(context) for resource in self.writes()}


def files_of(*paths: Path | None) -> tuple[Resource, ...]:
    """Files that a step reads, less those that it does not name."""
    return tuple(Resource("files", str(path)) for path in paths if path is not None)
