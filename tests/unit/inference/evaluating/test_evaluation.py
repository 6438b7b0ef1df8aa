from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.generator import GenerationRequest
from fti.pipelines.inference.answering.retrieve import Retriever
from fti.pipelines.inference.evaluating.evaluation import (
    case_rows,
    compare,
    evaluate,
    evaluate_retrieval,
)
from fti.pipelines.inference.evaluating.evaluation_figures import Abstention
from fti.pipelines.inference.evaluating.selection import trained_documents
from fti.pipelines.inference.inference_config import RetrievalConfig
from fti.store.errors import InputError, InvalidCases
from fti.store.progress import ProgressEvent
from fti.store.types import Case, document_id
from tests.support.values import a_row
from tests.unit.inference.conftest import World

KILN = Case(
    id="kiln",
    question="When is the kiln fired?",
    answers=("on Thursdays", "Thursdays"),
    document="workshop/kiln.md",
)
BOOKS = Case(
    id="books",
    question="For how long are books lent?",
    answers=("three weeks",),
    document="library/loans.md",
)
COLOUR = Case(id="colour", question="What colour is the kiln?", document="workshop/kiln.md")

SAID = {
    KILN.question: "Thursdays",
    BOOKS.question: "ten days [1]",
    COLOUR.question: "The passages do not answer this question.",
}


def answering(world: World, said: dict[str, str] | None = None) -> Any:
    """An assistant whose model says a given text to a given question."""

    def pieces(request: GenerationRequest) -> list[str]:
        return [(SAID | (said or {}))[request.question]]

    return world.assistant(world.scripted(pieces=pieces))


def test_retrieval_is_scored_by_the_passage_that_holds_the_answer(world: World) -> None:
    assistant = answering(world)
    report = evaluate(assistant, [KILN, BOOKS], store=world.store, retrieval_only=True)
    ranks = [
        next(
            p.rank
            for p in assistant.retriever.search(case.question, 10)
            if p.source.endswith(case.document) and case.answers[-1] in p.text
        )
        for case in (KILN, BOOKS)
    ]
    assert report.retrieval["recall@1"] == sum(r == 1 for r in ranks) / 2
    assert report.retrieval["mrr"] == pytest.approx(sum(1 / r for r in ranks) / 2)
    assert set(report.retrieval) == {
        "recall@1", "recall@5", "recall@10", "mrr", "ndcg@10", "map@10", "hit_rate@10",
    }  # fmt: skip
    assert report.answers is None
    assert report.latency["p50"] <= report.latency["p95"]
    assert assistant.generator.requests == []


def test_without_answers_any_passage_of_the_gold_document_is_relevant(world: World) -> None:
    assistant = answering(world)
    report = evaluate_retrieval(assistant.retriever, [COLOUR], store=world.store)
    (row,) = case_rows(world.store, report.run)
    found = assistant.retriever.search(COLOUR.question, 10)
    assert row["rank"] == next(p.rank for p in found if p.source.endswith("kiln.md"))


def test_retrieval_alone_embeds_its_questions_together_and_finds_the_same(world: World) -> None:
    retriever = answering(world).retriever
    one_by_one = [retriever.search(case.question, 10) for case in (KILN, BOOKS)]

    class Together(HashingEmbedder):
        def embed_query(self, text: str) -> Any:
            raise AssertionError("questions are embedded together")

        def embed_queries(self, texts: Sequence[str]) -> Any:
            asked.append(list(texts))
            return HashingEmbedder().embed_documents(texts)

    asked: list[list[str]] = []
    retriever.embedder = Together()
    vectors = retriever.embed([KILN.question, BOOKS.question])
    together = [
        retriever.search(case.question, 10, vector=vector)
        for case, vector in zip((KILN, BOOKS), vectors, strict=True)
    ]
    assert together == one_by_one
    report = evaluate_retrieval(retriever, [KILN, BOOKS], store=world.store)
    assert report.cases == 2
    assert asked == [[KILN.question, BOOKS.question]] * 2
    words_only = RetrievalConfig(mode="text")
    retriever = Retriever(world.store.features, Together(), None, words_only)
    assert retriever.embed([KILN.question]) == [None]


