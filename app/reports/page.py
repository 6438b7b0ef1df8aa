"""The frame of a report: one file that holds its own style, for the screen and for paper."""

from __future__ import annotations

from pathlib import Path

from fti.app.reports.markup import Markup, el, join

_STYLE = Path(__file__).with_name("report.css")


def page(title: str, *body: object) -> str:
    """A whole HTML document."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        # Nothing in a report may load or run anything, whatever a document's text holds.
        el(
            "meta",
            http_equiv="Content-Security-Policy",
            content="default-src 'none'; style-src 'unsafe-inline'",
        ),
        el("title", title),
        el("style", Markup(_STYLE.read_text("utf-8"))),
    )
    return "<!doctype html>\n" + el("html", head, el("body", join(*body)), lang="en") + "\n"


def card(value: str, label: str, note: str = "") -> Markup:
    """A figure that stands out."""
    return el("div", el("b", value), el("span", label), el("span", note) if note else None,
              class_="card")  # fmt: skip


def section(title: str, *body: object) -> Markup:
    """A part of a report under its heading."""
    return el("section", el("h2", title), *body)
