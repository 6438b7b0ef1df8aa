"""The steps of a nightly round around training: looked at, made, and not made again for nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from fti.app.operations.promoting.promotion import promote
from fti.app.orchestration.plan import parse_pipeline
from fti.app.orchestration.resources import Context, Resource
from fti.app.orchestration.runner import PipelineReport, run_pipeline
from fti.app.settings import load_settings
from fti.store.progress import quiet
from fti.store.store import Store
from tests.support.chat_server import Server, says, serving
from tests.support.tiny_embedder import ALIASES, OWNERS, THINGS
from tests.support.values import a_contract, a_row, an_answer

HASHING = ("embedder.engine=hashing", "embedder.dimension=64", "generator.engine=extractive",
           "dataset.train=0.5", "dataset.test=0.4")  # fmt: skip


def context(root: Path, *overrides: str) -> Context:
    settings = load_settings(store=root / "store", overrides=overrides or HASHING, environment={})
    return Context(settings, Store(settings.store), quiet)


def run(where: Context, *steps: Any) -> PipelineReport:
    pipeline = parse_pipeline({"name": "nightly", "steps": list(steps)}, where="p.yaml")
    return run_pipeline(pipeline, where)


def became(report: PipelineReport) -> dict[str, str]:
    return {step.step: step.status for step in report.steps}


def about_its_hall(server: Server, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    """A question with its quote about the hall whose passage was shown."""
    shown = re.findall(r"kiln of hall (\d) is fired on day", body["messages"][-1]["content"])
    n = int(shown[-1])
    reply = {
        "question": f"On which day is the kiln of hall {n} fired?",
        "answer": f"day {n}",
        "quote": f"The kiln of hall {n} is fired on day {n} at {1200 + n} degrees.",
    }
    says(json.dumps(reply))(server, handler, body)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for n in range(6):
        text = f"# Hall {n}\n\nThe kiln of hall {n} is fired on day {n} at {1200 + n} degrees.\n"
        (folder / f"hall{n}.md").write_text(text, "utf-8")
    return folder


def test_a_damaged_store_stops_the_round_each_time_until_it_is_whole(
    tmp_path: Path, docs: Path
) -> None:
    steps = ({"ingest": {"sources": [str(docs)]}}, {"dataset": {"dataset": "halls"}},
             {"verify": {}}, {"monitor": {}})  # fmt: skip
    assert became(run(context(tmp_path), *steps))["verify"] == "done"
    rows = context(tmp_path).store.datasets.path("halls/1") / "train.jsonl"
    whole = rows.read_bytes()
    rows.write_bytes(whole + b" ")
    damaged = run(context(tmp_path), *steps)
    assert became(damaged)["verify"] == "failed"
    assert became(damaged)["monitor"] == "not reached"
    error = damaged.steps[2].error or {}
    assert "dataset halls/1: train.jsonl: differs" in error["message"]
    assert "(the first of 1)" in error["message"]
    assert error["hint"] == "List them with: fti store verify"
    rows.write_bytes(whole)
    mended = run(context(tmp_path), *steps)
    assert became(mended) == {
        "ingest": "skipped", "dataset": "skipped", "verify": "done", "monitor": "done",
    }  # fmt: skip
    assert [step.why for step in run(context(tmp_path), *steps).steps[2:]] == [
        "files can be damaged at any time",
        "it looks back from now",
    ]


def test_alerts_make_a_round_done_in_part_and_are_in_its_report(tmp_path: Path, docs: Path) -> None:
    where = context(tmp_path)
    run(where, {"ingest": {"sources": [str(docs)]}})
    for n in range(60):
        where.store.answers.append(an_answer(f"a-20260301-{n:012x}", text=f"At nine, {n}. [1]"))
    report = tmp_path / "out" / "monitor.html"
    step = {"monitor": {"days": 3650, "report": str(report)}}
    calm = run(where, step)
    assert (calm.status, calm.steps[0].status) == ("done", "done"), calm.steps[0].summary
    assert "60 answers of 3650 days" in calm.steps[0].summary
    for n in range(60, 160):
        where.store.answers.append(an_answer(f"a-20260301-{n:012x}", abstained=True))
    found = run(where, step)
    assert (found.status, found.steps[0].status) == ("partial", "partial")
    assert "unanswered:" in found.steps[0].summary
    assert "unanswered" in report.read_text("utf-8")


def test_documents_that_are_not_as_expected_stop_the_round_or_are_told(
    tmp_path: Path, docs: Path
) -> None:
    expected = tmp_path / "expectations.yaml"
    checks = "{characters: {checks: {greater_than: 10}}}"
    expected.write_text(f'"*": {{documents: {{columns: {checks}}}}}', "utf-8")
    validate = {"file": str(expected), "report": str(tmp_path / "out" / "validation.html")}
    steps = ({"ingest": {"sources": [str(docs)]}}, {"validate": validate},
             {"dataset": {"dataset": "halls"}})  # fmt: skip
    good = run(context(tmp_path), *steps)
    assert became(good)["validate"] == "done", good.steps[1].error
    (docs / "short.md").write_text("Short.\n", "utf-8")
    stopped = run(context(tmp_path), *steps)
    assert became(stopped) == {"ingest": "done", "validate": "failed", "dataset": "not reached"}
    error = stopped.steps[1].error or {}
    assert error["code"] == "expectations_broken"
    assert "documents characters: greater_than(10), by 1 of 7" in error["message"]
    assert "short.md" in (tmp_path / "out" / "validation.html").read_text("utf-8")
    told = run(context(tmp_path), steps[0], {"validate": validate | {"on_violation": "tell"}})
    assert (told.status, became(told)["validate"]) == ("partial", "partial")
    assert context(tmp_path).store.runs.list("validate")[0].metrics["broken"] == 1


def test_corrections_become_pairs_and_new_ones_are_a_reason_to_make_them_again(
    tmp_path: Path, docs: Path
) -> None:
    where = context(tmp_path)
    review = tmp_path / "review.jsonl"
    review.write_text("", "utf-8")
    steps = (
        {"ingest": {"sources": [str(docs)]}},
        {"dataset": {"dataset": "halls"}},
        {"pairs": {"dataset": "halls-pairs", "source": "halls", "feedback": str(review)}},
    )
    first = run(where, *steps)
    assert became(first) == dict.fromkeys(("ingest", "dataset", "pairs"), "done")
    made = where.store.datasets.get("halls-pairs")
    assert (made.kind, made.version) == ("preference", 1)
    assert became(run(where, *steps)) == dict.fromkeys(became(first), "skipped")
    review.write_text("\n", "utf-8")
    again = run(where, *steps)
    assert became(again)["pairs"] == "done"
    assert again.steps[2].why == f"changed: files {review}"


def test_a_calibration_is_of_what_was_trained_and_not_of_itself(tmp_path: Path) -> None:
    where = context(tmp_path)
    store = where.store
    dataset = store.datasets.publish(
        "rows", rows={"train": [a_row()]}, features_version=1, embedder=a_contract().embedder,
        prompt_digest="p", run_id="r-1",
    )  # fmt: skip
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}", "utf-8")

    def train() -> None:
        store.models.publish(
            "reader", adapter, contract=a_contract(), dataset=dataset, run_id="r-2", metrics={}
        )

    trained, newest = Resource("trained", "reader"), Resource("model", "reader")
    assert trained.digest(where) == ""
    train()
    assert trained.digest(where) == newest.digest(where)
    before = trained.digest(where)
    for _ in range(2):
        store.models.republish(
            "reader/1", contract=a_contract(abstain_below=0.4), run_id="r-3",
            metrics={"calibration": {"cases": 5}},
        )  # fmt: skip
    assert trained.digest(where) == before != newest.digest(where)
    train()
    assert trained.digest(where) == newest.digest(where)


@pytest.mark.heavy
def test_an_embedder_that_took_the_store_over_is_not_trained_again_for_it(
    tmp_path: Path, tiny_embedder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    cases = []
    for n, (thing, owner) in enumerate((t, o) for t in THINGS for o in OWNERS[:3]):
        name, room = f"{thing}-{owner}.md", f"room {100 + n}"
        text = f"# Things\n\nThe {thing} of the {owner} was moved to {room}.\n"
        (folder / name).write_text(text, "utf-8")
        question = f"Where is the {ALIASES[thing]} of the {ALIASES[owner]}?"
        cases.append({"id": name, "answers": [room], "document": name, "question": question})
    training, quiz = tmp_path / "training.jsonl", tmp_path / "quiz.jsonl"
    training.write_text("".join(json.dumps(case) + "\n" for case in cases[:15]), "utf-8")
    quiz.write_text("".join(json.dumps(case) + "\n" for case in cases[15:]), "utf-8")
    overrides = (f"embedder.id={tiny_embedder}", "embedder.device=cpu", "model=base",
                 "generator.engine=extractive", "inference.retrieval.mode=vector",
                 "embedder_training.max_steps=2", "embedder_training.batch_size=2")  # fmt: skip

    # A step or two proves nothing: who promotes says that he knows better.
    def by_force(settings: Any, store: Any, model: str, **how: Any) -> Any:
        return promote(settings, store, model, **how, force=True, reason="a drill")

    monkeypatch.setattr("fti.app.operations.promoting.promotion.promote", by_force)
    steps = (
        {"ingest": {"sources": [str(folder)]}},
        {"freeze": {"cases": "quiz", "file": str(quiz)}},
        {"finetune-embedder": {"model": "finder", "cases": str(training)}},
        {"promote-embedder": {"model": "finder", "cases": "quiz"}},
        {"dataset": {"dataset": "halls"}},
    )
    first = run(context(tmp_path, *overrides), *steps)
    assert became(first) == dict.fromkeys(became(first), "done"), [
        s.error for s in first.steps if s.error
    ]
    store = context(tmp_path, *overrides).store
    identity = store.features.identity()
    assert identity is not None
    assert identity.id == "registry:finder/1"
    assert store.datasets.get("halls").embedder == identity
    assert store.datasets.get("finder-pairs").version == 1

    # The vectors are others than the ingest left: it looks, and nothing is to be done.
    second = run(context(tmp_path, *overrides), *steps)
    assert became(second) == {**dict.fromkeys(became(first), "skipped"), "ingest": "done"}
    assert "30 unchanged" in second.steps[0].summary
    assert became(run(context(tmp_path, *overrides), *steps)) == dict.fromkeys(
        became(first), "skipped"
    )
    training.unlink()
    gone = run(context(tmp_path, *overrides), *steps)
    assert gone.steps[2].status == "failed"
    assert str(training) in (gone.steps[2].error or {})["message"]


def test_the_model_that_writes_questions_counts_for_a_dataset_that_it_writes(
    tmp_path: Path, docs: Path, server: Server
) -> None:
    ingest = {"ingest": {"sources": [str(docs)]}}
    other = context(tmp_path, *HASHING, "generator.min_similarity=0.3")
    run(context(tmp_path), ingest, {"dataset": {"dataset": "halls"}})
    plain = run(other, ingest, {"dataset": {"dataset": "halls"}})
    assert became(plain)["dataset"] == "skipped"
    written = run(other, ingest, {"dataset": {"dataset": "halls", "write": True}})
    assert became(written)["dataset"] == "failed"
    assert "extractive" in (written.steps[1].error or {})["message"]

    server.responses, server.repeats = [about_its_hall], True
    named = {"engine": "openai", "id": "acme", "server": {"base_url": server.url}}
    remote = context(
        tmp_path, *HASHING, f"dataset.writer.generator={json.dumps(named)}", "dataset.train=0.5"
    )
    done = run(remote, ingest, {"dataset": {"dataset": "halls", "write": True}})
    assert became(done)["dataset"] == "done", done.steps[1].error
    asked = len(server.bodies)
    run(remote, ingest, {"dataset": {"dataset": "halls", "write": True}})
    assert 0 < asked == len(server.bodies)
    filters = remote.store.datasets.get("halls").statistics["filters"]
    replies = next(f for f in filters if f["filter"] == "written_quote_not_in_passage")
    assert replies["considered"] == replies["kept"] > 0


def test_conversations_from_elsewhere_are_taken_in_and_a_change_of_them_counts(
    tmp_path: Path, docs: Path
) -> None:
    chats = tmp_path / "chats.jsonl"

    def write(count: int) -> None:
        turns = (
            [{"role": "user", "content": f"What is {n} and {n}?"},
             {"role": "assistant", "content": f"It is {2 * n} altogether."}]
            for n in range(count)
        )  # fmt: skip
        lines = (json.dumps({"messages": messages}) + "\n" for messages in turns)
        chats.write_text("".join(lines), "utf-8")

    where = context(tmp_path, *HASHING, "dataset.max_imported_share=0.9")
    steps = (
        {"ingest": {"sources": [str(docs)]}},
        {"dataset": {"dataset": "halls", "imports": [str(chats)]}},
    )
    write(3)
    assert became(run(where, *steps))["dataset"] == "done"
    assert where.store.datasets.get("halls/1").statistics["sources"]["imported"]["answers"] == 3
    assert became(run(where, *steps))["dataset"] == "skipped"
    write(4)
    assert became(run(where, *steps))["dataset"] == "done"
    assert where.store.datasets.get("halls/2").statistics["sources"]["imported"]["answers"] == 4
