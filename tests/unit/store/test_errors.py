"""Every error is drawn in the tree, documented, and named the same way."""

from __future__ import annotations

import inspect
import re

import pytest

from fti.store import errors
from fti.store.errors import FtiError

CLASSES = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, FtiError) and value.__module__ == errors.__name__
]


def _drawn() -> dict[str, str]:
    """Each class in the drawing of the module's docstring, with the one it hangs from."""
    path: list[str] = []
    found = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│ ]*)(?:[├└]── )?([A-Z]\w+)", line)
        if match and (match.group(2) == "FtiError" or "──" in line):
            depth = 0 if match.group(2) == "FtiError" else 1 + len(match.group(1)) // 4
            path = [*path[:depth], match.group(2)]
            found[match.group(2)] = path[depth - 1] if depth else "Exception"
    return found


def test_the_drawing_is_the_tree() -> None:
    assert _drawn() == {cls.__name__: cls.__bases__[0].__name__ for cls in CLASSES}


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_says_what_it_is(cls: type[FtiError]) -> None:
    error = cls("No such thing: 'x'.", hint="Try: fti doctor")
    assert error.message == "No such thing: 'x'."
    assert error.hint == "Try: fti doctor"
    assert str(error) == "No such thing: 'x'. Try: fti doctor"
    assert str(cls("Alone.")) == "Alone."
    assert cls.__doc__
    assert error.exit_code in (1, 2)
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error.code)


def test_codes_tell_errors_apart() -> None:
    codes = [cls("").code for cls in CLASSES]
    assert len(set(codes)) == len(codes)
    assert errors.ModelNotFound("").code == "model_not_found"
    assert errors.StoreFormatError("").code == "store_format"


def test_misuse_and_failure_exit_differently() -> None:
    assert errors.EmptyQuestion("").exit_code == errors.ConfigError("").exit_code == 2
    assert errors.ExtractionError("").exit_code == errors.StoreFull("").exit_code == 1
