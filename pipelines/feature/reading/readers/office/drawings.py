"""Charts and diagrams that Word and PowerPoint draw, as tables and lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fti.pipelines.feature.reading.readers.markdown import item, table
from fti.store.plain_text import clean_line

A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
CHART = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
DIAGRAM = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}"
_MAX_ROWS = 200
_MAX_SERIES = 60
_MAX_DEPTH = 20


def chart_blocks(root: Any) -> Iterator[str]:
    """A chart's title, the titles of its axes, and its numbers as a table.

    Args:
        root: ``c:chartSpace``, or anything that holds a chart.
    """
    title = next(root.iter(CHART + "chart"), root).find(CHART + "title")
    if words := _words(title):
        yield words
    axes = [_words(axis.find(CHART + "title")) for axis in root.iter() if _is_axis(axis)]
    if any(axes):
        yield f"({'; '.join(filter(None, axes))})"
    for area in root.iter(CHART + "plotArea"):
        for plot in area.iterchildren():
            series = list(plot.iterchildren(CHART + "ser"))[:_MAX_SERIES]
            rows = _rows(series)
            if len(rows) > 1:
                yield table(rows)


def _is_axis(element: Any) -> bool:
    return element.tag in (
        CHART + "catAx", CHART + "valAx", CHART + "dateAx", CHART + "serAx"
    )  # fmt: skip


def _words(element: Any | None) -> str:
    """The text of a title: its own, or what it took from a cell."""
    if element is None:
        return ""
    parts: list[str] = []
    for paragraph in element.iter(A + "p"):
        parts.append("".join(t.text or "" for t in paragraph.iter(A + "t")))
    if not any(p.strip() for p in parts):
        parts = [v.text or "" for v in element.iter(CHART + "v")]
    return clean_line(" ".join(parts))


def _rows(series: Sequence[Any]) -> list[list[str]]:
    """A row for each category (or point), a column for each series."""
    if not series:
        return []
    named = [_words(one.find(CHART + "tx")) for one in series]
    labels = _values(series[0].find(CHART + "cat"))
    if not labels and any(one.find(CHART + "xVal") is not None for one in series):
        return _points(series, named)
    values = [_values(one.find(CHART + "val")) for one in series]
    count = min(max(map(len, [labels, *values])), _MAX_ROWS)
    rows = [["", *named]]
    for i in range(count):
        label = labels[i] if i < len(labels) else str(i + 1)
        rows.append([label, *(v[i] if i < len(v) else "" for v in values)])
    return rows


def _points(series: Sequence[Any], named: Sequence[str]) -> list[list[str]]:
    rows = [["", "x", "y"]]
    for one, name in zip(series, named, strict=True):
        x, y = _values(one.find(CHART + "xVal")), _values(one.find(CHART + "yVal"))
        rows += [[name, a, b] for a, b in zip(x, y, strict=False)]
    return rows[: _MAX_ROWS + 1]


def _values(element: Any | None) -> list[str]:
    """What a reference held when the chart was saved, by place."""
    if element is None:
        return []
    levels = list(element.iter(CHART + "lvl"))  # of categories in groups, the inner ones first
    if levels:
        rows = [_cached(level, "") for level in levels]
        count = max(map(len, rows))
        filled = [_filled(row, count) for row in reversed(rows)]
        return [" ".join(filter(None, (row[i] for row in filled))) for i in range(count)]
    form = next((f.text or "" for f in element.iter(CHART + "formatCode")), "")
    return _cached(element, form)


def _filled(row: Sequence[str], count: int) -> list[str]:
    found: list[str] = []
    for i in range(count):
        text = row[i] if i < len(row) else ""
        found.append(text or (found[-1] if found else ""))
    return found


def _cached(element: Any, form: str) -> list[str]:
    found: dict[int, str] = {}
    for point in element.iter(CHART + "pt"):
        index = point.get("idx") or ""
        if index.isdecimal() and len(index) < 7 and int(index) < 10 * _MAX_ROWS:
            found[int(index)] = _shown(point.findtext(CHART + "v") or "", form)
    return [found.get(i, "") for i in range(max(found, default=-1) + 1)]


def _shown(text: str, form: str) -> str:
    """A number as its form says it: a day, a percentage, or without a tail of binary digits."""
    try:
        number = float(text)
    except ValueError:
        return clean_line(text)
    if form and form.lower() != "general":
        from openpyxl.styles.numbers import is_date_format
        from openpyxl.utils.datetime import from_excel

        if is_date_format(form):
            try:
                return str(from_excel(number)).removesuffix(" 00:00:00")
            except (ValueError, OverflowError, TypeError):
                return text
        if "%" in form:
            return f"{number * 100:.12g}%"
    return f"{number:.15g}"


def diagram_items(root: Any) -> list[str]:
    """The texts of a diagram (SmartArt) as a list, each below what it belongs to.

    Args:
        root: ``dgm:dataModel``.
    """
    texts: dict[str, str] = {}
    for point in root.iter(DIAGRAM + "pt"):
        if point.get("type") not in ("pres", "parTrans", "sibTrans"):
            words = ("".join(t.text or "" for t in p.iter(A + "t")) for p in point.iter(A + "p"))
            texts[point.get("modelId") or ""] = " ".join(" ".join(words).split())
    below: dict[str, list[tuple[int, str]]] = {}
    for link in root.iter(DIAGRAM + "cxn"):
        if link.get("type") in (None, "parOf"):
            order = link.get("srcOrd") or "0"
            place = int(order) if order.isdecimal() and len(order) < 9 else 0
            below.setdefault(link.get("srcId") or "", []).append((place, link.get("destId") or ""))
    inner = {one for links in below.values() for _, one in links}
    found: list[str] = []
    seen: set[str] = set()

    def add(one: str, depth: int) -> None:
        if one in seen or one not in texts or depth > _MAX_DEPTH:
            return
        seen.add(one)
        if texts[one]:
            found.append(item(depth, texts[one]))
        for _, child in sorted(below.get(one, [])):
            add(child, depth + 1 if texts[one] else depth)

    for one in texts:
        if one not in inner:
            add(one, 0)
    for one in texts:  # links that lead nowhere lose nothing
        add(one, 0)
    return found
