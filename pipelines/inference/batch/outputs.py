"""Where the answers of a batch go: a JSONL file, a Parquet file or a LanceDB table.

All three hold a row per key, at any time, and lose nothing that ``put`` returned from when the
process dies. They differ in what a reader sees while a batch runs:

- JSONL: rows that are to be replaced go first, new ones are appended as they come;
- Parquet: the file as it was, until the batch ends; until then the rows lie in the store;
- table: each row as it was until it is replaced, in one commit for the rows of each ``put``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fti.store.errors import InputError
from fti.store.files.atomic import append_lines, dump_line, iter_lines, replacing, writer_lock
from fti.store.logs.answertables import AnswerRow, AnswerTables, Kept, kept_row, schema, to_arrow
from fti.store.store import Store
from fti.store.types import sha256_hex
from fti.store.versioned.versions import check_name

if TYPE_CHECKING:
    import pyarrow as pa

    from fti.store.store import Store

_ROWS = 1024  # of a Parquet file, held at a time


class RowKeeper(Protocol):
    """What keeps rows of answers."""

    def put(self, rows: Sequence[AnswerRow]) -> None:
        """Keep rows, durably, in the place of those with their keys."""
        ...


def alone(store: Store, identity: str, name: str) -> AbstractContextManager[None]:
    """Be the only batch into an output; into a table of the store, among all that use it.

    Raises:
        StoreLocked: another one writes there.
    """
    key = f"locks/batch-{sha256_hex(identity)[:16]}.lock"
    if identity.startswith("table "):  # paths are absolute
        return store.layout.storage.locked(key, timeout_s=1.0, what=f"batch into {name}")
    return writer_lock(store.layout.root / key, timeout_s=1.0, what=f"batch into {name}")


class Output(RowKeeper, Protocol):
    """Rows by key, kept durably."""

    @property
    def name(self) -> str:
        """What it is, for people and for the run log."""
        ...

    @property
    def identity(self) -> str:
        """What a lock is taken on: the same for every way to name the same place."""
        ...

    def kept(self) -> dict[str, Kept]:
        """What lies there already, by key.

        Raises:
            InputError: something else than answers lies there.
        """
        ...

    def begin(self, redo: Collection[str]) -> None:
        """Get ready; the rows of these keys are about to be replaced. ``kept`` was asked before."""
        ...

    def finish(self) -> None:
        """All rows are there: make them visible where they are not yet."""
        ...


def open_output(store: Store, out: Path | None, table: str | None) -> Output:
    """The output that a command names: a file by its ending, or a table of the store.

    Raises:
        InputError: neither or both are named, or the file has an ending that is not known.
        InvalidName: the table's name is not a plain name.
    """
    if (out is None) == (table is None):
        raise InputError(
            "Say where the answers go: one file or one table.",
            hint="Add --out ANSWERS.jsonl, --out ANSWERS.parquet or --table NAME.",
        )
    if table is not None:
        return TableOutput(store.tables, check_name(table, "table"))
    assert out is not None  # one of the two is there
    suffix = out.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return JsonLines(out)
    if suffix == ".parquet":
        return Parquet(out, journals=store.layout.batches)
    raise InputError(
        f"{str(out)!r} ends in {suffix or 'nothing'!r}: its format is not known.",
        hint="Answers are written to .jsonl, .ndjson or .parquet files.",
    )


class JsonLines:
    """A JSONL file. A line that a crash cut is asked again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._dirty = False

    @property
    def name(self) -> str:
        """The path, as it was given."""
        return str(self._path)

    @property
    def identity(self) -> str:
        """The path that it comes down to."""
        return str(self._path.absolute())

    def kept(self) -> dict[str, Kept]:
        """The rows of the file; of lines with one key the first counts."""
        found: dict[str, Kept] = {}
        for row in self._lines():
            if row is None or row[0] in found:
                self._dirty = True
                continue
            found[row[0]] = row[1]
        return found

    def begin(self, redo: Collection[str]) -> None:
        """Take out the rows to be replaced, what a crash left, and second lines of a key."""
        if not redo and not self._dirty:
            return
        seen: set[str] = set()
        with replacing(self._path) as aside, aside.open("wb") as handle:
            for row in self._lines():
                if row is not None and row[0] not in seen and row[0] not in redo:
                    seen.add(row[0])
                    handle.write(row[2] + b"\n")

    def put(self, rows: Sequence[AnswerRow]) -> None:
        """Append rows."""
        lines = (row.model_dump(mode="json", exclude_none=True) for row in rows)
        append_lines(self._path, [dump_line(line) for line in lines])

    def finish(self) -> None:
        """An empty file where there was nothing to answer."""
        if not self._path.exists():
            with replacing(self._path) as aside:
                aside.touch()

    def _lines(self) -> Iterator[tuple[str, Kept, bytes] | None]:
        """Key, essence and bytes of each line; None for one that a crash cut."""
        if not self._path.exists():
            return
        with self._path.open("rb") as handle:
            handle.seek(max(0, self._path.stat().st_size - 1))
            torn = handle.read(1) not in (b"", b"\n")
        lines = enumerate(iter_lines(self._path), start=1)
        number, line = next(lines, (0, b""))
        while number:
            following = next(lines, (0, b""))
            try:
                row = json.loads(line)
                key, kept = kept_row(row) if isinstance(row, dict) else kept_row({})
                yield key, kept, line
            except ValueError as error:
                is_json = "is no answer" in str(error)
                if torn and not following[0] and not is_json:
                    yield None  # a crash cut the last line: its question is asked again
                    return
                raise InputError(
                    f"Line {number} of {str(self._path)!r} "
                    f"{'is no answer' if is_json else 'is not JSON'}; the file is left as it is.",
                    hint="Name another file with --out, or remove that line.",
                ) from error
            number, line = following


