"""Answers as rows, and the LanceDB tables that batches keep them in: one row per key.

A table lies under ``tables/`` of the store; any LanceDB client reads it. Rows are merged by ``id``,
so that writing the same rows twice changes nothing, and a reader finds every key once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fti.store.answer_types import Answer
from fti.store.errors import InputError
from fti.store.files.layout import Layout
from fti.store.files.sums import FileSums
from fti.store.lance.connection import Lance
from fti.store.lance.indexing import compact
from fti.store.types import Value
from fti.store.versioned.versions import check_name

if TYPE_CHECKING:
    import pyarrow as pa

_KEEP = timedelta(days=7)  # earlier versions of a table, for readers that are still on one
_KEPT_COLUMNS = ("id", "question", "made_under", "error")


class CitationRow(Value):
    """A citation in a row; see ``fti.store.types.Citation``."""

    marker: int
    document: str
    title: str
    chunk_id: str
    quote: str
    start: int
    end: int


class PassageRow(Value):
    """A passage that the model was shown."""

    document: str
    chunk_id: str


class ErrorRow(Value):
    """Why a question has no answer."""

    code: str
    message: str
    hint: str = ""


class AnswerRow(Value):
    """A question with its answer, or with the error in its place, and what made it.

    ``made_under`` is a digest of the model, its contract, the settings and the documents: a row is
    current as long as it is that of a batch run now. It is empty when the documents changed while
    the question was asked. ``answer_id`` is the answer in the log, ``run`` the batch.
    """

    id: str
    question: str
    answer: str | None = None
    abstained: bool | None = None
    abstention_reason: str | None = None
    citations: tuple[CitationRow, ...] = ()
    passages: tuple[PassageRow, ...] = ()
    answer_id: str | None = None
    model: str = ""
    contract: str = ""
    features_version: int = 0
    made_under: str = ""
    run: str
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    error: ErrorRow | None = None

    @classmethod
    def of(cls, key: str, answer: Answer, *, made_under: str) -> AnswerRow:
        """The row of an answer under its key."""
        return cls(
            id=key,
            question=answer.question,
            answer=answer.text,
            abstained=answer.abstained,
            abstention_reason=answer.abstention_reason,
            citations=tuple(
                CitationRow(
                    marker=c.marker,
                    document=c.source,
                    title=c.title,
                    chunk_id=c.chunk_id,
                    quote=c.quote,
                    start=c.start,
                    end=c.end,
                )
                for c in answer.citations
            ),
            passages=tuple(
                PassageRow(document=p.source, chunk_id=p.chunk_id) for p in answer.passages
            ),
            answer_id=answer.id,
            model=answer.model,
            contract=answer.contract_digest,
            features_version=answer.features_version,
            made_under=made_under,
            run=answer.run_id,
            finish_reason=answer.finish_reason,
            prompt_tokens=answer.usage.prompt_tokens,
            completion_tokens=answer.usage.completion_tokens,
            seconds=answer.timings.get("total_s", 0.0),
        )


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of a row that lies there already."""

    question: str
    made_under: str
    failed: bool


def schema() -> pa.Schema:
    """Columns of ``AnswerRow`` in Arrow: for tables and Parquet files."""
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    citation = [
        (name, number if name in ("marker", "start", "end") else text)
        for name in CitationRow.model_fields
    ]
    kinds = {
        "abstained": pa.bool_(),
        "citations": pa.list_(pa.struct(citation)),
        "passages": pa.list_(pa.struct([(name, text) for name in PassageRow.model_fields])),
        "features_version": number,
        "prompt_tokens": number,
        "completion_tokens": number,
        "seconds": pa.float64(),
        "error": pa.struct([(name, text) for name in ErrorRow.model_fields]),
    }
    return pa.schema(
        [
            pa.field(name, kinds.get(name, text), nullable=name != "id")
            for name in AnswerRow.model_fields
        ]
    )


def to_arrow(rows: Sequence[AnswerRow]) -> pa.Table:
    """Rows as an Arrow table of ``schema``."""
    import pyarrow as pa

    return pa.Table.from_pylist([row.model_dump(mode="json") for row in rows], schema=schema())


