"""Scores of cases that were asked already, so that a killed evaluation goes on where it stopped.

``results/<digest>.jsonl`` holds a row per case; the digest stands for everything that a score
depends on besides the case. Rows are a cache: deleting the folder costs time and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from store.atomic import append_line, dump_line, iter_lines
from store.layout import Layout
from store.types import sha256_hex


class KeptRows:
    """Rows by case, under one digest. Appending is durable; a torn line is skipped and redone."""

    def __init__(self, layout: Layout, digest: str) -> None:
        self._path = layout.results / f"{digest}.jsonl"
        self._rows: dict[str, dict[str, Any]] = {}
        if self._path.is_file():
            for line in iter_lines(self._path):
                try:
                    kept = json.loads(line)
                    self._rows[kept["case"]] = kept["row"]
                except (ValueError, KeyError, TypeError):  # cut off by a crash
                    continue

    def get(self, case: str) -> dict[str, Any] | None:
        """The row of a case, if it is kept."""
        return self._rows.get(case)

    def keep(self, case: str, row: Mapping[str, Any]) -> None:
        """Keep the row of a case."""
        plain = to_jsonable_python(dict(row), inf_nan_mode="null")
        self._rows[case] = plain
        append_line(self._path, dump_line({"case": case, "row": plain}))


class CaseResults:
    """Kept rows under the store's root."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def under(self, parts: Mapping[str, Any]) -> KeptRows:
        """Rows that were made under these circumstances, given as JSON values."""
        plain = to_jsonable_python(dict(parts))
        return KeptRows(self._layout, sha256_hex(json.dumps(plain, sort_keys=True)))
