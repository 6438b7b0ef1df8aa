"""Questions with known answers, as files hold them and as the store knows their documents.

The frozen sets among them lie in ``store.casesets``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fti.store.delimited import read_table
from fti.store.errors import InvalidCases
from fti.store.types import Case, InstructionExample, SourceRecord, nfc

_FORM = '{"id": "...", "question": "...", "answers": ["..."], "document": "path"}'
_COLUMNS = ("id", "question", "answers", "document")
_TABLES = (".csv", ".tsv")


def load_cases(path: Path) -> list[Case]:
    """Read CASES.jsonl, a table of cases, or a BEIR folder (corpus.jsonl, queries.jsonl,
    qrels/test.tsv).

    A ``.csv`` or ``.tsv`` file has the fields as columns; its ``answers`` are one text, or a list
    as JSON writes it, or empty for what the documents do not answer.
    Fields beyond those of a case are ignored. A BEIR query is a case without answers whose
    ``relevant`` names judged documents as ``corpus.jsonl#<id>``, the source that ingesting gives
    them; queries that nothing was judged for are left out.

    Raises:
        InvalidCases: the file is missing or empty, or a line cannot be used; names the line.
    """
    if path.is_dir():
        return _beir(path)
    cases: list[Case] = []
    first_line: dict[str, int] = {}
    for number, row in _rows(path):
        case = _case(row, path, number)
        if case.id in first_line:
            raise _fault(path, number, f"repeats the id {case.id!r} of line {first_line[case.id]}")
        first_line[case.id] = number
        cases.append(case)
    if not cases:
        raise InvalidCases(f"{str(path)!r} holds no cases.", hint=a_row(path))
    return cases


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.suffix.lower() not in _TABLES:
        yield from read_jsonl(path)
        return
    for number, row in read_table(path, needs=("id", "question", "answers")):
        lists = {name: _list_of(row.get(name)) for name in ("answers", "tags")}
        yield number, {**row, **lists}


def _list_of(cell: str | None) -> list[Any]:
    """What a cell of a table lists: one text, or as JSON writes it."""
    cell = (cell or "").strip()
    if cell.startswith("["):
        try:
            found = json.loads(cell)
        except (ValueError, RecursionError):
            return [cell]
        if isinstance(found, list):
            return found
    return [cell] if cell else []


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and objects of a JSON-lines file; blank lines are skipped.

    Raises:
        InvalidCases: the file cannot be read, or a line is no JSON object.
    """
    try:
        with path.open("rb") as lines:
            for number, raw in enumerate(lines, start=1):
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                    if not line.strip():
                        continue
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise _fault(path, number, f"is not JSON: {error}") from error
                if not isinstance(row, dict):
                    raise _fault(path, number, f"is {type(row).__name__}, not an object")
                yield number, row
    except OSError as error:
        raise InvalidCases(
            f"{str(path)!r} cannot be read: {error.strerror}.", hint="Name an existing file."
        ) from error


def text_field(
    row: dict[str, Any], field: str, path: Path, line: int, *, columns: Sequence[str] = _COLUMNS
) -> str:
    """A field that must be there as text (a number is taken as its digits).

    ``columns`` are those of such a file, for the hint.

    Raises:
        InvalidCases: it is missing, empty or of another type.
    """
    value = row.get(field)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise _fault(
            path,
            line,
            f"has no {field!r}"
            if value in (None, "")
            else f"has the {field!r} {value!r}, which is no text",
            columns,
        )
    return value


def _case(row: dict[str, Any], path: Path, line: int) -> Case:
    if "answers" not in row:
        raise _fault(path, line, "has no 'answers'; write [] for what the documents do not answer")
    answers = row["answers"]
    if not isinstance(answers, list) or not all(isinstance(a, str) and a.strip() for a in answers):
        raise _fault(path, line, f"has the answers {answers!r}, which are no list of texts")
    document = row.get("document") or ""
    if not isinstance(document, str):
        raise _fault(path, line, f"has the document {document!r}, which is no path")
    tags = row.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(t, str) and t.strip() for t in tags):
        raise _fault(path, line, f"has the tags {tags!r}, which are no list of texts")
    return Case(
        id=text_field(row, "id", path, line),
        question=text_field(row, "question", path, line),
        answers=tuple(answers),
        document=document,
        tags=tuple(dict.fromkeys(tag.strip() for tag in tags)),
    )


