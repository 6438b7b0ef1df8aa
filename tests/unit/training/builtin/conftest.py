"""What the tests of the built-in models' recipes share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.training.builtin import reading_rows
from tests.support.reading_data import write_reading_data
from tests.support.tiny_model import chatml_tokenizer


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reading_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def corpus(data: Path) -> reading_rows.Corpus:
    return reading_rows.read_corpus(data)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return chatml_tokenizer()
