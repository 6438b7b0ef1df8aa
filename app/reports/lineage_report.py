"""Lineage as a picture: columns from documents over chunks and datasets to models and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fti.app.reports.charts import PALETTE
from fti.app.reports.markup import Markup, el
from fti.app.reports.page import page, section

if TYPE_CHECKING:
    from fti.pipelines.inference.tracing.answer_lineage import AnswerLineage
    from fti.pipelines.inference.tracing.document_lineage import DocumentLineage

COLUMNS = ("document", "chunk", "dataset", "model", "answer")
_WIDTH, _HEIGHT, _ACROSS, _DOWN, _TOP = 168, 38, 226, 52, 44
_LETTERS = 25  # that fit into a box
_MOST = 12  # boxes of one kind that hang on one thing; the rest become one box


@dataclass(frozen=True, slots=True)
class Node:
    """A box: what it is, its name, and a line below."""

    kind: str
    name: str
    note: str = ""
    strong: bool = False


@dataclass
class Graph:
    """Boxes by key, and arrows from what something was made of to what was made of it."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[tuple[str, str], bool] = field(default_factory=dict)

    def add(self, key: str, node: Node) -> str:
        """A box, once."""
        self.nodes.setdefault(key, node)
        return key

    def link(self, start: str, end: str, *, strong: bool = False) -> None:
        """An arrow, once; strong when any was."""
        self.edges[start, end] = strong or self.edges.get((start, end), False)


def graph_of_answer(lineage: AnswerLineage) -> Graph:
    """Backwards from an answer: passages and their documents, model, dataset, its documents."""
    graph = Graph()
    said = _cut(lineage.question, 60)
    answer = graph.add(lineage.answer, Node("answer", lineage.answer, said, strong=True))
    for passage in lineage.passages:
        chunk = graph.add(
            passage.chunk_id,
            Node("chunk", f"passage {passage.number}", passage.standing, strong=passage.cited),
        )
        source = graph.add(passage.document_id, Node("document", _tail(passage.source)))
        graph.link(source, chunk, strong=passage.cited)
        graph.link(chunk, answer, strong=passage.cited)
    model = graph.add("model", Node("model", lineage.model.ref, strong=True))
    graph.link(model, answer, strong=True)
    data = lineage.model.dataset
    if data is not None:
        dataset = graph.add("dataset", Node("dataset", data.ref, f"{data.documents} documents"))
        graph.link(dataset, model, strong=True)
        for document in data.made_from[:_MOST]:
            named = Node("document", _tail(document.source or document.document_id), document.state)
            graph.link(graph.add(document.document_id, named), dataset)
        _rest(graph, "document", len(data.made_from), dataset, before=True)
    return graph


def graph_of_document(lineage: DocumentLineage) -> Graph:
    """Forwards from a document: its chunks, and the datasets, models and answers it is in."""
    graph = Graph()
    document = graph.add(
        lineage.document_id,
        Node("document", _tail(lineage.source), lineage.state, strong=True),
    )
    for number, chunk in enumerate(lineage.chunks[:_MOST], start=1):
        named = Node("chunk", f"chunk {number}", chunk.section)
        graph.link(document, graph.add(chunk.chunk_id, named))
    _rest(graph, "chunk", len(lineage.chunks), document)
    for data in lineage.datasets:
        graph.link(document, graph.add(data.ref, Node("dataset", data.ref, data.split)))
    for use in lineage.models:
        aliases = ", ".join(f"@{alias}" for alias in use.aliases)
        node = Node("model", use.ref, aliases, strong=bool(use.aliases))
        trained = use.split != "test"
        graph.link(use.dataset, graph.add(f"model {use.ref}", node), strong=trained)
    for answer in lineage.answers[:_MOST]:
        node = Node("answer", answer.answer, _cut(answer.question, 60), strong=answer.cited)
        graph.link(document, graph.add(answer.answer, node), strong=answer.cited)
    _rest(graph, "answer", len(lineage.answers), document)
    return graph


