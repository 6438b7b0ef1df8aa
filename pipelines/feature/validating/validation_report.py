"""What a validation found, as values."""

from __future__ import annotations

from datetime import datetime

from fti.pipelines.feature.validating.expectations import FrameName
from fti.store.types import Value


class Example(Value):
    """A document, a chunk's document or a collection that breaks an expectation, and its value."""

    source: str
    value: str


class Finding(Value):
    """An expectation that something breaks.

    ``rows`` of ``of`` break it; ``broken``: more than are tolerated. ``column`` is empty where the
    frame as a whole is meant.
    """

    collection: str
    frame: FrameName
    column: str
    check: str
    rows: int
    of: int
    tolerated: float
    broken: bool
    examples: tuple[Example, ...] = ()

    @property
    def share(self) -> float:
        """What part of the rows breaks it."""
        return self.rows / self.of if self.of else 1.0


class ValidationReport(Value):
    """A whole validation.

    ``expectations`` counts what was expected: types and checks of columns, by collection and frame.
    ``broken`` counts the findings that are more than tolerated; ``warnings`` are those of checks
    that pandera was told to warn of only.
    """

    at: datetime
    features_version: int
    documents: int
    chunks: int
    expectations: int
    broken: int
    findings: tuple[Finding, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    run: str = ""
