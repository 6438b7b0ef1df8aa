"""``fti evaluate`` and ``fti monitor`` as scripts call them: options, one object, exit codes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fti.app.cli import app
from fti.app.settings import load_settings
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.store.errors import FtiError
from fti.store.store import Store
from fti.store.types import document_id
from tests.support.chat_server import Server, says, serving

LINES = [
    {"id": "1", "question": "When is the kiln fired?", "answers": ["Thursdays"],
     "document": "kiln.md", "tags": ["kiln"]},
    {"id": "2", "question": "For how long are books lent?", "answers": ["three weeks"],
     "document": "loans.md"},
]  # fmt: skip


@pytest.fixture
def cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A case file, beside a store of two documents that the environment names."""
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "kiln.md").write_text("# Kiln\n\nThe kiln is fired on Thursdays.\n", "utf-8")
    (docs / "loans.md").write_text("# Loans\n\nBooks are lent for three weeks.\n", "utf-8")
    profile = tmp_path / "light.yaml"
    profile.write_text(
        "model: extractive\n"
        "embedder: {engine: hashing, dimension: 256}\n"
        "generator: {engine: extractive, min_similarity: 0.1}\n"
        "inference: {retrieval: {min_similarity: 0.05}}\n",
        "utf-8",
    )
    monkeypatch.setenv("FTI_CONFIG", str(profile))
    monkeypatch.setenv("FTI_STORE", str(tmp_path / "store"))
    settings = load_settings()
    ingest([str(docs)], store=Store(settings.store),
           embedder=HashingEmbedder(256), config=FeatureConfig())  # fmt: skip
    path = tmp_path / "cases.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES), "utf-8")
    return path


def fti(*args: str, code: int = 0) -> Any:
    done = CliRunner().invoke(app, [*args, "--json"])
    assert done.exit_code == code, (done.exception, done.output)
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def refusal(*args: str) -> str:
    error = CliRunner().invoke(app, list(args)).exception
    assert isinstance(error, FtiError), error
    return str(error)


def test_compare_without_a_value_may_stand_anywhere(cases: Path) -> None:
    for args in (["--compare", str(cases)], [str(cases), "--compare"]):
        body = fti("evaluate", *args)
        assert (body["cases"], body["model"]) == (2, "extractive")
        assert "systems" not in body


def test_compare_with_a_list_measures_each_system(cases: Path) -> None:
    names = "extractive+text,extractive+rag,extractive+oracle,vector"
    for args in (["--compare", names], [f"--compare={names}"]):
        body = fti("evaluate", str(cases), *args)
        assert list(body["systems"]) == names.split(",")
        assert (body["reference"], body["system"]) == ("extractive+text", "extractive+oracle")
    assert [s["reused"] for s in body["systems"].values()] == [2, 2, 2, 2]


def test_a_frozen_set_is_evaluated_by_its_name(cases: Path) -> None:
    frozen = fti("cases", "freeze", "handbook", str(cases))
    assert (frozen["ref"], frozen["cases"], frozen["tags"]) == ("handbook/1", 2, ["kiln"])
    by_name, by_file = fti("evaluate", "handbook"), fti("evaluate", str(cases))
    assert by_name["frozen"] == by_file["frozen"] == "handbook/1"
    assert by_name["case_set"] == frozen["digest"]
    assert fti("evaluate", "handbook", "--limit", "1")["frozen"] == "", "a sample is another set"
    assert [c["ref"] for c in fti("cases", "list")["case_sets"]] == ["handbook/1"]
    assert fti("cases", "show", "handbook")["examples"][0]["id"] == "1"


