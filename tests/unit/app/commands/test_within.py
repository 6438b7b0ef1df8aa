"""``--where``, ``--collection`` and ``--at``: what one command can be kept within, all can."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fti.app.cli import app
from fti.store.errors import CollectionNotFound, FtiError, InvalidFilter, VersionNotFound
from fti.store.store import Store

LIGHT = [
    "embedder.engine=hashing", "generator.engine=extractive", "generator.min_similarity=0.05",
    "inference.retrieval.min_similarity=0.05", "dataset.train=0.5", "dataset.validation=0.0",
    "dataset.test=0.5",
]  # fmt: skip
Fti = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("within")


@pytest.fixture(scope="module")
def fti(root: Path) -> Fti:
    def run(*args: str, code: int = 0) -> dict[str, Any]:
        common = ["--store", str(root / "store"), "--json"]
        sets = [part for each in LIGHT for part in ("--set", each)]
        done = CliRunner().invoke(app, [*args, *common, *sets])
        assert done.exit_code == code, done.output
        body: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
        return body

    for folder, what in (("halls", "hall"), ("sheds", "shed")):
        (root / folder).mkdir()
        for n in range(3):
            (root / folder / f"{what}{n}.md").write_text(
                f"# The {what} {n}\n\nThe lamp of {what} {n} is lit at {n + 5} in the evening. "
                f"The lamp of {what} {n} was bought in {1950 + n}.\n",
                "utf-8",
            )
        run("ingest", str(root / folder), "--collection", folder)
        if folder == "halls":
            version = Store(root / "store").features.version()
            tagged = CliRunner().invoke(
                app, ["versions", "tag", "first", str(version), "--store", str(root / "store")]
            )
            assert tagged.exit_code == 0, tagged.output
    return run


def sources(passages: Any) -> set[str]:
    return {Path(p["document"]).parent.name for p in passages}


ASKED = "When is the lamp of shed 1 lit?"


@pytest.mark.parametrize("kept", [["--collection", "halls"], ["--at", "first"],
                                  ["--where", "collection=halls"]])  # fmt: skip
def test_ask_answers_from_these_documents_alone(fti: Fti, root: Path, kept: list[str]) -> None:
    assert "sheds" in sources(fti("ask", ASKED)["passages"])
    found = fti("ask", ASKED, *kept)
    assert sources(found["passages"]) == {"halls"}
    answer = Store(root / "store").answers.get(found["id"])
    if "--where" in kept:
        assert answer.where == ("collection=halls",)
    if "--collection" in kept:
        assert answer.collections == ("halls",)
    if "--at" in kept:
        assert answer.features_version < Store(root / "store").features.version()


def test_evaluate_measures_within_them_and_says_so(fti: Fti, root: Path) -> None:
    cases = root / "cases.jsonl"
    rows = [
        {"id": f"{w}{n}", "question": f"When is the lamp of {w} {n} lit?",
         "answers": [f"at {n + 5} in the evening"], "document": f"{w}{n}.md"}
        for w in ("hall", "shed") for n in range(3)
    ]  # fmt: skip
    cases.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    everywhere = fti("evaluate", str(cases), "--retrieval-only")
    within = fti("evaluate", str(cases), "--retrieval-only", "--collection", "halls")
    # Half of the cases ask for what is outside.
    assert within["retrieval"]["recall@10"] == everywhere["retrieval"]["recall@10"] / 2 == 0.5
    earlier = fti("evaluate", str(cases), "--at", "first", "--set", "model=extractive")
    store = Store(root / "store")
    run = store.runs.get(earlier["run"])
    assert int(run.inputs["features_version"]) < store.features.version()
    assert run.outputs["features_version"] == run.inputs["features_version"]
    assert run.settings["inference"]["retrieval"]["at"] == "first"
    assert earlier["retrieval"]["recall@10"] == 0.5
    asked = {row["id"]: row for row in store.runs.attached(run.id, "asked")}
    assert set(asked) == {row["id"] for row in rows}, "cases that no frozen set holds are kept"


def test_batch_answers_within_them_and_asks_again_for_others(fti: Fti, root: Path) -> None:
    questions = root / "q.jsonl"
    questions.write_text(json.dumps({"id": "1", "question": ASKED}) + "\n", "utf-8")
    out = root / "a.jsonl"

    def seen(*kept: str) -> tuple[int, set[str]]:
        report = fti("batch", str(questions), "--out", str(out), *kept)
        row = json.loads(out.read_text("utf-8").splitlines()[0])
        return report["done"], sources(row["passages"])

    assert seen("--collection", "halls") == (1, {"halls"})
    assert seen("--collection", "halls") == (0, {"halls"})
    assert seen("--where", "collection=sheds") == (1, {"sheds"})
    assert seen("--at", "first") == (1, {"halls"})


@pytest.mark.parametrize("kept", [["--collection", "halls"], ["--at", "first"],
                                  ["--where", "collection=halls"]])  # fmt: skip
def test_a_dataset_is_built_from_them_and_again(fti: Fti, root: Path, kept: list[str]) -> None:
    built = fti("dataset", "build", "lamps", *kept)
    store = Store(root / "store")
    ref = f"{built['name']}/{built['version']}"
    rows = [row for s in ("train", "test") for row in store.datasets.rows(ref, s)]
    assert rows
    assert {Path(p.source).parent.name for row in rows for p in row.passages} == {"halls"}
    assert sum(built["documents"].values()) == 3
    assert fti("dataset", "rebuild", ref)["equal"] is True


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["ask", ASKED, "--collection", "barns"], CollectionNotFound),
        (["dataset", "build", "x", "--collection", "barns"], CollectionNotFound),
        (["ask", ASKED, "--at", "no-tag"], VersionNotFound),
        (["dataset", "build", "x", "--at", "no-tag"], VersionNotFound),
        (["ask", ASKED, "--where", "nonsense"], InvalidFilter),
        (["ask", ASKED, "--where", "colour=blue"], InvalidFilter),
    ],
)
def test_what_is_not_there_is_refused(
    fti: Fti, root: Path, args: list[str], error: type[FtiError]
) -> None:
    common = ["--store", str(root / "store"), *(p for each in LIGHT for p in ("--set", each))]
    assert isinstance(CliRunner().invoke(app, [*args, *common]).exception, error)
