"""XML without a schema: its texts, each with the name of its element where that says something."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fti.pipelines.feature.reading.readers.base import Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.markdown import heading, join_blocks
from fti.pipelines.feature.reading.readers.web.html import read_html
from fti.store.errors import ExtractionError
from fti.store.plain_text import clean, clean_line

_MAX_DEPTH = 200
_TITLES = frozenset({"title", "head", "heading", "subject"})
# Elements that are prose: their names say nothing that a reader wants to hear.
_PROSE = frozenset(
    {"p", "para", "simpara", "paragraph", "text", "line", "l", "li", "listitem", "abstract", "body"}
    | {"content", "verse", "v", "td", "th", "entry", "cell", "pre", "programlisting", "screen"}
)


def parse_xml(data: bytes) -> Any:
    """The root element. Entities stay as they are, nothing outside is looked up.

    Raises:
        ExtractionError: not well-formed.
    """
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        reason = clean_line(str(error), max_characters=150)
        raise ExtractionError(f"the XML is not well-formed: {reason}") from error
    if root is None:
        raise ExtractionError("the XML has no element")
    return root


def local_name(element: Any) -> str:
    """The element's name without its namespace; empty for an entity."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def text_of(element: Any) -> str:
    """All text below an element in order; where an entity stands there is nothing."""
    parts = [element.text or ""]
    for child in element:  # libxml2 takes at most 256 levels, so this ends
        if isinstance(child.tag, str):
            parts.append(text_of(child))
        parts.append(child.tail or "")
    return "".join(parts)


def read_xml(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """The texts of all elements in document order; XHTML is read as HTML.

    An element that holds only text becomes ``name: text``, records of several such elements
    paragraphs, a title the heading of what it stands in. Attributes count where no element has
    any text.

    Raises:
        ExtractionError: not well-formed, or nested beyond reason.
    """
    if not data.strip():
        return [Extracted("", empty_reason="nothing but white space")]
    root = parse_xml(data)
    name = local_name(root)
    if name.lower() == "html":
        return read_html(data, config)
    blocks = list(_blocks(root, 0))
    if not blocks:
        blocks = [
            f"{local_name(element)}.{key.rpartition('}')[2]}: {clean_line(value)}"
            for element in root.iter("*")
            for key, value in element.attrib.items()
            if value.strip()
        ]
    title = blocks[0].lstrip("#").strip() if blocks and blocks[0].startswith("#") else ""
    return [
        Extracted(
            join_blocks(blocks),
            title=title,
            metadata=facts(root=name, language=_language(root)),
            empty_reason="no text in its elements",
        )
    ]


def _language(root: Any) -> str:
    return root.get("{http://www.w3.org/XML/1998/namespace}lang") or ""


def _blocks(element: Any, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise ExtractionError(f"the XML is nested deeper than {_MAX_DEPTH} elements")
    if _is_leaf(element) or _is_mixed(element):
        yield from filter(None, [_leaf(element, depth)])
        return
    run: list[str] = []
    for child in element.iterchildren("*"):
        is_title = local_name(child).lower() in _TITLES
        if _is_leaf(child) and not is_title and local_name(child).lower() not in _PROSE:
            if text := _leaf(child, depth + 1):
                run.append(text)
            continue
        if run:
            yield "\n".join(run)
            run = []
        yield from _blocks(child, depth + 1)
    if run:
        yield "\n".join(run)


def _is_leaf(element: Any) -> bool:
    return next(element.iterchildren("*"), None) is None


def _is_mixed(element: Any) -> bool:
    """Whether words stand between its elements: prose with marks in it."""
    if (element.text or "").strip():
        return True
    return any((child.tail or "").strip() for child in element)


def _leaf(element: Any, depth: int) -> str:
    text = clean(text_of(element)).strip()
    name = local_name(element)
    if not text:
        return ""
    if name.lower() in _TITLES and "\n\n" not in text:
        return heading(max(depth, 1), text)
    if name.lower() in _PROSE or (_is_mixed(element) and not _is_leaf(element)):
        return text
    return f"{name}: {clean_line(text, max_characters=len(text) + 1)}"
