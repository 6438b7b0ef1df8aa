"""What all tests stand on: no network, few threads, a tiny real model, a weight-free embedder."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile

# Before anything imports torch or a hub client: they read these once.
os.environ.update(
    {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HOME": tempfile.mkdtemp(prefix="fti-test-hub-"),
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
    }
)

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from tests.support.copies import remove_originals
from tests.support.tiny_embedder import make_tiny_embedder
from tests.support.tiny_model import make_tiny_lm

HUB_CACHE = os.environ["HF_HOME"]

#: Programs that some tests drive, what Debian calls them, and what is skipped without them.
SERVICES = {
    "redis-server": ("redis-server", "streams of records over Redis"),
    "chromium": ("chromium", "the pages, in a browser"),
    "tesseract": ("tesseract-ocr", "reading scanned pages"),
}


def pytest_configure() -> None:
    """Keep bytecode, in folders that git ignores, even where a container image forbids it.

    Without it each worker would compile all tests, and each of the hundreds of processes that
    they start the whole program.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def pytest_report_header() -> list[str]:
    """Which optional programs are here, before anything is skipped for want of one."""
    return [
        f"{name}: {found}"
        if (found := shutil.which(name))
        else f"{name}: not found, skips {what} (Debian: apt-get install {package})"
        for name, (package, what) in SERVICES.items()
    ]


@pytest.fixture(scope="session", autouse=True)
def offline() -> Iterator[None]:
    """No profile of the person who runs the tests, no proxy, no model cache."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("FTI_") or name.lower().endswith("_proxy"):
                patch.delenv(name)
        yield
    shutil.rmtree(HUB_CACHE, ignore_errors=True)
    remove_originals()


@pytest.fixture(scope="session", autouse=True)
def no_flushing() -> Iterator[None]:
    """Files are written, and not waited for until they are on the disk.

    Only a power cut tells the difference, and a flush of a small file takes as long as ten tests
    of what is in it. What a failing flush does is tested by one that fails.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # which refuses what is no open file, as fsync does
        yield


@pytest.fixture(scope="session")
def tiny_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny causal LM with random weights; see ``tests.support.tiny_model``."""
    return make_tiny_lm(tmp_path_factory.mktemp("models") / "tiny-lm")


@pytest.fixture(scope="session")
def loaded_lm(tiny_lm: Path) -> Any:
    """The tiny causal LM in memory, shared by all tests that do not change it."""
    from fti.pipelines.engines.causal_lm.loading import load_causal_lm
    from fti.pipelines.engines.model_config import ModelConfig

    return load_causal_lm(ModelConfig(id=str(tiny_lm), device="cpu"))


@pytest.fixture(scope="session")
def tiny_embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny sentence-transformers model; see ``tests.support.tiny_embedder``."""
    return make_tiny_embedder(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def embedder() -> HashingEmbedder:
    """An embedder without weights: texts that share words lie close."""
    return HashingEmbedder()
