"""A trained embedder is what its contract says, or it is not loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fti.pipelines.engines.embedders.embedding import EmbedderConfig
from fti.pipelines.engines.embedders.trained_embedder import (
    base_identity,
    load_trained,
    open_embedder,
    save_embedder,
)
from fti.store.contracts.embedder_contract import EmbedderContract
from fti.store.errors import ConfigError, ContractError, IntegrityError

pytestmark = pytest.mark.heavy

CPU = EmbedderConfig(device="cpu")


@pytest.fixture
def tiny(tiny_embedder: Path) -> Path:
    return tiny_embedder


@pytest.fixture
def saved(tiny: Path, tmp_path: Path) -> tuple[Path, EmbedderContract]:
    opened = open_embedder(CPU.model_copy(update={"id": str(tiny)}))
    return tmp_path / "saved", save_embedder(opened, tmp_path / "saved")


def test_what_was_saved_loads_under_its_contract(saved: tuple[Path, EmbedderContract]) -> None:
    folder, contract = saved
    identity = load_trained(folder, "finder/1", contract, CPU).identity
    assert (identity.id, identity.revision) == ("registry:finder/1", contract.digest[:16])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("weights_sha256", "f" * 64),
        ("tokenizer_sha256", "e" * 64),
        ("dimension", 64),
        ("pooling", "cls"),
        ("max_tokens", 9),
    ],
)
def test_each_line_of_the_contract_is_compared(
    saved: tuple[Path, EmbedderContract], field: str, value: object
) -> None:
    folder, contract = saved
    wrong = contract.model_copy(update={field: value})
    with pytest.raises(ContractError, match=f"'finder/1' cannot be used: {field}: the contract"):
        load_trained(folder, "finder/1", wrong, CPU)


def test_files_that_changed_are_not_what_the_contract_says(
    saved: tuple[Path, EmbedderContract],
) -> None:
    folder, contract = saved
    pooling = folder / "1_Pooling" / "config.json"
    settings = json.loads(pooling.read_text("utf-8"))
    pooling.write_text(json.dumps(settings | {"pooling_mode": "cls"}), "utf-8")
    with pytest.raises(ContractError, match="pooling: the contract says 'mean', loaded is 'cls'"):
        load_trained(folder, "finder/1", contract, CPU)
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(IntegrityError, match="cannot be loaded"):
        load_trained(folder, "finder/1", contract, CPU)


def test_prefixes_come_from_the_contract_and_from_nowhere_else(
    saved: tuple[Path, EmbedderContract],
) -> None:
    folder, contract = saved
    embedder = load_trained(
        folder, "finder/1", contract, CPU.model_copy(update={"query_prefix": "query: "})
    )
    assert embedder.identity.query_prefix == ""


def test_what_cannot_be_trained_is_refused(tiny: Path) -> None:
    with pytest.raises(ConfigError, match="engine 'hashing' has no weights"):
        open_embedder(EmbedderConfig(engine="hashing"))
    with pytest.raises(ConfigError, match="'registry:finder/1' is a trained version already"):
        open_embedder(EmbedderConfig(id="registry:finder/1"))
    assert base_identity(EmbedderConfig(engine="hashing")) is None
    found = base_identity(CPU.model_copy(update={"id": str(tiny)}))
    opened = open_embedder(CPU.model_copy(update={"id": str(tiny)})).identity
    assert found == opened.model_copy(update={"tokenizer_sha256": ""})
