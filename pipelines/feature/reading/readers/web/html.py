"""HTML to Markdown: the main content with its headings, lists, tables and code.

Page furniture is left out: what the page itself marks as navigation, banner, sidebar or form
(``html_furniture``), and where it marks no main content, what surrounds it (``html_content``).
What is hidden until someone clicks is content, as the panels of questions and answers are.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fti.pipelines.feature.reading.readers.base import Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.charsets import decode
from fti.pipelines.feature.reading.readers.plain import encoding_fact
from fti.pipelines.feature.reading.readers.web.html_blocks import Markdown, class_names, inline
from fti.pipelines.feature.reading.readers.web.html_content import content
from fti.pipelines.feature.reading.readers.web.html_furniture import drop_furniture
from fti.pipelines.feature.reading.readers.web.html_scripts import keep_scripts
from fti.store.errors import ExtractionError
from fti.store.plain_text import clean_line

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

_DECLARED = re.compile(rb"<(?:meta|\?xml)[^>]*?(?:charset|encoding)\s*=\s*[\"']?([\w-]+)", re.I)
_DECLARATION_BYTES = 4096
_TEX_STYLE = re.compile(r"^\{\\(?:displaystyle|textstyle) (.*)\}$")
_MATH_IMAGE = re.compile(r"math|tex|equation", re.IGNORECASE)
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
        soup = BeautifulSoup(markup, "lxml", multi_valued_attributes=None)
    title = clean_line(soup.title.get_text()) if soup.title else ""
    root_tag = soup.find("html")
    author = soup.find("meta", attrs={"name": "author"})
    metadata = facts(
        author=author.get("content") if author else "",
        language=root_tag.get("lang") if root_tag else "",
    )
    elements, depth = _walk(soup)
    if depth > _MAX_DEPTH:  # no page is written so: the words without their structure
        parts, text = [], soup.get_text("\n")
    else:
        _keep_formulas(elements)
        keep_scripts(elements)
        drop_furniture(soup, elements, whole=whole)
        parts = [soup.body or soup] if whole else content(soup.body or soup, markup)
        markdown = Markdown(parts)
        text = "\n\n".join(block for part in parts for block in markdown.blocks(part))
    if len(text) > config.max_unpacked_bytes:
        raise ExtractionError(f"the text is longer than {config.max_unpacked_bytes} characters")
    first = next((h for part in parts for h in part.find_all("h1", limit=1)), None)
    heading = clean_line(inline(first)) if first else ""
    # "Firing the kilns | Larkfield Workshop" over a page headed "Firing the kilns"
    best = heading if heading and heading.casefold() in title.casefold() else title or heading
    return Extracted(
        text,
        title=best,
        metadata=metadata | encoding_fact(encoding),
        empty_reason="no text on the page",
    )


def _walk(soup: BeautifulSoup) -> tuple[list[Tag], int]:
    """All elements in order, and how deep the deepest lies."""
    from bs4 import Tag

    elements = [node for node in soup.descendants if isinstance(node, Tag)]
    depths = {id(soup): 0}
    for element in elements:  # parents come before their children
        depths[id(element)] = depths[id(element.parent)] + 1
    return elements, max(depths.values())


def _keep_formulas(elements: Iterable[Tag]) -> None:
    """Replace each formula by its source text: its parts in a row would say something else."""
    for element in elements:
        if element.name == "img":
            alt = clean_line(str(element.get("alt") or ""))
            of_formula = alt and _MATH_IMAGE.search(str(element.get("class") or ""))
            element.string = f" {alt} " if of_formula else " "
        elif element.name == "math":
            source = element.find("annotation", attrs={"encoding": "application/x-tex"})
            text = element.get("alttext") or (source or element).get_text(" ")
            text = _TEX_STYLE.sub(r"\1", clean_line(str(text), max_characters=2000))
            # Beside it there is a picture that says the same.
            wrappers = (p for p in element.parents if "mwe-math-element" in class_names(p))
            next(wrappers, element).string = f" ${text}$ " if text else " "
