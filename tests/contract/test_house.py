"""Each wing says at its door what it is for, and the picture of the house is that of the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support import house

WINGS = sorted(
    path.parent.relative_to(house.ROOT).as_posix()
    for floor in house.FLOORS
    for path in (house.ROOT / floor).rglob("__init__.py")
)
#: Opened by a docstring of another form: registries and recipes with code or steps of their own.
OTHERWISE = {"pipelines/feature/reading/readers", "pipelines/training/builtin"}


@pytest.mark.parametrize("wing", [w for w in WINGS if w not in OTHERWISE])
def test_a_wing_says_what_it_is_for_what_may_enter_and_what_to_read_first(wing: str) -> None:
    folder = house.ROOT / wing
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""

    assert "May import" in text or "may import" in text
    first = re.search(r"Read first: ``(?P<one>[^`]+)`` and ``(?P<two>[^`]+)``\.", text)
    assert first, text
    assert [n for n in first.groups() if not (folder / n).is_file()] == []
    assert len(text.splitlines()) <= 10
    for name in re.findall(r"``([a-z_./]+)``", text):
        assert _exists(folder, name), f"{wing} names {name}, which is nowhere"


def _exists(folder: Path, name: str) -> bool:
    """Whether a docstring's name is a file or module near the wing, or under one of the floors."""
    path = name if name.endswith(".py") else name.replace(".", "/")
    places = [folder, *folder.parents[: len(folder.relative_to(house.ROOT).parts)]]
    places += [house.ROOT / "pipelines"]
    return any((p / path).exists() or (p / f"{path}.py").exists() for p in places)


PICTURE = house.ROOT / "docs" / "house.svg"
REDRAW = "run: python -m tests.support.house --draw docs/house.svg"


def test_the_picture_shows_the_wings_that_there_are() -> None:
    there = {
        f"{hall.name}.{room}"
        for hall in house.halls().values()
        for room in hall.rooms
        if _exists(house.ROOT / hall.name.replace(".", "/"), room)
    }
    assert house.rooms_drawn(PICTURE.read_text("utf-8")) == there, REDRAW
    assert len(there) > 40


def test_the_picture_is_drawn_from_the_imports() -> None:
    drawn = house.drawing()
    assert house.rooms_drawn(drawn) == house.rooms_drawn(PICTURE.read_text("utf-8")), REDRAW
    arrows = house.between()
    assert arrows["store", "store"]["features", "lance"] > 10
    assert ("store", "app") not in arrows
    assert ("pipelines.feature", "pipelines.training") not in arrows


def test_an_arrow_that_a_longer_way_implies_is_not_drawn() -> None:
    arrows = {("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")}
    assert house.needed(arrows) == {("a", "b"), ("b", "c"), ("a", "d")}
