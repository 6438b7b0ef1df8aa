"""HTML to Markdown: the main content with its headings, lists, tables and code.

Page furniture is left out: what the page itself marks as navigation, banner, sidebar, form or
hidden. Where a page marks no main content, trafilatura is asked what the content is, and the
smallest element that holds it is rendered here, since its own output drops blank lines in code.
Of a footer only what tells how to reach someone is kept.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fti.pipelines.feature.reading.cleaning import clean, clean_line
from fti.pipelines.feature.reading.readers.base import Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.charsets import decode, silenced
from fti.pipelines.feature.reading.readers.plain import encoding_fact
from fti.store.errors import ExtractionError

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

_DECLARED = re.compile(rb"<(?:meta|\?xml)[^>]*?(?:charset|encoding)\s*=\s*[\"']?([\w-]+)", re.I)
_DECLARATION_BYTES = 4096

_NO_TEXT = frozenset(
    {"script", "style", "noscript", "template", "iframe", "object", "embed", "applet", "svg"}
    | {"canvas", "audio", "video", "map", "head", "button", "input", "select", "textarea"}
    | {"datalist", "dialog", "nav", "menu"}
)
_FURNITURE_ROLES = ("navigation", "search", "menu", "menubar", "dialog", "alertdialog", "toolbar")
_FURNITURE = frozenset(
    {"headerlink", "anchor-link", "header-anchor", "skip-link", "breadcrumb", "breadcrumbs"}
    | {"mw-editsection", "mw-jump-link", "navbox", "catlinks", "printfooter"}
)
_CONTROLS = ("a", "form", "label", "li")
# A telephone number, a mail address or opening hours: what often stands in a footer alone.
_CONTACT = re.compile(r"\(?\d[\d\s()./-]{7,}\d|\w@\w|\d{1,2}[:.]\d{2}\s*[-–]\s*\d{1,2}[:.]\d{2}")
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_BLOCKS = frozenset(
    {"address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details"}
    | {"div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hgroup"}
    | {"hr", "html", "legend", "li", "main", "ol", "p", "pre", "section", "summary", "table"}
    | {"tbody", "td", "tfoot", "th", "thead", "tr", "ul", *_HEADINGS}
)
_CODE = frozenset({"code", "kbd", "samp", "tt"})
_LANGUAGE = re.compile(r"(?:language|lang|highlight|brush:?)[-:\s]+(\w[\w+#-]*)")
_TEX_STYLE = re.compile(r"^\{\\(?:displaystyle|textstyle) (.*)\}$")
_MATH_IMAGE = re.compile(r"math|tex|equation", re.IGNORECASE)
_SPACE = re.compile(r"[^\S\n]+")
_NOT_LETTERS = re.compile(r"[\W_]+")

_MIN_MAIN_CHARACTERS = 200
_LINKS_SHARE = 0.5  # a paragraph of a footer with more of its text in links is navigation
_PROBE_CHARACTERS = 30
_HELD_SHARE = 0.95
_MIN_FOUND_SHARE = 0.25
_MAX_PROBES = 200
_MAX_DEPTH = 200


def read_html(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """The main content of a page as Markdown."""
    return [render_html(data, config)]


def render_html(
    data: bytes, config: SourcesConfig, *, whole: bool = False, declared: str = ""
) -> Extracted:
    """As ``read_html``.

    Args:
        data: the page.
        config: how long its text may be.
        whole: take all of the body for content, as the chapter of a book or a mail is.
        declared: the encoding that came with the page; without it the page's own word counts.
    """
    from bs4 import BeautifulSoup

    if not declared and (found := _DECLARED.search(data[:_DECLARATION_BYTES])):
        declared = found[1].decode("ascii")
    markup, encoding = decode(data, declared=declared)
    if not markup.strip():
        return Extracted("", empty_reason="nothing but white space")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # XHTML is read as HTML, which is what is meant
        soup = BeautifulSoup(markup, "lxml")
    title = clean_line(soup.title.get_text()) if soup.title else ""
    root_tag = soup.find("html")
    author = soup.find("meta", attrs={"name": "author"})
    metadata = facts(
        author=author.get("content") if author else "",
        language=root_tag.get("lang") if root_tag else "",
    )
    if _depth(soup) > _MAX_DEPTH:  # no page is written so: the words without their structure
        parts, text = [], soup.get_text("\n")
    else:
        _keep_formulas(soup)
        _drop_furniture(soup)
        parts = [soup.body or soup] if whole else _content(soup, markup)
        markdown = _Markdown(soup)
        text = "\n\n".join(block for part in parts for block in markdown.blocks(part))
    if len(text) > config.max_unpacked_bytes:
        raise ExtractionError(f"the text is longer than {config.max_unpacked_bytes} characters")
    first = next((h for part in parts for h in part.find_all("h1", limit=1)), None)
    heading = clean_line(_inline(first)) if first else ""
    # "Firing the kilns | Larkfield Workshop" over a page headed "Firing the kilns"
    best = heading if heading and heading.casefold() in title.casefold() else title or heading
    return Extracted(
        text,
        title=best,
        metadata=metadata | encoding_fact(encoding),
        empty_reason="no text on the page",
    )


def _depth(soup: BeautifulSoup) -> int:
    depths = {id(soup): 0}
    for element in soup.find_all(True):  # parents come before their children
        depths[id(element)] = depths[id(element.parent)] + 1
    return max(depths.values())


def _keep_formulas(soup: BeautifulSoup) -> None:
    """Replace each formula by its source text: its parts in a row would say something else."""
    for math in soup.find_all("math"):
        source = math.find("annotation", attrs={"encoding": "application/x-tex"})
        text = math.get("alttext") or (source.get_text() if source else math.get_text(" "))
        text = _TEX_STYLE.sub(r"\1", clean_line(str(text), max_characters=2000))
        wrapper = math.find_parent(class_="mwe-math-element")
        (wrapper or math).replace_with(f" ${text}$ " if text else " ")
    for image in soup.find_all("img"):
        classes = " ".join(_classes(image))
        alt = clean_line(str(image.get("alt") or ""))
        image.replace_with(f" {alt} " if alt and _MATH_IMAGE.search(classes) else " ")


def _drop_furniture(soup: BeautifulSoup) -> None:
    from bs4 import Comment, Doctype, ProcessingInstruction

    notes = (Comment, Doctype, ProcessingInstruction)
    for note in soup.find_all(string=lambda found: isinstance(found, notes)):
        note.extract()
    doomed = []
    for element in soup.find_all(True):
        classes = _classes(element)
        if (
            element.name in _NO_TEXT
            or element.get("role") in _FURNITURE_ROLES
            or any(name in _FURNITURE for name in classes)
            or (_is_hidden(element, classes) and element.find(_CONTROLS))
        ):
            doomed.append(element)
    for element in soup.find_all(["header", "footer", "aside"]):
        if element.find_parent(["main", "article"]):
            continue
        if element.name == "header":
            titles = element.find_all(_HEADINGS)
            element.clear()
            element.extend(titles)
        elif element.name == "footer" and _CONTACT.search(element.get_text(" ")):
            paragraphs = element.find_all(["p", "li", "div"])
            doomed += [p for p in paragraphs if _links_share(p) > _LINKS_SHARE]
        else:
            doomed.append(element)
    for element in doomed:
        if element.name not in ("html", "body"):
            element.extract()


def _classes(element: Tag) -> list[str]:
    return [name for name in element.get_attribute_list("class") if name]


def _is_hidden(element: Tag, classes: Sequence[str]) -> bool:
    """Hidden as long as nobody asks: plain text in it is content, anything to press is not."""
    style = str(element.get("style") or "")
    return element.has_attr("hidden") or "noprint" in classes or bool(_HIDDEN.search(style))


def _links_share(element: Tag) -> float:
    words = len(_letters(element.get_text()))
    return sum(len(_letters(a.get_text())) for a in element.find_all("a")) / max(words, 1)


def _letters(text: str) -> str:
    return _NOT_LETTERS.sub("", text)


def _content(soup: BeautifulSoup, markup: str) -> list[Tag]:
    """The elements to render, in order: the content, then footers that say something."""
    body = soup.body or soup
    whole = len(_letters(body.get_text()))
    found = soup.find_all("main") or soup.select('[role="main"]') or soup.find_all("article")
    marked = [m for m in found if not m.find_parent(["main", "article"])]
    size = sum(len(_letters(m.get_text())) for m in marked)
    if not marked or size < min(_MIN_MAIN_CHARACTERS, whole // 2):
        marked = [_found_by_trafilatura(body, markup)]
    if not any(m.find("h1") or m.name == "h1" for m in marked):
        title = body.find("h1")
        marked = [title, *marked] if title else marked
    inside = {id(m) for m in marked}  # by identity: elements that look alike count as equal
    footers = [
        f
        for f in body.find_all("footer")
        if inside.isdisjoint({id(f), *(id(parent) for parent in f.parents)})
    ]
    return [*marked, *footers]


def _found_by_trafilatura(body: Tag, markup: str) -> Tag:
    """The smallest element that holds what trafilatura takes for the content.

    All of the body where trafilatura finds little: on short pages it often does.
    """
    import trafilatura
    from lxml.etree import LxmlError

    with silenced("trafilatura"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = trafilatura.extract(markup, favor_recall=True, include_tables=True) or ""
        except (LxmlError, ValueError, TypeError, AttributeError, LookupError, RecursionError):
            return body  # it runs into its own assumptions on strange markup; ours are fewer
    probes = [_letters(line) for line in found.split("\n")]
    within = _letters(body.get_text())
    probes = [p for p in probes if len(p) >= _PROBE_CHARACTERS]
    if sum(map(len, probes)) < _MIN_FOUND_SHARE * len(within):
        return body
    probes = [p for p in probes[:: len(probes) // _MAX_PROBES + 1] if p in within]
    total = sum(map(len, probes))
    element = body
    while True:
        for child in element.find_all(True, recursive=False):
            text = _letters(child.get_text())
            if sum(len(p) for p in probes if p in text) >= _HELD_SHARE * total:
                element = child
                break
        else:
            return element


class _Markdown:
    """Renders elements of one page as Markdown."""

    def __init__(self, soup: BeautifulSoup) -> None:
        # Elements with a block somewhere inside, found once: asking each takes quadratic time.
        self._holders: set[int] = set()
        for element in soup.find_all(_BLOCKS):
            for parent in element.parents:
                if id(parent) in self._holders:
                    break
                self._holders.add(id(parent))

    def blocks(self, element: Tag) -> Iterator[str]:
        """The element as blocks: what blank lines separate."""
        if element.name in _HEADINGS:
            if text := clean_line(_inline(element), max_characters=1000):
                yield f"{'#' * int(element.name[1])} {text}"
        elif element.name == "pre":
            yield from _code(element)
        elif element.name in ("ul", "ol"):
            yield from self._list(element)
        elif element.name == "dl":
            yield from self._definitions(element)
        elif element.name == "table":
            yield from self._table(element)
        elif element.name == "blockquote":
            for block in self._below(element):
                yield "\n".join(f"> {line}".rstrip() for line in block.split("\n"))
        elif element.name != "hr":
            yield from self._below(element)

    def _below(self, element: Tag) -> Iterator[str]:
        """Children that are blocks one by one; runs of text between them as paragraphs."""
        from bs4 import Tag

        run: list[str] = []
        for child in element.children:
            if isinstance(child, Tag) and (child.name in _BLOCKS or id(child) in self._holders):
                yield from _paragraph(run)
                run = []
                yield from self.blocks(child)
            else:
                run.append(_inline(child) if isinstance(child, Tag) else _text(str(child)))
        yield from _paragraph(run)

    def _list(self, element: Tag) -> Iterator[str]:
        """Items on consecutive lines; one with a heading of its own is a section, not an item."""
        items: list[str] = []
        for number, item in enumerate(element.find_all("li", recursive=False), start=1):
            if item.find(_HEADINGS):
                if items:
                    yield "\n".join(items)
                    items = []
                yield from self._below(item)
                continue
            blocks = list(self._below(item))
            if not blocks:
                continue
            marker = f"{number}. " if element.name == "ol" else "- "
            indent = " " * len(marker)
            # A nested list follows its item at once; other blocks keep their blank line.
            text = blocks[0]
            for block in blocks[1:]:
                nested = re.match(r"(?:- |\d+\. )", block)
                text += f"\n{block}" if nested else f"\n\n{block}"
            lines = text.split("\n")
            items.append(
                "\n".join([marker + lines[0], *((indent + ln if ln else "") for ln in lines[1:])])
            )
        if items:
            yield "\n".join(items)

    def _definitions(self, element: Tag) -> Iterator[str]:
        term = ""
        for child in element.find_all(["dt", "dd"]):
            if child.find_parent("dl") is not element:
                continue  # of a list inside, rendered with its definition
            if child.name == "dt":
                if term:
                    yield term
                term = clean_line(_inline(child), max_characters=1000)
                continue
            blocks = list(self._below(child))
            if term and len(blocks) == 1 and "\n" not in blocks[0]:
                yield f"{term}: {blocks[0]}"
            else:
                yield from filter(None, [term, *blocks])
            term = ""
        if term:
            yield term

    def _table(self, element: Tag) -> Iterator[str]:
        """A data table as rows of ``| a | b |``; one that only lays out the page as its content."""
        if element.find("table") or (
            not element.find("th") and element.find([*_HEADINGS, "pre", "ul", "ol", "article"])
        ):
            for cell in element.find_all(["td", "th", "caption"]):
                if cell.find_parent("table") is element:
                    yield from self._below(cell)
            return
        caption = element.find("caption")
        if caption and (text := clean_line(_inline(caption), max_characters=1000)):
            yield text
        rows = []
        for row in element.find_all("tr"):
            cells = [
                " ".join(" ".join(self._below(cell)).split())
                for cell in row.find_all(["td", "th"], recursive=False)
            ]
            if any(cells):
                rows.append(cells)
        width = max(map(len, rows), default=0)
        used = [i for i in range(width) if any(i < len(row) and row[i] for row in rows)]
        if len(used) == 1:  # one column: a box around text
            yield from (row[used[0]] for row in rows if used[0] < len(row) and row[used[0]])
        elif rows:
            kept = [[row[i] if i < len(row) else "" for i in used] for row in rows]
            rendered = [f"| {' | '.join(row)} |" for row in kept]
            rendered.insert(1, f"|{' --- |' * len(used)}")
            yield "\n".join(rendered)


def _paragraph(run: Sequence[str]) -> Iterator[str]:
    """The run as a paragraph; two line breaks in a row make it two."""
    lines = [_SPACE.sub(" ", line).strip() for line in "".join(run).split("\n")]
    for paragraph in "\n".join(lines).split("\n\n"):
        if text := paragraph.strip():
            yield text


def _text(text: str) -> str:
    return " ".join(f"x{text}x".split())[1:-1]  # edges keep one space where they had any


def _inline(element: Tag) -> str:
    """The text of an element; code in backticks, line breaks as such, emphasis without marks."""
    from bs4 import Tag

    if element.name == "br":
        return "\n"
    parts = [_inline(c) if isinstance(c, Tag) else _text(str(c)) for c in element.children]
    text = "".join(parts)
    if element.name in _CODE and text.strip() and "`" not in text and "\n" not in text:
        return f"`{text.strip()}`"
    return text


def _code(element: Tag) -> Iterator[str]:
    for br in element.find_all("br"):
        br.replace_with("\n")
    code = clean(element.get_text())
    if not code.strip():
        return
    tags = [element, *element.find_all("code"), *element.parents][:4]
    classes = " ".join(name for tag in tags for name in _classes(tag))
    language = _LANGUAGE.search(classes)
    fence = "```"
    while fence in code:
        fence += "`"
    yield f"{fence}{language[1] if language else ''}\n{code}\n{fence}"
