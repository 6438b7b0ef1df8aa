from __future__ import annotations

import json
from pathlib import Path

import pytest

from fti.pipelines.feature.finding.opening import read
from fti.pipelines.feature.finding.sources import SourceFile
from fti.pipelines.feature.reading.readers import Extracted, SourcesConfig
from fti.pipelines.feature.reading.readers.json_records import read_json, read_json_lines
from fti.pipelines.feature.reading.readers.sheets.csv_tables import read_csv, read_tsv
from fti.store.errors import ExtractionError
from fti.store.types import sha256_hex

CONFIG = SourcesConfig()


def table(text: str) -> Extracted:
    (found,) = read_csv(text.encode("utf-8"), CONFIG)
    return found


def lines(*records: object) -> bytes:
    return "\n".join(r if isinstance(r, str) else json.dumps(r) for r in records).encode()


# CSV


def test_every_row_says_all_by_itself() -> None:
    found = table('name,price,note\nSaw,12,"cuts, well"\nDrill,30,\n')

    assert found.text == "name: Saw\nprice: 12\nnote: cuts, well\n\nname: Drill\nprice: 30"
    assert found.metadata == {"rows": "2", "columns": "name, price, note"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_recognised(delimiter: str) -> None:
    rows = [["name", "price in pounds"], ["Saw, large", "1"], ["Drill", "2"]]
    text = "\n".join(delimiter.join(f'"{c}"' for c in row) for row in rows)

    assert table(text).text.startswith("name: Saw, large\nprice in pounds: 1")


def test_a_cell_with_line_breaks_is_one_line() -> None:
    assert table('a,b\n"one\ntwo",3\n').text == "a: one two\nb: 3"


def test_rows_longer_than_the_header_lose_nothing() -> None:
    assert table("a,b\n1,2,3\n").text == "a: 1\nb: 2\ncolumn 3: 3"


def test_columns_without_names_are_numbered() -> None:
    assert table("a,\n1,2\n").text == "a: 1\ncolumn 2: 2"


def test_rows_stand_as_they_are_where_the_names_repeat() -> None:
    assert table('A,A,A\nA,"A,A",A\n').text == "A,A,A\n\nA,A,A,A"


def test_a_row_alone_is_read() -> None:
    assert table("just,one,row").text == "just,one,row"


def test_a_cell_longer_than_the_default_limit_is_read() -> None:
    assert len(table(f"a,b\n{'x' * 300_000},1\n").text) > 300_000


def test_tsv_quotes_and_commas() -> None:
    (found,) = read_tsv(b"name\tnote\nSaw\tcuts, well\n", CONFIG)

    assert found.text == "name: Saw\nnote: cuts, well"


def test_a_table_without_values_says_so() -> None:
    assert table(",,\n,,\n").empty_reason == "the table has no values"


# JSON Lines


def test_records_become_sections_with_title_text_and_the_rest() -> None:
    data = lines(
        {"price": 12.5, "title": "Saw", "text": "Cuts wood.", "tags": ["a", "b"], "none": None},
        {"sku": "D1", "size": {"w": 1, "h": 2}, "in_stock": True},
    )

    (found,) = read_json_lines(data, CONFIG)

    assert found.text == (
        "## Saw\n\nCuts wood.\n\nprice: 12.5\ntags: a, b\n\n"
        "sku: D1\nsize.w: 1\nsize.h: 2\nin_stock: true"
    )
    assert found.metadata == {"records": "2"}


def test_a_broken_line_is_named_and_the_good_ones_are_kept() -> None:
    (found,) = read_json_lines(lines({"a": "one"}, '{"a": ', {"a": "two"}), CONFIG)

    assert found.text == "a: one\n\na: two"
    assert found.metadata["warnings"].startswith("line 2 is not JSON: Expecting value")


def test_many_broken_lines_are_counted() -> None:
    (found,) = read_json_lines(lines({"a": "one"}, *["{"] * 9), CONFIG)

    assert found.metadata["warnings"].endswith("; and 4 more")


def test_a_file_without_a_good_line_is_refused_with_the_first_bad_one() -> None:
    with pytest.raises(ExtractionError, match="line 2 is not JSON"):
        read_json_lines(lines("", "{broken", "also"), CONFIG)


def test_unusual_line_separators_inside_strings_separate_nothing() -> None:
    record = json.dumps({"a": "one\u2028two\u0085three"}, ensure_ascii=False)

    (found,) = read_json_lines(record.encode("utf-8"), CONFIG)

    assert found.metadata == {"records": "1"}


def test_a_beir_corpus_is_one_document_per_record(tmp_path: Path) -> None:
    records = [
        {"_id": "d1", "title": "Kilns", "text": "Hot.", "metadata": {"url": "x", "n": 1}},
        {"_id": 2, "title": "", "text": "Cold."},
    ]
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(lines(*records))

    first, second = read(SourceFile(str(path), path, 0))

    assert (first.source, first.title, first.text) == (f"{path}#d1", "Kilns", "Hot.")
    assert first.metadata == {"url": "x"}
    assert first.content_hash == sha256_hex(json.dumps(records[0]))
    assert (second.source, second.title) == (f"{path}#2", "2")


def test_an_edit_of_one_beir_record_changes_only_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"

    def hashes(text: str) -> list[str]:
        path.write_bytes(lines({"_id": "a", "text": "Same."}, {"_id": "b", "text": text}))
        return [d.content_hash for d in read(SourceFile(str(path), path, 0))]

    before, after = hashes("Old."), hashes("New.")

    assert before[0] == after[0]
    assert before[1] != after[1]


def test_records_with_other_fields_are_no_beir_corpus() -> None:
    (found,) = read_json_lines(lines({"_id": "1", "text": "x", "price": 3}), CONFIG)

    assert found.key == ""


# JSON


def test_a_list_of_records_is_read_as_records() -> None:
    (found,) = read_json(json.dumps([{"name": "Saw"}, {"name": "Drill", "n": 2}]).encode(), CONFIG)

    assert found.text == "## Saw\n\n## Drill\n\nn: 2"


def test_an_object_becomes_lines_with_its_title() -> None:
    data = {"title": "Settings", "server": {"port": 80, "hosts": ["a", {"name": "b"}]}}

    (found,) = read_json(json.dumps(data).encode(), CONFIG)

    assert found.title == "Settings"
    assert found.text == ("# Settings\n\nserver.port: 80\nserver.hosts: a\nserver.hosts.2.name: b")


def test_broken_json_says_where() -> None:
    with pytest.raises(ExtractionError, match=r"not JSON: .* at line 2, column"):
        read_json(b'{\n"a" 1}', CONFIG)


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 60 + b"1" + b"}" * 60])
def test_nesting_beyond_reason_is_refused(data: bytes) -> None:
    with pytest.raises(ExtractionError, match="nested"):
        read_json(data, CONFIG)


