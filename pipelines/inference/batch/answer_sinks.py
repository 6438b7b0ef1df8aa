"""Where the answers to a stream of questions go, each once: a file, a table, a stream, a pipe.

Questions may come twice. What remembers that one is answered is the place where its answer lies, so
that a process that dies between keeping answers and acknowledging questions asks nothing again. A
pipe remembers nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from fti.pipelines.inference.batch.outputs import JsonLines, RowKeeper
from fti.store.files.atomic import dump_line
from fti.store.logs.answertables import AnswerRow, AnswerTables, Kept
from fti.store.streams.keyed_stream import KeyedRecord, KeyedStream
from fti.store.types import sha256_hex
from fti.store.versioned.versions import check_name


class AnswerSink(RowKeeper, Protocol):
    """Rows of answers, a key at a time."""

    @property
    def name(self) -> str:
        """What it is, for people and for the run log; no secrets."""
        ...

    @property
    def lock(self) -> str:
        """What a lock is taken on; empty where several may write."""
        ...

    def open(self) -> None:
        """Look at what is there.

        Raises:
            InputError: something else than answers lies there.
        """
        ...

    def answered(self, asked: Mapping[str, str]) -> Collection[str]:
        """Those of the questions, words by key, that there is an answer to."""
        ...

    def settle(self) -> None:
        """Tidy up, now and then."""
        ...


class LinesSink:
    """A JSONL file. In memory are the keys of its rows, with a digest each."""

    def __init__(self, lines: JsonLines) -> None:
        self._lines = lines
        self._known: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The path, as it was given."""
        return self._lines.name

    @property
    def lock(self) -> str:
        """As of a batch into the same file."""
        return self._lines.identity

    def open(self) -> None:
        """Read the keys, and take out what a crash left."""
        self._known = {key: _mark_of(kept) for key, kept in self._lines.kept().items()}
        self._lines.begin(())

    def answered(self, asked: Mapping[str, str]) -> Collection[str]:
        """By what was read and written."""
        return {key for key, words in asked.items() if self._known.get(key) == _mark(words)}

    def put(self, rows: Sequence[AnswerRow]) -> None:
        """Append rows; the file is written anew where one of them takes another's place."""
        if again := [row.id for row in rows if row.id in self._known]:
            self._lines.begin(again)
        self._lines.put(rows)
        self._known.update((row.id, _row_mark(row)) for row in rows)

    def settle(self) -> None:
        """An empty file where there was nothing to answer."""
        self._lines.finish()


class TableSink:
    """A LanceDB table of the store."""

    def __init__(self, tables: AnswerTables, table: str) -> None:
        self._tables = tables
        self._table = check_name(table, "table")

    @property
    def name(self) -> str:
        """The table's name, marked as one."""
        return f"table {self._table}"

    @property
    def lock(self) -> str:
        """As of a batch into the same table."""
        return self.name

    def open(self) -> None:
        """Make the table where there is none."""
        self._tables.kept(self._table, [])
        self._tables.put(self._table, [])

    def answered(self, asked: Mapping[str, str]) -> Collection[str]:
        """By the rows of these keys."""
        kept = self._tables.kept(self._table, list(asked))
        return {key for key, row in kept.items() if _mark_of(row) == _mark(asked[key])}

    def put(self, rows: Sequence[AnswerRow]) -> None:
        """Merge rows by key, in one commit."""
        self._tables.put(self._table, rows)

    def settle(self) -> None:
        """Merge the small pieces that many commits left."""
        self._tables.settle(self._table)


class RedisSink:
    """A Redis stream: entries with ``id`` and ``record``, the row as JSON."""

    def __init__(self, stream: KeyedStream) -> None:
        self._stream = stream

    @property
    def name(self) -> str:
        """Address and stream."""
        return self._stream.name

    @property
    def lock(self) -> str:
        """Several may write: the stream sees to it that each answer comes once."""
        return ""

    def open(self) -> None:
        """It was looked at when it was connected."""

    def answered(self, asked: Mapping[str, str]) -> Collection[str]:
        """By what the stream remembers."""
        marks = self._stream.written(list(asked))
        return {key for key, mark in marks.items() if mark == _mark(asked[key])}

    def put(self, rows: Sequence[AnswerRow]) -> None:
        """Append rows that are not there."""
        self._stream.put(
            [KeyedRecord(row.id, _row_mark(row), _json(row).encode("utf-8")) for row in rows]
        )

    def settle(self) -> None:
        """Nothing to tidy."""


class PipeSink:
    """Lines that somebody reads, such as standard output. None is remembered."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    @property
    def name(self) -> str:
        """As it is written on a command line."""
        return "-"

    @property
    def lock(self) -> str:
        """None: nothing is there to be written twice."""
        return ""

    def open(self) -> None:
        """Nothing is there."""

    def answered(self, asked: Mapping[str, str]) -> Collection[str]:
        """None is known."""
        return ()

    def put(self, rows: Sequence[AnswerRow]) -> None:
        """Write a line each."""
        self._write("".join(_json(row) + "\n" for row in rows))

    def settle(self) -> None:
        """Nothing to tidy."""


def _json(row: AnswerRow) -> str:
    return dump_line(row.model_dump(mode="json", exclude_none=True))


def _mark(words: str) -> str:
    """What is remembered of a question that has an answer."""
    return sha256_hex(words.strip())


def _row_mark(row: AnswerRow) -> str:
    return "failed " + _mark(row.question) if row.error else _mark(row.question)


def _mark_of(kept: Kept) -> str:
    return "failed " + _mark(kept.question) if kept.failed else _mark(kept.question)
