"""What landed is held to what is expected, by collection; what breaks it is named and kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from fti.app.commands.validate import validate as command
from fti.app.options import CommonOptions
from fti.pipelines.feature.validating import feature_frames
from fti.pipelines.feature.validating.expectations import Expectations, ExpectationsConfig
from fti.pipelines.feature.validating.validate_features import validate_features
from fti.pipelines.feature.validating.validation_report import Finding, ValidationReport
from fti.store.errors import ConfigError, StoreEmpty
from fti.store.store import Store
from fti.store.types import now
from tests.support.copies import copied_store
from tests.support.features import IDENTITY, an_update, axis

GERMAN = "Die Werkstatt ist am Samstag geschlossen und wird am Montag wieder geöffnet."
ENGLISH = "The workshop is closed on Saturdays and will be opened again on Mondays."


def fill(store: Store) -> None:
    store.features.create(IDENTITY)
    with_chunks = [
        an_update("/news/a.md", {ENGLISH: axis(1)}, title="Closed",
                  metadata={"lang": "en", "year": "2024", "collection": "news"}),
        an_update("/news/b.md", {GERMAN: axis(0, 1)}, title="Zu",
                  metadata={"lang": "de", "year": "1850", "collection": "news"}),
        an_update("/news/c.md", {"Short.": axis(0, 0, 1)}, title="",
                  metadata={"year": "soon", "collection": "news"}),
        an_update("/wiki/d.md", {ENGLISH + " Always.": axis(1)}, title="Hours"),
    ]  # fmt: skip
    for update in with_chunks:
        inside = update.document.metadata.get("collection", "")
        record = update.entry.record.model_copy(update={"collection": inside})
        object.__setattr__(update.entry, "record", record)
    store.features.replace(with_chunks)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return copied_store("validated", tmp_path / "store", fill)


def found(store: Store, tolerated: float = 0.0, **by_collection: Any) -> ValidationReport:
    collections = {
        name.replace("every", "*"): Expectations(tolerated=tolerated, **frames)
        for name, frames in by_collection.items()
    }
    return validate_features(store=store, config=ExpectationsConfig(collections=collections))


def columns(**of: Mapping[str, Any]) -> dict[str, Any]:
    return {"columns": {name.replace("metadata_", "metadata."): c for name, c in of.items()}}


def only(report: ValidationReport) -> Finding:
    (finding,) = report.findings
    return finding


def test_required_metadata_that_is_missing_is_named_with_its_document(store: Store) -> None:
    finding = only(found(store, news={"documents": columns(metadata_lang={"dtype": "str"})}))
    assert (finding.column, finding.check, finding.rows, finding.of) == (
        "metadata.lang", "not_nullable", 1, 3,
    )  # fmt: skip
    assert [e.source for e in finding.examples] == ["/news/c.md"]
    report = found(store, every={"documents": columns(metadata_owner={"dtype": "str"})})
    assert only(report).check == "the column is there"
    assert (only(report).rows, report.broken) == (4, 1)


def test_types_and_ranges_of_metadata_are_told_apart(store: Store) -> None:
    year = {"dtype": "Int64", "coerce": True, "nullable": True,
            "checks": {"in_range": {"min_value": 1900, "max_value": 2100}}}  # fmt: skip
    typed = only(found(store, news={"documents": columns(metadata_year=year)}))
    assert typed.check == "coerce_dtype('Int64')"
    assert [(e.source, e.value) for e in typed.examples] == [("/news/c.md", "soon")]
    ranged = only(found(store, news={"documents": columns(metadata_year={
        "checks": {"str_matches": r"(19|20)\d\d"}, "nullable": True})}))  # fmt: skip
    assert [e.value for e in ranged.examples] == ["1850", "soon"]


def test_languages_lengths_and_titles_of_documents_and_chunks(store: Store) -> None:
    report = found(
        store,
        news={
            "documents": columns(
                language={"checks": {"isin": ["en", "unknown"]}},
                title={"checks": {"str_length": {"min_value": 3}}},
            ),
            "chunks": columns(characters={"dtype": "int64", "checks": {"greater_than": 10}}),
        },
    )
    told = {(f.frame, f.column): [e.source for e in f.examples] for f in report.findings}
    assert told == {
        ("documents", "language"): ["/news/b.md"],
        ("documents", "title"): ["/news/b.md"],
        ("chunks", "characters"): ["/news/c.md"],
    }
    assert report.expectations == 6


def test_what_grew_old_and_what_failed_is_seen_of_the_collection(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {"collection": columns(
        newest_days={"checks": {"less_than": 30}}, failed_share={"checks": {"less_than": 0.2}},
        documents={"dtype": "int64", "checks": {"in_range": {"min_value": 1, "max_value": 3}}},
    )}  # fmt: skip
    assert found(store, news=expected).findings == ()
    later = now() + timedelta(days=40)
    monkeypatch.setattr("fti.pipelines.feature.validating.validate_features.now", lambda: later)
    old = found(store, news=expected)
    assert [f.column for f in old.findings] == ["newest_days"]
    assert float(old.findings[0].examples[0].value) == pytest.approx(40, abs=0.1)
    landed = feature_frames.Landed(store.features, now()).collection("news").iloc[0]
    assert (landed["documents"], landed["near_copies"], landed["failed_share"]) == (3, 0, 0)


def test_copies_are_allowed_up_to_a_share(store: Store) -> None:
    entry = next(e for e in store.features.ledger() if e.record.source == "/news/b.md")
    marked = entry.record.model_copy(update={"duplicate_of": "/news/a.md"})
    store.features.note([type(entry)(marked, entry.file, entry.file_hash, entry.file_documents)])
    few = {"collection": columns(near_copies={"checks": {"less_than_or_equal_to": 0.3}})}
    assert only(found(store, news=few)).column == "near_copies"
    assert found(store, every=few).findings == ()  # 1 of 4


def test_what_is_tolerated_is_told_and_breaks_nothing(store: Store) -> None:
    expected = {"documents": columns(metadata_lang={"dtype": "str"})}
    report = found(store, tolerated=0.5, news=expected)
    assert (report.broken, only(report).broken, only(report).rows) == (0, False, 1)
    assert found(store, tolerated=0.3, news=expected).broken == 1


def test_expectations_of_a_collection_that_is_not_there_are_broken(store: Store) -> None:
    finding = only(found(store, blog={"documents": columns(title={})}))
    assert (finding.collection, finding.broken) == ("blog", True)


def test_every_validation_is_kept_with_its_findings(store: Store) -> None:
    report = found(store, news={"documents": columns(metadata_lang={"dtype": "str"})})
    run = store.runs.get(report.run)
    assert (run.kind, run.pipeline, run.status) == ("validate", "validate", "partial")
    assert run.metrics["broken"] == 1
    (row,) = store.runs.attached(run.id, "findings")
    assert row["examples"] == [{"source": "/news/c.md", "value": "missing"}]
    assert (
        store.runs.get(found(store, every={"documents": columns(source={})}).run).status == "done"
    )


def test_what_is_usual_is_expected_where_nothing_is_said(store: Store) -> None:
    report = validate_features(store=store, config=ExpectationsConfig())
    assert report.findings == ()
    assert report.expectations == 8
    with pytest.raises(StoreEmpty):
        validate_features(store=Store(store.layout.root / "x"), config=ExpectationsConfig())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[1]", "no collections"),
        ("a: [", "not YAML"),
        ("news: {dokuments: {}}", "dokuments"),
        ("news: {tolerated: 3}", "less than or equal to 1"),
        ("news: {}", "Nothing is expected"),
        ("news: {documents: {columns: {title: {dtyp: str}}}}", "Did you mean dtype"),
        ("news: {documents: {columns: {title: {checks: {is_in: [a]}}}}}", "Did you mean isin"),
        ("news: {documents: {columns: {title: {checks: {__init__: 3}}}}}", "__init__"),
        ("news: {documents: {columns: {title: {dtype: strange}}}}", "no schema"),
        ("news: {documents: {rows: 3}}", "rows"),
        ("news: {documents: {columns: [title]}}", "columns"),
        ("news: {chunks: {columns: {words: 3}}}", "says nothing"),
    ],
)
def test_expectations_that_are_none_are_refused_before_anything_is_read(
    store: Store, tmp_path: Path, text: str, fault: str
) -> None:
    file = tmp_path / "expectations.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        validate_features(store=store, config=ExpectationsConfig(file=file))
    assert fault in f"{caught.value.message} {caught.value.hint}"
    assert not store.runs.list("validate")


def test_a_file_that_is_not_there_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lost\.yaml"):
        validate_features(store=store, config=ExpectationsConfig(file=tmp_path / "lost.yaml"))


def test_the_command_writes_a_report_and_exits_with_3(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "expectations.yaml"
    expected = {"news": {"documents": columns(metadata_lang={"dtype": "str"})}}
    file.write_text(yaml.safe_dump(expected), "utf-8")
    with pytest.raises(typer.Exit) as left:
        command(
            CommonOptions(store=store.layout.root, json=True), file=file, report=tmp_path / "out"
        )
    assert left.value.exit_code == 3
    result = json.loads(capsys.readouterr().out)
    assert result["broken"] == 1
    page = Path(result["report"]).read_text("utf-8")
    assert "metadata.lang" in page
    assert "/news/c.md: missing" in page
    command(CommonOptions(store=store.layout.root))
    assert "0 of 8 expectations are broken" in capsys.readouterr().out
