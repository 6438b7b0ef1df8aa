"""What ``fti contracts`` prints is what the pipelines enforce: each condition is violated here.

A precondition is violated through the pipeline's own function. A postcondition is one that the
pipeline keeps, so an implementation that breaks it is put under the same contract. A condition
without a violation here fails the test of completeness.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fti.app.operations.measuring.calibrating import CALIBRATE, Calibrated, calibrate_model
from fti.app.operations.pipeline_contracts import contracts
from fti.app.operations.promoting.gating import Promotion
from fti.app.operations.promoting.promotion import PROMOTE, promote
from fti.app.operations.training.dataset_rebuilding import rebuild_dataset
from fti.app.operations.training.rebuild_contract import REBUILD, REBUILD_DATASET, Rebuild
from fti.app.operations.training.rebuilding import rebuild
from fti.app.settings import Settings
from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.embedders.trained_embedder import OpenEmbedder
from fti.pipelines.feature.dataset.dataset_config import DatasetConfig, PairsConfig
from fti.pipelines.feature.dataset.instructions import DATASET, build_dataset
from fti.pipelines.feature.dataset.negatives import NEGATIVES, NegativesConfig, mine_negatives
from fti.pipelines.feature.dataset.pairs import PAIRS, build_pairs
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.finding.sources import Discovery
from fti.pipelines.feature.ingesting.ingest import INGEST, ingest, take
from fti.pipelines.feature.ingesting.ingest_report import IngestReport
from fti.pipelines.feature.ingesting.reembedding import ADOPT, ReEmbedded, re_embedded
from fti.pipelines.feature.ingesting.repair import REPAIR, RepairReport, repair
from fti.pipelines.feature.monitoring.monitor_report import Alert, AnswerHealth
from fti.pipelines.feature.monitoring.system_report import MONITOR, monitor
from fti.pipelines.feature.streaming.follow import FOLLOW, follow
from fti.pipelines.feature.streaming.follow_report import FollowReport
from fti.pipelines.feature.streaming.watch import watch
from fti.pipelines.feature.validating.expectations import ExpectationsConfig
from fti.pipelines.feature.validating.validate_features import VALIDATE, validate_features
from fti.pipelines.feature.validating.validation_report import ValidationReport
from fti.pipelines.inference.answering import answer, answer_contracts, answer_events
from fti.pipelines.inference.answering.retrieve import Retriever, retrieval_contract
from fti.pipelines.inference.batch import answer_table as batch
from fti.pipelines.inference.batch.answer_sinks import PipeSink
from fti.pipelines.inference.batch.follow_questions import QUESTIONS, follow_questions
from fti.pipelines.inference.batch.outputs import JsonLines
from fti.pipelines.inference.batch.question_report import QuestionsReport
from fti.pipelines.inference.evaluating import evaluation
from fti.pipelines.inference.evaluating.calibration import Calibration, Decision
from fti.pipelines.inference.evaluating.evaluation_figures import EvaluationReport
from fti.pipelines.inference.inference_config import BatchConfig, RetrievalConfig
from fti.pipelines.inference.live.live_answers import MONITOR_ANSWERS, LiveQuality, monitor_answers
from fti.pipelines.training.embedder.embedder_config import EmbedderTrainingConfig
from fti.pipelines.training.embedder.train_embedder import FINETUNE_EMBEDDER, finetune_embedder
from fti.pipelines.training.finetune import finetune
from fti.pipelines.training.finetune_contract import FINETUNE
from fti.pipelines.training.training_config import TrainingConfig
from fti.store.answer_types import Citation
from fti.store.contracts.conditions import Condition, PipelineContract, conforms
from fti.store.contracts.prompt_contract import PromptForm
from fti.store.errors import FtiError
from fti.store.features.feature_store import WRITE, FeatureStore
from fti.store.features.frames import WriteReport
from fti.store.progress import quiet
from fti.store.proof.gate import GateConfig, bootstrap_interval
from fti.store.store import Store
from fti.store.streams.record_streams import LineStream
from fti.store.streams.stream_config import StreamConfig
from fti.store.types import Case, ModelIdentity, now
from fti.store.upkeep.forgetting import FORGET, Erased, erase
from tests.support.values import EMBEDDER, a_contract, a_passage, a_row, an_answer
from tests.unit.inference.conftest import World
from tests.unit.inference.evaluating.test_grounding import WordsInside

OTHER = HashingEmbedder(dimension=128)
Violate = Callable[["Works"], Any]


class Works(World):
    """A store with documents, and what the pipelines are called with."""

    def __init__(self, root: Path, loaded: Any) -> None:
        super().__init__(root / "store")
        self.root = root
        self.loaded = loaded

    def take(self, **how: Any) -> Any:
        arguments = {"store": self.store, "embedder": self.embedder, "config": FeatureConfig()}
        return take(Discovery(), **(arguments | how))

    def under(self, contract: PipelineContract, result: Any, /, *args: Any, **how: Any) -> Any:
        """The pipeline's function with another inside, which gives just this result."""
        function = contract.function
        assert function is not None
        broken = _with_body_of(function, lambda *args, **kwargs: result)
        return contract.enforced(broken)(*args, **how)

    def dataset(self, **changes: Any) -> Any:
        made = self.store.datasets.publish(
            "halls", rows={"train": [a_row(documents=("d1",))]}, features_version=1,
            embedder=EMBEDDER, prompt_digest="p", run_id="r-1", documents={"train": ["d1"]},
        )  # fmt: skip
        return made.model_copy(update=changes)

    def build(self, **how: Any) -> dict[str, Any]:
        arguments = {
            "store": self.store,
            "embedder": self.embedder,
            "retriever": lambda features: Retriever(features, self.embedder),
            "config": DatasetConfig(),
            "form": PromptForm(),
        }
        return arguments | how

    def training(self, **changes: Any) -> dict[str, Any]:
        contract = a_contract(base=self.loaded.identity, **changes)
        return {
            "name": "reader",
            "store": self.store,
            "base": self.loaded,
            "contract": contract,
            "config": TrainingConfig(),
        }

    def version(self, contract: Any, dataset: Any) -> Any:
        files = self.root / "adapter"
        files.mkdir()
        (files / "adapter_config.json").write_text("{}", "utf-8")
        return self.store.models.publish(
            "reader", files, contract=contract, dataset=dataset, run_id="r-1", metrics={}
        )

    def batch(self, **how: Any) -> dict[str, Any]:
        arguments = {
            "assistant": self.assistant(),
            "store": self.store,
            "out": JsonLines(self.root / "a.jsonl"),
            "config": BatchConfig(),
            "limit": None,
            "keep_outdated": False,
            "asked_from": "given",
            "progress": quiet,
        }
        return arguments | how

    def asking(self, result: Any = None, **how: Any) -> Any:
        arguments = {
            "assistant": self.assistant(),
            "store": self.store,
            "out": PipeSink(str),
            "config": BatchConfig(),
            "stop": threading.Event(),
        }
        return self.under(QUESTIONS, result, LineStream(0, StreamConfig()), **(arguments | how))

    def promoting(self, **changes: Any) -> dict[str, Any]:
        return {"settings": Settings(), "store": self.store, "alias": "champion"} | changes

    def published(self) -> str:
        return str(self.version(a_contract(), self.dataset()).ref)

    def crowned(self) -> str:
        """A version that is the champion."""
        ref = self.published()
        self.store.models.promote("reader", 1, "champion", reason="the only one")
        return ref

    def followed(self, **changes: Any) -> Any:
        """What a session that reports this is stopped for."""
        result = FollowReport(**changes)
        return self.under(FOLLOW, result, LineStream(0, StreamConfig()), **self.following())

    def following(self, **how: Any) -> dict[str, Any]:
        arguments = {
            "store": self.store,
            "embedder": self.embedder,
            "config": FeatureConfig(),
            "stop": threading.Event(),
        }
        return arguments | how

    def monitored(self, **changes: Any) -> Any:
        report = monitor(self.store)
        return self.under(MONITOR, report.model_copy(update=changes), self.store)

    def pairing(self, **how: Any) -> dict[str, Any]:
        arguments = {"store": self.store, "config": PairsConfig(), "form": PromptForm()}
        return {"source": how.pop("source", None) or self.dataset()} | arguments | how

    def mining(self, **how: Any) -> dict[str, Any]:
        arguments = {
            "store": self.store,
            "search": lambda questions, k: [[] for _ in questions],
            "embedder": self.embedder.identity,
            "retrieval": {},
            "form": PromptForm(),
            "config": NegativesConfig(),
        }
        return arguments | how

    def training_embedder(self) -> dict[str, Any]:
        base = OpenEmbedder(None, ModelIdentity(id="tiny"), "cpu", "", "")
        return {
            "name": "finder",
            "store": self.store,
            "base": base,
            "compose": lambda passage: passage.text,
            "config": EmbedderTrainingConfig(),
        }

    def trained_by(self, kind: Any, digest: str = "") -> str:
        """A version whose record names a run of this kind."""
        with self.store.runs.running(kind) as run:
            pass
        files = self.root / "adapter"
        files.mkdir()
        (files / "adapter_config.json").write_text("{}", "utf-8")
        dataset = self.dataset(**({"digest": digest} if digest else {}))
        made = self.store.models.publish(
            "reader", files, contract=a_contract(), dataset=dataset, run_id=run.id, metrics={}
        )
        return str(made.ref)

    def gated(self, cases: list[Case]) -> Settings:
        """Settings whose gate decides on these cases."""
        self.store.cases.freeze("gate", cases, source="given")
        return Settings(gate=GateConfig(cases="gate"))

    def evaluated(self, rows: list[str], cases: int) -> Any:
        with self.store.runs.running("evaluate") as run:
            self.store.runs.attach(run.id, "cases", [{"id": name} for name in rows])
        return EvaluationReport(cases=cases, case_set="c", run=run.id)


