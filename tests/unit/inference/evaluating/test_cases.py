from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.inference.evaluating.cases import GoldDocuments, cases_from_rows, load_cases
from fti.store.errors import InvalidCases
from fti.store.types import Case, SourceRecord, document_id, now
from fti.store.versioned.casesets import cases_digest
from tests.support.values import a_row


def write(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


GOOD = {"id": "q1", "question": "When?", "answers": ["at nine", "9"], "document": "corpus/x.md"}


def test_cases_are_read_and_other_fields_ignored(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", GOOD | {"paragraph": 3}, "", GOOD | {"id": 7, "answers": []})
    first, second = load_cases(path)
    assert first == Case(**GOOD)
    assert first.answerable
    assert (second.id, second.answerable) == ("7", False)


def test_a_byte_order_mark_and_line_separators_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    line = json.dumps(GOOD | {"question": "one\u2028two"}, ensure_ascii=False)
    path.write_bytes(b"\xef\xbb\xbf" + line.encode() + b"\r\n")
    assert load_cases(path)[0].question == "one\u2028two"


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        ("{", "not JSON"),
        ("[1]", "list"),
        ("\udcff", "not JSON"),
        ({k: v for k, v in GOOD.items() if k != "id"}, "no 'id'"),
        (GOOD | {"id": "q2", "question": " "}, "'question' ' '"),
        (GOOD | {"id": "q2", "question": 1.5}, "1.5"),
        ({"id": "q2", "question": "When?"}, "no 'answers'"),
        (GOOD | {"id": "q2", "answers": "nine"}, "'nine'"),
        (GOOD | {"id": "q2", "answers": [""]}, "list of texts"),
        (GOOD | {"id": "q2", "document": 4}, "document 4"),
        (GOOD, "repeats the id 'q1' of line 1"),
    ],
)
def test_a_bad_line_is_named_with_its_fault(tmp_path: Path, bad: Any, fault: str) -> None:
    path = tmp_path / "c.jsonl"
    line = bad if isinstance(bad, str) else json.dumps(bad)
    path.write_bytes(f"{json.dumps(GOOD)}\n\n{line}\n".encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidCases, match="Line 3") as caught:
        load_cases(path)
    assert fault in str(caught.value)


def test_a_missing_or_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidCases, match="cannot be read"):
        load_cases(tmp_path / "none.jsonl")
    with pytest.raises(InvalidCases, match="no cases"):
        load_cases(write(tmp_path / "c.jsonl", ""))


def beir(folder: Path, *qrels: str) -> Path:
    write(folder / "corpus.jsonl", {"_id": "d1", "title": "T", "text": "x"})
    write(folder / "queries.jsonl", {"_id": "q1", "text": "one?"}, {"_id": "q2", "text": "two?"})
    write(folder / "qrels" / "test.tsv", *qrels)
    return folder


def test_a_beir_folder_gives_judged_cases(tmp_path: Path) -> None:
    folder = beir(tmp_path, "query-id\tcorpus-id\tscore", "q1\td1\t2", "q1\td2\t0", "q2\td1\t0")
    (case,) = load_cases(folder)
    assert case == Case(
        id="q1", question="one?", relevant={"corpus.jsonl#d1": 2, "corpus.jsonl#d2": 0}
    )


@pytest.mark.parametrize(
    ("qrels", "fault"),
    [
        (["query-id\tcorpus-id\tscore", "q1\td1"], "Line 2"),
        (["q9\td1\t1"], "'q9'"),
        (["q1\td1\t0"], "no document relevant"),
    ],
)
def test_broken_judgements_are_refused(tmp_path: Path, qrels: list[str], fault: str) -> None:
    with pytest.raises(InvalidCases, match=fault):
        load_cases(beir(tmp_path, *qrels))


def test_a_folder_that_is_no_beir_folder_says_what_it_lacks(tmp_path: Path) -> None:
    write(tmp_path / "corpus.jsonl", {"_id": "d1"})
    with pytest.raises(InvalidCases, match=r"lacks queries.jsonl, qrels/test.tsv"):
        load_cases(tmp_path)


