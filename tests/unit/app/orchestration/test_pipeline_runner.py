"""A pipeline runs what changed and nothing else, and goes on where a step failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fti.app.orchestration.feature_steps import IngestStep
from fti.app.orchestration.plan import Pipeline, load_pipeline, parse_pipeline
from fti.app.orchestration.resources import Context
from fti.app.orchestration.runner import PipelineReport, plan, run_pipeline
from fti.app.settings import load_settings
from fti.store.errors import ConfigError, InputError, IntegrityError, StoreLocked
from fti.store.progress import quiet
from fti.store.store import Store
from tests.support.values import EMBEDDER, a_contract, a_row

LIGHT = (
    "embedder.engine=hashing",
    "embedder.dimension=64",
    "generator.engine=extractive",
    "generator.min_similarity=0.1",
    "inference.retrieval.min_similarity=0.05",
    "dataset.train=0.5",
    "dataset.test=0.4",
)


class Works:
    """A folder with documents, questions and cases, and a pipeline over them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "docs").mkdir()
        for n in range(6):
            self.write(n, f"The kiln of hall {n} is fired on day {n} at {1200 + n} degrees.")
        self.questions = root / "q.csv"
        self.questions.write_text("id,question\n1,When is the kiln of hall 1 fired?\n", "utf-8")
        self.cases = root / "cases.jsonl"
        case = {"id": "1", "question": "When?", "answers": ["day 1"], "document": "hall1.md"}
        self.cases.write_text(json.dumps(case) + "\n", "utf-8")
        self.pipeline = self.of(
            {"ingest": {"sources": [str(root / "docs")], "delete_missing": True}},
            {"freeze": {"cases": "quiz", "file": str(self.cases)}},
            {"dataset": {"dataset": "halls"}},
            {"batch": {"questions": str(self.questions), "table": "answers"}},
        )

    def of(self, *steps: Any) -> Pipeline:
        return parse_pipeline({"name": "nightly", "steps": list(steps)}, where="p.yaml")

    def write(self, number: int, text: str) -> None:
        heading = f"# Hall {number}\n\n"
        (self.root / "docs" / f"hall{number}.md").write_text(heading + text + "\n", "utf-8")

    def context(self, *overrides: str) -> Context:
        """Opened anew, as a new process would."""
        settings = load_settings(
            store=self.root / "store", overrides=[*LIGHT, *overrides], environment={}
        )
        return Context(settings, Store(settings.store), quiet)

    def run(self, *overrides: str, force: tuple[str, ...] = ()) -> PipelineReport:
        return run_pipeline(self.pipeline, self.context(*overrides), force=force)

    def verdicts(self) -> dict[str, str]:
        return {p.step: p.verdict for p in plan(self.pipeline, self.context())}


@pytest.fixture
def works(tmp_path: Path) -> Works:
    return Works(tmp_path)


def became(report: PipelineReport) -> dict[str, str]:
    return {step.step: step.status for step in report.steps}


def why(report: PipelineReport, step: str) -> str:
    return next(s.why for s in report.steps if s.step == step)


ALL_SKIPPED = dict.fromkeys(("ingest", "freeze", "dataset", "batch"), "skipped")


def test_a_second_run_skips_every_step_and_a_change_runs_what_depends_on_it(works: Works) -> None:
    assert works.verdicts() == {
        "ingest": "run",
        "freeze": "run",
        "dataset": "depends",
        "batch": "depends",
    }
    first = works.run()
    assert first.status == "done"
    assert became(first) == dict.fromkeys(ALL_SKIPPED, "done")
    recorded = works.context().store.runs.get(first.run)
    assert recorded.kind == "pipeline"
    assert recorded.outputs["ingest"] == first.steps[0].run
    assert works.verdicts() == dict.fromkeys(ALL_SKIPPED, "skip")

    second = works.run()
    assert became(second) == ALL_SKIPPED
    assert second.steps[0].summary == first.steps[0].summary, "what the last run said still holds"

    works.write(1, "The kiln of hall 1 is fired on day 9 at 1290 degrees.")
    assert works.verdicts()["ingest"] == "run"
    third = works.run()
    assert became(third) == {
        "ingest": "done",
        "freeze": "skipped",
        "dataset": "done",
        "batch": "done",
    }
    assert "docs" in why(third, "ingest")
    assert why(third, "dataset") == "changed: features"
    store = works.context().store
    assert [d.version for d in store.datasets.list("halls")] == [1, 2]
    assert "day 9" in str(next(store.tables.rows("answers")).answer)
    assert became(works.run()) == ALL_SKIPPED