class Parquet:
    """A Parquet file, replaced as a whole when the batch ends; its rows so far lie in a journal."""

    def __init__(self, path: Path, *, journals: Path) -> None:
        self._path = path
        self._journal = JsonLines(journals / f"{sha256_hex(str(path.absolute()))[:32]}.jsonl")

    @property
    def name(self) -> str:
        """The path, as it was given."""
        return str(self._path)

    @property
    def identity(self) -> str:
        """The path that it comes down to."""
        return str(self._path.absolute())

    def kept(self) -> dict[str, Kept]:
        """The rows of the file, and those of a batch that was killed over them."""
        found: dict[str, Kept] = {}
        columns = ["id", "question", "made_under", "error", "answer"]
        for batch in self._batches(columns):
            found.update(kept_row(row) for row in batch.to_pylist())
        return found | self._journal.kept()

    def begin(self, redo: Collection[str]) -> None:
        """Drop from the journal what is to be replaced; the file stays as it is."""
        self._journal.begin(redo)

    def put(self, rows: Sequence[AnswerRow]) -> None:
        """Keep rows in the journal."""
        self._journal.put(rows)

    def finish(self) -> None:
        """Write the file anew, with the journal's rows, and let go of the journal."""
        import pyarrow.parquet as pq

        path = Path(self._journal.name)
        new = {row.id: row for row in self._journaled(path)}
        if not new and self._path.exists():
            path.unlink(missing_ok=True)
            return
        with replacing(self._path) as aside, pq.ParquetWriter(aside, schema()) as writer:
            for batch in self._batches(schema().names):
                mask = [key not in new for key in batch.column("id").to_pylist()]
                writer.write_batch(_plain(batch, mask))
            writer.write_table(to_arrow(list(new.values())))
        path.unlink(missing_ok=True)

    @staticmethod
    def _journaled(path: Path) -> Iterator[AnswerRow]:
        if path.exists():
            for line in iter_lines(path):
                yield AnswerRow.model_validate(json.loads(line))

    def _batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._path.exists():
            return
        try:
            with pq.ParquetFile(self._path) as file:
                missing = [name for name in schema().names if name not in file.schema_arrow.names]
                if missing:
                    raise InputError(
                        f"{str(self._path)!r} has no column {missing[0]!r}: it holds no answers of "
                        "a batch; it is left as it is.",
                        hint="Name another file with --out.",
                    )
                yield from file.iter_batches(batch_size=_ROWS, columns=list(columns))
        except pa.ArrowInvalid as error:
            raise InputError(
                f"{str(self._path)!r} is no Parquet file ({error}); it is left as it is.",
                hint="Name another file with --out.",
            ) from error


class TableOutput:
    """A LanceDB table of the store."""

    def __init__(self, tables: AnswerTables, table: str) -> None:
        self._tables = tables
        self._table = table

    @property
    def name(self) -> str:
        """The table's name, marked as one."""
        return f"table {self._table}"

    @property
    def identity(self) -> str:
        """Tables are told apart by name."""
        return self.name

    def kept(self) -> dict[str, Kept]:
        """The rows of the table."""
        return self._tables.kept(self._table)

    def begin(self, redo: Collection[str]) -> None:
        """Rows stay until they are replaced; the table is made, so that there is one to read."""
        self._tables.put(self._table, [])

    def put(self, rows: Sequence[AnswerRow]) -> None:
        """Merge rows by key, in one commit."""
        self._tables.put(self._table, rows)

    def finish(self) -> None:
        """Merge the small pieces that many commits left."""
        self._tables.settle(self._table)


def _plain(batch: Any, mask: Sequence[bool]) -> Any:
    """The chosen rows of a batch, under exactly the schema that is written."""
    import pyarrow as pa

    columns: Mapping[str, Any] = {name: batch.column(name) for name in schema().names}
    chosen = [columns[name].filter(pa.array(mask)) for name in schema().names]
    return pa.RecordBatch.from_arrays(chosen, schema=schema())