def test_a_beir_folder_is_ingested_frozen_and_evaluated(cases: Path, tmp_path: Path) -> None:
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    corpus = {"d1": "The glaze room is open on Fridays.", "d2": "Clay is sold by the kilogram.",
              "d3": "Wheels are cleaned every evening."}  # fmt: skip
    queries = {"q1": "When is the glaze room open?", "q2": "How is clay sold?", "q3": "Who?"}
    for name, texts in (("corpus", corpus), ("queries", queries)):
        lines = (json.dumps({"_id": k, "text": v}) + "\n" for k, v in texts.items())
        (folder / f"{name}.jsonl").write_text("".join(lines), "utf-8")
    judged = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td3\t0\nq2\td2\t1\n"
    (folder / "qrels" / "test.tsv").write_text(judged, "utf-8")
    ingested = fti("ingest", str(folder))
    assert ingested["added"] == 3, "queries and judgements are no documents"
    frozen = fti("cases", "freeze", "glaze", str(folder))
    assert (frozen["cases"], frozen["answerable"]) == (2, 2)
    report = tmp_path / "report"
    found = fti("evaluate", "glaze", "--retrieval-only", "--report", str(report))
    assert (found["cases"], found["frozen"]) == (2, "glaze/1")
    assert found["retrieval"]["ndcg@10"] == 1.0
    compared = fti("evaluate", str(folder), "--compare", "extractive+rag,vector,text")
    assert [s["cases"] for s in compared["systems"].values()] == [2, 2, 2]
    assert compared["systems"]["extractive+rag"]["answers"] is None, "judged, not answered"
    slices = json.loads((report / "report.json").read_text("utf-8"))["slices"]
    assert slices == [], "two questions of two kinds"


def test_cases_of_held_out_documents_are_evaluated_by_kind_document_and_question(
    cases: Path, tmp_path: Path
) -> None:
    for n in range(6):
        text = "\n\n".join(
            f"Kiln {n}{i} was built by Rosa Lund in {1900 + 10 * n + i}. The steward opens the "
            f"kiln at {i + 6} in the morning. Kiln {n}{i} stands in Delft and weighs {n + 40} tons."
            for i in range(4)
        )
        (tmp_path / "docs" / f"kiln{n}.md").write_text(f"# Kiln {n}\n\n{text}\n", "utf-8")
    fti("ingest", str(tmp_path / "docs"))
    shares = ("near_duplicate=1.0", "train=0.5", "validation=0.0", "test=0.5")
    changes = [word for share in shares for word in ("--set", f"dataset.{share}")]
    built = fti("dataset", "build", "kilns", *changes)
    ref = f"{built['name']}/{built['version']}"
    frozen = fti("cases", "freeze", "held-out", "--dataset", ref)
    assert frozen["cases"] == built["rows"]["test"]
    assert frozen["source"] == f"dataset {ref}, test split"
    report = tmp_path / "report"
    found = fti("evaluate", "held-out", "--report", str(report))
    assert (found["cases"], found["frozen"]) == (frozen["cases"], "held-out/1")
    body = json.loads((report / "report.json").read_text("utf-8"))
    by = {part["dimension"]: part for part in body["slices"]}
    assert {"tag", "question type", "document"} <= by.keys()
    assert {part["value"] for part in body["slices"] if part["dimension"] == "tag"} <= set(
        frozen["tags"]
    )
    held_out = {part["value"] for part in body["slices"] if part["dimension"] == "document"}
    dataset = Store(Path(os.environ["FTI_STORE"])).datasets.get(ref)
    assert {document_id(source) for source in held_out} <= set(dataset.documents["test"])
    assert not set(dataset.documents["test"]) & set(dataset.documents["train"])