def test_a_change_that_changes_nothing_for_the_next_step_ends_there(works: Works) -> None:
    works.run()
    (works.root / "docs" / ".notes").write_text("hidden files are no documents", "utf-8")
    touched = works.root / "docs" / "hall2.md"
    touched.write_bytes(touched.read_bytes())
    assert became(works.run()) == ALL_SKIPPED
    works.cases.write_text(works.cases.read_text("utf-8") + "\n", "utf-8")
    again = became(works.run())
    assert again == {**ALL_SKIPPED, "freeze": "done"}, "the same cases in other bytes"


def test_settings_count_for_the_steps_that_they_bear_on(works: Works) -> None:
    works.run()
    other = works.run("generator.min_similarity=0.2")
    assert became(other) == {**ALL_SKIPPED, "batch": "done"}
    assert why(other, "batch") == "changed: settings"
    # A dataset's rows show what retrieval finds.
    found = works.run("generator.min_similarity=0.2", "inference.retrieval.k=3")
    assert became(found) == {**ALL_SKIPPED, "dataset": "done", "batch": "done"}
    assert why(found, "dataset") == "changed: settings"


def test_a_run_goes_on_at_the_step_that_failed(works: Works) -> None:
    works.questions.write_text("id,text\n", "utf-8")
    failed = works.run()
    assert (failed.status, became(failed)["batch"]) == ("failed", "failed")
    error = failed.steps[-1].error or {}
    assert (error["code"], "no column 'question'" in error["message"]) == ("invalid_cases", True)
    recorded = works.context().store.runs.get(failed.run)
    assert (recorded.status, "step batch" in recorded.error) == ("failed", True)

    again = works.run()
    assert became(again) == {**ALL_SKIPPED, "batch": "failed"}
    assert why(again, "batch") == "it failed before"
    works.questions.write_text("id,question\n1,Which day?\n", "utf-8")
    assert became(works.run()) == {**ALL_SKIPPED, "batch": "done"}


def test_steps_after_a_failure_are_not_reached(works: Works) -> None:
    works.cases.unlink()
    failed = works.run()
    assert became(failed) == {
        "ingest": "done",
        "freeze": "failed",
        "dataset": "not reached",
        "batch": "not reached",
    }


