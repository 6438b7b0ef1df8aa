"""The report of an evaluation as files: HTML and Markdown for people, JSON for programs.

The JSON has the scores per case, for ``fti evaluate --baseline``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fti.app.reports.evaluation.evaluation_document import MEANINGS, EvaluationDocument, versions
from fti.app.reports.evaluation.evaluation_html import as_html
from fti.app.reports.evaluation.evaluation_markdown import as_markdown
from fti.store.files.atomic import dump_json, write_bytes

_SCORES = (*MEANINGS, "rank", "similarity")


def write_report(document: EvaluationDocument, folder: Path) -> list[Path]:
    """Write report.html, report.md and report.json into a folder, made when needed."""
    files = {
        "report.html": as_html(document).encode("utf-8"),
        "report.md": as_markdown(document).encode("utf-8"),
        "report.json": dump_json(as_json(document)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_bytes(folder / name, data)
    return [folder / name for name in files]


def as_json(document: EvaluationDocument) -> dict[str, Any]:
    """The report as JSON values, with the scores per case that a later run compares with."""
    body = document.found.as_json(several=True)
    return {
        **body,
        "main": document.found.main,
        "slices": [part.model_dump(mode="json") for part in document.slices],
        "worst": [dict(case) for case in document.worst],
        "failed": list(document.failed),
        "versions": versions(document),
        "command": document.command,
        "rows": {
            name: [
                {"id": row["id"], **{s: row[s] for s in _SCORES if row.get(s) is not None}}
                for row in rows
            ]
            for name, rows in document.rows.items()
        },
    }
