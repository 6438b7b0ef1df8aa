"""The pages: static files that hold no data, so that everybody may load them without a key.

What they show they ask of the API, with the key that a person gave them.
"""

from __future__ import annotations

from pathlib import Path

WEB = Path(__file__).parent.parent.parent / "web"

PAGES = {
    "/": "index.html",
    "/docs": "docs.html",
    "/registry": "registry.html",
    "/monitoring": "monitoring.html",
}
"""Paths and the files behind them."""

SOURCES = "/v1/sources/"
"""Where a citation's link leads: a page for browsers, JSON for programs."""


def is_open(path: str, method: str, accept: str) -> bool:
    """Whether a request can only be answered with a static file, or whether we are alive."""
    return (
        path in PAGES
        or path in ("/healthz", "/readyz")
        or path.startswith("/static/")
        or (method == "GET" and path.startswith(SOURCES) and wants_page(accept))
    )


def wants_page(accept: str) -> bool:
    """Whether a browser asks for something to show to a person."""
    return "text/html" in accept
