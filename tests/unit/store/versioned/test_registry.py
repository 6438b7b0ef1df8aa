"""Model versions never change; aliases move between them and remember how."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fti.store.contracts.embedder_contract import EmbedderContract
from fti.store.errors import (
    AliasNotFound,
    ContractError,
    InputError,
    IntegrityError,
    InvalidName,
    ModelNotFound,
    StoreError,
)
from fti.store.files.layout import Layout
from fti.store.types import DatasetVersion, Interval, now
from fti.store.versioned.model_version import AdapterInfo, ModelVersion
from fti.store.versioned.registry import ModelRegistry
from tests.support.processes import run_python, start_python
from tests.support.values import EMBEDDER, a_contract

DATASET = DatasetVersion(
    name="faq",
    version=2,
    created_at=now(),
    rows={"train": 1},
    documents={},
    digest="4" * 64,
    features_version=1,
    embedder=EMBEDDER,
    prompt_digest="5" * 64,
    run_id="r-20260301-120000-0123ab",
    files=(),
)
ADAPTER = AdapterInfo(rank=8, alpha=16, target_modules=("v_proj", "k_proj"))


pytestmark = pytest.mark.usefixtures("anywhere")


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(Layout(tmp_path / "store"))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "trained"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "adapter_config.json").write_text("{}", "utf-8")
    (folder / "chat_template.jinja").write_text("{{ messages }}", "utf-8")
    return folder


def _publish(
    registry: ModelRegistry, files: Path, name: str = "reader", **changes: Any
) -> ModelVersion:
    fields: dict[str, Any] = {
        "contract": a_contract(),
        "dataset": DATASET,
        "run_id": "r-20260301-130000-0123ab",
        "metrics": {},
        "adapter": ADAPTER,
    }
    return registry.publish(name, files, **(fields | changes))


def test_a_published_version_says_what_it_is_and_where_it_came_from(
    registry: ModelRegistry, files: Path
) -> None:
    version = _publish(
        registry,
        files,
        metrics={"f1": Interval(mean=0.5, low=0.4, high=0.6, n=9), "loss": float("nan")},
        parent="reader/9",
        card="# A card",
    )
    assert version.ref == "reader/1"
    assert version == registry.get("reader/1")
    assert version.contract == a_contract()
    assert (version.dataset, version.dataset_digest) == ("faq/2", "4" * 64)
    assert version.parent == "reader/9"
    assert version.metrics == {"f1": {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 9}, "loss": None}
    assert [f.path for f in version.files] == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
    ]
    assert (registry.path("reader/1") / "README.md").read_text("utf-8") == "# A card"


def test_a_version_is_a_copy(registry: ModelRegistry, files: Path) -> None:
    _publish(registry, files)
    (files / "adapter_model.safetensors").write_bytes(b"trained on")
    assert registry.verify("reader/1") == []


def test_the_card_replaces_one_that_was_there(registry: ModelRegistry, files: Path) -> None:
    (files / "README.md").write_text("a trainer's own", "utf-8")
    _publish(registry, files)
    _publish(registry, files, card="ours")
    assert (registry.path("reader/1") / "README.md").read_text("utf-8") == "a trainer's own"
    assert (registry.path("reader/2") / "README.md").read_text("utf-8") == "ours"


def test_adapter_facts_are_sorted_and_carry_the_hash_of_the_weights(
    registry: ModelRegistry, files: Path
) -> None:
    adapter = _publish(registry, files).adapter
    assert adapter is not None
    assert adapter.target_modules == ("k_proj", "v_proj")
    weights = next(f for f in registry.get("reader/1").files if f.path.endswith(".safetensors"))
    assert adapter.sha256 == weights.sha256


def test_an_adapter_without_or_with_other_weights_is_refused(
    registry: ModelRegistry, files: Path
) -> None:
    wrong = ADAPTER.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(StoreError, match="not 0000"):
        _publish(registry, files, adapter=wrong)
    (files / "adapter_model.safetensors").unlink()
    with pytest.raises(StoreError, match=r"holds no adapter_model\.safetensors"):
        _publish(registry, files)
    assert registry.names() == []
    assert _publish(registry, files, adapter=None).adapter is None


@pytest.mark.parametrize("name", ["optimizer.pt", "training_args.bin", "run.pkl", "model.py", "x"])
def test_only_safetensors_and_text_are_kept(
    registry: ModelRegistry, files: Path, name: str
) -> None:
    (files / name).write_bytes(b"")
    with pytest.raises(StoreError, match=f"'{name}' cannot be published in a model"):
        _publish(registry, files)
    assert registry.names() == []


def test_links_are_not_followed(registry: ModelRegistry, files: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret", "utf-8")
    (files / "a.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(StoreError, match=r"'a\.txt'.*symbolic link"):
        _publish(registry, files)


def test_a_card_does_not_write_through_a_link(
    registry: ModelRegistry, files: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim.md"
    victim.write_text("mine", "utf-8")
    (files / "README.md").symlink_to(victim)
    _publish(registry, files, card="ours")
    assert victim.read_text("utf-8") == "mine"


def test_a_folder_that_is_not_there_is_refused(registry: ModelRegistry, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a folder to publish"):
        _publish(registry, tmp_path / "absent")


@pytest.mark.parametrize("name", ["base", "Reader", "../x", "a/b", "a@b", ""])
def test_names_are_plain_and_base_is_taken(registry: ModelRegistry, files: Path, name: str) -> None:
    with pytest.raises(InvalidName):
        _publish(registry, files, name)


def test_versions_are_listed_by_name_then_number(registry: ModelRegistry, files: Path) -> None:
    for name in ("b", "a", "b"):
        _publish(registry, files, name)
    assert [v.ref for v in registry.list()] == ["a/1", "b/1", "b/2"] == list(registry.refs())
    assert [v.ref for v in registry.list("b")] == ["b/1", "b/2"]
    with pytest.raises(ModelNotFound):
        registry.list("c")


def test_a_name_alone_means_its_champion_and_never_just_some_version(
    registry: ModelRegistry, files: Path
) -> None:
    _publish(registry, files)
    _publish(registry, files)
    with pytest.raises(
        AliasNotFound,
        match=r"no alias 'champion'\. Its aliases are: none; its versions: 1, 2\. .*promote",
    ):
        registry.get("reader")
    registry.promote("reader", 1, "challenger", reason="new")
    with pytest.raises(AliasNotFound, match=r"aliases are: challenger \(1\)"):
        registry.get("reader")
    registry.promote("reader", 1, "champion", reason="first")
    assert registry.get("reader").version == 1
    assert registry.get("reader@challenger").version == 1
    assert registry.get("reader/2").version == 2
    assert registry.get("reader/latest").version == 2


def test_what_is_not_there_is_answered_with_what_is(registry: ModelRegistry, files: Path) -> None:
    with pytest.raises(ModelNotFound, match="No model is published yet"):
        registry.get("reader")
    _publish(registry, files)
    with pytest.raises(ModelNotFound, match=r"Its versions are: 1\."):
        registry.get("reader/2")
    with pytest.raises(ModelNotFound, match="Did you mean 'reader'"):
        registry.get("raeder@champion")
    with pytest.raises(AliasNotFound, match="no alias 'best'"):
        registry.get("reader@best")
    for method in (registry.aliases, registry.history):
        with pytest.raises(ModelNotFound):
            method("absent")
    with pytest.raises(ModelNotFound):
        registry.promote("absent", 1, "champion", reason="")


@pytest.mark.parametrize(
    "ref", ["", "@champion", "reader@", "reader/1@champion", "reader@a/1", "../x", "reader/x", "/1"]
)
def test_other_references_are_refused(registry: ModelRegistry, files: Path, ref: str) -> None:
    _publish(registry, files)
    with pytest.raises(InvalidName):
        registry.get(ref)


@pytest.mark.in_a_folder("its files")
def test_a_promotion_is_remembered_with_its_reason_and_evidence(
    registry: ModelRegistry, files: Path
) -> None:
    _publish(registry, files)
    _publish(registry, files)
    evidence = {"difference": {"mean": 0.1, "low": 0.02}}
    registry.promote("reader", 1, "champion", reason="first")
    change = registry.promote("reader", 2, "champion", reason="better", evidence=evidence)
    registry.promote("reader", 2, "challenger", reason="trial")
    assert (change.from_version, change.to_version) == (1, 2)
    assert registry.aliases("reader") == {"champion": 2, "challenger": 2}
    first, second = registry.history("reader", "champion")
    assert (first.from_version, first.to_version, first.reason) == (None, 1, "first")
    assert second == change
    assert second.evidence == evidence
    assert [c.alias for c in registry.history("reader")] == ["champion", "champion", "challenger"]
    assert json.loads((registry.path("reader/1").parent / "aliases.json").read_text("utf-8"))[
        "aliases"
    ] == {"champion": 2, "challenger": 2}


@pytest.mark.parametrize("alias", ["1", "latest", "Champion", "a/b", "a@b", ""])
def test_an_alias_is_a_word(registry: ModelRegistry, files: Path, alias: str) -> None:
    _publish(registry, files)
    with pytest.raises(InvalidName):
        registry.promote("reader", 1, alias, reason="")


@pytest.mark.in_a_folder("its files")
def test_only_what_is_there_and_as_published_is_promoted(
    registry: ModelRegistry, files: Path
) -> None:
    _publish(registry, files)
    with pytest.raises(ModelNotFound, match=r"Its versions are: 1\."):
        registry.promote("reader", 2, "champion", reason="")
    (registry.path("reader/1") / "adapter_model.safetensors").write_bytes(b"weightz")
    with pytest.raises(IntegrityError, match=r"adapter_model\.safetensors: differs"):
        registry.promote("reader", 1, "champion", reason="")
    assert registry.aliases("reader") == {}


def test_rolling_back_goes_back_step_by_step_and_not_to_what_was_rolled_back(
    registry: ModelRegistry, files: Path
) -> None:
    for _ in range(4):
        _publish(registry, files)
    for number in (1, 2, 3):
        registry.promote("reader", number, "champion", reason="")
    assert registry.rollback("reader", "champion", reason="bad answers") == 2
    registry.promote("reader", 4, "champion", reason="")
    registry.promote("reader", 4, "champion", reason="again")
    assert registry.rollback("reader", "champion") == 2
    assert registry.rollback("reader", "champion") == 1
    assert registry.get("reader").version == 1
    with pytest.raises(StoreError, match="has had no version before 1"):
        registry.rollback("reader", "champion")
    moves = [(c.kind, c.from_version, c.to_version) for c in registry.history("reader")]
    assert moves[3] == ("rollback", 3, 2)
    assert registry.history("reader")[3].reason == "bad answers"


def test_aliases_roll_back_apart(registry: ModelRegistry, files: Path) -> None:
    _publish(registry, files)
    _publish(registry, files)
    registry.promote("reader", 1, "champion", reason="")
    registry.promote("reader", 2, "challenger", reason="")
    registry.promote("reader", 2, "champion", reason="")
    assert registry.rollback("reader", "champion") == 1
    assert registry.aliases("reader") == {"champion": 1, "challenger": 2}


@pytest.mark.in_a_folder("its files")
def test_rolling_back_what_is_not_there_is_an_error(registry: ModelRegistry, files: Path) -> None:
    with pytest.raises(ModelNotFound):
        registry.rollback("reader", "champion")
    _publish(registry, files)
    with pytest.raises(AliasNotFound, match="Its aliases are: none"):
        registry.rollback("reader", "champion")
    _publish(registry, files)
    registry.promote("reader", 1, "champion", reason="")
    registry.promote("reader", 2, "champion", reason="")
    shutil.rmtree(registry.path("reader/1"))
    with pytest.raises(ModelNotFound, match="no version 1"):
        registry.rollback("reader", "champion")
    assert registry.get("reader").version == 2


@pytest.mark.in_a_folder("its files")
def test_an_alias_of_a_deleted_version_is_an_error(registry: ModelRegistry, files: Path) -> None:
    _publish(registry, files)
    _publish(registry, files)
    registry.promote("reader", 1, "champion", reason="")
    shutil.rmtree(registry.path("reader/1"))
    with pytest.raises(ModelNotFound, match=r"no version 1 .*are: 2\."):
        registry.get("reader")


@pytest.mark.in_a_folder("its files")
def test_unreadable_aliases_are_an_error_not_an_absence(
    registry: ModelRegistry, files: Path
) -> None:
    _publish(registry, files)
    path = registry.path("reader/1").parent / "aliases.json"
    for text in ("", "{", "[]", '{"aliases": {"champion": "x"}}', '{"other": 1}'):
        path.write_text(text, "utf-8")
        with pytest.raises(IntegrityError, match=r"aliases\.json"):
            registry.get("reader")
    path.unlink()
    assert registry.aliases("reader") == {}


@pytest.mark.in_a_folder("its files")
def test_open_gives_a_verified_folder_and_refuses_a_damaged_one(
    registry: ModelRegistry, files: Path
) -> None:
    _publish(registry, files)
    assert (registry.open("reader/1") / "adapter_model.safetensors").read_bytes() == b"weights"
    (registry.path("reader/1") / "extra.json").write_text("{}", "utf-8")
    assert registry.verify("reader/1") == ["extra.json: not in the manifest"]
    with pytest.raises(IntegrityError, match=r"extra\.json"):
        registry.open("reader/1")


@pytest.mark.in_a_folder("its files")
def test_a_changed_contract_is_noticed(registry: ModelRegistry, files: Path) -> None:
    _publish(registry, files)
    path = registry.path("reader/1") / "manifest.json"
    path.write_text(path.read_text("utf-8").replace("Answer the", "Ignore the"), "utf-8")
    with pytest.raises(IntegrityError, match=r"manifest\.json was changed"):
        registry.get("reader/1")
    assert registry.verify("reader/1") == ["manifest.json was changed"]
    with pytest.raises(IntegrityError):
        registry.list()
    assert list(registry.refs()) == ["reader/1"]


def test_a_manifest_of_another_shape_is_named(
    registry: ModelRegistry, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = ModelVersion.model_dump

    def newer(self: ModelVersion, **options: Any) -> dict[str, Any]:
        return dump(self, **options) | {"invented_later": 1}

    monkeypatch.setattr(ModelVersion, "model_dump", newer)
    with pytest.raises(IntegrityError, match=r"invented_later.*pip install --upgrade"):
        _publish(registry, files)


@pytest.mark.in_a_folder("its files")
def test_export_copies_a_verified_version(
    registry: ModelRegistry, files: Path, tmp_path: Path
) -> None:
    _publish(registry, files)
    out = registry.export("reader/1", tmp_path / "out")
    assert sorted(p.name for p in out.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "manifest.json",
    ]
    with pytest.raises(InputError, match="is there already"):
        registry.export("reader/1", out)
    (registry.path("reader/1") / "chat_template.jinja").unlink()
    with pytest.raises(IntegrityError, match=r"chat_template\.jinja: missing"):
        registry.export("reader/1", tmp_path / "other")


def test_reading_leaves_no_trace(registry: ModelRegistry, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        registry.get("reader/1")
    assert registry.list() == []
    assert [p.name for p in (tmp_path / "store").iterdir()] == ["format.json"]


def test_versions_and_aliases_are_frozen(registry: ModelRegistry, files: Path) -> None:
    version = _publish(registry, files)
    with pytest.raises(ValidationError):
        version.version = 2  # type: ignore[misc]


PROMOTE = """
import sys
from pathlib import Path
from fti.store.files.layout import Layout
from fti.store.versioned.registry import ModelRegistry
registry = ModelRegistry(Layout(Path(sys.argv[1])))
"""


@pytest.mark.in_a_folder("several processes")
def test_promotions_from_two_processes_are_all_in_the_history(
    registry: ModelRegistry, files: Path, tmp_path: Path
) -> None:
    _publish(registry, files)
    _publish(registry, files)
    script = PROMOTE + (
        "for n in range(15):\n    registry.promote('reader', 1 + n % 2, sys.argv[2], reason=str(n))"
    )
    processes = [start_python(script, tmp_path / "store", alias) for alias in ("a", "b")]
    for process in processes:
        assert process.communicate(timeout=120)[1] == ""
    assert registry.aliases("reader") == {"a": 1, "b": 1}
    for alias in ("a", "b"):
        moves = registry.history("reader", alias)
        assert [c.reason for c in moves] == [str(n) for n in range(15)]
        assert [c.from_version for c in moves[1:]] == [c.to_version for c in moves[:-1]]


@pytest.mark.in_a_folder("several processes")
def test_another_process_sees_the_same(
    registry: ModelRegistry, files: Path, tmp_path: Path
) -> None:
    version = _publish(registry, files)
    registry.promote("reader", 1, "champion", reason="")
    script = PROMOTE + "print(registry.get('reader').contract.digest)"
    assert run_python(script, tmp_path / "store").strip() == version.contract.digest


# Keeping and letting go


def test_a_retired_version_is_promoted_no_more(registry: ModelRegistry, files: Path) -> None:
    version = _publish(registry, files)
    registry.mark(version.ref, "retire", reason="answers in riddles")
    with pytest.raises(StoreError, match="reader/1 is retired: answers in riddles"):
        registry.promote("reader", 1, "champion", reason="why not")
    registry.mark(version.ref, "unretire")
    registry.promote("reader", 1, "champion", reason="it was the prompt")


def test_what_an_alias_points_at_cannot_be_retired(registry: ModelRegistry, files: Path) -> None:
    _publish(registry, files)
    registry.promote("reader", 1, "champion", reason="first")
    with pytest.raises(StoreError, match="reader@champion points at reader/1"):
        registry.mark("reader@champion", "retire")


def test_a_pinned_version_cannot_be_retired(registry: ModelRegistry, files: Path) -> None:
    version = _publish(registry, files)
    registry.mark(version.ref, "pin", reason="the audit of May")
    with pytest.raises(StoreError, match="pinned: the audit of May"):
        registry.mark(version.ref, "retire")
    registry.mark(version.ref, "unpin")
    registry.mark(version.ref, "retire")
    assert registry.retired("reader") == {1}


def test_collecting_removes_only_what_nothing_refers_to(
    registry: ModelRegistry, files: Path
) -> None:
    for parent in (None, None, "reader/2", None):
        _publish(registry, files, parent=parent)
    registry.promote("reader", 1, "champion", reason="first")
    registry.promote("reader", 3, "champion", reason="better")
    for number in (1, 2, 4):
        registry.mark(f"reader/{number}", "retire", reason="old")
    assert registry.removable() == {
        "reader/1": "reader@champion may roll back to it",
        "reader/2": "reader/3 was trained from it",
        "reader/4": "",
    }
    freed = registry.collect()
    assert list(freed) == ["reader/4"]
    assert freed["reader/4"] > 0
    assert [v.version for v in registry.list("reader")] == [1, 2, 3]
    assert [m.kind for m in registry.marks("reader")][-1] == "remove"
    assert _publish(registry, files).version == 5, "a removed number is never given again"
    assert registry.collect() == {}


def test_a_chain_of_retired_versions_goes_as_a_whole(registry: ModelRegistry, files: Path) -> None:
    _publish(registry, files)
    _publish(registry, files, parent="reader/1")
    for number in (1, 2):
        registry.mark(f"reader/{number}", "retire")
    assert set(registry.collect()) == {"reader/1", "reader/2"}
    assert registry.names() == []


@pytest.mark.in_a_folder("its files")
def test_broken_marks_are_said_to_be(registry: ModelRegistry, files: Path) -> None:
    version = _publish(registry, files)
    registry.mark(version.ref, "pin")
    marks = registry.path(version.ref).parent / "marks.json"
    marks.write_text("{", "utf-8")
    with pytest.raises(IntegrityError, match="marks of model 'reader'"):
        registry.pinned("reader")


# Kinds, formats, and several processes at once


def an_embedder_contract(**changes: Any) -> EmbedderContract:
    fields = {
        "base": a_contract().base, "weights_sha256": "a" * 64, "tokenizer_sha256": "b" * 64,
        "dimension": 4, "pooling": "mean", "max_tokens": 64,
    } | changes  # fmt: skip
    return EmbedderContract(**fields)


def test_the_contract_decides_what_kind_a_version_is(registry: ModelRegistry, files: Path) -> None:
    finder = _publish(registry, files, "finder", contract=an_embedder_contract(), adapter=None)
    reader = _publish(registry, files)
    assert (finder.kind, reader.kind) == ("embedder", "llm")
    assert registry.get("finder/1").vector_contract == an_embedder_contract()
    with pytest.raises(ContractError, match="finder/1 is an embedder: it makes vectors"):
        _ = finder.prompt_contract
    with pytest.raises(ContractError, match="reader/1 is a language model: it makes no vectors"):
        _ = reader.vector_contract


@pytest.mark.parametrize("kind", ["reader", "finder"])
def test_a_contract_of_a_newer_format_is_refused_with_what_to_do(
    registry: ModelRegistry, files: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = ModelVersion.model_dump

    def newer(self: ModelVersion, **options: Any) -> dict[str, Any]:
        body = dump(self, **options)
        return body | {"contract": body["contract"] | {"format": 2}}

    contract = an_embedder_contract() if kind == "finder" else a_contract()
    monkeypatch.setattr(ModelVersion, "model_dump", newer)
    with pytest.raises(IntegrityError, match=r"contract.*format.*pip install --upgrade"):
        _publish(registry, files, kind, contract=contract, adapter=None)
    monkeypatch.undo()
    for read in (registry.get, lambda ref: registry.list()):
        with pytest.raises(IntegrityError, match=r"manifest of model .* is not understood"):
            read(f"{kind}/1")


@pytest.mark.in_a_folder("several processes")
def test_registrations_from_two_processes_never_clash(
    registry: ModelRegistry, files: Path, tmp_path: Path
) -> None:
    """Both publish under one name at once: every number once, every folder whole and its own."""
    script = """
