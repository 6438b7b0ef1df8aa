"""The page on data frames, block by block, over a store that has been at work for a while."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from fti.app.build import Engines, build_assistant
from fti.app.settings import load_settings
from fti.pipelines.feature.dataset.instructions import build_dataset
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.inference.evaluating.evaluation import evaluate
from fti.store.answer_types import Feedback
from fti.store.store import Store
from fti.store.types import Case

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "data-frames.md"
PARTS = ("machines",)
QUESTIONS = ("When is the kiln fired?", "Who may weld?", "What does a locker cost?", "Why?")
CASES = (
    Case(id="1", question="Who may weld?", answers=("trained members",)),
    Case(id="2", question="Which colour has the moon of Mars?"),
)


def at_work(root: Path) -> Store:
    """A store with documents, a dataset, answers, a verdict and two evaluations."""
    settings = load_settings()
    engines = Engines(settings)
    store = Store(root)
    ingest(["handbook"], store=store, embedder=engines.embedder, config=settings.features)
    assistant = build_assistant(settings, store, engines=engines)
    build_dataset(
        "handbook",
        store=store,
        embedder=engines.embedder,
        retriever=assistant.retriever.over,
        config=settings.dataset,
        form=settings.prompt.form,
    )
    asked = [assistant.answer(question) for question in QUESTIONS]
    store.answers.feedback(Feedback(answer_id=asked[0].id, rating="down", correction="On Monday."))
    for _ in range(2):
        evaluate(assistant, CASES, store=store)
    return store


@pytest.mark.heavy
def test_every_block_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in PARTS:
        shutil.copytree(ROOT / "app/demo/corpus" / part, tmp_path / "handbook" / part)
    profile = tmp_path / "light.yaml"
    profile.write_text(
        "# For tests: no weights.\n"
        "model: extractive\n"
        "embedder: {engine: hashing, dimension: 256}\n"
        "generator: {engine: extractive, min_similarity: 0.1}\n"
        "inference: {retrieval: {min_similarity: 0.05}}\n"
        "dataset: {max_rows: 60}\n",
        "utf-8",
    )
    monkeypatch.setenv("FTI_CONFIG", str(profile))
    monkeypatch.chdir(tmp_path)
    at_work(tmp_path / ".fti")

    known: dict[str, Any] = {"__name__": "page"}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.S | re.M)
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), known)

    assert len(blocks) >= 6
    assert set(known["answers"]["question"]) >= set(QUESTIONS)
    assert known["in_the_way"]["size"].sum() == len(known["shown"])
    assert set(known["cases"]["id"]) == {"1", "2"}
    assert known["difference"].tolist() == [0.0, 0.0]
    assert known["documents"]["complaints"].sum() == len(
        known["shown"].query("rating == 'down'")["source"].unique()
    )
    assert len(known["rows"]) > 0
    assert "retrieval" in capsys.readouterr().out or not known["wrong"].empty


def test_the_table_names_columns_that_there_are(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    rows = re.findall(r"^\| `store\.(\w+)` \| [^|]+ \| ([^|]+) \|$", PAGE.read_text("utf-8"), re.M)
    assert {name for name, _ in rows} == {
        "features", "ledger", "answers", "runs", "evaluations", "datasets", "casesets",
    }  # fmt: skip
    for name, columns in rows:
        if name in ("features", "evaluations"):
            continue  # the first needs a table, the second has what its runs have
        there = getattr(store, name).to_arrow().column_names
        assert set(re.findall(r"`(\w+)`", columns)) <= set(there), name
