"""Memory that LanceDB's core takes in this process, and gives back.

What is set here are defaults of glibc and of LanceDB's format: whoever has set the variable named
beside each has chosen. Elsewhere than on Linux with glibc the allocator is left alone.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

_M_ARENA_MAX, _ARENAS = -8, 2  # of mallopt(3)
#: Bytes that a scan reads ahead. By default it is 2 GiB, which is to say a table of any size.
_READ_AHEAD = 64 << 20


@functools.cache
def spare() -> None:
    """Take less from here on: called before LanceDB is first used.

    glibc gives threads arenas of their own, up to eight a core, and each keeps what was freed in
    it: building the indexes of 100,000 chunks held twice the memory that two arenas for all hold.
    """
    os.environ.setdefault("LANCE_DEFAULT_IO_BUFFER_SIZE", str(_READ_AHEAD))
    if "MALLOC_ARENA_MAX" not in os.environ:
        _glibc("mallopt", _M_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Return freed memory to the system, after work that took much of it."""
    _glibc("malloc_trim", 0)


def _glibc(name: str, *arguments: int) -> None:
    if sys.platform == "linux":
        function = getattr(ctypes.CDLL(None), name, None)
        if function is not None:
            function(*arguments)
