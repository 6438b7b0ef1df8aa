"""Answers for a table of questions, appended to a file line by line; run again to go on.

A line is written durably as soon as its question is answered, so that a run that was killed loses
the question in hand and nothing else. In the end the file has one line per question: what failed is
asked again by the next run, and so is a question whose wording changed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.inference.answer import Assistant
from pipelines.inference.cases import read_jsonl, text_field
from store.atomic import append_line, dump_line, iter_lines, write_bytes, writer_lock
from store.errors import EngineError, FtiError, InputError, InvalidCases
from store.progress import Progress, ProgressEvent, quiet
from store.types import Answer, Value, sha256_hex

if TYPE_CHECKING:
    from store.store import Store


class BatchReport(Value):
    """What a batch did. ``skipped`` questions had their answer in the file already."""

    done: int
    failed: int
    skipped: int
    seconds: float
    run: str


def answer_batch(
    questions: Path | Iterable[Mapping[str, Any]],
    *,
    assistant: Assistant,
    store: Store,
    out: Path,
    progress: Progress = quiet,
) -> BatchReport:
    """Answer every question that ``out`` has no answer to yet.

    Args:
        questions: a JSONL file of ``{"id", "question"}``, or such mappings; other fields are
            ignored.
        assistant: what answers.
        store: the assistant's.
        out: JSONL file that answers are appended to. A question that cannot be answered becomes a
            line with ``error`` and does not end the run.
        progress: told after every question.

    Raises:
        InvalidCases: a line of ``questions`` has no id or question, or repeats an id.
        InputError: ``out`` holds something else than answers.
        StoreLocked: another batch writes to ``out``.
        StoreError: the store or the disk fails; what was answered stays in ``out``.
    """
    started = time.perf_counter()
    asked = _read_questions(questions)
    lock = store.layout.root / "locks" / f"batch-{sha256_hex(str(out.absolute()))[:16]}.lock"
    inputs = {
        "questions": str(questions) if isinstance(questions, Path) else "given",
        "model": assistant.model,
        "contract": assistant.contract.digest,
        "features_version": str(store.features.version()),
    }
    settings = {"inference": assistant.config.model_dump(mode="json")}
    with (
        writer_lock(lock, timeout_s=1.0, what=f"batch into {out}"),
        store.runs.running("batch", inputs=inputs, settings=settings) as run,
    ):
        answered = _answered(out, asked)
        skipped, done, failed = len(answered), 0, 0
        for identity, question in asked.items():
            if identity in answered:
                continue
            try:
                answer = assistant.answer(question, run_id=run.id)
                line = {"id": identity, **_answer_fields(answer)}
                done += 1
            except (InputError, EngineError) as error:
                line = {"id": identity, "question": question, **_error_fields(error, run.id)}
                failed += 1
            append_line(out, dump_line(line))
            progress(
                ProgressEvent("answer", skipped + done + failed, len(asked), question,
                              {"failed": failed} if failed else {})
            )  # fmt: skip
        run.outputs["answers"] = str(out)
        run.metrics.update(done=done, failed=failed, skipped=skipped)
        if failed:
            run.status = "partial"
    return BatchReport(
        done=done,
        failed=failed,
        skipped=skipped,
        seconds=time.perf_counter() - started,
        run=run.id,
    )


def _read_questions(questions: Path | Iterable[Mapping[str, Any]]) -> dict[str, str]:
    if isinstance(questions, Path):
        where, rows = questions, read_jsonl(questions)
    else:
        where = Path("questions")
        rows = ((n, dict(row)) for n, row in enumerate(questions, start=1))
    asked: dict[str, str] = {}
    for line, row in rows:
        identity = text_field(row, "id", where, line)
        if identity in asked:
            raise InvalidCases(
                f"Line {line} of {str(where)!r} repeats the id {identity!r}.",
                hint="Give each question an id of its own: answers are kept by id.",
            )
        # An empty question is this question's failure and becomes a line in the answers.
        question = row.get("question")
        if not isinstance(question, str):
            raise InvalidCases(
                f"Line {line} of {str(where)!r} has the question {question!r}, which is no text.",
                hint='A line reads: {"id": "...", "question": "..."}',
            )
        asked[identity] = question
    return asked


def _answered(out: Path, asked: Mapping[str, str]) -> set[str]:
    """Ids that ``out`` holds a good answer to, after lines to be written anew are taken out."""
    if not out.exists():
        return set()
    kept: list[bytes] = []
    found: set[str] = set()
    raw = out.read_bytes()
    for number, line in enumerate(iter_lines(out), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            if raw.endswith(line) and not raw.endswith(b"\n"):
                break  # a crash cut the last line: its question is asked again
            raise _no_answers(out, number, "is not JSON") from error
        if not isinstance(row, dict) or "id" not in row or not ("answer" in row or "error" in row):
            raise _no_answers(out, number, "is no answer")
        stale = row["id"] in asked and row.get("question", "").strip() != asked[row["id"]].strip()
        if "error" in row or stale or row["id"] in found:
            continue
        kept.append(line + b"\n")
        found.add(row["id"])
    if b"".join(kept) != raw:
        write_bytes(out, b"".join(kept))
    return found & asked.keys()


def _no_answers(out: Path, line: int, what: str) -> InputError:
    return InputError(
        f"Line {line} of {str(out)!r} {what}; the file is left as it is.",
        hint="Name another file with --out, or remove that line.",
    )


def _answer_fields(answer: Answer) -> dict[str, Any]:
    return {
        "question": answer.question,
        "answer": answer.text,
        "abstained": answer.abstained,
        "abstention_reason": answer.abstention_reason,
        "citations": [
            {
                "marker": c.marker,
                "document": c.source,
                "title": c.title,
                "chunk_id": c.chunk_id,
                "quote": c.quote,
                "start": c.start,
                "end": c.end,
            }
            for c in answer.citations
        ],
        "passages": [{"document": p.source, "chunk_id": p.chunk_id} for p in answer.passages],
        "answer_id": answer.id,
        "model": answer.model,
        "contract": answer.contract_digest,
        "features_version": answer.features_version,
        "run": answer.run_id,
        "finish_reason": answer.finish_reason,
        "seconds": answer.timings.get("total_s", 0.0),
    }


def _error_fields(error: FtiError, run_id: str) -> dict[str, Any]:
    return {
        "error": {"code": error.code, "message": error.message, "hint": error.hint},
        "run": run_id,
    }