def test_answers_are_scored_without_their_markers(world: World) -> None:
    report = evaluate(answering(world), [KILN, BOOKS, COLOUR], store=world.store)
    rows = {row["id"]: row for row in case_rows(world.store, report.run)}
    assert rows["kiln"]["answer"] == "Thursdays"  # a marker was appended to what is served
    assert [rows[c]["exact_match"] for c in ("kiln", "books", "colour")] == [1, 0, 1]
    assert rows["books"]["f1"] == 0.0
    assert report.answers is not None
    assert report.answers["exact_match"].mean == pytest.approx(2 / 3)
    assert report.answers["f1"].n == 3
    assert report.answers["f1"].low <= report.answers["f1"].mean <= report.answers["f1"].high


def test_faithfulness_and_citation_precision_judge_the_cited_passages(world: World) -> None:
    report = evaluate(answering(world), [KILN, BOOKS, COLOUR], store=world.store)
    rows = {row["id"]: row for row in case_rows(world.store, report.run)}
    assert rows["kiln"]["citation_precision"] == 1.0
    assert rows["kiln"]["faithfulness"] == 1.0
    assert rows["books"]["faithfulness"] == 0.0  # "ten days" stands nowhere
    assert rows["colour"]["citation_precision"] is None
    assert rows["colour"]["faithfulness"] is None
    assert report.answers is not None
    assert report.answers["faithfulness"].n == 2


def test_citation_recall_asks_whether_a_relevant_passage_that_was_shown_is_cited(
    world: World,
) -> None:
    def pieces(request: GenerationRequest) -> list[str]:
        right = next(n for n, p in enumerate(request.passages, 1) if "fired on Thursdays" in p.text)
        other = next(n for n in range(1, len(request.passages) + 1) if n != right)
        return [f"Thursdays [{right if cites_right else other}]"]

    for good in (True, False):
        cites_right = good
        report = evaluate(
            world.assistant(world.scripted(pieces=pieces)), [KILN, COLOUR], store=world.store
        )
        rows = {row["id"]: row for row in case_rows(world.store, report.run)}
        assert rows["kiln"]["citation_recall"] == float(good)
        assert report.answers is not None
        assert report.answers["rouge_l"].n == 2
    nothing = evaluate(
        answering(world, {KILN.question: SAID[COLOUR.question]}), [KILN], store=world.store
    )
    assert nothing.answers is not None
    assert nothing.answers["citation_recall"].n == 0, "a refusal cites nothing by right"


def test_an_answer_without_citation_is_not_faithful(world: World) -> None:
    report = evaluate(answering(world, {KILN.question: "daily"}), [KILN], store=world.store)
    (row,) = case_rows(world.store, report.run)
    assert row["faithfulness"] == 0.0
    assert row["citation_precision"] is None
    assert report.answers is not None
    assert report.answers["citation_precision"].n == 0


def test_abstention_counts_wrong_refusals_and_wrong_answers(world: World) -> None:
    said = {KILN.question: SAID[COLOUR.question], COLOUR.question: "red [1]"}
    report = evaluate(answering(world, said), [KILN, BOOKS, COLOUR], store=world.store)
    assert report.answers is not None
    abstention = report.answers["abstention"]
    assert isinstance(abstention, Abstention)
    assert (abstention.wrongly_refused, abstention.wrongly_answered) == (1, 1)
    assert abstention.mean == abstention.accuracy.mean == pytest.approx(1 / 3)
    assert (abstention.precision.mean, abstention.precision.n) == (0.0, 1)
    assert (abstention.recall.mean, abstention.recall.n) == (0.0, 1)
    assert abstention.reasons == {"model": 1}
    assert report.faults == {"reader_miss": 1, "wrong_answer": 1, "wrong_refusal": 1}
    dumped = report.model_dump(mode="json", by_alias=True)
    assert dumped["answers"]["abstention"]["wrongly_refused"] == 1


def test_cases_asked_together_score_as_one_by_one(world: World) -> None:
    said = {KILN.question: SAID[COLOUR.question], COLOUR.question: "red [1]"}
    timed = {"retrieve_s", "first_token_s", "generate_s", "total_s", "select_s", "answer_id"}

    def rows(group: int) -> list[dict[str, Any]]:
        report = evaluate(
            answering(world, said), [KILN, BOOKS, COLOUR], store=world.store, group=group
        )
        found = case_rows(world.store, report.run)
        return [{k: v for k, v in row.items() if k not in timed} for row in found]

    assert rows(2) == rows(8) == rows(1)
    assert len(rows(2)) == 3


def test_cases_asked_together_go_on_where_they_stopped(world: World) -> None:
    assistant = answering(world)
    evaluate(assistant, [BOOKS], store=world.store, resume=True)
    asked = len(assistant.generator.requests)

    report = evaluate(assistant, [KILN, BOOKS, COLOUR], store=world.store, resume=True, group=4)

    assert report.reused == 1
    assert len(assistant.generator.requests) == asked + 2
    assert [row["id"] for row in case_rows(world.store, report.run)] == ["kiln", "books", "colour"]


