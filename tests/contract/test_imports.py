"""What importing must not do: load a model library, or reach up or sideways."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import fti.app
import fti.pipelines
import fti.store

HEAVY = ("torch", "transformers", "sentence_transformers", "peft", "lancedb", "datasets")
ROOT = Path(__file__).parents[2]
PIPELINES = [p.parent for p in (ROOT / "pipelines").glob("*/__init__.py")]


def test_importing_every_module_loads_no_model_library() -> None:
    names = [
        module.name
        for package in (fti.store, fti.pipelines, fti.app)
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
        if not module.name.endswith("__main__")
    ]
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert len(names) > 40


def test_help_comes_without_torch() -> None:
    code = (
        "import sys; sys.argv = ['fti', '--help']\n"
        "from fti.app.cli import main\n"
        "try: main()\n"
        f"except SystemExit: print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "ingest" in done.stdout


def test_import_linter_finds_every_arrow_pointing_down() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    assert f"{len(asked['contracts'])} kept, 0 broken" in done.stdout


def test_every_wing_of_the_three_packages_is_under_a_contract() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    held = {name for contract in asked["contracts"] for name in contract.get("containers", ())}
    halls = {"fti.store", "fti.app", *(f"fti.pipelines.{p.name}" for p in PIPELINES)}
    assert held == halls
    assert all(c["exhaustive"] for c in asked["contracts"] if "containers" in c)


def test_the_packages_are_those_of_the_design() -> None:
    for name in (
        "fti.store.types",
        "fti.store.contracts.prompt_contract",
        "fti.pipelines.feature.ingesting.ingest",
        "fti.pipelines.training.finetune",
        "fti.pipelines.inference.answering.answer",
    ):
        assert importlib.import_module(name).__doc__, name
