"""Memory settings: defaults that whoever has set them keeps, and what is given back when."""

from __future__ import annotations

import json
import platform

import pyarrow
import pytest

from tests.support.processes import run_python

SETTINGS = """
import json, os
from fti.store.lance import memory
memory.spare()
print(json.dumps({name: os.environ[name] for name in memory._LANCE}))
"""

# Small blocks stay between the large ones, so that what these leave lies amid what is in use.
FREED = """
import json
from fti.store.lance import memory

def held():
    with open("/proc/self/statm") as file:
        before = int(file.read().split()[1])
    large, small = [], []
    for _ in range(100):
        large.append(b"x" * (512 << 10))
        small.append(b"x" * 20_000)
    large.clear()
    with open("/proc/self/statm") as file:
        return (int(file.read().split()[1]) - before) * 4096 >> 20, small

with memory.sparing():
    within, small = held()
after, more = held()
print(json.dumps([within, after]))
"""


@pytest.mark.parametrize("given", [None, "123456789"])
def test_lancedb_takes_little_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    for name in json.loads(run_python(SETTINGS)):
        monkeypatch.delenv(name, raising=False)
    if given is not None:
        monkeypatch.setenv("LANCE_DEFAULT_IO_BUFFER_SIZE", given)

    settings = json.loads(run_python(SETTINGS))

    assert settings["LANCE_DEFAULT_IO_BUFFER_SIZE"] == (given or str(16 << 20))
    assert settings["LANCE_FTS_PARTITION_SIZE"] == "128"


# As batches of many lengths leave them: free blocks of all sizes amid small ones that are in use.
GAPS = """
import json, random
from fti.store.lance import memory

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 >> 20

before, rng = held(), random.Random(0)
blocks, small = [], []
for _ in range(2000):
    blocks.append(b"x" * rng.randrange(20_000, 100_000))
    small.append(b"x" * 600)
blocks.clear()
kept = held() - before
memory.give_back()
print(json.dumps([kept, held() - before]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc's allocator")
def test_what_is_free_amid_what_is_in_use_is_given_back() -> None:
    kept, after = json.loads(run_python(GAPS))
    assert after < kept / 2


def test_arrow_takes_memory_from_the_system_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = """
from fti.store.lance import memory
memory.spare()
import pyarrow
print(pyarrow.default_memory_pool().backend_name)
"""
    monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL", raising=False)
    assert run_python(script) == "system\n"
    chosen = pyarrow.supported_memory_backends()[0]
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", chosen)
    assert run_python(script) == f"{chosen}\n"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets glibc's allocator")
@pytest.mark.parametrize("chosen", [None, str(32 << 20)])
def test_large_blocks_go_back_at_once_within_and_are_kept_for_the_next_outside(
    monkeypatch: pytest.MonkeyPatch, chosen: str | None
) -> None:
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    if chosen is not None:
        monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", chosen)

    within, after = json.loads(run_python(FREED))

    assert after > 30  # MiB of 50
    assert (within < 10) == (chosen is None)
