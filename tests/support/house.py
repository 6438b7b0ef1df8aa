"""How the house stands: its wings and the imports between them, read from the code.

``python -m tests.support.house`` checks it (for ``make check``); ``--draw FILE.svg`` draws it, so
that the picture cannot say other than the code. Imports inside functions and for type checking
count too: a reader follows them all the same.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
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


def wing(name: str, known: Mapping[str, Path]) -> str:
    """The folder of a module below ``fti``, as ``store.features``; at most three deep."""
    path = known[name].relative_to(ROOT)
    return ".".join(path.parent.parts[:3])


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


def drawing(root: Path = ROOT) -> str:
    """The wings as boxes by floor, the imports between them as lines, as an SVG file."""
    known = modules(root)
    size: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for name, path in known.items():
        size[wing(name, known)] += len(path.read_text(encoding="utf-8").splitlines())
        count[wing(name, known)] += path.stem != "__init__"
    arrows: Counter[tuple[str, str]] = Counter()
    for name, others in imports(known).items():
        for other in others:
            pair = wing(name, known), wing(other, known)
            if pair[0] != pair[1]:
                arrows[pair] += 1
    rows = _rows({w for w in size if count[w]}, arrows)
    width, height, gap, tall = 1180, 34, 22, 74
    at: dict[str, tuple[float, float]] = {}
    boxes = []
    for level, row in enumerate(rows):
        room = width / len(row)
        for column, name in enumerate(row):
            x, y = room * column + gap / 2, 20 + level * tall
            at[name] = (x + (room - gap) / 2, y)
            boxes.append(
                f'<rect x="{x:.0f}" y="{y}" width="{room - gap:.0f}" height="{height}" rx="5" '
                f'fill="{_COLOURS[name.split(".", maxsplit=1)[0]]}" stroke="#555"/>'
                f'<text x="{at[name][0]:.0f}" y="{y + 15}">{escape(name)}</text>'
                f'<text x="{at[name][0]:.0f}" y="{y + 28}" fill="#555">{count[name]} modules, '
                f"{size[name]:,} lines</text>"
            )
    lines = [
        f'<line x1="{at[a][0]:.0f}" y1="{at[a][1] + height}" x2="{at[b][0]:.0f}" '
        f'y2="{at[b][1]}" stroke-width="{min(3.0, 0.5 + n / 12):.1f}"/>'
        for (a, b), n in sorted(arrows.items())
        if a in at and b in at
    ]
    total = 20 + len(rows) * tall
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total}" '
        'font-family="sans-serif" font-size="9" text-anchor="middle">\n'
        '<rect width="100%" height="100%" fill="#fff"/>\n'
        f'<g stroke="#888" opacity="0.35">{"".join(lines)}</g>\n{"".join(boxes)}\n</svg>\n'
    )


_COLOURS = {"app": "#e8f0fb", "pipelines": "#eaf6ea", "store": "#fdf3e2"}


def _rows(wings: set[str], arrows: Mapping[tuple[str, str], int]) -> list[list[str]]:
    """Wings from the top floor down: each stands above what it imports, its own floor kept."""
    floors = []
    for floor in FLOORS:
        left = {w for w in wings if w.split(".")[0] == floor}
        while left:
            # Of those left, the ones that none of the others imports; all where they are mixed.
            free = {w for w in left if not any((o, w) in arrows for o in left if o != w)} or left
            ordered = sorted(free)
            floors += [ordered[n : n + 7] for n in range(0, len(ordered), 7)]
            left -= free
    return floors


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