def test_the_digest_is_of_the_set_not_of_its_order() -> None:
    one, two = Case(id="1", question="a"), Case(id="2", question="b")
    assert cases_digest([one, two]) == cases_digest([two, one])
    assert cases_digest([one]) != cases_digest([two])


def test_tags_are_read_and_checked(tmp_path: Path) -> None:
    line = {"id": 1, "question": "Who?", "answers": [], "tags": ["staff", " staff ", "hard"]}
    write(tmp_path / "cases.jsonl", line)
    assert load_cases(tmp_path / "cases.jsonl")[0].tags == ("staff", "hard")
    write(tmp_path / "bad.jsonl", {**line, "tags": "staff"})
    with pytest.raises(InvalidCases, match="tags 'staff'"):
        load_cases(tmp_path / "bad.jsonl")


def test_rows_of_a_held_out_split_become_cases() -> None:
    source = "/data/corpus/x.md"
    here = a_row("r1", "test", documents=(document_id(source),), kind="cloze")
    gone = a_row("r2", "test", documents=("d-gone",))
    none = a_row("r3", "test", documents=(document_id(source),), answer="", kind="unanswerable")
    one, two = cases_from_rows([here, gone, none], [record(source)])
    assert (one.question, one.answers, one.document) == (here.question, ("at nine",), source)
    assert (two.answers, two.tags) == ((), ("unanswerable",))
    with pytest.raises(InvalidCases, match="no row"):
        cases_from_rows([gone], [record(source)])


def record(source: str, chunks: int = 1) -> SourceRecord:
    return SourceRecord(
        id=document_id(source),
        source=source,
        title="",
        state="indexed",
        chunks=chunks,
        attempted_at=now(),
    )


def test_gold_documents_match_at_path_boundaries() -> None:
    gold = GoldDocuments(
        [
            record("/data/corpus/x.md"),
            record("/data/old-corpus/x.md"),
            record("/data/corpus/y.md", chunks=0),
            record("/a/corpus.jsonl#d/1"),
        ]
    )
    assert gold.find("corpus/x.md") == [document_id("/data/corpus/x.md")]
    assert gold.find("./corpus/x.md") == [document_id("/data/corpus/x.md")]
    assert gold.find("/data/corpus/x.md") == [document_id("/data/corpus/x.md")]
    assert len(gold.find("x.md")) == 2
    assert gold.find("corpus/y.md") == []  # never read, or empty
    assert gold.find("corpus/z.md") == []
    assert gold.find("corpus.jsonl#d/1") == [document_id("/a/corpus.jsonl#d/1")]


def test_gold_documents_match_in_either_form_of_unicode() -> None:
    forms = ("Bücher/Öfen.md", "Bu\u0308cher/O\u0308fen.md")
    for stored in forms:
        gold = GoldDocuments([record(f"/data/{stored}")])
        for meant in (*forms, *(f"/data/{form}" for form in forms)):
            assert gold.find(meant) == [document_id(f"/data/{stored}")]


def test_a_table_holds_cases_as_jsonl_does(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    path.write_text(
        "Cases of May\n\nid;question;answers;document;tags\n"
        '1;"When; exactly?";At nine, daily;a.md;x\n'
        '2;Who?;"[""Ann"", ""Bob""]";a.md;\n3;Why?;;;\n',
        "utf-8",
    )

    first, second, third = load_cases(path)

    assert (first.question, first.answers) == ("When; exactly?", ("At nine, daily",))
    assert (first.document, first.tags) == ("a.md", ("x",))
    assert second.answers == ("Ann", "Bob")
    assert third.answers == ()


def test_a_fault_in_a_table_is_not_explained_by_json(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    path.write_text("id,question,answers\n1,Who?,Ann\n,When?,At nine\n", "utf-8")

    with pytest.raises(InvalidCases, match=r"Line 3 .* has no 'id'") as caught:
        load_cases(path)
    assert "table with the columns id, question" in caught.value.hint
    assert "{" not in caught.value.hint
