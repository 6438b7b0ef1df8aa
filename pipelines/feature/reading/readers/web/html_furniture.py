"""What a page marks as no part of its text: navigation, banners, sidebars, controls.

Elements are emptied rather than taken out: taking one out of its parent searches all that stands
before it, which on a page of a hundred thousand scripts takes minutes.

Buttons are controls, except where they carry the words that a reader needs: the question over a
panel that opens, the name of a tab, the heading of a column.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from fti.pipelines.feature.reading.readers.web.html_blocks import BLOCKS, HEADINGS, class_names
from fti.pipelines.feature.reading.readers.web.html_content import letters, links_share
from fti.store.plain_text import clean_line

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

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
_NOTES = frozenset({"note", "tip", "warning", "caution", "important", "admonition", "callout"})
# A telephone number, a mail address or opening hours: what often stands in a footer alone.
_CONTACT = re.compile(
    r"\(?\d[\d\s()./-]{7,}\d|\w@\w"
    r"|\d{1,2}(?:[:.]\d{2})?\s*(?:[-–]|to|bis|à)\s*\d{1,2}[:.]\d{2}"
)
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_LABELLED = (*HEADINGS, "dt", "summary", "th", "caption", "legend")
_OPENER = re.compile(r"accordion|collaps|expand|toggle|faq|disclosure", re.IGNORECASE)
_TOGGLES = ("tab", "pill", "collapse")
_BLOCKS = sorted(BLOCKS)
_SURROUNDINGS = frozenset({"header", "footer", "aside"})
_MAX_BANNER_HEADINGS = 2
_LINKS_SHARE = 0.5  # with more of its text in links, a block is navigation
_MENU_SHARE = 0.8  # and so a panel that its heading opens
_MAX_READINGS = 20  # how many times the length of a page is read to judge its hidden blocks


def drop_furniture(soup: BeautifulSoup, elements: Sequence[Tag], *, whole: bool = False) -> None:
    """Empty what is no text of the page.

    Args:
        soup: the page, changed in place.
        elements: all of its elements.
        whole: the page is all content, as the chapter of a book is: its asides are notes.
    """
    for element in elements:
        if element.attrs.get("role") == "heading" and element.name not in HEADINGS:
            level = str(element.get("aria-level") or "")
            element.name = f"h{level}" if level in tuple("123456") else "h2"
    opened = _keep_labels(soup, elements)
    doomed = [element for element in elements if _is_marked(element) or _is_deleted(element)]
    doomed += _hidden_navigation(soup, elements, opened)
    if not whole:
        for element in elements:
            if element.name in _SURROUNDINGS:
                doomed += _surroundings(element)
    for element in doomed:
        if element.name not in ("html", "body"):
            element.clear()


def _is_marked(element: Tag) -> bool:
    if element.name in _NO_TEXT:
        return True
    attributes = element.attrs
    if not attributes:
        return False
    return (
        attributes.get("role") in _FURNITURE_ROLES
        or attributes.get("id") in _FURNITURE
        or ("class" in attributes and not _FURNITURE.isdisjoint(class_names(element)))
    )


def _is_deleted(element: Tag) -> bool:
    """Whether a page says that words are out of it, such as the price before a sale.

    One that holds blocks is not closed, mostly: then all that follows would be in it.
    """
    return element.name == "del" and element.find(_BLOCKS) is None


def _hidden_navigation(
    soup: BeautifulSoup, elements: Sequence[Tag], opened: Collection[int]
) -> Iterator[Tag]:
    """Hidden blocks that are mostly links: menus. Others wait for a click and are content.

    Args:
        opened: ids of panels below a heading that opens them: short answers are half links.
    """
    budget = -1
    for element in elements:
        if not element.attrs or not _is_hidden(element):
            continue
        if budget < 0:
            budget = _MAX_READINGS * len(soup.get_text())
        budget -= len(element.get_text())
        if budget < 0:
            return
        if links_share(element) > (_MENU_SHARE if id(element) in opened else _LINKS_SHARE):
            yield element


def _is_hidden(element: Tag) -> bool:
    style = element.attrs.get("style")
    if "hidden" in element.attrs or (style and _HIDDEN.search(str(style))):
        return True
    return "noprint" in class_names(element)


def _surroundings(element: Tag) -> Iterator[Tag]:
    """Of a banner, a footer or a sidebar, what says nothing about the page or whose it is."""
    inside = {parent.name for parent in element.parents}
    if not inside.isdisjoint(("main", "article", *_SURROUNDINGS)):
        return  # a part of the text, or of what was judged with all that it holds
    if element.name == "header":
        if "section" in inside:  # the head of a part of the text
            return
        titles = element.find_all("h1") or element.find_all(HEADINGS)
        kept = titles if len(titles) <= _MAX_BANNER_HEADINGS else []
        lines = [p for p in element.find_all(["p", "li", "div", "address"]) if _tells_contact(p)]
        element.clear()
        element.extend([*kept, *lines])
        return
    if element.name == "aside":
        role = str(element.get("role") or "")
        if role == "note" or role.startswith("doc-") or not _NOTES.isdisjoint(class_names(element)):
            return
    if _CONTACT.search(element.get_text(" ")):
        for part in element.find_all(["p", "li", "div"]):
            if links_share(part) > _LINKS_SHARE:
                yield part
    else:
        yield element


def _tells_contact(element: Tag) -> bool:
    return (
        element.find(["p", "li", "div"]) is None
        and bool(_CONTACT.search(element.get_text(" ")))
        and links_share(element) <= _LINKS_SHARE
    )


def _keep_labels(soup: BeautifulSoup, elements: Sequence[Tag]) -> set[int]:
    """Let the words of a button stand where they are a heading or name a panel of text.

    Returns the ids of the panels that headings open.
    """
    buttons = [e for e in elements if e.name == "button" or _toggle(e) in _TOGGLES]
    opened: set[int] = set()
    if not buttons:
        return opened
    panels = _Panels(elements)
    sizes: dict[int, int] = {}
    named: set[int] = set()
    for button in buttons:
        label = clean_line(button.get_text(" "))
        if not label:
            continue
        host = button.find_parent(_LABELLED)
        if host is not None:
            if (panel := panels.named_by(button)) is not None:
                opened.add(id(panel))
            if button.name == "button":
                if id(host) not in sizes:
                    sizes[id(host)] = len(letters(host.get_text()))
                if 2 * len(letters(label)) >= sizes[id(host)]:
                    button.name = "span"
        elif (panel := panels.of(button)) is not None:
            if _is_tab(button):  # its name stands far from it, in a row of names
                if id(panel) in named:
                    continue
                named.add(id(panel))
                button.clear()
                if not clean_line(panel.get_text(" "), max_characters=len(label)).startswith(label):
                    title = soup.new_tag("p")
                    title.string = label
                    panel.insert(0, title)
            elif button.name == "button":
                button.name = "p"
    return opened


def _toggle(element: Tag) -> str:
    if element.get("role") == "tab":
        return "tab"
    return str(element.get("data-bs-toggle") or element.get("data-toggle") or "")


def _is_tab(element: Tag) -> bool:
    return _toggle(element) in ("tab", "pill")


class _Panels:
    """The blocks of text that buttons open."""

    def __init__(self, elements: Sequence[Tag]) -> None:
        self._by_id = {str(e["id"]): e for e in elements if e.get("id")}
        self._is_text: dict[int, bool] = {}

    def named_by(self, button: Tag) -> Tag | None:
        """The panel whose id a button gives, whatever it holds."""
        for attribute in ("aria-controls", "data-bs-target", "data-target", "href"):
            panel = self._by_id.get(str(button.get(attribute) or "").removeprefix("#"))
            if panel is not None:
                return panel
        return None

    def of(self, button: Tag) -> Tag | None:
        """The panel that a button names, or that follows one made to open something."""
        named = self.named_by(button)
        if named is not None:
            return named if self._holds_text(named) else None
        opens = button.has_attr("aria-expanded") or any(map(_OPENER.search, class_names(button)))
        if not opens:
            return None
        panel = button.find_next_sibling(True)
        if panel is None and button.parent is not None:
            panel = button.parent.find_next_sibling(True)
        return panel if panel is not None and self._holds_text(panel) else None

    def _holds_text(self, panel: Tag) -> bool:
        if id(panel) not in self._is_text:
            self._is_text[id(panel)] = (
                not _is_marked(panel)
                and bool(letters(panel.get_text()))
                and panel.find(["nav", "form"]) is None
                and links_share(panel) <= _LINKS_SHARE
            )
        return self._is_text[id(panel)]
