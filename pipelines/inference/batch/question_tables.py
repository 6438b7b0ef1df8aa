"""The questions of a batch, from JSONL, CSV, TSV or Parquet: an id and a question each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fti.pipelines.inference.evaluating.cases import a_row, read_jsonl, text_field
from fti.store.delimited import read_table
from fti.store.errors import InputError, InvalidCases

_COLUMNS = ("id", "question")
_ROWS = 8192  # of a Parquet file, read at a time

_Row = tuple[int, dict[str, Any]]


def read_questions(questions: Path | Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Questions by id, in their order; other fields are ignored.

    Args:
        questions: a ``.jsonl`` (``.ndjson``), ``.csv``, ``.tsv`` or ``.parquet`` file with the
            columns ``id`` and ``question``, or such mappings.

    Raises:
        InputError: the file has another ending.
        InvalidCases: it cannot be read, or a row has no id or question, or repeats an id.
    """
    if isinstance(questions, Path):
        where, rows = questions, _reader(questions)(questions)
    else:
        where = Path("questions")
        rows = ((n, dict(row)) for n, row in enumerate(questions, start=1))
    asked: dict[str, str] = {}
    for line, row in rows:
        identity = text_field(row, "id", where, line, columns=_COLUMNS)
        if identity in asked:
            raise InvalidCases(
                f"Line {line} of {str(where)!r} repeats the id {identity!r}.",
                hint="Give each question an id of its own: answers are kept by id.",
            )
        # An empty question is this question's failure and becomes a row in the answers.
        question = row.get("question")
        if not isinstance(question, str):
            raise InvalidCases(
                f"Line {line} of {str(where)!r} has the question {question!r}, which is no text.",
                hint=a_row(where, _COLUMNS),
            )
        asked[identity] = question
    return asked


def _reader(path: Path) -> Callable[[Path], Iterator[_Row]]:
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise InputError(
            f"{str(path)!r} ends in {suffix or 'nothing'!r}: its format is not known.",
            hint=f"Questions are read from {', '.join(_READERS)}.",
        )
    return _READERS[suffix]


def _read_table(path: Path) -> Iterator[_Row]:
    yield from read_table(path, needs=_COLUMNS)


def _read_parquet(path: Path) -> Iterator[_Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as handle, pq.ParquetFile(handle) as file:
            _require_columns(path, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(batch_size=_ROWS, columns=list(_COLUMNS)):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except pa.ArrowInvalid as error:
        raise _unreadable(path, str(error)) from error


def _require_columns(path: Path, names: Iterable[str]) -> None:
    there = list(names)
    for column in _COLUMNS:
        if column not in there:
            raise InvalidCases(
                f"{str(path)!r} has no column {column!r}; its columns are: "
                f"{', '.join(there) or 'none'}.",
                hint="Name two columns id and question.",
            )


def _unreadable(path: Path, why: str) -> InvalidCases:
    return InvalidCases(f"{str(path)!r} cannot be read: {why}.", hint="Name an existing file.")


_READERS: Mapping[str, Callable[[Path], Iterator[_Row]]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".csv": _read_table,
    ".tsv": _read_table,
    ".parquet": _read_parquet,
}