def test_sentences_cut_from_a_found_passage_are_no_miss_of_the_search(world: World) -> None:
    generator = world.scripted("the yard [1]")
    contract = world.contract(generator, evidence_sentences=1)
    asked = KILN.model_copy(update={"question": "May members collect pots on Sundays at noon?"})
    far = KILN.model_copy(update={"id": "far", "answers": ("never at all",)})

    report = evaluate(
        world.assistant(generator, contract=contract), [asked, far], store=world.store
    )

    rows = {row["id"]: row for row in case_rows(world.store, report.run)}
    assert rows["kiln"]["rank"] <= 3
    assert {name: row["fault"] for name, row in rows.items()} == {
        "kiln": "evidence_cut",
        "far": "retrieval_miss",
    }


def test_evaluation_logs_its_answers_under_its_run(world: World) -> None:
    report = evaluate(answering(world), [KILN, COLOUR], store=world.store)
    rows = case_rows(world.store, report.run)
    for row in rows:
        assert world.store.answers.get(row["answer_id"]).run_id == report.run
    run = world.store.runs.get(report.run)
    assert (run.kind, run.status) == ("evaluate", "done")
    assert run.inputs["case_set"] == report.case_set
    assert run.inputs["model"] == "base"
    assert run.metrics["answers"]["f1"]["n"] == 2


def test_progress_is_told_after_every_case(world: World) -> None:
    events: list[ProgressEvent] = []
    evaluate(answering(world), [KILN, BOOKS], store=world.store, progress=events.append)
    assert [(e.done, e.total) for e in events] == [(1, 2), (2, 2)]
    assert events[-1].values["f1"] == 0.5


def test_cases_about_absent_documents_are_counted_not_scored(world: World) -> None:
    absent = Case(id="x", question="Where?", answers=("here",), document="corpus/none.md")
    twice = Case(id="y", question="Where?", answers=("here",), document="same.md")
    world.put({"/a/same.md": "# Same\n\nOne text here.", "/b/same.md": "# Same\n\nOther here."})
    report = evaluate(answering(world), [KILN, absent, twice], store=world.store)
    assert report.cases == 1
    assert (report.not_in_store.count, report.not_in_store.cases) == (1, ("x",))
    assert report.not_in_store.documents == ("corpus/none.md",)
    assert (report.ambiguous.count, report.ambiguous.cases) == (1, ("y",))


def test_no_case_about_the_store_is_an_error(world: World) -> None:
    absent = Case(id="x", question="Where?", answers=("here",), document="corpus/none.md")
    with pytest.raises(InvalidCases, match=r"corpus/none.md.*no document"):
        evaluate(answering(world), [absent], store=world.store)
    with pytest.raises(InvalidCases, match="no cases"):
        evaluate(answering(world), [], store=world.store)


def test_a_case_without_document_is_scored_by_its_answer_alone(world: World) -> None:
    case = KILN.model_copy(update={"document": ""})
    report = evaluate(answering(world), [case], store=world.store)
    assert report.retrieval == {}
    assert report.answers is not None
    assert report.answers["exact_match"].mean == 1.0


def trained_on(world: World, tmp_path: Path, *sources: str, parent: str | None = None) -> str:
    """Publish a model that was trained on these documents; its ref."""
    dataset = world.store.datasets.publish(
        "rows",
        rows={
            "train": [
                a_row(f"r{n}-{parent}", documents=(document_id(source),))
                for n, source in enumerate(sources)
            ],
            "test": [a_row("t", "test", documents=("other",))],
        },
        features_version=1,
        embedder=world.embedder.identity,
        prompt_digest="p",
        run_id="r-1",
    )
    files = tmp_path / "adapter"
    files.mkdir(exist_ok=True)
    (files / "adapter_config.json").write_text("{}")
    version = world.store.models.publish(
        "reader",
        files,
        contract=world.contract(world.scripted()),
        dataset=dataset,
        run_id="r-2",
        metrics={},
        parent=parent,
    )
    return version.ref