def test_a_judge_scores_and_compares_when_it_is_asked_to(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decides(server: Server, handler: Any, body: dict[str, Any]) -> None:
        code, _, data = body["messages"][1]["content"].partition("\n")
        answer = json.loads(data)
        verdict: dict[str, Any] = {"check": code.removeprefix("check: "), "reason": "as it is"}
        if "answer" in answer:
            verdict["score"] = 4
        else:
            longer = len(answer["first"] or "") > len(answer["second"] or "")
            verdict["better"] = "first" if longer else "second"
        says(json.dumps(verdict))(server, handler, body)

    names = "extractive,extractive+rag,extractive+oracle,vector"
    command = ("evaluate", str(cases), "--compare", names)
    assert "no judge" in refusal(*command, "--judge", "both")
    with serving() as server:
        server.responses, server.repeats = [decides], True
        monkeypatch.setenv("FTI_EVALUATION__JUDGE__ID", "judge-7b")
        monkeypatch.setenv("FTI_EVALUATION__JUDGE__SERVER__BASE_URL", server.url)
        monkeypatch.setenv("FTI_EVALUATION__JUDGE__SERVER__API_KEY", "secret-key")
        report = tmp_path / "report"
        monkeypatch.setattr(sys, "argv", ["fti", *command])
        found = fti(*command, "--judge", "both", "--report", str(report))
        asked = len(server.bodies)
        again = fti(*command, "--judge", "both", "--fail-below", "judge=0.7")
        assert len(server.bodies) == asked, "verdicts are taken over"
        assert server.headers[0]["Authorization"] == "Bearer secret-key"
    rag = found["systems"]["extractive+rag"]
    assert rag["answers"]["judge"]["mean"] == 0.75
    assert (rag["judge"]["model"], rag["judge"]["asked"]) == ("judge-7b", 2)
    assert set(found["preferences"]) == {"extractive+rag", "extractive+oracle"}
    assert found["preferences"]["extractive+rag"]["against"] == "extractive"
    assert found["differences"]["extractive+rag"]["judge"]["mean"] == 0.75
    assert again["failed"] == []
    lines = json.loads((report / "report.json").read_text("utf-8"))["command"].splitlines()
    assert lines[0].startswith("pip install fti-llm==")
    assert f"export FTI_STORE={os.environ['FTI_STORE']}" in lines
    assert lines[-1].startswith("fti ")
    for name in ("report.html", "report.md", "report.json"):
        written = (report / name).read_text("utf-8")
        assert "judge-7b" in written
        assert "secret-key" not in written
    for args, fault in (
        (["--judge", "scores", "--retrieval-only"], "no answers to judge"),
        (["--judge", "pairs"], "two systems"),
        (["--judge", "yes"], "'yes' is nothing"),
    ):
        assert fault in refusal("evaluate", str(cases), *args)


def test_floors_and_a_baseline_decide_the_exit_code(cases: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    good = fti("evaluate", str(cases), "--fail-below", "recall@5=0.5", "--report", str(report))
    assert good["failed"] == []
    assert [Path(p).name for p in good["report"]] == ["report.html", "report.md", "report.json"]
    baseline = ("--baseline", str(report / "report.json"))
    assert fti("evaluate", str(cases), *baseline)["failed"] == []
    bad = fti("evaluate", str(cases), "--fail-below", "exact_match=0.9", *baseline, code=1)
    (sentence,) = bad["failed"]
    assert sentence.startswith("exact_match is 0.")
    done = CliRunner().invoke(app, ["evaluate", str(cases), "--fail-below", "exact_match=0.9"])
    assert done.exit_code == 1
    assert "failed: extractive: exact_match is 0." in " ".join(done.stderr.split())


def test_monitor_writes_a_page_and_exits_with_three_on_alerts(cases: Path, tmp_path: Path) -> None:
    fti("evaluate", str(cases))
    quiet = fti("monitor", "--report", str(tmp_path / "out"))
    assert quiet["answers"]["count"] == 0, "evaluations are no users"
    assert Path(quiet["report"]).read_text("utf-8").startswith("<!doctype html>")
    for _ in range(2):  # nothing in the store is near to this
        assert fti("ask", "xyzzy qqq?")["abstained"]
    loud = fti("monitor", "--set", "monitoring.min_sample=2", code=3)
    assert loud["answers"]["count"] == 2
    assert [alert["what"] for alert in loud["alerts"]] == ["unanswered"]
