"""No pipeline without a contract: what records a run, or holds the writer's lock, is under one.

Found by reading the code, so that a new pipeline fails here until it has a contract, or a line
below says of which pipeline it is a part, or why it is none.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from fti.app.operations.pipeline_contracts import contracts
from fti.app.orchestration.steps import STEPS
from fti.store.contracts.promises import PromisesConfig, section_of
from fti.store.types import Value

ROOT = Path(__file__).parents[2]
#: What a pipeline does that others do not: it keeps a run, or is the store's one writer.
MARKS = ("runs.running", "runs.start", "layout.writing", ".recording")
#: Parts of a pipeline that stand in functions of their own.
PARTS = {
    "follow._Session.run": "follow",
    "follow._Session._store_batch": "follow",
    "follow._Session._maintain": "follow",
    "evaluation._run": "evaluate",
    "feature_store.FeatureStore._recorded": "write",
    "monitor_run.run_monitor": "monitor",
}
#: What is no pipeline, and why.
NONE = {
    "runner.run_pipeline": "several of them, each under its own contract",
    "versions.rollback": "an earlier version is named the newest; nothing is made",
    "versions.prune": "old versions go; nothing is made",
    "documents.Documents.delete": "one document goes, by its id",
    "backup.back_up": "a copy",
    "moving.settle": "the same store under a new format",
    "placing.place_store": "the same store in another place",
}
#: The pipelines of steps that are not called like them, and the steps that are none.
OF_STEPS = {
    "promote-embedder": "promote",
    "verify": "",  # looks at digests and changes nothing
    "freeze": "",  # puts a file of cases into the store
}


def marked() -> Iterator[tuple[str, bool]]:
    """Every function with a mark, as ``module.Class.function``, and whether it is enforced."""
    for top in ("app", "pipelines", "store"):
        for path in sorted((ROOT / top).rglob("*.py")):
            yield from marked_in(ast.parse(path.read_text("utf-8")), path.stem)


def marked_in(tree: ast.AST, module: str) -> Iterator[tuple[str, bool]]:
    found: dict[str, bool] = {}

    def visit(node: ast.AST, name: str, enforced: bool) -> None:
        for child in ast.iter_child_nodes(node):
            inner, under = name, enforced
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = f"{name}.{child.name}"
                under |= any(ast.unparse(d).endswith(".enforced") for d in child.decorator_list)
            if isinstance(child, ast.Call) and ast.unparse(child.func).endswith(MARKS):
                found[inner] = under
            visit(child, inner, under)

    visit(tree, module, False)
    yield from found.items()


def test_whatever_keeps_a_run_or_writes_the_store_is_under_a_contract() -> None:
    bare = {name for name, enforced in marked() if not enforced}
    assert bare == PARTS.keys() | NONE.keys(), "put it under a contract, or say here why not"
    names = {contract.pipeline for contract in contracts()}
    assert set(PARTS.values()) <= names
    assert sum(enforced for _, enforced in marked()) >= 13


def test_a_pipeline_without_a_contract_is_found() -> None:
    new = ast.parse("def brew(store):\n    with store.runs.running('ingest'):\n        pass\n")
    assert list(marked_in(new, "coffee")) == [("coffee.brew", False)]
    under = ast.parse(f"@BREW.enforced\n{ast.unparse(new)}")
    assert list(marked_in(under, "coffee")) == [("coffee.brew", True)]


def test_every_step_of_a_pipeline_file_is_under_a_contract() -> None:
    names = {contract.pipeline for contract in contracts()}
    steps = {kind: OF_STEPS.get(kind, kind) for kind in STEPS}
    assert {kind for kind, name in steps.items() if name and name not in names} == set()


def test_every_contract_says_something_and_has_a_name_of_its_own() -> None:
    every = contracts()
    assert len({contract.pipeline for contract in every}) == len(every)
    for contract in every:
        assert contract.conditions, contract.pipeline
        assert contract.function is not None, contract.pipeline
        for requirement in contract.requirements:
            assert requirement.pipeline == contract.pipeline


def test_each_promise_of_the_profile_is_measured_and_each_measure_has_its_promise() -> None:
    declared = {r.setting for contract in contracts() for r in contract.requirements}
    promises = PromisesConfig()
    settings = {
        f"promises.{section}.{name}"
        for section, value in promises
        if isinstance(value, Value)
        for name in type(value).model_fields
    }
    assert settings == declared


@pytest.mark.parametrize("contract", contracts(), ids=lambda contract: contract.pipeline)
def test_a_pipeline_that_keeps_runs_says_how_well_it_is_to_do(contract: object) -> None:
    free = {
        "promote": "what it rests on are evaluations, which promise",
        "serve": "loads what answers; answers promise",
        "ask": "takes a question; answers promise",
        "adopt": "the end of re-embed, which promises",
    }
    name = contract.pipeline  # type: ignore[attr-defined]
    assert bool(contract.requirements) != (name in free)  # type: ignore[attr-defined]
    assert name in free or hasattr(PromisesConfig(), section_of(name))
