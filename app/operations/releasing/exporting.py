"""Dataset and model versions written for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fti.store.errors import ContractError, InputError
from fti.store.files.atomic import dump_line, staged_folder
from fti.store.types import SPLITS, DatasetVersion, ModelIdentity, PreferenceExample
from fti.store.versioned.datasets import Example

if TYPE_CHECKING:
    from fti.app.settings import Settings
    from fti.store.store import Store
    from fti.store.versioned.model_version import ModelVersion


def export_dataset(
    store: Store,
    version: DatasetVersion,
    *,
    out: Path,
    format: Literal["messages", "rows", "arrow", "parquet"],
) -> list[Path]:
    """Write every split to ``out``.

    ``messages`` writes the lines that chat trainers read: ``{"messages": [{"role", "content"},
    ...]}``, and for preference pairs ``{"prompt": [...], "chosen": [...], "rejected": [...]}``;
    ``rows`` writes whole rows; ``arrow`` writes what ``datasets.load_from_disk`` reads and
    ``parquet`` a file per split, both with the turns and the provenance as columns.

    Raises:
        InputError: ``out`` exists and is not an empty folder.
        IntegrityError: the version's files are not as published.
    """
    require_new(out)
    if format in ("arrow", "parquet"):
        return _export_tables(store, version, out=out, arrow=format == "arrow")
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for split in SPLITS:
        path = out / f"{split}.jsonl"
        with path.open("w", encoding="utf-8") as handle:
            for row in store.datasets.examples(version.ref, split):
                value = _chat(row) if format == "messages" else row.model_dump(mode="json")
                handle.write(dump_line(value) + "\n")
        written.append(path)
    return written


def _export_tables(store: Store, version: DatasetVersion, *, out: Path, arrow: bool) -> list[Path]:
    from datasets import Dataset, DatasetDict, disable_progress_bars

    disable_progress_bars()
    splits = {
        split: Dataset.from_list(
            [_flat(row) for row in store.datasets.examples(version.ref, split)]
        )
        for split in SPLITS
        if version.rows.get(split)
    }
    out.mkdir(parents=True, exist_ok=True)
    if arrow:
        DatasetDict(splits).save_to_disk(str(out))
        return [out / split for split in splits]
    for split, rows in splits.items():
        rows.to_parquet(str(out / f"{split}.parquet"))
    return [out / f"{split}.parquet" for split in splits]


def export_merged(settings: Settings, store: Store, version: ModelVersion, *, out: Path) -> None:
    """Write a verified version merged into its base, as a folder that transformers alone loads.

    Raises:
        InputError: ``out`` exists and is not an empty folder.
        ContractError: the profile's base model is not the one that the version was trained on.
    """
    from fti.pipelines.engines.causal_lm.loading import load_causal_lm
    from fti.pipelines.engines.causal_lm.saving import save_merged
    from fti.store.files.atomic import write_bytes, write_json

    require_new(out)
    adapter = store.models.open(version.ref)
    if version.whole:
        store.models.export(version.ref, out)
        write_json(out / "contract.json", version.contract.model_dump(mode="json"))
        return
    base = load_causal_lm(settings.generator)
    require_base(version, base.identity)
    with staged_folder(out.absolute().parent) as folder:
        save_merged(base, adapter, folder)
        # What a server of the merged model must know to ask it as it was trained.
        write_json(folder / "contract.json", version.contract.model_dump(mode="json"))
        write_bytes(folder / "README.md", (adapter / "README.md").read_bytes())
        if out.exists():
            out.rmdir()
        folder.rename(out)


def require_base(version: ModelVersion, base: ModelIdentity) -> None:
    """Refuse a base that a version was not trained on.

    Raises:
        ContractError: the profile's model is another.
    """
    trained_on = version.contract.base
    if base != trained_on:
        raise ContractError(
            f"{version.ref} was trained on {trained_on.id!r} (weights "
            f"{trained_on.weights_sha256[:12]}), and the profile's model is "
            f"{base.id!r} (weights {base.weights_sha256[:12]}).",
            hint="Export with the profile that it was trained with.",
        )


def require_new(out: Path) -> None:
    """Refuse a place that holds something.

    Raises:
        InputError: ``out`` exists and is not an empty folder.
    """
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise InputError(
            f"The folder {str(out)!r} is not empty.", hint="Name a new one with --out."
        )


def _chat(row: Example) -> dict[str, Any]:
    turns = [m.model_dump() for m in row.messages]
    if isinstance(row, PreferenceExample):
        sides = {"chosen": row.chosen_response, "rejected": row.rejected_response}
        return {"prompt": turns} | {
            side: [{"role": "assistant", "content": text}] for side, text in sides.items()
        }
    # Only the last answer is what the row teaches: those before it have rows of their own, or are
    # not to be learned. This is how OpenAI's format says so.
    before = [t | {"weight": 0} if t["role"] == "assistant" else t for t in turns]
    return {"messages": [*before, {"role": "assistant", "content": row.response}]}


def _flat(row: Example) -> dict[str, Any]:
    said = (
        {"chosen_answer": row.chosen, "rejected_answer": row.rejected}
        if isinstance(row, PreferenceExample)
        else {"style": row.style, "answer": row.answer, "evidence": row.evidence}
    )
    return (
        _chat(row)
        | said
        | {
            "id": row.id,
            "kind": row.kind,
            "question": row.question,
            "documents": list(row.documents),
            "chunk_ids": list(row.chunk_ids),
        }
    )
