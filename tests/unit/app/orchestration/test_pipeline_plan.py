"""A pipeline's YAML: what it may say, and what is said of one that is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fti.app.orchestration.plan import load_pipeline, parse_pipeline, shipped
from fti.app.orchestration.steps import STEPS
from fti.store.errors import ConfigError

INGEST = {"ingest": {"sources": ["docs"]}}
DATASET = {"dataset": {"dataset": "handbook"}}
CALIBRATE = {"calibrate": {"model": "reader", "cases": "training.jsonl"}}
FINETUNE = {"finetune": {"dataset": "handbook", "model": "reader"}}


def parse(*steps: Any, name: Any = "nightly", **more: Any) -> Any:
    return parse_pipeline({"name": name, "steps": list(steps), **more}, where="p.yaml")


def test_the_pipeline_that_ships_holds_the_whole_round_in_order() -> None:
    assert list(shipped()) == ["nightly"]
    nightly = load_pipeline("nightly")
    assert nightly.needs == {
        "verify": (),
        "ingest": (),
        "freeze": (),
        "validate": ("ingest",),
        "dataset": ("ingest", "freeze"),
        "finetune": ("dataset",),
        "calibrate": ("finetune", "ingest"),
        "evaluate": ("finetune", "calibrate", "freeze", "ingest"),
        "promote": ("evaluate", "finetune", "calibrate"),
        "batch": ("ingest",),
        "monitor": ("ingest", "batch", "freeze"),
    }


def test_what_the_round_that_ships_offers_in_comments_fits_into_it(tmp_path: Path) -> None:
    text = shipped()["nightly"].read_text("utf-8")
    offered, found = re.subn(r"(?m)^  # ((?:- |    )[a-z-]+:.*)$", r"  \1", text)
    assert found == 14
    (tmp_path / "all.yaml").write_text(offered, "utf-8")
    needs = load_pipeline(str(tmp_path / "all.yaml")).needs
    assert needs["finetune-embedder"] == ("ingest",)
    assert needs["promote-embedder"] == ("finetune-embedder", "freeze")
    assert needs["dataset"] == ("ingest", "promote-embedder", "freeze")
    assert needs["pairs"] == ("dataset",)
    assert needs["prefer"] == ("pairs", "finetune")


def test_steps_are_found_by_what_they_read_and_write() -> None:
    answers = {"batch": {"questions": "q.csv", "table": "t", "model": "reader@champion"}}
    promote = {"promote": {"model": "reader", "cases": "quiz"}}
    found = parse(INGEST, DATASET, FINETUNE, promote, answers)
    assert found.needs["batch"] == ("ingest", "promote")
    assert found.needs["promote"] == ("finetune",), "its evaluation is made elsewhere"


@pytest.mark.parametrize(
    ("steps", "fault"),
    [
        ([{"ingest": {"source": ["docs"]}}], r"source is no setting \(did you mean sources\?\)"),
        ([{"ingest": {}}], "sources is missing"),
        ([{"ingest": {"sources": "docs"}}], "sources: .*tuple.*got 'docs'"),
        ([{"ingest": {"sources": []}}], "sources: .*at least 1"),
        ([{"ingest": ["docs"]}], r"has the settings \['docs'\], which are no keys"),
        ([{"injest": {"sources": ["docs"]}}], "unknown kind 'injest'. Did you mean ingest"),
        ([{"deploy": {}}], "unknown kind 'deploy'. The kinds are: ingest"),
        (["ingest"], "Step 1 of 'p.yaml' is 'ingest', not one kind of step"),
        ([{**INGEST, **DATASET}], "not one kind of step"),
        ([{"dataset": {"dataset": "Hand Book"}}], "dataset: .*'Hand Book' is not a name"),
        ([{"batch": {"questions": "q.csv"}}], "'out' or 'table', one of the two"),
        ([{"promote": {"model": "m", "cases": "c", "on_refusal": "x"}}], "on_refusal: .*got 'x'"),
        ([INGEST, INGEST], "Two steps of 'p.yaml' are called 'ingest'.*id: NAME"),
        (
            [DATASET, {"dataset": {"dataset": "handbook", "id": "again"}}],
            "'dataset' and 'again' .*both write 'dataset handbook'",
        ),
        (
            [FINETUNE, DATASET],
            "'finetune' .*reads 'dataset handbook', which the step 'dataset' after it writes. "
            "Put 'dataset' before 'finetune'",
        ),
        (
            [DATASET, {"freeze": {"cases": "quiz", "file": "q.jsonl"}}],
            r"reads 'cases \(all\)', which the step 'freeze' after it writes",
        ),
        (
            [FINETUNE, {"evaluate": {"model": "reader", "cases": "quiz"}}, CALIBRATE],
            "'evaluate' .*reads 'model reader', which the step 'calibrate' after it writes",
        ),
        ([CALIBRATE, FINETUNE], "'calibrate' .*reads 'trained reader'.*'finetune' after it"),
        (
            [FINETUNE, {"finetune": {"dataset": "other", "model": "reader", "id": "again"}}],
            "'finetune' and 'again' .*both write 'model reader'",
        ),
        (
            [{"finetune": {"dataset": "d", "model": "reader", "start": "reader"}}],
            "'start' is 'model'",
        ),
        ([{"finetune-embedder": {"model": "finder"}}], "'cases' or 'dataset', one of the two"),
        (
            [{"finetune-embedder": {"model": "finder", "cases": "c.jsonl", "dataset": "d"}}],
            "'cases' or 'dataset', one of the two",
        ),
        (
            [
                DATASET,
                {"finetune-embedder": {"model": "finder", "dataset": "handbook"}},
                {"promote-embedder": {"model": "finder", "cases": "quiz"}},
            ],
            "Put 'promote-embedder' before 'dataset'",
        ),
        ([{"monitor": {"days": 0}}], "days: .*got 0"),
        ([{"calibrate": {**CALIBRATE["calibrate"], "limit": 1}}], "limit: .*got 1"),
        ([], "has no steps"),
    ],
)
def test_a_pipeline_that_cannot_be_run_says_which_step_and_why(
    steps: list[Any], fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault):
        parse(*steps)


def test_two_ingests_may_fill_one_store() -> None:
    found = parse(INGEST, {"ingest": {"sources": ["mail"], "id": "mail"}}, DATASET)
    assert found.needs["dataset"] == ("ingest", "mail")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("just text", "holds no keys with values"),
        ({"name": "n", "step": []}, "unknown key 'step'"),
        ({"name": "A B", "steps": [INGEST]}, "has the name 'A B'"),
        ({"steps": [INGEST]}, "has the name None"),
        ({"name": "n", "steps": "ingest"}, "has no steps"),
    ],
)
def test_a_file_that_is_no_pipeline_says_why(content: Any, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        parse_pipeline(content, where="p.yaml")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no pipeline 'no\.yaml'.*nightly"):
        load_pipeline("no.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [", "utf-8")
    with pytest.raises(ConfigError, match=r"broken\.yaml' cannot be read"):
        load_pipeline(str(broken))


def test_every_kind_of_step_names_what_it_reads_and_writes() -> None:
    assert set(STEPS) == {
        "ingest", "verify", "freeze", "finetune-embedder", "promote-embedder", "dataset", "pairs",
        "finetune", "calibrate", "evaluate", "promote", "batch", "monitor", "validate",
    }  # fmt: skip
    for step in STEPS.values():
        assert step.__doc__
        assert all(field.description for field in step.model_fields.values())
