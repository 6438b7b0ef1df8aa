"""How the house stands: its wings and the imports between them, read from the code.

``python -m tests.support.house`` checks it (for ``make check``); ``--draw FILE.svg`` draws it, so
that the picture cannot say other than the code. Imports inside functions and for type checking
count too: a reader follows them all the same.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLOORS = ("app", "pipelines", "store")
#: Named after their command or route on purpose.
NAMED_ON_PURPOSE = ("fti.app.commands.", "fti.app.service.routes.")

Graph = Mapping[str, frozenset[str]]


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the three packages by its name, ``fti.`` in front."""
    found = {}
    for floor in FLOORS:
        for path in sorted((root / floor).rglob("*.py")):
            parts = list(path.relative_to(root).with_suffix("").parts)
            if parts[-1] == "__init__":
                parts.pop()
            found[".".join(["fti", *parts])] = path
    return found


def imports(known: Mapping[str, Path]) -> Graph:
    """Which modules of ``known`` each of them imports."""
    return {name: frozenset(_imported(path, known)) - {name} for name, path in known.items()}


def _imported(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module


def circles(graph: Graph) -> list[list[str]]:
    """Groups of modules that import one another: strongly connected components (Tarjan 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            at = stack.index(name)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for name in graph:
        if name not in order:
            visit(name)
    return found


def shared_names(known: Mapping[str, Path]) -> dict[str, list[str]]:
    """Names that two modules have, those aside that are named on purpose."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for name, path in known.items():
        if path.stem not in ("__init__", "__main__") and not name.startswith(NAMED_ON_PURPOSE):
            by_name[path.stem].append(name)
    return {stem: names for stem, names in by_name.items() if len(names) > 1}


def faults(root: Path = ROOT) -> list[str]:
    """What is wrong with the house, a sentence each."""
    known = modules(root)
    return [
        *(
            f"These modules import one another in a circle: {', '.join(c)}."
            for c in circles(imports(known))
        ),
        *(
            f"The name {stem!r} stands for several modules: {', '.join(names)}."
            for stem, names in shared_names(known).items()
        ),
    ]


@dataclass(frozen=True)
class Hall:
    """A floor, or a part of one, whose rooms stand in the order that import-linter holds."""

    name: str
    rows: tuple[tuple[str, ...], ...]

    @property
    def rooms(self) -> list[str]:
        return [room for row in self.rows for room in row]


def halls(root: Path = ROOT) -> dict[str, Hall]:
    """The halls of the house by their package, ``fti`` left out: ``pipelines.feature``."""
    held = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    found = {}
    for contract in held["contracts"]:
        for container in contract.get("containers", ()):
            rows = tuple(
                tuple(r.strip(" ()") for r in re.split("[|:]", row)) for row in contract["layers"]
            )
            name = container.removeprefix("fti.")
            found[name] = Hall(name, rows)
    return found


def between(root: Path = ROOT) -> dict[tuple[str, str], dict[tuple[str, str], int]]:
    """How many imports go from room to room, by the halls that the two rooms are in."""
    known, plan = modules(root), halls(root)
    counted: dict[tuple[str, str], Counter[tuple[str, str]]] = defaultdict(Counter)
    for name, others in imports(known).items():
        for other in others:
            (hall, room), (there, target) = _place(name, plan), _place(other, plan)
            if hall and there and (hall, room) != (there, target):
                counted[hall, there][room, target] += 1
    return {pair: dict(rooms) for pair, rooms in counted.items()}


def _place(module: str, plan: Mapping[str, Hall]) -> tuple[str, str]:
    """The hall and the room of a module; empty for a package that is only a door."""
    path = module.removeprefix("fti.")
    for hall in plan:
        if path.startswith(f"{hall}."):
            return hall, path.removeprefix(f"{hall}.").partition(".")[0]
    return "", ""


def needed(arrows: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """The arrows that no longer way says already (a transitive reduction); they hold no circle."""
    onward: dict[str, set[str]] = defaultdict(set)
    for a, b in arrows:
        onward[a].add(b)

    def reached(start: str) -> set[str]:
        return {n for o in onward.get(start, ()) for n in (o, *reached(o))}

    return {(a, b) for a, b in arrows if not any(b in reached(o) for o in onward[a] if o != b)}


#: The halls as they stand in the picture, from the top.
FLOOR_PLAN = (
    ("app",),
    ("pipelines.feature", "pipelines.training", "pipelines.inference"),
    ("pipelines.engines",),
    ("store",),
)
_COLOURS = {"app": "#e8f0fb", "pipelines": "#eaf6ea", "store": "#fdf3e2"}
_LEGEND = (
    "An arrow stands for imports; one that a longer way implies is left out. "
    "Dashed: against the order, for a reason that pyproject.toml gives."
)
_ROOM, _TALL, _STEP, _MARGIN, _HEAD = 128, 28, 52, 16, 34  # pixels


def drawing(root: Path = ROOT) -> str:
    """The halls with their rooms, and what imports what, as an SVG file.

    Rooms stand in the order that import-linter holds. Within a hall an arrow is left out where a
    longer way says the same; those against the order are dashed. Arrows between halls stand for
    any import between them. A room's tooltip says what it is for.
    """
    plan, arrows = halls(root), between(root)
    width, y = 1180, 12.0
    frames: dict[str, tuple[float, float, float, float]] = {}
    for row in FLOOR_PLAN:
        columns = [max(len(r) for r in plan[name].rows) for name in row]
        left = (width - (len(row) + 1) * _MARGIN) / sum(columns)
        x, tall = float(_MARGIN), max(len(plan[n].rows) for n in row) * _STEP + _HEAD
        for name, count in zip(row, columns, strict=True):
            frames[name] = (x, y, left * count, float(tall))
            x += left * count + _MARGIN
        y += tall + 40
    parts = []
    for pair in sorted(needed({(a, b) for a, b in arrows if a != b})):
        (ax, ay, aw, at), (bx, by, bw, _) = frames[pair[0]], frames[pair[1]]
        x = bx + bw / 2 if bw < aw else ax + aw / 2
        parts.append(f'<path d="M{x:.0f} {ay + at:.0f}V{by - 3:.0f}" class="wide"/>')
    for name, frame in frames.items():
        parts += _hall(plan[name], frame, arrows, root)
    parts.append(f'<text x="{_MARGIN}" y="{y - 16:.0f}" class="quiet">{escape(_LEGEND)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y:.0f}" '
        'font-family="sans-serif" font-size="12.5" text-anchor="middle">\n'
        "<style>path{fill:none;stroke:#7b8794;stroke-width:1.3;marker-end:url(#a)}"
        ".wide{stroke:#3b4754;stroke-width:3}.up{stroke:#b3402e;stroke-dasharray:5 4}"
        ".quiet{fill:#56606b;font-size:12px;text-anchor:start}</style>\n"
        '<marker id="a" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
        'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 10 5 0 10z" '
        'style="fill:#3b4754;stroke:none;marker-end:none"/></marker>\n'
        '<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _hall(
    hall: Hall,
    frame: tuple[float, float, float, float],
    arrows: Mapping[tuple[str, str], Mapping[tuple[str, str], int]],
    root: Path,
) -> list[str]:
    x, y, width, tall = frame
    colour = _COLOURS[hall.name.partition(".")[0]]
    parts = [
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{tall:.0f}" rx="8" '
        f'fill="{colour}" stroke="#9aa5b1"/>',
        f'<text x="{x + 12:.0f}" y="{y + 21:.0f}" text-anchor="start" font-size="15" '
        f'font-weight="bold">{escape(hall.name.replace(".", "/"))}</text>',
    ]
    at = {
        room: (x + width * (column + 0.5) / len(row), y + _HEAD + level * _STEP)
        for level, row in enumerate(hall.rows)
        for column, room in enumerate(row)
    }
    inside = [p for p in arrows.get((hall.name, hall.name), ()) if p[0] in at and p[1] in at]
    down = {(a, b) for a, b in inside if at[a][1] < at[b][1]}
    for a, b in sorted(needed(down)):
        (ax, ay), (bx, by) = at[a], at[b]
        parts.append(f'<path d="M{ax:.0f} {ay + _TALL}L{bx:.0f} {by - 1:.0f}"/>')
    for a, b in sorted(p for p in inside if at[p[0]][1] > at[p[1]][1]):
        (ax, ay), (bx, by) = at[a], at[b]
        parts.append(
            f'<path class="up" d="M{ax + 22:.0f} {ay:.0f}L{bx + 22:.0f} {by + _TALL + 1:.0f}"/>'
        )
    for room, (middle, top) in at.items():
        folder = root / hall.name.replace(".", "/") / room
        door = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        if not door.exists():
            continue  # a room that may be there, and is not
        told = (ast.get_docstring(ast.parse(door.read_text("utf-8"))) or room).splitlines()[0]
        label = f"{room}/" if folder.is_dir() else f"{room}.py"
        parts.append(
            f'<g data-room="{hall.name}.{room}"><title>{escape(told)}</title>'
            f'<rect x="{middle - _ROOM / 2:.0f}" y="{top:.0f}" width="{_ROOM}" height="{_TALL}" '
            f'rx="5" fill="#fff" stroke="#56606b"/>'
            f'<text x="{middle:.0f}" y="{top + 18:.0f}">{escape(label)}</text></g>'
        )
    return parts


def rooms_drawn(picture: str) -> set[str]:
    """The rooms that a picture shows, as ``store.features``."""
    return set(re.findall(r'data-room="([\w.]+)"', picture))


def main() -> int:
    """Check, or draw; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draw", type=Path, metavar="FILE.svg")
    options = parser.parse_args()
    if options.draw:
        options.draw.parent.mkdir(parents=True, exist_ok=True)
        options.draw.write_text(drawing(), encoding="utf-8")
        return 0
    found = faults()
    for fault in found:
        print(fault, file=sys.stderr)
    if not found:
        print(f"{len(modules())} modules, no circle among them, no name twice.")
    return bool(found)


if __name__ == "__main__":
    raise SystemExit(main())
