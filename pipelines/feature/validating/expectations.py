"""What is expected of the documents of a collection, in pandera's own words.

An expectation is a schema of one of three frames (see ``feature_frames``), written as pandera
(Bantilan, "pandera: Statistical Data Validation of Pandas Dataframes", SciPy 2020) writes schemas
to YAML: columns with their type, whether they may be missing or empty, and checks. There is no rule
language of our own.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from fti.store.errors import ConfigError
from fti.store.types import Value

FrameName = Literal["documents", "chunks", "collection"]
FRAMES: tuple[FrameName, ...] = ("documents", "chunks", "collection")
#: In place of a collection's name: every document, of whichever collection and of none.
EVERY = "*"
_SCHEMA = "As pandera writes a schema to YAML: columns, their dtype, nullable, required, checks."
#: Checks that pandera has for other things than frames of values.
_OTHERS = ("has_", "cf_", "dim_size", "ndim", "no_duplicates_in_coord", "_sample_ttest")


class Expectations(Value):
    """What is expected of one collection, by frame."""

    documents: Mapping[str, Any] = Field(
        default_factory=dict, description=f"Of each document. {_SCHEMA}"
    )
    chunks: Mapping[str, Any] = Field(default_factory=dict, description=f"Of each chunk. {_SCHEMA}")
    collection: Mapping[str, Any] = Field(
        default_factory=dict, description=f"Of the collection as a whole. {_SCHEMA}"
    )
    tolerated: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of documents, or chunks, that may break an expectation.",
    )

    def schemas(self) -> Iterator[tuple[FrameName, Mapping[str, Any]]]:
        """The frames of which something is expected, with what."""
        for name in FRAMES:
            if schema := getattr(self, name):
                yield name, schema


def _usual() -> dict[str, Expectations]:
    return {
        EVERY: Expectations(
            documents={
                "columns": {
                    "title": {"dtype": "str", "checks": {"str_length": {"min_value": 1}}},
                    "characters": {"dtype": "int64", "checks": {"greater_than": 0}},
                }
            },
            collection={
                "columns": {
                    "documents": {"dtype": "int64", "checks": {"greater_than": 0}},
                    "failed_share": {"dtype": "float64", "checks": {"less_than_or_equal_to": 0.1}},
                }
            },
        )
    }


class ExpectationsConfig(Value):
    """What ``fti validate`` holds the features to."""

    file: Path | None = Field(
        default=None,
        description="A YAML file of expectations by collection, in place of those of the profile.",
    )
    collections: Mapping[str, Expectations] = Field(
        default_factory=_usual,
        description="By collection, what is expected; *: of every document.",
    )

    def read(self) -> Mapping[str, Expectations]:
        """The expectations: of the file where one is named, else of the profile.

        Raises:
            ConfigError: the file is not there or holds something else, or nothing is expected.
        """
        found = self.collections if self.file is None else _of_file(self.file)
        if not any(list(one.schemas()) for one in found.values()):
            raise ConfigError(
                "Nothing is expected of the features.",
                hint="Name a YAML file of expectations (--file), or write them into the section "
                "expectations of the profile: see docs/operating.md.",
            )
        return found


def _of_file(path: Path) -> Mapping[str, Expectations]:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The expectations {str(path)!r} cannot be read: {error}.",
            hint="Name a YAML file of expectations by collection.",
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"The expectations {str(path)!r} are not YAML: {error}.") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ConfigError(
            f"The expectations {str(path)!r} hold no collections with what is expected of each.",
            hint='Write for example: "*": {documents: {columns: {title: {dtype: str}}}}',
        )
    try:
        return {name: Expectations.model_validate(one or {}) for name, one in content.items()}
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"The expectations {str(path)!r} cannot be used: "
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}.",
            hint=f"A collection has {', '.join((*FRAMES, 'tolerated'))}.",
        ) from error


def schema_of(collection: str, frame: FrameName, written: Mapping[str, Any]) -> Any:
    """The pandera schema that is written for a frame of a collection.

    Raises:
        ConfigError: it is none: an unknown key, type or check.
    """
    from pandera.errors import SchemaDefinitionError, SchemaInitError
    from pandera.io.pandas_io import deserialize_schema

    where = f"expectations of {collection!r}, {frame}"
    _require_known(where, written)
    try:
        return deserialize_schema(copy.deepcopy(dict(written)))
    except (
        SchemaDefinitionError, SchemaInitError, TypeError, ValueError, KeyError, AttributeError,
    ) as error:  # fmt: skip
        raise ConfigError(
            f"The {where} are no schema: {error}.",
            hint="Write them as pandera does: columns: {title: {dtype: str, checks: "
            "{str_length: {min_value: 1}}}}",
        ) from error


def _require_known(where: str, written: Mapping[str, Any]) -> None:
    """Refuse what pandera would pass over, or would take for something else."""
    _among(where, written, ("columns", "checks", "unique", "coerce", "strict"))
    columns = written.get("columns") or {}
    if not isinstance(columns, Mapping):
        raise ConfigError(f"The {where} have columns that are no names with what each is to be.")
    keys = ("dtype", "nullable", "unique", "coerce", "required", "regex", "checks", "title",
            "description")  # fmt: skip
    for name, column in columns.items():
        if not isinstance(column, Mapping):
            raise ConfigError(f"The {where} have the column {name!r}, which says nothing.")
        _among(f"{where}, column {name!r}", column, keys)
        checks = column.get("checks")
        if isinstance(checks, Mapping):
            _among(f"{where}, checks of {name!r}", checks, check_names())


def check_names() -> tuple[str, ...]:
    """The checks that a column may have."""
    from pandera.pandas import Check

    return tuple(
        name
        for name in Check.CHECK_FUNCTION_REGISTRY
        if not name.startswith(_OTHERS) and not name.endswith(_OTHERS)
    )


def _among(where: str, found: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in found:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            raise ConfigError(
                f"The {where} name {name!r}, which there is not.",
                hint=f"Did you mean {near[0]}?" if near else f"There is: {', '.join(known)}.",
            )
