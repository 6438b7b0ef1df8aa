"""A pipeline as YAML writes it: read, checked, and put into order by what its steps read and write.

    name: nightly
    steps:
      - ingest: {sources: [documents]}
      - dataset: {dataset: handbook}

Steps run in the order written. A step comes after those whose output it reads.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fti.app.orchestration.step import Step
from fti.app.orchestration.steps import STEPS
from fti.app.settings import Settings, profiles_folder
from fti.store.errors import ConfigError, InvalidName
from fti.store.versioned.versions import check_name


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Steps by name, in order, and which of them each needs."""

    name: str
    steps: dict[str, Step]
    needs: dict[str, tuple[str, ...]]

    def under(self, settings: Settings) -> Pipeline:
        """With what steps take from the settings named in them, which may put them in order.

        Raises:
            ConfigError: a step then reads what a later one writes.
        """
        steps = {name: step.under(settings) for name, step in self.steps.items()}
        return Pipeline(self.name, steps, _needs(list(steps.values()), self.name))


def load_pipeline(reference: str) -> Pipeline:
    """Read a pipeline from a file, or one of those that ship by its name.

    Raises:
        ConfigError: there is no such file, or it is no pipeline; says where and what to write.
    """
    path = _path(reference)
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"The pipeline {str(path)!r} cannot be read: {error}.", hint="Mend it, or name another."
        ) from error
    return parse_pipeline(content, where=str(path))


def parse_pipeline(content: Any, *, where: str) -> Pipeline:
    """The pipeline that YAML's values describe.

    Args:
        content: what YAML holds.
        where: the file, for messages.

    Raises:
        ConfigError: they describe none.
    """
    if not isinstance(content, dict) or set(content) - {"name", "steps"}:
        odd = (
            sorted(map(str, set(content) - {"name", "steps"})) if isinstance(content, dict) else []
        )
        raise ConfigError(
            f"The pipeline {where!r} "
            + (f"has the unknown key {odd[0]!r}." if odd else "holds no keys with values."),
            hint="Its keys are name and steps.",
        )
    name, listed = content.get("name"), content.get("steps")
    try:
        check_name(name if isinstance(name, str) else "", "pipeline")
    except InvalidName as error:
        raise ConfigError(
            f"The pipeline {where!r} has the name {name!r}.", hint=error.hint
        ) from error
    if not isinstance(listed, list) or not listed:
        raise ConfigError(
            f"The pipeline {where!r} has no steps.",
            hint="Write steps: and under it, for example, - ingest: {sources: [documents]}",
        )
    steps: dict[str, Step] = {}
    for number, entry in enumerate(listed, start=1):
        step = _step(entry, where=f"Step {number} of {where!r}")
        if step.name in steps:
            raise ConfigError(
                f"Two steps of {where!r} are called {step.name!r}.",
                hint="Give one of them an id of its own: id: NAME",
            )
        steps[step.name] = step
    return Pipeline(str(name), steps, _needs(list(steps.values()), where))


def shipped() -> dict[str, Path]:
    """The pipelines that ship, by name."""
    return {p.stem: p for p in sorted((profiles_folder() / "pipelines").glob("*.yaml"))}


def _path(reference: str) -> Path:
    path = Path(reference)
    if path.is_file():
        return path
    if reference in shipped():
        return shipped()[reference]
    raise ConfigError(
        f"There is no pipeline {reference!r}.",
        hint=f"Name a YAML file, or one of those that ship: {', '.join(shipped())}.",
    )


def _step(entry: Any, *, where: str) -> Step:
    if not isinstance(entry, dict) or len(entry) != 1:
        raise ConfigError(
            f"{where} is {entry!r}, not one kind of step with its settings.",
            hint="Write it like - ingest: {sources: [documents]}",
        )
    ((kind, settings),) = entry.items()
    if kind not in STEPS:
        near = difflib.get_close_matches(str(kind), STEPS, n=1)
        raise ConfigError(
            f"{where} is of the unknown kind {kind!r}.",
            hint=f"Did you mean {near[0]}?" if near else f"The kinds are: {', '.join(STEPS)}.",
        )
    if not isinstance(settings, dict):
        raise ConfigError(
            f"{where} ({kind}) has the settings {settings!r}, which are no keys with values.",
            hint=f"Its keys are: {', '.join(STEPS[kind].model_fields)}.",
        )
    try:
        return STEPS[kind].model_validate(settings)
    except ValidationError as error:
        faults = "; ".join(_explain(line, STEPS[kind]) for line in error.errors())
        raise ConfigError(
            f"{where} ({kind}) cannot be used: {faults}.",
            hint=f"Its keys are: {', '.join(STEPS[kind].model_fields)}.",
        ) from error


def _explain(line: Any, step: type[Step]) -> str:
    where = ".".join(str(part) for part in line["loc"])
    if line["type"] == "extra_forbidden":
        near = difflib.get_close_matches(where, step.model_fields, n=1)
        return f"{where} is no setting" + (f" (did you mean {near[0]}?)" if near else "")
    if line["type"] == "missing":
        return f"{where} is missing"
    if not where:  # a rule over several fields
        return str(line["msg"]).removeprefix("Value error, ")
    return f"{where}: {line['msg']}, got {line['input']!r}"


#: What several steps may write: each puts its documents in, or makes all vectors anew.
_SHARED = ("features", "documents")


def _goes_on(later: Step, earlier: Step) -> bool:
    """Whether a step makes more of what another made, as a calibration does of a training."""
    return any(r.overlaps(made) for r in later.reads() for made in earlier.writes())


def _needs(steps: Sequence[Step], where: str) -> dict[str, tuple[str, ...]]:
    """Which steps each step comes after, by what it reads.

    Raises:
        ConfigError: two steps write one thing, or one reads what a later one writes.
    """
    written = [(resource, step.name) for step in steps for resource in step.writes()]
    by_name = {step.name: step for step in steps}
    for number, (resource, writer) in enumerate(written):
        other = next((w for r, w in written[:number] if r == resource), None)
        if other is None or resource.kind in _SHARED:
            continue
        pair = by_name[writer], by_name[other]
        if not _goes_on(*pair) and not _goes_on(*reversed(pair)):  # their order is looked at below
            raise ConfigError(
                f"The steps {other!r} and {writer!r} of {where!r} both write {str(resource)!r}.",
                hint="Give one of them another name to write to.",
            )
    names = [step.name for step in steps]
    needs: dict[str, tuple[str, ...]] = {}
    for number, step in enumerate(steps):
        makers = [
            (resource, writer)
            for resource in step.reads()
            for made, writer in written
            if resource.overlaps(made)
        ]
        for resource, writer in makers:
            if names.index(writer) > number:
                raise ConfigError(
                    f"The step {step.name!r} of {where!r} reads {str(resource)!r}, which the step "
                    f"{writer!r} after it writes.",
                    hint=f"Put {writer!r} before {step.name!r}.",
                )
        needs[step.name] = tuple(dict.fromkeys(writer for _, writer in makers))
    return needs
