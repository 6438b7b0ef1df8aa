"""A store that an earlier version made, with today's code.

``tests/data/store-b0c5e89.tar.xz`` was made by the commit of that name, the last before the wings:
five of the demo's documents ingested, one changed and one deleted since; a tag, a dataset, a case
set, an adapter for a tiny random model (which lies beside the store), an alias, answers, an
evaluation, a batch. It is never made anew: what stands in it is what stands in people's stores.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from fti.store.answer_types import Answer
from fti.store.store import Store
from tests.support.command import fti

ARCHIVE = Path(__file__).parents[1] / "data" / "store-b0c5e89.tar.xz"
QUESTION = "When is the workshop open?"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The old store, unpacked elsewhere and told so; its profile reads the tiny model beside it."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTI_CONFIG", "profile.yaml")
    monkeypatch.setenv("FTI_STORE", "store")
    fti("store", "migrate")  # it was made in another folder
    return Store(tmp_path / "store")


def logged(store: Store, model: str) -> Answer:
    """What the old version answered the question with this model."""
    return next(a for a in store.answers.list() if a.model == model and a.question == QUESTION)


def test_everything_in_it_is_as_it_was_published(store: Store) -> None:
    verified = fti("store", "verify")
    assert verified["problems"] == []
    counted = {
        "chunks": 30, "documents": 4, "datasets": 1, "case_sets": 1, "models": 1, "aliases": 1,
        "runs": 6, "answers": 6,
    }  # fmt: skip
    assert counted.items() <= verified["checked"].items()


def test_its_lists_say_what_is_in_it(store: Store) -> None:
    (model,) = fti("models", "list")["models"]
    assert (model["ref"], model["aliases"]) == ("reader/1", ["challenger"])
    assert fti("dataset", "list")["datasets"][0]["rows"] == {"train": 6, "validation": 3, "test": 3}
    assert fti("cases", "list")["case_sets"][0]["ref"] == "quiz/1"
    versions = fti("versions", "list")["versions"]
    assert [(v["version"], v["tags"]) for v in versions][-2:] == [(4, ["first"]), (12, [])]
    assert {run.kind for run in store.runs.list()} == {
        "ingest", "dataset", "finetune", "evaluate", "batch",
    }  # fmt: skip
    assert store.models.history("reader")[0].reason == "a first try"


def test_it_is_searched_now_and_as_it_was(store: Store) -> None:
    def sources(*words: str) -> set[str]:
        return {Path(p["document"]).name for p in fti("search", *words)["passages"]}

    assert "guests-and-young-people.txt" in sources("Dogs are welcome in the yard", "-k", "3")
    assert "price-list.csv" not in sources("hourly rate for the yard marquee", "-k", "10")
    assert "price-list.csv" in sources("hourly rate of the marquee", "-k", "10", "--at", "first")


@pytest.mark.parametrize("model", ["extractive", "reader/1"])
def test_a_question_is_shown_the_passages_that_it_was_shown_then(store: Store, model: str) -> None:
    then = logged(store, model)
    now = store.answers.get(fti("ask", QUESTION, "--model", model)["id"])
    assert (now.model, now.base) == (then.model, then.base)
    assert [p.chunk_id for p in now.passages] == [p.chunk_id for p in then.passages]


def test_a_model_serves_under_the_contract_that_it_was_trained_under(store: Store) -> None:
    now = store.answers.get(fti("ask", QUESTION, "--model", "reader/1")["id"])
    then = logged(store, "reader/1")
    assert now.contract_digest == then.contract_digest
    assert now.contract_digest == store.models.get("reader/1").contract.digest
    assert now.usage.prompt_tokens == then.usage.prompt_tokens


def test_the_extractive_answer_is_the_one_of_then(store: Store) -> None:
    now = fti("ask", QUESTION, "--model", "extractive")
    assert now["answer"] == logged(store, "extractive").text


def test_an_old_answer_is_traced_to_model_dataset_run_and_documents(store: Store) -> None:
    traced = fti("trace", logged(store, "reader/1").id)
    assert traced["model"]["ref"] == "reader/1"
    assert traced["model"]["dataset"]["ref"] == "handbook/1"
    assert traced["model"]["run"] == store.models.get("reader/1").run_id
    assert [p["standing"] for p in traced["passages"]] == ["stands", "stands"]
    back = fti("trace", "--document", "membership-tiers.md")
    assert [use["ref"] for use in back["datasets"]] == ["handbook/1"]
    assert logged(store, "reader/1").id in {use["answer"] for use in back["answers"]}


def test_what_is_done_next_goes_on_from_it(store: Store, tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "kiln.md").write_text("# Kiln\n\nThe kiln is fired on Thursdays.\n", "utf-8")
    assert fti("ingest", str(documents))["added"] == 1
    assert fti("versions", "list")["versions"][-1]["documents"] == 5
    promoted = fti("models", "promote", "reader/1", "--alias", "trial")
    assert (promoted["version"], store.models.aliases("reader")["trial"]) == (1, 1)
    assert fti("store", "verify")["problems"] == []
