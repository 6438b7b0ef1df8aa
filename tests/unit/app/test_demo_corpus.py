"""The demo corpus and its questions agree with each other.

The text is taken out of the files here with a few lines for each format, not with the project's
own readers, so that a reader which loses text can't hide a wrong answer.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import re
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import bs4
import docx
import pypdf
import pytest

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "app" / "demo"
DOCUMENTS = sorted(path for path in (DEMO / "corpus").rglob("*") if path.is_file())
CASES: list[dict[str, Any]] = [
    json.loads(line) for line in (DEMO / "cases.jsonl").read_text(encoding="utf-8").splitlines()
]
EVERYDAY = ROOT / "tests" / "bench" / "everyday_cases.jsonl"
ASKED = [
    *CASES,
    *(json.loads(line) for line in EVERYDAY.read_text(encoding="utf-8").splitlines()),
]


def fold(text: str) -> str:
    return " ".join(text.split())


def read_html(path: Path) -> str:
    page = bs4.BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    assert page.main is not None
    return page.main.get_text(" ")


def read_docx(path: Path) -> str:
    document = docx.Document(str(path))
    cells = [cell.text for table in document.tables for row in table.rows for cell in row.cells]
    return "\n".join([*(paragraph.text for paragraph in document.paragraphs), *cells])


def read_pdf(path: Path) -> str:
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(path, strict=True).pages)


def read_csv(path: Path) -> str:
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")), strict=True)
    return "\n".join(value for row in rows for value in row.values())


def read_jsonl(path: Path) -> str:
    objects = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return "\n".join(str(value) for item in objects for value in item.values())


READERS = {
    ".html": read_html,
    ".docx": read_docx,
    ".pdf": read_pdf,
    ".csv": read_csv,
    ".jsonl": read_jsonl,
}


@cache
def text_of(path: Path) -> str:
    reader = READERS.get(path.suffix)
    return fold(reader(path) if reader else path.read_text(encoding="utf-8"))


def stands_in(answer: str, text: str) -> bool:
    """Whether `answer` is in `text` as whole words: "4" doesn't stand in "1974"."""
    return re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text) is not None


def make_demo_documents() -> ModuleType:
    path = ROOT / "tests" / "support" / "make_demo_documents.py"
    spec = importlib.util.spec_from_file_location("make_demo_documents", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks its module up while it's being made.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    return module


def test_corpus_is_large_and_mixed_enough() -> None:
    assert len(DOCUMENTS) >= 30
    assert len({path.suffix for path in DOCUMENTS}) >= 6
    assert all(re.fullmatch(r"[a-z0-9-]+\.[a-z]+", path.name) for path in DOCUMENTS)


def test_demo_stays_small() -> None:
    size = sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file())
    assert size < 600_000


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_document_has_something_to_say(path: Path) -> None:
    assert len(text_of(path).split()) >= 200


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_document_is_asked_about(path: Path) -> None:
    name = path.relative_to(DEMO).as_posix()
    asked = [bool(case["answers"]) for case in CASES if case["document"] == name]
    assert sum(asked) >= 6
    assert asked.count(False) >= 1


def test_every_case_has_the_four_fields() -> None:
    assert {tuple(case) for case in ASKED} == {("id", "question", "answers", "document")}


def test_there_are_enough_cases_of_both_kinds() -> None:
    kinds = Counter(bool(case["answers"]) for case in CASES)
    assert kinds[True] >= 260
    assert kinds[False] >= 60


def test_ids_are_unique() -> None:
    assert len({case["id"] for case in ASKED}) == len(ASKED)


def test_no_question_is_asked_twice() -> None:
    asked = Counter(re.sub(r"\W+", " ", case["question"].lower()).strip() for case in ASKED)
    assert [question for question, times in asked.items() if times > 1] == []


def test_questions_are_questions() -> None:
    assert [case["id"] for case in ASKED if not case["question"].endswith("?")] == []


def test_every_document_of_a_case_exists() -> None:
    known = {path.relative_to(DEMO).as_posix() for path in DOCUMENTS}
    assert {case["document"] for case in ASKED} <= known


def test_every_answer_stands_in_its_document() -> None:
    missing = [
        (case["id"], answer)
        for case in ASKED
        for answer in case["answers"]
        if not stands_in(answer, text_of(DEMO / case["document"]))
    ]
    assert missing == []


def test_answers_are_short() -> None:
    long = [a for case in CASES for a in case["answers"] if not 1 <= len(a.split()) <= 12]
    assert long == []


def test_no_unanswerable_case_has_an_empty_string_for_an_answer() -> None:
    assert all(isinstance(case["answers"], list) for case in ASKED)
    assert all(answer.strip() == answer != "" for case in ASKED for answer in case["answers"])


def test_office_documents_are_what_their_sources_say(tmp_path: Path) -> None:
    written = make_demo_documents().write_all(tmp_path)
    assert len(written) == 6
    for path in written:
        shipped = DEMO / "corpus" / path.relative_to(tmp_path)
        assert text_of(path) == text_of(shipped)


def test_office_documents_are_written_the_same_each_time(tmp_path: Path) -> None:
    maker = make_demo_documents()
    first = [path.read_bytes() for path in maker.write_all(tmp_path / "first")]
    assert first == [path.read_bytes() for path in maker.write_all(tmp_path / "second")]