def test_a_step_whose_process_died_is_run_again(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: IngestStep, context: Context) -> None:
        raise KeyboardInterrupt  # stands for the end of the process

    with monkeypatch.context() as patch:
        patch.setattr(IngestStep, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            works.run()
    assert works.context().store.pipelines.read("nightly")["ingest"].status == "running"
    after = works.run()
    assert (became(after)["ingest"], why(after, "ingest")) == ("done", "it was interrupted")


def test_a_step_that_was_done_in_part_is_tried_again(works: Works) -> None:
    (works.root / "docs" / "torn.pdf").write_bytes(b"%PDF-1.4 torn")
    first = works.run()
    assert (first.status, became(first)["ingest"]) == ("partial", "partial")
    assert became(first)["batch"] == "done"
    again = works.run()
    assert (became(again)["ingest"], why(again, "ingest")) == (
        "partial",
        "a part of it failed before",
    )
    assert became(again)["dataset"] == "skipped"


def test_an_output_that_is_gone_or_was_changed_is_made_again(works: Works) -> None:
    import shutil

    works.run()
    store = works.context().store
    shutil.rmtree(store.datasets.path("halls/1").parent)
    store.features.delete([store.features.records()[0].id])
    report = works.run()
    assert why(report, "ingest") == "changed by others: features"
    assert why(report, "dataset") == "gone: dataset halls"
    assert became(works.run()) == ALL_SKIPPED


def test_a_step_can_be_forced(works: Works) -> None:
    works.run()
    forced = works.run(force=("dataset",))
    assert became(forced) == {**ALL_SKIPPED, "dataset": "done"}
    with pytest.raises(InputError, match=r"no step 'train'\. Its steps are: ingest, freeze"):
        works.run(force=("train",))


def test_a_dry_run_changes_nothing(works: Works) -> None:
    context = works.context()
    before = sorted(p.name for p in context.store.layout.root.iterdir())
    planned = plan(works.pipeline, context, force=("batch",))
    assert sorted(p.name for p in context.store.layout.root.iterdir()) == before
    assert planned[-1].why == "forced"
    assert planned[2].needs == ("ingest", "freeze")


def test_two_processes_do_not_run_one_pipeline(works: Works) -> None:
    context = works.context()
    with context.store.pipelines.running("nightly"), pytest.raises(StoreLocked):
        works.run()


def test_a_state_that_cannot_be_read_says_what_to_delete(works: Works) -> None:
    layout = works.context().store.layout
    layout.pipelines.mkdir()
    (layout.pipelines / "nightly.json").write_text('{"ingest": {"status": "odd"}}', "utf-8")
    with pytest.raises(IntegrityError, match=r"state of the pipeline 'nightly'.*Delete"):
        works.run()


@pytest.mark.heavy
def test_the_round_that_ships_trains_once_and_keeps_what_the_gate_does_not_prove_better(
    tmp_path: Path, tiny_lm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    demo = Path(__file__).parents[4] / "app" / "demo"
    for part in ("members", "machines"):
        shutil.copytree(demo / "corpus" / part, tmp_path / "documents" / "corpus" / part)
    lines = (demo / "cases.jsonl").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "cases.jsonl").write_text("".join(lines[::12]), "utf-8")
    unanswerable = [line for line in lines if json.loads(line)["answers"] == []]
    (tmp_path / "training.jsonl").write_text("".join([*lines[1:60:20], unanswerable[0]]), "utf-8")
    (tmp_path / "questions.csv").write_text("id,question\n1,Who are the members?\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    overrides = [
        "embedder.engine=hashing",
        "embedder.dimension=64",
        f"generator.id={tiny_lm}",
        "inference.retrieval.min_similarity=0.05",
        "prompt.evidence_sentences=0",
        "prompt.max_prompt_tokens=500",
        "prompt.max_new_tokens=16",
        "prompt.max_passages=1",
        "dataset.max_rows=30",
        "training.max_steps=1",
        "training.max_validation_rows=2",
    ]

    def run() -> PipelineReport:
        settings = load_settings(store=tmp_path / "store", overrides=overrides, environment={})
        context = Context(settings, Store(settings.store), quiet)
        return run_pipeline(load_pipeline("nightly"), context)

    first = run()
    assert first.status == "done", [step.error for step in first.steps if step.error]
    steps = ("verify", "ingest", "freeze", "validate", "dataset", "finetune", "calibrate",
             "evaluate", "batch", "monitor")  # fmt: skip
    assert became(first) == {
        **dict.fromkeys(steps, "done"),
        "promote": "refused",  # a step of training proves nothing: a decision, no failure
    }
    refused = next(step for step in first.steps if step.step == "promote")
    assert "reader/2 is not promoted over base" in refused.summary
    assert "How" in (tmp_path / "monitor.html").read_text("utf-8")
    second = run()
    assert became(second) == {
        **dict.fromkeys(became(first), "skipped"),
        "verify": "done",
        "validate": "done",
        "monitor": "done",
    }
    trained, calibrated = Store(tmp_path / "store").models.list()
    assert (trained.ref, calibrated.ref, calibrated.parent) == ("reader/1", "reader/2", "reader/1")


def test_a_pipeline_puts_documents_into_a_collection(works: Works) -> None:
    ingest = {"sources": [str(works.root / "docs")]}
    works.pipeline = works.of({"ingest": {**ingest, "collection": "halls"}})
    works.run()
    assert works.context().store.features.collections() == {"halls": (6, 6)}
    works.pipeline = works.of({"ingest": {**ingest, "collection": "rooms"}})
    assert works.run().steps[0].status == "done"
    assert works.context().store.features.collections() == {"rooms": (6, 6)}
    with pytest.raises(ConfigError, match="collection"):
        works.of({"ingest": {**ingest, "collection": "No/Name"}})


def test_answers_follow_the_alias_that_the_profile_names(works: Works) -> None:
    batch = works.pipeline.steps["batch"]
    context = works.context("model=reader@champion")
    followed = works.pipeline.under(context.settings).steps["batch"]
    assert "alias reader@champion" in followed.inputs(context)
    assert "alias reader@champion" not in batch.inputs(context)  # what did not look at the profile

    promote = {"promote": {"model": "reader", "cases": "quiz"}}
    ask = {"batch": {"questions": str(works.questions), "table": "answers"}}
    pipeline = works.of(promote, ask)
    assert pipeline.under(context.settings).needs["batch"] == ("promote",)
    assert pipeline.under(works.context().settings).needs["batch"] == ()
    named = works.of(promote, {"batch": {**ask["batch"], "model": "base"}})
    assert named.under(context.settings).needs["batch"] == ()
    with pytest.raises(ConfigError, match="reads 'alias reader@champion'"):
        works.of(ask, promote).under(context.settings)


def test_a_moved_alias_of_the_profile_is_a_reason_to_answer_again(works: Works) -> None:
    context = works.context("model=reader@champion")
    batch = works.pipeline.under(context.settings).steps["batch"]
    before = batch.inputs(context)
    dataset = context.store.datasets.publish(
        "rows", rows={"train": [a_row()]}, features_version=1, embedder=EMBEDDER,
        prompt_digest="p", run_id="r-1",
    )  # fmt: skip
    adapter = works.root / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}", "utf-8")
    context.store.models.publish(
        "reader", adapter, contract=a_contract(), dataset=dataset, run_id="r-2", metrics={}
    )
    context.store.models.promote("reader", 1, "champion", reason="the first")
    after = batch.inputs(context)
    assert {name for name in after if before[name] != after[name]} == {"alias reader@champion"}