def test_cases_about_documents_trained_on_are_left_out(world: World, tmp_path: Path) -> None:
    ref = trained_on(world, tmp_path, "/docs/workshop/kiln.md")
    assistant = answering(world)
    assistant.model = ref
    report = evaluate(assistant, [KILN, BOOKS, COLOUR], store=world.store)
    assert report.cases == 1
    assert report.trained_on.cases == ("kiln", "colour")
    everything = evaluate(assistant, [KILN, BOOKS], store=world.store, include_trained=True)
    assert (everything.cases, everything.trained_on.count) == (2, 0)
    with pytest.raises(InputError, match="--include-trained"):
        evaluate(assistant, [KILN], store=world.store)


def test_what_a_parent_was_trained_on_counts_too(world: World, tmp_path: Path) -> None:
    first = trained_on(world, tmp_path, "/docs/workshop/kiln.md")
    second = trained_on(world, tmp_path, "/docs/library/loans.md", parent=first)
    assert trained_documents(world.store, second) == {
        document_id("/docs/workshop/kiln.md"),
        document_id("/docs/library/loans.md"),
    }
    assert trained_documents(world.store, "base") == frozenset()


def test_the_base_can_be_evaluated_on_what_a_version_has_not_seen(
    world: World, tmp_path: Path
) -> None:
    ref = trained_on(world, tmp_path, "/docs/workshop/kiln.md")
    report = evaluate(answering(world), [KILN, BOOKS], store=world.store, unseen_by=[ref])
    assert (report.cases, report.trained_on.cases) == (1, ("kiln",))


def test_judged_cases_measure_retrieval_of_documents_only(world: World) -> None:
    world.put({"/beir/corpus.jsonl#d1": "# Kiln\n\nThe kiln is lit by a flint from Peru."})
    case = Case(
        id="q",
        question="Which flint lights the kiln?",
        relevant={"corpus.jsonl#d1": 1, "corpus.jsonl#gone": 0},
    )
    assistant = answering(world)
    report = evaluate(assistant, [case], store=world.store)
    assert report.retrieval["ndcg@10"] == 1.0
    assert report.answers is None
    assert assistant.generator.requests == []


def test_without_retrieval_only_the_answer_is_scored(world: World) -> None:
    generator = world.scripted("Thursdays")
    assistant = world.assistant(generator, use_retrieval=False)
    report = evaluate(assistant, [KILN], store=world.store)
    assert report.retrieval == {}
    assert report.use_retrieval is False
    assert report.answers is not None
    assert report.answers["exact_match"].mean == 1.0
    assert report.answers["faithfulness"].n == 0


def test_two_evaluations_are_compared_case_by_case(world: World) -> None:
    better = evaluate(answering(world), [KILN, BOOKS, COLOUR], store=world.store)
    worse = evaluate(answering(world, {KILN.question: "never"}), [BOOKS, KILN], store=world.store)
    difference = compare(case_rows(world.store, better.run), case_rows(world.store, worse.run))
    assert difference["exact_match"].mean == 0.5
    assert difference["exact_match"].n == 2
    assert difference["mrr"].mean == 0.0
    assert difference["mrr"].p_holm == 1.0
    assert difference["exact_match"].p == 1.0, "one case of two proves nothing"
    with pytest.raises(InvalidCases, match="no case in common"):
        compare([{"id": "a"}], [{"id": "b"}])


def test_a_failed_evaluation_is_a_failed_run(world: World) -> None:
    assistant = world.assistant(world.scripted("a", fails_after=0))
    with pytest.raises(Exception, match="broke off"):
        evaluate(assistant, [KILN], store=world.store)
    (run,) = world.store.runs.list("evaluate")
    assert (run.status, run.error) == ("failed", "The model broke off.")


def test_a_run_says_everything_that_shaped_its_answers(world: World) -> None:
    engine = {"engine": "transformers", "dtype": "float32"}
    assistant = world.assistant(engine=engine)
    report = evaluate(assistant, [KILN], store=world.store, resume=True)
    settings = world.store.runs.get(report.run).settings
    assert settings["engine"] == engine
    assert settings["retrieval"] == assistant.retriever.contract.model_dump(mode="json")
    assert settings["contract"] == assistant.contract.model_dump(mode="json")
    assert settings["embedder"] == world.embedder.identity.model_dump(mode="json")
    assert "other_retrieval" not in settings["inference"]  # says what to do, shapes nothing


def test_a_score_is_not_kept_for_a_generator_that_runs_otherwise(world: World) -> None:
    def reused(dtype: str) -> int:
        assistant = world.assistant(engine={"dtype": dtype})
        return evaluate(assistant, [KILN], store=world.store, resume=True).reused

    assert [reused("float32"), reused("float32"), reused("bfloat16")] == [0, 1, 0]
