"""What a command imports when it starts, on which nearly all of its time goes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fti.app.build import Engines, base_contract
from fti.app.settings import load_settings
from fti.store.store import Store
from tests.e2e.conftest import Fti
from tests.support.tiny_model import make_adapter
from tests.support.values import publish_adapter

#: Runs the command, then writes down what was imported.
RUN = """
import atexit, json, sys
from pathlib import Path
atexit.register(lambda: Path(sys.argv.pop()).write_text(json.dumps(sorted(sys.modules))))
written = sys.argv.pop(1)
from fti.app.cli import main
sys.argv[0] = "fti"
code = 0
try:
    main()
finally:
    sys.argv.append(written)
"""

#: What no question needs: how models are trained, tables and clients of other makers.
NEVER = {
    "accelerate", "datasets", "lance", "lance_namespace", "lance_namespace_urllib3_client",
    "langchain_text_splitters", "pandas", "scipy", "sentence_transformers", "sklearn", "urllib3",
}  # fmt: skip


@pytest.fixture
def profile(fti: Fti, tiny_embedder: Path, tiny_lm: Path) -> Path:
    path = fti.home / "tiny.yaml"
    path.write_text(
        f"embedder: {{id: {tiny_embedder}}}\n"
        f"generator: {{id: {tiny_lm}}}\n"
        "prompt: {max_prompt_tokens: 800, max_new_tokens: 4}\n"
        "inference: {retrieval: {min_similarity: -1.0}}\n",
        "utf-8",
    )
    (fti.home / "docs").mkdir()
    (fti.home / "docs" / "kiln.md").write_text("# Kiln\n\nThe kiln is fired on Thursdays.\n")
    fti.env["FTI_CONFIG"] = str(path)
    fti.run("ingest", "docs")
    return path


def imported(fti: Fti, *words: str) -> set[str]:
    """The modules that a command of its own process has imported when it ends."""
    written = fti.home / "modules.json"
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(written), *words, "--json"],
        cwd=fti.home, env=fti.environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["passages"]) == 1
    return set(json.loads(written.read_text(encoding="utf-8")))


@pytest.mark.usefixtures("profile")
def test_a_search_imports_no_model_library(fti: Fti) -> None:
    modules = imported(fti, "search", "When is the kiln fired?", "--mode", "hybrid")

    others = {"torch", "transformers", "peft", "huggingface_hub"}
    assert sorted(modules & (NEVER | others)) == []
    assert {"lancedb", "numpy", "tokenizers", "safetensors"} <= modules


@pytest.mark.parametrize("model", ["base", "reader/1"])
def test_an_answer_imports_nothing_that_trains(
    model: str, fti: Fti, profile: Path, tiny_lm: Path, tmp_path: Path
) -> None:
    if model != "base":
        store = Store(fti.home / "store")
        settings = load_settings(profile, store=fti.home / "store")
        engines = Engines(settings)
        identity = engines.generator(store=store).identity
        contract = base_contract(settings, identity, engines.embedder.identity, None)
        publish_adapter(store, make_adapter(tiny_lm, tmp_path / "adapter"), contract)

    modules = imported(fti, "ask", "When is the kiln fired?", "--model", model)

    others = {"peft", "transformers.modeling_utils", "transformers.models.llama", "torch._dynamo",
              "transformers.generation", "transformers.models.auto"}  # fmt: skip
    assert sorted(modules & (NEVER | others)) == []
    assert {"torch", "tokenizers"} <= modules
