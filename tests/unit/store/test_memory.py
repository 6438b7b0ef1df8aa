"""Memory settings: defaults that whoever has set them keeps."""

from __future__ import annotations

import pytest

from tests.support.processes import run_python

SCRIPT = """
import os
from store import memory
memory.spare()
memory.give_back()
print(os.environ["LANCE_DEFAULT_IO_BUFFER_SIZE"])
"""


@pytest.mark.parametrize(("given", "kept"), [(None, str(64 << 20)), ("123456789", "123456789")])
def test_a_scan_reads_little_ahead_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: str | None, kept: str
) -> None:
    monkeypatch.delenv("LANCE_DEFAULT_IO_BUFFER_SIZE", raising=False)
    if given is not None:
        monkeypatch.setenv("LANCE_DEFAULT_IO_BUFFER_SIZE", given)

    assert run_python(SCRIPT).strip() == kept
