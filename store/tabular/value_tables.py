"""Values as Arrow tables, a row each, for whoever works with data frames.

Columns are the fields of a value's class. Texts, numbers, moments and lists are what Arrow has for
them; values within values are structs and mappings of one kind are maps. What has no fixed form
(settings, metrics) is JSON text in Arrow, and plain dicts in pandas.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Union, get_args, get_origin

from pydantic_core import to_jsonable_python

from fti.store.errors import InputError, InvalidFilter
from fti.store.tabular.where import Condition, Where, conditions
from fti.store.types import Value

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_Given = ParamSpec("_Given")
_AT_ONCE = 1024  # values held as Python objects at a time
_JSON = {b"fti": b"json"}  # marks a column of JSON texts


def table_of_values(
    values: Iterable[Value],
    kind: type[Value],
    *,
    columns: Sequence[str] | None = None,
    where: Where | None = None,
) -> pa.Table:
    """A table with a row per value, in their order.

    Args:
        values: of class ``kind``.
        kind: whose fields are the columns.
        columns: some of them, in this order; all without.
        where: only values for which these hold. A key is a field, or a path to a part of one with
            dots between: ``usage.prompt_tokens``. Of a list, one item must meet the condition (for
            ``!=`` every one).

    Raises:
        InputError: a column does not exist.
        InvalidFilter: a condition names no field, or compares what cannot be compared.
    """
    import pyarrow as pa

    names = list(kind.model_fields)
    wanted = chosen(columns, names)
    schema = pa.schema([_field(name, kind.model_fields[name].annotation) for name in wanted])
    texts = [f.name for f in schema if f.metadata]

    def row(value: Value) -> dict[str, Any]:
        plain = value.model_dump(include=set(wanted))
        for name in texts:
            plain[name] = json.dumps(to_jsonable_python(plain[name]), ensure_ascii=False)
        return plain

    kept = filter(_holding(where, names), values)
    return pa.Table.from_batches(
        [pa.RecordBatch.from_pylist(part, schema=schema) for part in _parts(map(row, kept))], schema
    )


def table_of_rows(
    rows: Iterable[Mapping[str, Any]],
    *,
    columns: Sequence[str] | None = None,
    where: Where | None = None,
    known: Sequence[str] = (),
) -> pa.Table:
    """A table of rows as JSON has them; the columns are all keys that a row has.

    Args:
        rows: mappings of names to values.
        columns: some of the names, in this order; all without, in order of first mention.
        where: as for ``table_of_values``.
        known: columns that there are even where no row has them.

    Raises:
        InputError, InvalidFilter: as ``table_of_values``.
    """
    import pyarrow as pa

    found = list(rows)
    names = list(dict.fromkeys([*known, *(name for row in found for name in row)]))
    wanted = chosen(columns, names)
    kept = list(filter(_holding(where, names), found))
    return pa.table({name: pa.array([row.get(name) for row in kept]) for name in wanted})


def also_pandas(to_arrow: Callable[_Given, pa.Table]) -> Callable[_Given, pd.DataFrame]:
    """The ``to_pandas`` to a class's ``to_arrow``: takes the same, and gives a data frame."""

    @functools.wraps(to_arrow, assigned=("__module__",))
    def to_pandas(*args: _Given.args, **settings: _Given.kwargs) -> pd.DataFrame:
        """The same as a pandas data frame; maps, structs and JSON texts are dicts there."""
        table = to_arrow(*args, **settings)
        frame = table.to_pandas(maps_as_pydicts="strict")
        for field in table.schema:
            if field.metadata and field.metadata.get(b"fti") == b"json":
                frame[field.name] = frame[field.name].map(json.loads)
        return frame

    return to_pandas


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, each under its path with dots."""
    for key, part in value.items():
        if isinstance(part, Mapping):
            yield from flat(part, f"{prefix}{key}.")
        else:
            yield prefix + key, part


def chosen(columns: Sequence[str] | None, names: Sequence[str]) -> list[str]:
    """The columns that are asked for; all without.

    Raises:
        InputError: one does not exist, or none is asked for.
    """
    if columns is None:
        return list(names)
    asked = [columns] if isinstance(columns, str) else list(columns)
    unknown = [name for name in asked if name not in names]
    if unknown or not asked:
        raise InputError(
            f"There are no columns {unknown!r}." if unknown else "No column is asked for.",
            hint=f"There is: {', '.join(names)}.",
        )
    return asked


def _parts(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while part := list(islice(rows, _AT_ONCE)):
        yield part


# Which Arrow type a field has


def _field(name: str, annotation: Any) -> pa.Field:
    import pyarrow as pa

    kind = _arrow(annotation)
    return pa.field(name, pa.string(), metadata=_JSON) if kind is None else pa.field(name, kind)


def _arrow(annotation: Any) -> Any:
    """The Arrow type of a field's annotation; None where it has no fixed form."""
    import pyarrow as pa

    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        held = [each for each in inner if each is not type(None)]
        return _arrow(held[0]) if len(held) == 1 else None
    if origin is Literal:
        return _arrow(type(inner[0]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        kinds = _arrow(inner[0]), _arrow(inner[1])
        return None if None in kinds else pa.map_(*kinds)
    if origin in (tuple, list):
        item = _arrow(inner[0])
        return None if item is None else pa.list_(item)
    if isinstance(annotation, type) and issubclass(annotation, Value):
        fields = [(n, _arrow(f.annotation)) for n, f in annotation.model_fields.items()]
        return None if any(kind is None for _, kind in fields) else pa.struct(fields)
    # bool before int, of which it is one.
    plain = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    if annotation is datetime:
        return pa.timestamp("us", tz="UTC")
    return plain.get(annotation)


# Which rows there are


def _holding(where: Where | None, names: Sequence[str]) -> Callable[[Any], bool]:
    asked = conditions(where)
    for condition in asked:
        if condition.key not in names and condition.key.partition(".")[0] not in names:
            raise InvalidFilter(
                f"There is no column {condition.key!r} to filter by.",
                hint=f"There is: {', '.join(names)}.",
            )
    return lambda row: all(_holds(condition, row) for condition in asked)


def _holds(condition: Condition, row: Value | Mapping[str, Any]) -> bool:
    path = condition.key.split(".")
    if isinstance(row, Mapping) and condition.key in row:
        path = [condition.key]
    leaves = list(_leaves(row, path, condition.key))
    if condition.operator == "!=":
        return all(_matches(condition, leaf) for leaf in leaves)
    return any(_matches(condition, leaf) for leaf in leaves)


def _leaves(value: Any, path: Sequence[str], key: str) -> Iterator[Any]:
    """What lies at a path; everything, where lists are on the way."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item, path, key)
    elif isinstance(value, Mapping | Value):
        if not path:
            within = list(value if isinstance(value, Mapping) else type(value).model_fields)
            raise InvalidFilter(
                f"{key!r} holds several values.",
                hint=f"Name one: {', '.join(f'{key}.{each}' for each in within[:5]) or key}.",
            )
        if isinstance(value, Mapping):
            yield from _leaves(value.get(path[0]), path[1:], key)
        else:
            yield from _leaves(getattr(value, path[0], None), path[1:], key)
    else:
        yield None if path else value


def _matches(condition: Condition, leaf: Any) -> bool:
    if isinstance(leaf, bool):
        return condition.matches(str(leaf).lower())
    if isinstance(leaf, int | float) and condition.operator in ("=", "!=", "in"):
        among = any(_same(leaf, value) for value in condition.values)
        return among != (condition.operator == "!=")
    if isinstance(leaf, datetime):
        return condition.matches(leaf.isoformat())
    return condition.matches(None if leaf is None else str(leaf))


def _same(number: float, text: str) -> bool:
    try:
        return float(text) == number
    except ValueError:
        return False
