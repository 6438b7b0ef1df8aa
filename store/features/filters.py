"""Conditions on passages as LanceDB's expression; ``tabular.where`` says how they are written.

Values become literals of an expression and never a part of its text.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

from fti.store.errors import InvalidFilter
from fti.store.lance.library import lancedb
from fti.store.lance.shapes import decode_metadata, metadata_pair
from fti.store.tabular.where import (
    ORDERING,
    Condition,
    Where,
    conditions,
    limits_of,
    ordered,
    parse,
)

if TYPE_CHECKING:
    from lancedb.expr import Expr

__all__ = ["Condition", "Where", "conditions", "expression", "holds", "limits_of", "parse"]

#: What a condition may name besides the documents' own metadata keys.
FILTER_COLUMNS = ("document", "source", "title", "media_type", "ingested_at")
_PLAIN = ("source", "title", "media_type")
_MANY = 64  # values of one key; an expression that names more is slower than a list of ids


@dataclass(frozen=True, slots=True)
class Facts:
    """What an expression needs to know of the passages it is for.

    Args:
        values: the values of each metadata key that occur.
        documents: ids of the documents that a reference means.
        ingested: ids of documents whose time of ingest a condition holds for.
        chunks: ids of chunks whose metadata a condition holds for.
    """

    values: Callable[[], Mapping[str, Collection[str]]]
    documents: Callable[[str], Sequence[str]]
    ingested: Callable[[Condition], Sequence[str]]
    chunks: Callable[[Condition], Sequence[str]]


def expression(where: Where | None, facts: Facts) -> Expr | None:
    """A filter over ``chunks`` that holds where all conditions do; None without any.

    ``document`` matches what ``facts`` resolves it to; a key that is no column is looked for in
    the metadata.

    Raises:
        InvalidFilter: a key is neither a column nor a metadata key of any document, or is not
            compared in this way.
    """
    parts = [_expression(condition, facts) for condition in conditions(where)]
    return reduce(lambda a, b: a & b, parts) if parts else None


def _expression(condition: Condition, facts: Facts) -> Expr:
    col = lancedb().expr.col
    key, operator = condition.key, condition.operator
    if key in ("document", *_PLAIN) and operator in ORDERING:
        raise InvalidFilter(f"{key!r} is not compared by {operator}.", hint=f"Use {key}=VALUE.")
    if key == "document":
        ids = [i for value in condition.values for i in facts.documents(value)]
        among = col("document_id").isin(ids)
        return ~among if operator == "!=" else among
    if key in _PLAIN:
        among = col(key).isin(list(condition.values))
        return ~among if operator == "!=" else among
    if key == "ingested_at":
        if operator not in ORDERING or isinstance(ordered(condition.values[0]), float):
            raise InvalidFilter(
                "'ingested_at' is compared with a date by <, <=, > or >=.",
                hint="Write like ingested_at>=2026-04-01",
            )
        return col("document_id").isin(list(facts.ingested(condition)))
    known = facts.values()
    if key not in known:
        raise InvalidFilter(
            f"Passages have no {key!r} to filter by.",
            hint=f"There is: {', '.join([*FILTER_COLUMNS, *sorted(known)])}.",
        )
    return _of_metadata(condition, known[key], facts)


def _of_metadata(condition: Condition, known: Collection[str], facts: Facts) -> Expr:
    col, lit = lancedb().expr.col, lancedb().expr.lit
    operator = condition.operator
    positive = Condition(condition.key, "=", condition.values) if operator == "!=" else condition
    held = [value for value in sorted(known) if positive.matches(value)]
    if len(held) > _MANY:
        return col("id").isin(list(facts.chunks(condition)))
    if not held:
        nothing = col("id").isin([])
        return ~nothing if operator == "!=" else nothing
    pairs = [col("metadata").contains(lit(metadata_pair(condition.key, v))) for v in held]
    among = reduce(lambda a, b: a | b, pairs)
    return ~among if operator == "!=" else among


def holds(condition: Condition, metadata: str) -> bool:
    """Whether a condition on metadata holds for metadata as the table keeps it."""
    return condition.matches(decode_metadata(metadata).get(condition.key))
