"""Records that no document came of, kept as they were given: nothing that was sent is lost.

A file per day (UTC). The ledger has a line per rejected record too; here is the record itself, so
that it can be mended and sent again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from fti.store.files.atomic import (
    append_line,
    blank_lines,
    dump_sealed,
    iter_lines,
    open_line,
    write_bytes,
)
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
        self._root = layout.rejected

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
        append_line(self._root / f"{at:%Y-%m-%d}.jsonl", dump_sealed(kept.model_dump(mode="json")))

    def list(self) -> Iterator[Rejected]:
        """All there are, oldest first; a line that a crash cut is passed over."""
        for path in self._days():
            for line in iter_lines(path):
                try:
                    yield Rejected.model_validate(open_line(line))
                except ValueError:
                    continue

    def broken_lines(self) -> int:
        """How many lines cannot be read."""
        lines = sum(1 for path in self._days() for _ in iter_lines(path))
        return lines - sum(1 for _ in self.list())

    def forget(self, source: str) -> int:
        """Remove what was kept of one source; how many there were."""
        count = 0
        for path in self._days():
            lines = list(iter_lines(path))
            kept = [line for line in lines if _source(line) != source]
            count += len(lines) - len(kept)
            if not kept:
                path.unlink()
            elif len(kept) < len(lines):
                write_bytes(path, b"".join(line + b"\n" for line in kept))
        return count

    def expire_questions(self, before: datetime) -> int:
        """Remove questions of the days (UTC) that ended before then; how many there were."""
        first = f"{before.astimezone(UTC):%Y-%m-%d}"
        return sum(blank_lines(path, _is_question) for path in self._days() if path.stem < first)

    def _days(self) -> Sequence[Path]:
        return sorted(self._root.glob("????-??-??.jsonl"))


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
