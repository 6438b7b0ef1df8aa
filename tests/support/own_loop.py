"""Coroutines run in a thread of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_Result = TypeVar("_Result")


def run_apart(work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of a coroutine, run by an event loop in another thread.

    The browser tests' driver keeps a loop running in the thread of the worker that they ran on, and
    there ``asyncio.run`` refuses.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
