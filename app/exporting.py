"""A dataset version written for other tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from store.errors import InputError
from store.types import SPLITS, DatasetVersion, InstructionExample

if TYPE_CHECKING:
    from store.store import Store


def export_dataset(
    store: Store,
    version: DatasetVersion,
    *,
    out: Path,
    format: Literal["messages", "rows", "arrow"],
) -> list[Path]:
    """Write every split to ``out``.

    ``messages`` writes ``{"messages": [{"role", "content"}, ...]}`` lines, the form that chat
    trainers read; ``rows`` writes whole rows; ``arrow`` writes what ``datasets.load_from_disk``
    reads, with the messages and the provenance as columns.

    Raises:
        InputError: ``out`` exists and is not an empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"The folder {str(out)!r} is not empty.", hint="Name a new one with --out."
        )
    out.mkdir(parents=True, exist_ok=True)
    if format == "arrow":
        from datasets import Dataset, DatasetDict, disable_progress_bars

        disable_progress_bars()
        splits = {
            split: Dataset.from_list(
                [_flat(row) for row in store.datasets.rows(version.ref, split)]
            )
            for split in SPLITS
            if version.rows.get(split)
        }
        DatasetDict(splits).save_to_disk(str(out))
        return [out / split for split in splits]
    written = []
    for split in SPLITS:
        path = out / f"{split}.jsonl"
        with path.open("w", encoding="utf-8") as handle:
            for row in store.datasets.rows(version.ref, split):
                value = _chat(row) if format == "messages" else row.model_dump(mode="json")
                handle.write(json.dumps(value, ensure_ascii=False) + "\n")
        written.append(path)
    return written


def _chat(row: InstructionExample) -> dict[str, Any]:
    turns = [m.model_dump() for m in row.messages]
    return {"messages": [*turns, {"role": "assistant", "content": row.response}]}


def _flat(row: InstructionExample) -> dict[str, Any]:
    return _chat(row) | {
        "id": row.id,
        "kind": row.kind,
        "question": row.question,
        "answer": row.answer,
        "documents": list(row.documents),
        "chunk_ids": list(row.chunk_ids),
    }
