"""What models said already, so that a killed run goes on where it stopped.

Scores of cases (evaluation), and questions written about passages (datasets). ``results/<digest>.
jsonl`` holds a row per case or passage; the digest stands for everything else that a row depends
on. Rows are a cache: deleting the folder costs time and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from fti.store.files.atomic import append_lines, dump_sealed, iter_lines, open_line
from fti.store.files.layout import Layout
from fti.store.types import sha256_hex


class KeptRows:
    """Rows by case, under one digest. Appending is durable; a torn line is skipped and redone."""

    def __init__(self, layout: Layout, digest: str) -> None:
        self._path = layout.results / f"{digest}.jsonl"
        self._rows: dict[str, dict[str, Any]] = {}
        if self._path.is_file():
            for line in iter_lines(self._path):
                try:
                    kept = open_line(line)
                    self._rows[kept["case"]] = kept["row"]
                except (ValueError, KeyError, TypeError):  # cut off by a crash
                    continue

    def get(self, case: str) -> dict[str, Any] | None:
        """The row of a case, if it is kept."""
        return self._rows.get(case)

    def keep(self, case: str, row: Mapping[str, Any]) -> None:
        """Keep the row of a case."""
        self.keep_all([(case, row)])

    def keep_all(self, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Keep the rows of several cases at once."""
        lines = []
        for case, row in rows:
            self._rows[case] = to_jsonable_python(dict(row), inf_nan_mode="null")
            lines.append(dump_sealed({"case": case, "row": self._rows[case]}))
        if lines:
            append_lines(self._path, lines)


class CaseResults:
    """Kept rows under the store's root."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def under(self, parts: Mapping[str, Any]) -> KeptRows:
        """Rows that were made under these circumstances, given as JSON values."""
        plain = to_jsonable_python(dict(parts))
        return KeptRows(self._layout, sha256_hex(json.dumps(plain, sort_keys=True)))