# A chosen text field

CHOSEN = SourcesConfig(json_text="post.body")
POSTS = [
    {"id": "a1", "title": "Kiln", "post": {"body": "It is fired on Thursdays."}, "tag": "clay"},
    {"id": "b2", "title": "Saw", "post": {"body": "It stands in the hall."}, "stars": 5, "x": [1]},
]


@pytest.mark.parametrize("data", [lines(*POSTS), json.dumps(POSTS).encode()])
def test_with_a_text_field_each_record_is_a_document(data: bytes) -> None:
    reader = read_json if data.startswith(b"[") else read_json_lines
    first, second = reader(data, CHOSEN)
    assert (first.key, first.title, first.text) == ("a1", "Kiln", "It is fired on Thursdays.")
    assert first.metadata == {"id": "a1", "tag": "clay"}
    assert (second.key, second.metadata) == ("b2", {"id": "b2", "stars": "5"})
    assert json.loads(first.record) == POSTS[0]


def test_records_without_names_of_their_own_are_numbered() -> None:
    config = SourcesConfig(json_text="body")
    found = read_json_lines(
        lines({"id": 1, "body": "a"}, {"id": 1, "body": "b"}, {"body": 3}), config
    )
    assert [(f.key, f.text) for f in found] == [("1", "a"), ("2", "b"), ("3", "")]
    assert found[2].empty_reason == "no text in 'body'"
    (one,) = read_json(b'{"body": "alone"}', config)
    assert one.text == "alone"


def test_a_text_field_that_no_record_has_is_refused() -> None:
    with pytest.raises(ExtractionError, match=r"no record has a text in 'post\.body'") as refused:
        read_json_lines(lines({"text": "x"}, "3"), CHOSEN)
    assert "'text'" in refused.value.hint
