"""OpenTelemetry spans of an answer: where its time went, and whose request it belongs to.

Only the API is used: without an SDK that the process configures, a span is nothing and costs
nothing. Names and attributes are those of OpenTelemetry's conventions for generative AI where there
are any. Attributes are names, counts and codes; no text of questions, documents or answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import trace

from fti.store.errors import FtiError

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_TRACER = trace.get_tracer("fti")


@contextmanager
def span(name: str, parent: Span | None = None, **attributes: str | int | float) -> Iterator[Span]:
    """A span around a block, which may yield: it never becomes the thread's current span.

    Args:
        name: what is done.
        parent: the span that it is part of; None: the current one, if there is one.
        attributes: with dots written as double underscores.
    """
    context = None if parent is None else trace.set_span_in_context(parent)
    going = _TRACER.start_span(name, context)
    note(going, **attributes)
    try:
        yield going
    except GeneratorExit:
        going.set_attribute("fti.cancelled", True)
        raise
    except BaseException as error:
        kind = error.code if isinstance(error, FtiError) else type(error).__name__
        going.set_attribute("error.type", kind)
        going.set_status(trace.StatusCode.ERROR, kind)  # messages may quote a question
        raise
    finally:
        going.end()


def note(going: Span, **attributes: str | int | float) -> None:
    """Set attributes; dots are written as double underscores."""
    for name, value in attributes.items():
        going.set_attribute(name.replace("__", "."), value)
