"""What is stored, as tables: every value a row, every field a column, conditions on any part."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fti.store.answer_types import Answer, Citation, Feedback, Usage
from fti.store.errors import DatasetNotFound, InputError, InvalidFilter, RunNotFound
from fti.store.logs.answers import new_answer_id
from fti.store.store import Store
from fti.store.tabular.value_tables import table_of_rows, table_of_values
from fti.store.types import (
    Case,
    DatasetVersion,
    InstructionExample,
    PreferenceExample,
    Run,
    SourceRecord,
    Value,
)
from fti.store.versioned.casesets import CaseSetVersion
from tests.support.features import IDENTITY, an_update
from tests.support.values import EMBEDDER, a_pair, a_passage, a_row, an_answer

MARCH = datetime(2026, 3, 1, 12, tzinfo=UTC)
APRIL = datetime(2026, 4, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def answers(store: Store) -> Store:
    for at, changes in (
        (MARCH, {"model": "reader/1", "usage": Usage(prompt_tokens=100),
                 "timings": {"total_s": 2}}),
        (APRIL, {"model": "reader/2", "passages": (a_passage(), a_passage(chunk_id="c2")),
                 "engine": {"device": "cpu", "threads": [1, 2]}}),
    ):  # fmt: skip
        store.answers.append(an_answer(new_answer_id(at), created_at=at, **changes))
    return store


@pytest.mark.parametrize(
    "kind",
    [Answer, Run, Case, SourceRecord, DatasetVersion, CaseSetVersion, InstructionExample,
     PreferenceExample],
)  # fmt: skip
def test_every_field_of_what_is_stored_is_a_column(kind: type[Value]) -> None:
    table = table_of_values([], kind)
    assert table.column_names == list(kind.model_fields)
    assert table.num_rows == 0
    assert not any(pa.types.is_null(field.type) for field in table.schema)


def test_answers_come_newest_first_with_what_people_said(answers: Store) -> None:
    old = answers.answers.list()[1]
    answers.answers.feedback(Feedback(answer_id=old.id, rating="up"))
    said = Feedback(answer_id=old.id, rating="down", comment="no", correction="At ten.")
    answers.answers.feedback(said)
    answers.answers.review(old.id, "accepted", answer="At ten sharp.")

    frame = answers.answers.to_pandas()
    assert frame["model"].tolist() == ["reader/2", "reader/1"]
    assert frame["created_at"].tolist() == [APRIL, MARCH]
    assert frame["engine"][0] == {"device": "cpu", "threads": [1, 2]}
    assert frame["timings"][1] == {"total_s": 2.0}
    assert [p["chunk_id"] for p in frame["passages"][0]] == ["c1", "c2"]
    assert frame[["rating", "comment", "correction", "review"]].loc[1].tolist() == [
        "down", "no", "At ten sharp.", "accepted",
    ]  # fmt: skip
    assert frame["rating"].isna().tolist() == [True, False]
    assert answers.answers.to_arrow(["id"], "rating=down")["id"].to_pylist() == [old.id]


def test_every_value_is_in_its_row_as_it_was(answers: Store) -> None:
    for row, answer in zip(
        answers.answers.to_pandas().to_dict("records"), answers.answers.list(), strict=True
    ):
        del row["rating"], row["comment"], row["correction"], row["review"]
        plain = {k: v if isinstance(v, dict | list) or v == v else None for k, v in _lists(row)}
        assert Answer.model_validate(plain) == answer


def _lists(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        value = value.tolist() if hasattr(value, "tolist") else value
        if key == "passages":
            value = [{**p, "section": list(p["section"]), "found_by": list(p["found_by"])}
                     for p in value]  # fmt: skip
        if key == "created_at":
            value = value.to_pydatetime()
        if key == "sampling":
            value = {**value, "stop": list(value["stop"])}
        yield key, value


@pytest.mark.parametrize(
    ("where", "months"),
    [
        ("model=reader/1", [3]),
        ("model!=reader/1", [4]),
        ("created_at>=2026-03-15", [4]),
        (["created_at>=2026-01-01", "created_at<2026-03-15"], [3]),
        ("usage.prompt_tokens>=100", [3]),
        ("usage.prompt_tokens=100.0", [3]),
        ("usage.prompt_tokens in 0, 5", [4]),
        ("usage.prompt_tokens!=0", [3]),
        ("timings.total_s<3", [3]),
        ("passages.chunk_id=c2", [4]),
        ("passages.chunk_id!=c2", [3]),
        ("engine.device=cpu", [4]),
        ("engine.threads=2", [4]),
        ("abstained=false", [4, 3]),
        ({"model": "reader/2"}, [4]),
        ("warnings=none such", []),
        ("abstention_reason=low_similarity", []),
    ],
)
def test_conditions_select_by_any_part(answers: Store, where: Any, months: list[int]) -> None:
    found = answers.answers.to_arrow(["created_at"], where)["created_at"].to_pylist()
    assert [moment.month for moment in found] == months


def test_days_before_since_are_not_read(answers: Store) -> None:
    (answers.layout.answers / "2026-03-01.jsonl").write_bytes(b"\xff")
    assert answers.answers.to_arrow(since=MARCH.replace(day=15)).num_rows == 1


def test_what_is_no_column_is_refused_with_those_that_there_are(answers: Store) -> None:
    with pytest.raises(InputError, match=r"no columns \['colour'\]") as refused:
        answers.answers.to_arrow(["id", "colour"])
    assert "abstained" in refused.value.hint
    with pytest.raises(InputError, match="No column"):
        answers.answers.to_arrow([])
    with pytest.raises(InvalidFilter, match="no column 'colour'"):
        answers.answers.to_arrow(where="colour=red")
    with pytest.raises(InvalidFilter, match="holds several values") as several:
        answers.answers.to_arrow(where="usage=3")
    assert "usage.prompt_tokens" in several.value.hint


def test_a_quote_in_a_value_is_no_part_of_a_condition(store: Store) -> None:
    hostile = "x' OR '1'='1"
    marker = Citation(
        marker=1, chunk_id="c", document_id="d", source=hostile, title="", start=0, end=1
    )
    store.answers.append(an_answer(new_answer_id(), citations=(marker,)))
    assert store.answers.to_arrow(where={"citations.source": hostile}).num_rows == 1
    assert store.answers.to_arrow(where={"citations.source": "x"}).num_rows == 0


def test_runs_have_settings_and_metrics_as_dicts(store: Store) -> None:
    with store.runs.running("finetune", inputs={"dataset": "a/1"}, settings={"steps": 3}) as run:
        run.metrics["validation_loss"] = 0.5
    frame = store.runs.to_pandas(where=["kind=finetune", "metrics.validation_loss<1"])
    assert frame["settings"].tolist() == [{"steps": 3}]
    assert frame["inputs"][0] == {"dataset": "a/1"}
    assert store.runs.to_arrow(["metrics"])["metrics"].to_pylist() == ['{"validation_loss": 0.5}']
    assert store.runs.to_arrow(where="kind=ingest").num_rows == 0


def test_the_ledger_is_a_table(store: Store) -> None:
    assert store.ledger.to_arrow().num_rows == 0
    store.features.create(IDENTITY)
    store.features.replace([an_update("/a.md", ["one", "two"]), an_update("/b.md", [])])
    frame = store.ledger.to_pandas(["source", "chunks", "ingested_at"])
    assert frame["source"].tolist() == ["/a.md", "/b.md"]
    assert frame["chunks"].tolist() == [2, 0]
    assert store.ledger.to_arrow(["source"], "chunks>0")["source"].to_pylist() == ["/a.md"]


def publish(store: Store, name: str, rows: Any) -> None:
    store.datasets.publish(
        name, rows=rows, features_version=1, embedder=EMBEDDER, prompt_digest="p", run_id="r-1"
    )


def test_datasets_are_a_table_of_versions_and_each_one_of_examples(store: Store) -> None:
    publish(store, "faq", {"train": [a_row("r1"), a_row("r2")], "test": [a_row("r3", "test")]})
    publish(store, "pairs", {"train": [a_pair()]})
    assert store.datasets.to_pandas()["rows"].map(lambda rows: rows["train"]).tolist() == [2, 1]
    assert store.datasets.to_arrow("faq")["id"].to_pylist() == ["r1", "r2", "r3"]
    assert store.datasets.to_arrow("faq/1", ["id"], "split=test")["id"].to_pylist() == ["r3"]
    assert store.datasets.to_pandas("pairs")["chosen"].tolist() == ["at nine"]
    with pytest.raises(DatasetNotFound):
        store.datasets.to_arrow("nothing")


def test_case_sets_are_a_table_of_versions_and_each_one_of_cases(store: Store) -> None:
    cases = [Case(id="1", question="Who?", answers=("me",), tags=("people",)),
             Case(id="2", question="Why?", relevant={"/a.md": 2})]  # fmt: skip
    store.casesets.freeze("held-out", cases)
    assert store.casesets.to_pandas()["cases"].tolist() == [2]
    assert store.casesets.to_arrow("held-out", ["id"], "tags=people")["id"].to_pylist() == ["1"]
    assert store.casesets.to_pandas("held-out/1")["relevant"].tolist() == [{}, {"/a.md": 2}]
    assert store.cases is store.casesets


def evaluated(store: Store, model: str, scores: list[float]) -> str:
    with store.runs.running("evaluate", inputs={"model": model}) as run:
        rows = [{"id": str(n), "f1": f1, "fault": "" if f1 else "reader_miss"}
                for n, f1 in enumerate(scores)]  # fmt: skip
        store.runs.attach(run.id, "cases", rows)
        run.metrics["answers"] = {"f1": {"mean": sum(scores) / len(scores), "n": len(scores)}}
    return run.id


def test_evaluations_are_a_table_of_scores_and_each_one_of_cases(store: Store) -> None:
    first, second = evaluated(store, "a/1", [0, 0.5]), evaluated(store, "a/2", [1, 0.5])
    frame = store.evaluations.to_pandas().set_index("id")
    assert frame.loc[[first, second], "answers.f1.mean"].tolist() == [0.25, 0.75]
    better = store.evaluations.to_arrow(None, ["model"], "answers.f1.mean>0.5")
    assert better["model"].to_pylist() == ["a/2"]
    both = store.evaluations.to_pandas([first, second])
    assert both.groupby("model")["f1"].mean().tolist() == [0.25, 0.75]
    assert store.evaluations.to_arrow(first, ["id"], "fault=reader_miss")["id"].to_pylist() == ["0"]


def test_a_run_that_was_no_evaluation_has_no_cases(store: Store) -> None:
    with store.runs.running("ingest") as run:
        pass
    with pytest.raises(RunNotFound, match="no evaluation"):
        store.evaluations.to_arrow(run.id)
    assert store.evaluations.to_arrow().num_rows == 0


def test_rows_of_json_have_the_columns_that_any_of_them_has() -> None:
    table = table_of_rows([{"a": 1}, {"a": 0.5, "b": "x"}], known=["id"])
    assert table.to_pylist() == [
        {"id": None, "a": 1.0, "b": None}, {"id": None, "a": 0.5, "b": "x"},
    ]  # fmt: skip
