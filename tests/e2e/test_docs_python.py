"""The whole loop from Python: the page of the documentation, block by block, on a tiny model."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.service import Client

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "python.md"
PARTS = ("members", "machines")  # enough documents for three splits
FACADE = {"Assistant", "Store", "build_dataset", "create_app", "evaluate", "finetune", "ingest"}


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.S | re.M)


@pytest.mark.heavy
def test_the_page_goes_round_the_whole_loop(
    tmp_path: Path, tiny_lm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in PARTS:
        shutil.copytree(ROOT / "app/demo/corpus" / part, tmp_path / "handbook" / part)
    profile = tmp_path / "tiny.yaml"
    profile.write_text(
        "# For tests: a tiny random model, and an embedder without weights.\n"
        "embedder: {engine: hashing, dimension: 256}\n"
        f"generator: {{engine: transformers, id: {tiny_lm}}}\n"
        "inference: {retrieval: {min_similarity: 0.05}}\n"
        "prompt: {max_prompt_tokens: 500, max_new_tokens: 16, max_passages: 2}\n"
        "dataset: {max_passages: 2, max_rows: 60}\n"
        "training: {max_steps: 3}\n",
        "utf-8",
    )
    monkeypatch.setenv("FTI_CONFIG", str(profile))
    monkeypatch.chdir(tmp_path)

    known: dict[str, Any] = {"__name__": "page"}
    for block in blocks(PAGE):
        exec(compile(block, str(PAGE), "exec"), known)

    assert known["report"].added > 10
    assert known["report"].failed == ()
    assert min(known["dataset"].rows.values()) > 0
    assert known["version"].ref == "reader/1"
    assert known["before"].cases == known["after"].cases > 0
    assert known["store"].models.get("reader@challenger").ref == "reader/1"
    with Client(known["app"]) as client:
        asked = {"model": "reader/1", "messages": [{"role": "user", "content": "Who may weld?"}]}
        answer = client.post("/v1/chat/completions", json=asked).json()
    assert answer["sources"]
    assert set(re.findall(r"\w+", " ".join(blocks(PAGE)))) >= FACADE


def test_fti_is_used_in_a_project_with_an_app_and_a_store_of_its_own(tmp_path: Path) -> None:
    for package in ("app", "store", "pipelines"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f"NAME = 'my {package}'\n", "utf-8")
    (tmp_path / "handbook").mkdir()
    (tmp_path / "handbook" / "kiln.md").write_text("The kiln fires at 1240 degrees.\n", "utf-8")
    (tmp_path / "main.py").write_text(
        "import app, pipelines, store\n"
        "import fti\n"
        "from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder\n"
        "from fti.pipelines.feature.feature_config import FeatureConfig\n"
        "from fti.store.store import Store as TheSame\n"
        f"for name in {sorted(FACADE)!r}:\n"
        "    assert callable(getattr(fti, name)), name\n"
        "assert fti.Store is TheSame\n"
        "knowledge = fti.Store('knowledge')\n"
        "report = fti.ingest(\n"
        "    ['handbook'], store=knowledge, embedder=HashingEmbedder(), config=FeatureConfig()\n"
        ")\n"
        "print(app.NAME, store.NAME, pipelines.NAME, report.added, sep=', ')\n",
        "utf-8",
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "my app, my store, my pipelines, 1"
