"""Records that no document came of, kept as they were given: nothing that was sent is lost.

A file per day (UTC). The ledger has a line per rejected record too; here is the record itself, so
that it can be mended and sent again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath

from fti.store.files.atomic import dump_sealed, open_line
from fti.store.files.layout import Layout
from fti.store.types import Value, now


class Rejected(Value):
    """A record with the reason against it. Bytes that are no UTF-8 stand escaped in ``record``.

    ``question``: it came where questions are asked, not where documents come.
    """

    at: datetime
    stream: str
    position: str
    source: str
    reason: str
    record: str
    question: bool = False


class RejectedLog:
    """Rejected records under the store's root."""

    def __init__(self, layout: Layout) -> None:
        self._storage = layout.storage

    def append(
        self,
        *,
        stream: str,
        position: str,
        source: str,
        reason: str,
        record: bytes,
        question: bool = False,
    ) -> None:
        """Keep one, durably."""
        at = now()
        kept = Rejected(
            at=at,
            stream=stream,
            position=position,
            source=source,
            reason=reason,
            record=record.decode("utf-8", "backslashreplace"),
            question=question,
        )
        line = dump_sealed(kept.model_dump(mode="json"))
        self._storage.append(f"rejected/{at:%Y-%m-%d}.jsonl", [line])

    def list(self) -> Iterator[Rejected]:
        """All there are, oldest first; a line that a crash cut is passed over."""
        for key in self._days():
            for line in self._storage.lines(key):
                try:
                    yield Rejected.model_validate(open_line(line))
                except ValueError:
                    continue

    def broken_lines(self) -> int:
        """How many lines cannot be read."""
        lines = sum(1 for key in self._days() for _ in self._storage.lines(key))
        return lines - sum(1 for _ in self.list())

    def forget(self, source: str) -> int:
        """Remove what was kept of one source; how many there were."""
        count = 0
        for key in self._days():
            count += self._storage.drop_lines(key, lambda line: _source(line) == source)
            if not any(self._storage.lines(key)):
                self._storage.delete(key)
        return count

    def expire_questions(self, before: datetime) -> int:
        """Remove questions of the days (UTC) that ended before then; how many there were."""
        first = f"{before.astimezone(UTC):%Y-%m-%d}"
        return sum(
            self._storage.drop_lines(key, _is_question)
            for key in self._days()
            if PurePosixPath(key).stem < first
        )

    def _days(self) -> Sequence[str]:
        return self._storage.find("rejected/????-??-??.jsonl")


def _is_question(line: bytes) -> bool:
    try:
        return bool(open_line(line).get("question"))
    except (ValueError, AttributeError):
        return False


def _source(line: bytes) -> str:
    try:
        return str(open_line(line)["source"])
    except (ValueError, KeyError, TypeError):
        return ""