def kept_row(row: Mapping[str, Any]) -> tuple[str, Kept]:
    """Key and essence of a row as JSON or Arrow holds it.

    Raises:
        ValueError: it is no such row.
    """
    key, question = row.get("id"), row.get("question", "")
    if not isinstance(key, str) or not isinstance(question, str):
        raise ValueError("is no answer")
    if row.get("answer") is None and not row.get("error"):
        raise ValueError("is no answer")
    return key, Kept(question, str(row.get("made_under") or ""), bool(row.get("error")))


class AnswerTables:
    """Tables of answers under the store's root. Opening reads nothing."""

    def __init__(self, layout: Layout) -> None:
        self._lance = Lance(layout.tables, chunks="", max_age=timedelta(0), url=layout.tables_url)
        self.sums = FileSums(layout.tables)

    def names(self) -> list[str]:
        """The tables there are."""
        return sorted(self._lance.names())

    def version(self, name: str) -> int:
        """The version of a table; 0 when there is none."""
        table = self._lance.open(check_name(name, "table"))
        return int(table.version) if table is not None else 0

    def kept(self, name: str, keys: Sequence[str] | None = None) -> dict[str, Kept]:
        """What is known of the rows of a table, by key; empty when there is no table.

        Args:
            name: of the table.
            keys: only rows of these; every row without.

        Raises:
            InvalidName: ``name`` is not a plain name.
            InputError: the table holds something else.
        """
        from lancedb.expr import col

        table = self._lance.open(check_name(name, "table"))
        if table is None:
            return {}
        missing = [c for c in AnswerRow.model_fields if c not in table.schema.names]
        if missing:
            raise InputError(
                f"The table {name!r} has no column {missing[0]!r}: it holds no answers of a batch.",
                hint="Name another table.",
            )
        found: dict[str, Kept] = {}
        with self._lance.reading():
            query = table.search().select([*_KEPT_COLUMNS, "answer"])
            if keys is not None:
                query = query.where(col("id").isin(list(keys)))
            for batch in query.to_batches(8192):
                found.update(kept_row(row) for row in batch.to_pylist())
        return found

    def rows(self, name: str) -> Iterator[AnswerRow]:
        """Every row of a table.

        Raises:
            InvalidName: ``name`` is not a plain name.
            InputError: there is no such table, or it holds something else.
        """
        table = self._lance.open(check_name(name, "table"))
        if table is None:
            there = ", ".join(self.names()) or "none"
            raise InputError(f"There is no table {name!r}.", hint=f"There is: {there}.")
        with self._lance.reading():
            for batch in table.search().to_batches(1024):
                for row in batch.to_pylist():
                    try:
                        yield AnswerRow.model_validate(row)
                    except ValidationError as error:
                        raise InputError(
                            f"The table {name!r} holds a row that is no answer: {error}"
                        ) from error

    def showing(self, source: str) -> dict[str, int]:
        """How many answers of each table were shown passages of a document; none are left out."""
        found: dict[str, int] = {}
        for name in self.names():
            table = self._lance.open(name)
            if table is None or "passages" not in table.schema.names:
                continue
            with self._lance.reading():
                for batch in table.search().select(["passages"]).to_batches(8192):
                    shown = batch.column("passages").to_pylist()
                    count = sum(any(p["document"] == source for p in row or ()) for row in shown)
                    if count:
                        found[name] = found.get(name, 0) + count
        return found

    def put(self, name: str, rows: Sequence[AnswerRow]) -> int:
        """Write rows, each in the place of the one with its key; the table's version."""
        new = self._lance.open(check_name(name, "table")) is None
        table = self._lance.ensure(name, schema())
        with self._lance.writing():
            if new:
                # Without it, writers of the same new key at once would insert it twice.
                table.set_unenforced_primary_key("id")
            if rows:
                merge = table.merge_insert("id").when_matched_update_all()
                merge.when_not_matched_insert_all().execute(to_arrow(rows))
            version = int(table.version)
        self.sums.note()
        return version

    def settle(self, name: str) -> None:
        """Merge the small pieces that many writes left."""
        table = self._lance.open(name)
        if table is not None:
            with self._lance.writing():
                compact(table, keep=_KEEP)
            self.sums.note()