def _with_body_of(function: Callable[..., Any], body: Callable[..., Any]) -> Callable[..., Any]:
    """``body`` under the name and the signature of ``function``."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return body(*args, **kwargs)

    return call


WAY = retrieval_contract(RetrievalConfig(), None)
OTHER_WAY = retrieval_contract(RetrievalConfig(mode="text"), None)
CASE = Case(id="1", question="When?", answers=("Thursdays",), document="workshop/kiln.md")
NO_CASE = Case(id="2", question="Who sings?")
LOST = CASE.model_copy(update={"document": "lost.md"})
CITED = Citation(
    marker=2, chunk_id="c1", document_id="d1", source="/docs/hours.md", title="H", start=0, end=3
)


def _carrying(loaded: Any) -> Any:
    """The base model as it would be with an adapter left on it."""
    names = [("layers.0.q.lora_A.weight", None)]
    model = SimpleNamespace(named_parameters=lambda: iter(names), is_loaded_in_4bit=False)
    return replace(loaded, model=model)


VIOLATIONS: dict[str, Violate] = {
    "ingest.same_embedder": lambda w: w.take(embedder=OTHER),
    "ingest.one_passport": lambda w: w.under(
        INGEST, IngestReport(), Discovery(), store=w.store, embedder=OTHER,
        config=FeatureConfig(), re_embed=True,
    ),
    "ingest.can_be_found": lambda w: w.under(
        INGEST, IngestReport(features_version=99), Discovery(), store=w.store,
        embedder=w.embedder, config=FeatureConfig(),
    ),
    "watch.sources_are_there": lambda w: watch([str(w.root / "lost")], **w.following()),
    "watch.same_embedder": lambda w: watch([str(w.root)], **w.following(embedder=OTHER)),
    "watch.burst_ends": lambda w: watch([str(w.root)], **w.following(debounce_s=math.inf)),
    "follow.same_embedder": lambda w: follow(
        LineStream(0, StreamConfig()), **w.following(embedder=OTHER)
    ),
    "follow.records_add_up": lambda w: w.followed(records=2, added=1),
    "follow.can_be_found": lambda w: w.followed(features_version=99),
    "promote.is_published": lambda w: promote(model="reader/7", **w.promoting()),
    "promote.force_has_a_reason": lambda w: promote(
        model=w.published(), **w.promoting(force=True, reason=" ")
    ),
    "promote.is_a_challenger": lambda w: promote(model=w.crowned(), **w.promoting()),
    "promote.champion_has_proof": lambda w: w.under(
        PROMOTE, Promotion(model="reader", version=1, alias="champion", reason="better"),
        model=w.published(), **w.promoting(),
    ),
    "promote.is_in_the_history": lambda w: w.under(
        PROMOTE, Promotion(model="reader", version=1, alias="trial", reason="tried"),
        model=w.crowned(), **w.promoting(alias="trial"),
    ),
    "monitor.looks_back": lambda w: monitor(w.store, days=0),
    "monitor.cases_are_frozen": lambda w: monitor(w.store, cases="lost"),
    "monitor.reference_is_there": lambda w: monitor(w.store, reference=99),
    "monitor.alerts_are_due": lambda w: w.monitored(
        alerts=(Alert(what="unanswered", value=0.1, threshold=0.2, message="Fine."),)
    ),
    "monitor.answers_add_up": lambda w: w.monitored(
        answers=AnswerHealth(days=7, count=2, by_model={"base": 1})
    ),
    "dataset.same_embedder": lambda w: build_dataset("halls", **w.build(embedder=OTHER)),
    "dataset.has_documents": lambda w: build_dataset(
        "halls", **w.build(store=Store(w.root / "empty"))
    ),
    "dataset.splits_apart": lambda w: w.under(
        DATASET, w.dataset(documents={"train": ("d1",), "test": ("d1",)}), "halls", **w.build()
    ),
    "dataset.nothing_held_out_is_shown": lambda w: w.under(
        DATASET, w.dataset(documents={"train": ("d2",), "test": ("d1",)}), "halls", **w.build()
    ),
    "finetune.can_be_trained": lambda w: finetune(
        w.dataset(), **{**w.training(), "config": TrainingConfig(method="qlora")}
    ),
    "finetune.as_published": lambda w: finetune(_changed(w), **w.training()),
    "finetune.same_base": lambda w: finetune(
        w.dataset(), **{**w.training(), "contract": a_contract()}
    ),
    "finetune.same_embedder": lambda w: finetune(
        w.dataset(embedder=OTHER.identity), **w.training()
    ),
    "finetune.same_retrieval": lambda w: finetune(
        w.dataset(retrieval=OTHER_WAY), **w.training(retrieval=WAY)
    ),
    "finetune.fits_context": lambda w: finetune(
        w.dataset(), **w.training(max_prompt_tokens=99_999)
    ),
    "finetune.bare_base": lambda w: w.under(
        FINETUNE, w.version(w.training()["contract"], w.dataset()), w.dataset(),
        **{**w.training(), "base": _carrying(w.loaded)},
    ),
    "finetune.same_contract": lambda w: w.under(
        FINETUNE, w.version(a_contract(), w.dataset()), w.dataset(), **w.training()
    ),
    "finetune.names_its_dataset": lambda w: w.under(
        FINETUNE, w.version(w.training()["contract"], w.dataset(name="other")), w.dataset(),
        **w.training(),
    ),
    "serve.same_base": lambda w: w.assistant(
        contract=w.contract(w.extractive(), base=ModelIdentity(id="other", weights_sha256="9" * 64))
    ),
    "serve.same_embedder": lambda w: w.assistant(
        contract=w.contract(w.extractive(), embedder=OTHER.identity)
    ),
    "serve.same_retrieval": lambda w: w.assistant(
        contract=w.contract(w.extractive(), retrieval=OTHER_WAY)
    ),
    "serve.fits_context": lambda w: w.assistant(
        contract=w.contract(w.extractive(), max_prompt_tokens=99_999)
    ),
    "serve.same_vectors": lambda w: _served_by_other(w),
    "ask.has_words": lambda w: w.assistant().answer(" \n"),
    "ask.fits_prompt": lambda w: w.assistant().answer("kiln " * 999),
    "answer.cites_what_was_shown": lambda w: w.under(
        answer_contracts.ANSWER,
        an_answer("a-20261124-000000000000", text="[2]", citations=(CITED,),
                  passages=(a_passage(),)),
        None, *_draft(w),
    ),
    "answer.refusal_cites_nothing": lambda w: w.under(
        answer_contracts.ANSWER,
        an_answer("a-20261124-000000000000", text="[1]", abstained=True, passages=(a_passage(),),
                  citations=(CITED.model_copy(update={"marker": 1}),)),
        None, *_draft(w),
    ),
    "evaluate.has_cases": lambda w: evaluation.evaluate(w.assistant(), [], store=w.store),
    "evaluate.a_case_counts": lambda w: evaluation.evaluate(
        w.assistant(), [LOST], store=w.store
    ),
    "evaluate.a_row_per_case": lambda w: w.under(
        evaluation.EVALUATE, w.evaluated(["1", "1"], 2), w.assistant(), [CASE], store=w.store
    ),
    "evaluate-retrieval.has_cases": lambda w: evaluation.evaluate_retrieval(
        w.assistant().retriever, [], store=w.store
    ),
    "evaluate-retrieval.a_case_can_be_found": lambda w: evaluation.evaluate_retrieval(
        w.assistant().retriever, [LOST], store=w.store
    ),
    "evaluate-retrieval.a_row_per_case": lambda w: w.under(
        evaluation.EVALUATE_RETRIEVAL, w.evaluated([], 1), w.assistant().retriever, [CASE],
        store=w.store,
    ),
    "batch.same_store": lambda w: batch.answer_batch(
        [], assistant=w.assistant(), store=Store(w.root / "empty"),
        out=JsonLines(w.root / "a.jsonl"),
    ),
    "questions.same_store": lambda w: w.asking(store=Store(w.root / "other")),
    "questions.questions_add_up": lambda w: w.asking(QuestionsReport(records=2, answered=1)),
    "batch.every_question_has_its_row": lambda w: w.under(
        batch.BATCH, batch.BatchReport(done=1, failed=0, skipped=0, seconds=0.1, run="r"),
        {"1": "When?"}, **w.batch(),
    ),
    "write.plain_collection": lambda w: w.store.features.write(_frame(w), collection="../up"),
    "write.sources_add_up": lambda w: w.under(
        WRITE, _written(documents=0), w.store.features, _frame(w)
    ),
    "write.can_be_found": lambda w: w.under(
        WRITE, _written(version=99), w.store.features, _frame(w)
    ),
    "re-embed.has_chunks": lambda w: re_embedded(
        Store(w.root / "empty"), w.embedder, config=FeatureConfig()
    ),
    "re-embed.sees_whole_chunks": lambda w: re_embedded(
        w.store, _sees_less(w.embedder), config=FeatureConfig()
    ),
    "adopt.one_passport": lambda w: w.under(ADOPT, 2, _aside(w, embedder=OTHER.identity)),
    "adopt.none_is_lost": lambda w: w.under(ADOPT, 2, _aside(w, chunks=999)),
    "repair.texts_are_whole": lambda w: _repaired_with_damaged_texts(w),
    "repair.nothing_unnamed": lambda w: w.under(
        REPAIR, RepairReport(orphans_removed=0, documents_remade=0, rows_indexed=0),
        store=_with_a_lost_document(w), embedder=w.embedder, config=FeatureConfig(),
    ),
    "forget.is_gone": lambda w: w.under(
        FORGET, Erased(), w.store, w.store.features.records()[0].id, "/docs/workshop/hours.md"
    ),
    "pairs.of_rows": lambda w: build_pairs(
        "p", **w.pairing(source=w.dataset(kind="preference"))
    ),
    "pairs.as_published": lambda w: build_pairs("p", **w.pairing(source=_changed(w))),
    "pairs.splits_stay": lambda w: w.under(
        PAIRS, w.dataset(documents={"test": ("d1",)}), "p", **w.pairing()
    ),
    "negatives.same_embedder": lambda w: mine_negatives(
        "n", w.dataset(), **w.mining(embedder=OTHER.identity)
    ),
    "negatives.as_published": lambda w: mine_negatives("n", _changed(w), **w.mining()),
    "negatives.negatives_are_wrong": lambda w: w.under(
        NEGATIVES, w.dataset(), "n", w.dataset(), **w.mining()
    ),
    "finetune-embedder.of_rows": lambda w: finetune_embedder(
        w.dataset(kind="preference"), **w.training_embedder()
    ),
    "finetune-embedder.as_published": lambda w: finetune_embedder(
        _changed(w), **w.training_embedder()
    ),
    "finetune-embedder.names_its_origin": lambda w: w.under(
        FINETUNE_EMBEDDER, w.version(a_contract(), w.dataset(name="other")), w.dataset(),
        **w.training_embedder(),
    ),
    "rebuild.was_trained": lambda w: rebuild(
        Settings(), w.store, w.trained_by("calibrate"), progress=quiet
    ),
    "rebuild.same_dataset": lambda w: rebuild(
        Settings(), w.store, w.trained_by("finetune", digest="0" * 64), progress=quiet
    ),
    "rebuild.equal_is_equal": lambda w: w.under(
        REBUILD, _unequal(), Settings(), w.store, w.trained_by("finetune"), progress=quiet
    ),
    "rebuild-dataset.equal_is_equal": lambda w: w.under(
        REBUILD_DATASET, _unequal(), Settings(), w.store, "halls/1", progress=quiet
    ),
    "monitor-answers.can_judge": lambda w: monitor_answers([], store=w.store),
    "monitor-answers.each_has_a_score": lambda w: w.under(
        MONITOR_ANSWERS,
        LiveQuality(answers=2, sampled=2, groundedness=bootstrap_interval([1.0]), by="nli"),
        [an_answer("a-20261124-000000000000")], store=w.store, entailment=WordsInside(),
    ),
    "validate.has_landed": lambda w: validate_features(
        store=Store(w.root / "empty"), config=ExpectationsConfig()
    ),
    "validate.can_be_read": lambda w: validate_features(
        store=w.store, config=ExpectationsConfig(file=w.root / "lost.yaml")
    ),
    "validate.broken_is_broken": lambda w: w.under(
        VALIDATE,
        ValidationReport(at=now(), features_version=1, documents=3, chunks=6, expectations=1,
                         broken=1),
        store=w.store, config=ExpectationsConfig(),
    ),
    "calibrate.not_the_gates": lambda w: calibrate_model(
        w.gated([CASE]), w.store, [CASE, NO_CASE], progress=quiet
    ),
    "calibrate.both_kinds": lambda w: calibrate_model(
        Settings(), w.store, [CASE], progress=quiet
    ),
    "calibrate.threshold_alone": lambda w: _calibrated_otherwise(w),
}  # fmt: skip


def _frame(works: Works) -> Any:
    return works.store.features.to_arrow()


def _written(**changes: Any) -> WriteReport:
    fields = {"documents": 3, "chunks": 6, "refused": {}, "version": 1}
    return WriteReport(**(fields | changes))


def _sees_less(embedder: Any) -> Any:
    return SimpleNamespace(
        identity=embedder.identity.model_copy(update={"max_tokens": 2}),
        **{name: getattr(embedder, name) for name in dir(Embedder) if name.startswith(("e", "t"))},
    )


def _aside(works: Works, **changes: Any) -> Any:
    fields = {
        "store": works.store, "embedder": works.embedder.identity,
        "chunks": works.store.features.stats().chunks,
    }  # fmt: skip
    return SimpleNamespace(**(fields | changes))


def _repaired_with_damaged_texts(works: Works) -> Any:
    works.store.layout.sums.note()
    (rows,) = (works.store.layout.features / "documents.lance" / "data").glob("*.lance")
    rows.write_bytes(rows.read_bytes()[:-1] + b"?")
    return repair(store=works.store, embedder=works.embedder, config=FeatureConfig())


def _with_a_lost_document(works: Works) -> Store:
    table = works.store.features._lance.open("chunks")
    table.delete(f"document_id = '{works.store.features.records()[0].id}'")
    return works.store


def _unequal() -> Rebuild:
    return Rebuild(ref="reader/1", equal=True, inputs={}, files={"adapter": False})


def _calibrated_otherwise(works: Works) -> Any:
    asked = works.version(a_contract(), works.dataset())
    made = works.store.models.republish(
        asked.ref, contract=a_contract(max_passages=2, abstain_below=0.5), run_id="r-1", metrics={}
    )
    decision = Decision(threshold=0.5, precision=1, recall=1, f1=1, false_refusals=0)
    found = Calibration(chosen=decision, before=decision, cases=2, answerable=1)
    result = Calibrated(found=found, model=asked.ref, run="r-1", version=made)
    return works.under(CALIBRATE, result, Settings(), works.store, [CASE, NO_CASE], progress=quiet)


def _served_by_other(works: Works) -> Any:
    works.embedder, made_by = OTHER, works.embedder
    try:
        return works.assistant()
    finally:
        works.embedder = made_by


def _draft(works: Works) -> tuple[Any, ...]:
    draft = answer_events.Draft("When?", "When?", "", "base", works.assistant().sampling)
    return draft, PromptForm().parse("[1]", 1), None, "stop"


def _changed(works: Works) -> Any:
    dataset = works.dataset()
    rows = works.store.datasets.path(dataset.ref) / "train.jsonl"
    rows.write_bytes(rows.read_bytes() + b" ")
    return dataset


@pytest.fixture
def works(tmp_path: Path, loaded_lm: Any) -> Works:
    return Works(tmp_path, loaded_lm)


CONDITIONS = [condition for contract in contracts() for condition in contract.conditions]


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_a_violation_is_stopped_with_the_declared_error(works: Works, condition: Condition) -> None:
    assert condition.name in VIOLATIONS, "a condition without a test of its violation"
    with pytest.raises(condition.raises) as caught:
        VIOLATIONS[condition.name](works)
    assert caught.value.condition == condition.name
    assert caught.value.message.rstrip().endswith(".")


def test_no_violation_is_of_a_condition_that_is_gone() -> None:
    assert set(VIOLATIONS) == {condition.name for condition in CONDITIONS}


def test_each_contract_is_around_the_function_that_everybody_calls() -> None:
    boundaries = {
        "ingest": take,
        "watch": watch,
        "follow": follow,
        "promote": promote,
        "monitor": monitor,
        "dataset": build_dataset,
        "finetune": finetune,
        "serve": answer.Assistant.__init__,
        "ask": answer_contracts.accepted,
        "answer": answer.Assistant._composed,
        "evaluate": evaluation.evaluate,
        "evaluate-retrieval": evaluation.evaluate_retrieval,
        "batch": batch.answer_all,
        "questions": follow_questions,
        "write": FeatureStore.write,
        "re-embed": inspect.unwrap(re_embedded, stop=lambda f: hasattr(f, "__contract__")),
        "adopt": ReEmbedded.adopt,
        "repair": repair,
        "forget": erase,
        "pairs": build_pairs,
        "negatives": mine_negatives,
        "rebuild-dataset": rebuild_dataset,
        "finetune-embedder": finetune_embedder,
        "rebuild": rebuild,
        "calibrate": calibrate_model,
        "monitor-answers": monitor_answers,
        "validate": validate_features,
    }
    assert {c.pipeline: c for c in contracts()} == {
        name: function.__contract__
        for name, function in boundaries.items()  # type: ignore[attr-defined]
    }


def test_what_keeps_its_contract_goes_through(works: Works) -> None:
    (works.root / "d.md").write_text("# Lathe\n\nThe lathe turns bowls on Mondays.\n", "utf-8")
    report = ingest(
        [str(works.root / "d.md")], store=works.store, embedder=works.embedder,
        config=FeatureConfig(),
    )  # fmt: skip
    assert report.added == 1
    assistant = works.assistant()
    assert assistant.answer("When does the lathe turn bowls?").citations
    assert evaluation.evaluate(assistant, [CASE], store=works.store).cases == 1


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (lambda w: w.take(config={"batch": 3}), "'ingest' .*'config' as .*FeatureConfig.*dict"),
        (lambda w: w.take(embedder="minilm"), "'embedder'.*str"),
        (lambda w: evaluation.evaluate(w.assistant(), 3, store=w.store), "'cases'.*int"),
        (lambda w: w.under(INGEST, {"added": 1}, Discovery(), **_ingest(w)), "'its result'.*dict"),
    ],
)
def test_an_input_or_output_of_another_type_is_refused(
    works: Works, call: Violate, fault: str
) -> None:
    with pytest.raises(TypeError, match=fault):
        call(works)


def _ingest(works: Works) -> dict[str, Any]:
    return {"store": works.store, "embedder": works.embedder, "config": FeatureConfig()}


def test_the_table_lists_what_is_enforced(capsys: pytest.CaptureFixture[str]) -> None:
    from fti.app.commands.contracts import contracts as command
    from fti.app.options import CommonOptions
    from fti.store.errors import InputError

    command(CommonOptions(json=True))
    listed = json.loads(capsys.readouterr().out)["contracts"]
    names = [c["name"] for contract in listed for c in contract["conditions"]]
    assert names == [condition.name for condition in CONDITIONS]
    trained = next(c for c in listed if c["pipeline"] == "finetune")
    assert trained["inputs"]["dataset"] == "DatasetVersion"
    assert trained["output"] == "ModelVersion"
    command(CommonOptions(), "batch")
    shown = " ".join(capsys.readouterr().out.split())
    assert "Every question has its row" in shown
    assert "finetune" not in shown
    with pytest.raises(InputError, match=r"no pipeline 'train'.*ingest, watch"):
        command(CommonOptions(), "train")


def test_an_error_on_the_way_to_a_condition_is_not_taken_for_its_violation() -> None:
    contract = PipelineContract("p")

    @contract.precondition("Something is so", raises=ValueError)  # type: ignore[arg-type]
    def broken(store: int) -> None:
        raise FtiError("The disk is gone.")

    @contract.enforced
    def run(store: int) -> None:
        raise AssertionError("not reached")

    with pytest.raises(FtiError, match="disk") as caught:
        run(1)
    assert caught.value.condition == ""


def test_a_condition_on_what_the_pipeline_does_not_take_is_a_defect() -> None:
    contract = PipelineContract("p")

    @contract.precondition("x", raises=FtiError)
    def odd(missing: int) -> None: ...

    with pytest.raises(AssertionError, match="missing"):
        contract.enforced(lambda store: None)


def test_types_are_those_of_the_signature() -> None:
    assert conforms(None, int | None)
    assert not conforms("x", int | None)
    assert conforms([1], list[int])
    assert not conforms((1,), list[int])
    assert conforms(1, float)
    assert conforms(object(), Any)