import sys
from pathlib import Path
from fti.store.files.layout import Layout
from fti.store.versioned.registry import ModelRegistry, ModelVersion
root, files, who, manifest = map(Path, sys.argv[1:])
registry = ModelRegistry(Layout(root))
like = ModelVersion.model_validate_json(manifest.read_text())
from tests.unit.store.versioned.test_registry import DATASET
for n in range(8):
    made = registry.publish("reader", files, contract=like.contract, dataset=DATASET,
                            run_id=f"{who.name}-{n}", metrics={"n": n}, card=f"# by {who.name}")
    print(made.version)
"""
    like = tmp_path / "like.json"
    like.write_text(_publish(registry, files).model_dump_json(), "utf-8")
    processes = [
        start_python(script, tmp_path / "store", files, tmp_path / who, like)
        for who in ("ada", "bob")
    ]
    given = {}
    for who, process in zip(("ada", "bob"), processes, strict=True):
        out, err = process.communicate(timeout=120)
        assert err == ""
        given[who] = [int(n) for n in out.split()]
    assert sorted(given["ada"] + given["bob"]) == list(range(2, 18))
    for who, numbers in given.items():
        for n, number in enumerate(numbers):
            version = registry.get(f"reader/{number}")
            assert version.run_id == f"{who}-{n}"
            card = registry.open(version.ref) / "README.md"
            assert card.read_text("utf-8") == f"# by {who}"
