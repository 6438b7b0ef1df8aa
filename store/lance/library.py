"""LanceDB, imported without what a store never calls.

Half of what ``import lancedb`` takes are some 700 classes of a client for catalogs over HTTP, a
fifth is pandas, which pyarrow tries for as soon as it makes a first scalar. A command that searches
needs neither. So they are put off until somebody calls for them: the classes of the client are
stood in for by objects that bring the real ones when they are called, and pyarrow finds no pandas
until it is asked for a frame, when it looks again. Half of the rest is the check that LanceDB's
own methods fit together, which its developers have made.
"""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

#: Releases whose use of the client, and whose tables beneath their synchronous side, were looked
#: through; others are imported whole and used by that side.
_LOOKED_THROUGH = ("0.40.0",)
_CLIENT = ("lance_namespace", "lance_namespace_urllib3_client")
_ERRORS = "lance_namespace.errors"  # caught by name, so these must be the classes themselves
#: Before Python 3.12, where its ``override`` is that of ``typing``: takes signatures apart.
_CHECKER = "overrides"

_lock = threading.Lock()


def lancedb() -> Any:
    """The package, brought in by the first who asks."""
    found = sys.modules.get("lancedb")
    if found is not None and not _begun(found):
        return found
    with _lock:
        if "lancedb" not in sys.modules:
            _bring_in()
    return importlib.import_module("lancedb")


@functools.cache
def looked_through() -> bool:
    """Whether what is installed is a release whose inside is known."""
    return importlib.metadata.version("lancedb") in _LOOKED_THROUGH


def _begun(module: ModuleType) -> bool:
    """Whether another thread is still importing it."""
    return bool(getattr(module.__spec__, "_initializing", False))


def _bring_in() -> None:
    if "pandas" not in sys.modules:
        with _found_otherwise(("pandas",), _no_module):
            importlib.import_module("pyarrow.dataset")
    put_off = (*_CLIENT, _CHECKER)
    if not looked_through() or any(name in sys.modules for name in put_off):
        importlib.import_module("lancedb")
        return
    try:
        with _found_otherwise(put_off, _stand_in):
            importlib.import_module("lancedb")
    finally:
        # Who asks for these gets them whole. The errors stay: they are the real ones.
        for name in [n for n in sys.modules if n.partition(".")[0] in put_off and n != _ERRORS]:
            del sys.modules[name]


class _Later:
    """Stands in for a class or function of a module until it is called."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def _real(self) -> Any:
        return getattr(importlib.import_module(self._module), self._name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._real()(*args, **options)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._real())


class _StandIn(importlib.abc.Loader):
    """Makes a module of which every public name is a ``_Later``."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)

        @functools.cache  # so that a name means the same wherever it is imported
        def later(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return _Later(spec.name, name)

        module.__getattr__ = later  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


class _Unchecked(importlib.abc.Loader):
    """Makes the module of a decorator and a base class that check nothing."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        module.override = lambda method: method  # type: ignore[attr-defined]
        module.EnforceOverrides = type("EnforceOverrides", (), {})  # type: ignore[attr-defined]
        return module

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


def _stand_in(name: str) -> importlib.machinery.ModuleSpec | None:
    if name == _ERRORS:
        package = importlib.machinery.PathFinder.find_spec("lance_namespace")
        places = (package.submodule_search_locations if package else None) or []
        return importlib.machinery.PathFinder.find_spec(name, list(places))
    loader = _Unchecked() if name == _CHECKER else _StandIn()
    return importlib.machinery.ModuleSpec(name, loader, is_package=True)


def _no_module(name: str) -> importlib.machinery.ModuleSpec | None:
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds some packages otherwise, for one thread."""

    def __init__(
        self,
        packages: Sequence[str],
        find: Callable[[str], importlib.machinery.ModuleSpec | None],
    ) -> None:
        self._packages, self._find = packages, find
        self._thread = threading.get_ident()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """As the import system asks; None: found as always."""
        mine = threading.get_ident() == self._thread
        return self._find(name) if mine and name.partition(".")[0] in self._packages else None


@contextmanager
def _found_otherwise(
    packages: Sequence[str], find: Callable[[str], importlib.machinery.ModuleSpec | None]
) -> Iterator[None]:
    finder = _Finder(packages, find)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