def _beir(folder: Path) -> list[Case]:
    qrels = folder / "qrels" / "test.tsv"
    missing = [
        str(file.relative_to(folder))
        for file in (folder / "corpus.jsonl", folder / "queries.jsonl", qrels)
        if not file.is_file()
    ]
    if missing:
        raise InvalidCases(
            f"{str(folder)!r} is no BEIR folder: it lacks {', '.join(missing)}.",
            hint="Name a CASES.jsonl file or a BEIR folder.",
        )
    judged: dict[str, dict[str, int]] = {}
    for number, line in enumerate(qrels.read_text("utf-8").splitlines(), start=1):
        fields = line.split("\t")
        if not line.strip() or (number == 1 and not _is_int(fields[-1])):
            continue  # the header line
        if len(fields) != 3 or not _is_int(fields[2]):
            raise _fault(qrels, number, "is not 'query<TAB>document<TAB>grade'")
        query, document, grade = fields
        judged.setdefault(query, {})[f"corpus.jsonl#{document}"] = int(grade)
    cases = []
    seen: set[str] = set()
    queries = folder / "queries.jsonl"
    for number, row in read_jsonl(queries):
        query = text_field(row, "_id", queries, number)
        if query in seen:
            raise _fault(queries, number, f"repeats the id {query!r}")
        seen.add(query)
        grades = judged.get(query, {})
        if any(grade > 0 for grade in grades.values()):
            question = text_field(row, "text", queries, number)
            cases.append(Case(id=query, question=question, relevant=grades))
    unknown = sorted(set(judged) - seen)
    if unknown:
        raise InvalidCases(
            f"{str(qrels)!r} judges the query {unknown[0]!r}, which queries.jsonl does not have "
            f"({len(unknown)} such)."
        )
    if not cases:
        raise InvalidCases(f"{str(folder)!r} judges no document relevant to any query.")
    return cases


def cases_from_rows(
    rows: Iterable[InstructionExample], records: Sequence[SourceRecord]
) -> list[Case]:
    """Rows of a dataset's held-out split as cases, each tagged with the kind of its row.

    Args:
        rows: examples; those about a document that is not in ``records`` are left out.
        records: the ledger, for the documents' sources.

    Raises:
        InvalidCases: no row can be used.
    """
    sources = {record.id: record.source for record in records}
    cases = [
        Case(
            id=row.id,
            question=row.question,
            answers=(row.answer,) if row.answer else (),
            document=sources[row.documents[0]],
            tags=(row.kind,),
        )
        for row in rows
        if row.documents and row.documents[0] in sources
    ]
    if not cases:
        raise InvalidCases(
            "The split has no row about a document in the store.",
            hint="Choose another split or dataset: fti dataset list",
        )
    return cases


class GoldDocuments:
    """Finds the store's document that a case file means.

    A reference matches a source that equals it or ends with it at a path boundary:
    ``corpus/x.md`` matches ``/data/squad/corpus/x.md`` and not ``/data/old-corpus/x.md``.

    Args:
        records: the ledger; sources without chunks do not count.
    """

    def __init__(self, records: Sequence[SourceRecord]) -> None:
        self._by_name: dict[str, list[SourceRecord]] = {}
        for record in records:
            if record.chunks:
                self._by_name.setdefault(_name(record.source), []).append(record)

    def find(self, reference: str) -> list[str]:
        """Ids of all documents that ``reference`` can mean: one when it is good."""
        reference = nfc(reference.replace("\\", "/").removeprefix("./"))
        named = self._by_name.get(_name(reference), [])
        exact = [r.id for r in named if nfc(r.source) == reference]
        tail = "/" + reference.lstrip("/")
        return exact or [r.id for r in named if nfc(r.source.replace("\\", "/")).endswith(tail)]


def _name(source: str) -> str:
    return nfc(source.replace("\\", "/").rsplit("/", 1)[-1])


def _is_int(text: str) -> bool:
    return text.strip().lstrip("-").isdigit()


def a_row(path: Path, columns: Sequence[str] = _COLUMNS) -> str:
    """What a row of such a file reads like, for hints: of a table, or as JSON."""
    if path.suffix.lower() in (*_TABLES, ".parquet"):
        return f"It is a table with the columns {', '.join(columns)}, and a value in each row."
    if tuple(columns) == _COLUMNS:
        return f"A line reads: {_FORM}"
    return "A line reads: {" + ", ".join(f'"{name}": "..."' for name in columns) + "}"


def _fault(path: Path, line: int, what: str, columns: Sequence[str] = _COLUMNS) -> InvalidCases:
    return InvalidCases(f"Line {line} of {str(path)!r} {what}.", hint=a_row(path, columns))
