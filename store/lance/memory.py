"""Memory that LanceDB's core takes in this process, and gives back.

What is set here are defaults of glibc and of LanceDB's format: whoever has set the variable named
beside each has chosen. Elsewhere than on Linux with glibc the allocator is left alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
from collections.abc import Iterator

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of mallopt(3)
_ARENAS = 2
_SPARING = 256 << 10  # bytes of a block from which on it is the system's again once freed
_LARGEST = 32 << 20  # what glibc raises that to by itself, as such blocks are freed
_LANCE = {
    # Bytes that a scan reads ahead; by default 2 GiB, which is to say a table of any size.
    "LANCE_DEFAULT_IO_BUFFER_SIZE": 16 << 20,
    # Bytes of coded vectors put in order of their partitions at a time; by default 128 MiB.
    "LANCE_SHUFFLE_BATCH_BYTES": 16 << 20,
    # Bytes of a table of where each partition's part of those lies, by default 256 MiB; without it
    # they are looked up. With it, 0.1 GB more was held for 200,000 vectors, in the same time.
    "LANCE_SHUFFLE_MAX_PRELOADED_OFFSETS_BYTES": 1,
    # MiB of a part of the text index while it is made; by default 2 GiB.
    "LANCE_FTS_PARTITION_SIZE": 128,
}
#: Bytes of manifests and files' headers kept for the next look at a table; by default 1 GiB, which
#: a writer fills: each commit makes a manifest that names all fragments. Read again from a disk
#: they cost next to nothing, from an object store a round trip each.
METADATA_CACHE, METADATA_CACHE_AFAR = 4 << 20, 32 << 20
INDEX_CACHE = 32 << 20  # bytes of indexes, where what is read is not asked for again


@functools.cache
def spare() -> None:
    """Take less from here on: called before LanceDB is first used.

    glibc gives threads arenas of their own, up to eight a core, and each keeps what was freed in
    it: building the indexes of 100,000 chunks held twice the memory that two arenas for all hold.
    Arrow's own allocator keeps what was freed too, where ``sparing`` does not reach.
    """
    for name, value in _LANCE.items():
        os.environ.setdefault(name, str(value))
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        import pyarrow as pa

        pa.set_memory_pool(pa.system_memory_pool())
    _allocator("MALLOC_ARENA_MAX", _M_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Give the system back what is free, in the midst of work that takes and frees much.

    Freed blocks of changing sizes leave gaps that later ones do not fill: of a process that embeds
    text after text the memory grew with each. It takes some 20 ms, and what is taken again must be
    filled with zeros; so now and then, not after each step.
    """
    _glibc("malloc_trim", 0)


@contextlib.contextmanager
def sparing() -> Iterator[None]:
    """Within, large blocks go back to the system as they are freed; before and after, all others.

    For work that takes and frees many of them, as building an index does. Elsewhere glibc keeps
    blocks of the sizes that a program uses, which is quicker: each that comes from the system must
    be filled with zeros, page by page, and models use large ones all the time.
    """
    _allocator("MALLOC_MMAP_THRESHOLD_", _M_MMAP_THRESHOLD, _SPARING)
    give_back()
    try:
        yield
    finally:
        if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
            # As glibc's own rule has it after blocks of that size.
            _glibc("mallopt", _M_MMAP_THRESHOLD, _LARGEST)
            _allocator("MALLOC_TRIM_THRESHOLD_", _M_TRIM_THRESHOLD, 2 * _LARGEST)
        give_back()


def _allocator(variable: str, parameter: int, value: int) -> None:
    """Set a parameter of glibc's allocator, unless the variable of that parameter is set."""
    if variable not in os.environ:
        _glibc("mallopt", parameter, value)


def _glibc(name: str, *arguments: int) -> None:
    if sys.platform == "linux":
        function = getattr(ctypes.CDLL(None), name, None)
        if function is not None:
            function(*arguments)