def as_svg(graph: Graph, title: str) -> str:
    """A whole SVG file, which needs no style sheet and no script."""
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + _svg(graph, title) + "\n"


def as_html(graph: Graph, title: str, facts: Sequence[str] = ()) -> str:
    """A whole HTML file with the picture, and lines of text below it."""
    listed = el("ul", *(el("li", fact) for fact in facts)) if facts else None
    return page(
        title,
        el("h1", title),
        section("From what to what", el("div", _svg(graph, title), class_="wide")),
        section("What rests on it", listed) if listed else None,
    )


def _svg(graph: Graph, title: str) -> Markup:
    kinds = [k for k in COLUMNS if any(n.kind == k for n in graph.nodes.values())]
    columns = {k: [key for key, n in graph.nodes.items() if n.kind == k] for k in kinds}
    tallest = max(map(len, columns.values()))
    place = {
        key: (12 + x * _ACROSS, _TOP + (y + (tallest - len(keys)) / 2) * _DOWN)
        for x, keys in enumerate(columns.values())
        for y, key in enumerate(keys)
    }
    width = 24 + (len(kinds) - 1) * _ACROSS + _WIDTH
    height = _TOP + tallest * _DOWN
    heads = [
        _text(12 + x * _ACROSS, 22, kind + ("s" if len(columns[kind]) > 1 else ""), size=13,
              weight="bold")
        for x, kind in enumerate(kinds)
    ]  # fmt: skip
    arrows = [_arrow(place[a], place[b], strong) for (a, b), strong in graph.edges.items()]
    boxes = [_box(place[key], node) for key, node in graph.nodes.items()]
    return el(
        "svg",
        el("title", title),
        el("rect", width=width, height=f"{height:.0f}", fill="#ffffff"),
        *arrows,
        *heads,
        *boxes,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height:.0f}",
        width=f"{width}",
        height=f"{height:.0f}",
        role="img",
        font_family="system-ui, sans-serif",
    )


def _box(at: tuple[float, float], node: Node) -> Markup:
    x, y = at
    colour = PALETTE[COLUMNS.index(node.kind)]
    whole = f"{node.kind} {node.name}" + (f": {node.note}" if node.note else "")
    return el(
        "g",
        el("title", whole),
        el("rect", x=f"{x:.1f}", y=f"{y:.1f}", width=_WIDTH, height=_HEIGHT, rx=5,
           fill="#ffffff", stroke=colour, stroke_width=2.5 if node.strong else 1.2),
        _text(x + 8, y + (16 if node.note else 23), _cut(node.name, _LETTERS), size=12),
        _text(x + 8, y + 31, _cut(node.note, _LETTERS + 3), size=10.5, fill="#555555")
        if node.note
        else None,
    )  # fmt: skip


def _arrow(start: tuple[float, float], end: tuple[float, float], strong: bool) -> Markup:
    x1, y1 = start[0] + _WIDTH, start[1] + _HEIGHT / 2
    x2, y2 = end[0], end[1] + _HEIGHT / 2
    bend = max(24.0, (x2 - x1) / 2)
    return el(
        "path",
        d=f"M{x1:.1f} {y1:.1f}C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}",
        fill="none",
        stroke="#444444" if strong else "#b5b5b5",
        stroke_width=1.8 if strong else 1.0,
    )


def _text(
    x: float, y: float, text: str, *, size: float, weight: str = "normal", fill: str = "#1a1a1a"
) -> Markup:
    return el(
        "text", text, x=f"{x:.1f}", y=f"{y:.1f}", font_size=size, font_weight=weight, fill=fill
    )


def _rest(graph: Graph, kind: str, count: int, other: str, *, before: bool = False) -> None:
    if count <= _MOST:
        return
    key = graph.add(f"more {kind}", Node(kind, f"and {count - _MOST} more"))
    graph.link(*((key, other) if before else (other, key)))


def _tail(source: str) -> str:
    return source.rsplit("/", 1)[-1] or source


def _cut(text: str, length: int) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= length else plain[: length - 1] + "…"
