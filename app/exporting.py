"""Dataset and model versions written for other tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from store.atomic import staged_folder
from store.errors import ContractError, InputError
from store.types import SPLITS, DatasetVersion, InstructionExample

if TYPE_CHECKING:
    from app.settings import Settings
    from store.registry import ModelVersion
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
    require_new(out)
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


def export_merged(settings: Settings, store: Store, version: ModelVersion, *, out: Path) -> None:
    """Write a verified version merged into its base, as a folder that transformers alone loads.

    Raises:
        InputError: ``out`` exists and is not an empty folder.
        ContractError: the profile's base model is not the one that the version was trained on.
    """
    from pipelines.engines.causal import load_causal_lm, save_merged
    from store.atomic import write_bytes, write_json

    require_new(out)
    adapter = store.models.open(version.ref)
    if version.whole:
        store.models.export(version.ref, out)
        write_json(out / "contract.json", version.contract.model_dump(mode="json"))
        return
    base = load_causal_lm(settings.generator)
    if base.identity != version.contract.base:
        raise ContractError(
            f"{version.ref} was trained on {version.contract.base.id!r} (weights "
            f"{version.contract.base.weights_sha256[:12]}), and the profile's model is "
            f"{base.identity.id!r} (weights {base.identity.weights_sha256[:12]}).",
            hint="Export with the profile that it was trained with.",
        )
    with staged_folder(out.absolute().parent) as folder:
        save_merged(base, adapter, folder)
        # What a server of the merged model must know to ask it as it was trained.
        write_json(folder / "contract.json", version.contract.model_dump(mode="json"))
        write_bytes(folder / "README.md", (adapter / "README.md").read_bytes())
        if out.exists():
            out.rmdir()
        folder.rename(out)


def require_new(out: Path) -> None:
    """Refuse a place that holds something.

    Raises:
        InputError: ``out`` exists and is not an empty folder.
    """
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise InputError(
            f"The folder {str(out)!r} is not empty.", hint="Name a new one with --out."
        )


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
