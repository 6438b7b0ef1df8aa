"""A model version trained once more from what its manifest and its run recorded, and compared.

The training happens in a scratch store of its own beside the datasets of the real one: nothing is
registered, and nothing is left behind.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from fti.app.operations.training.rebuild_contract import REBUILD, Difference, Rebuild
from fti.app.settings import Settings
from fti.store.errors import ContractError, StoreError
from fti.store.logs.runs import code_version, libraries
from fti.store.progress import Progress
from fti.store.store import Store
from fti.store.versioned.model_version import CARD_FILE, LOG_FILE

if TYPE_CHECKING:
    from fti.store.types import DatasetVersion, Run
    from fti.store.versioned.model_version import ModelVersion

_Config = TypeVar("_Config", bound=BaseModel)
_MANIFEST = "manifest.json"
#: Metrics that say how long it took and who trained, not what came of it.
_INCIDENTAL = (
    "seconds", "tokens_per_second", "attempt", "resumed_from_step", "estimated", "peak_memory_mb",
)  # fmt: skip
#: What a training's log says of each step that its inputs decide.
_LEARNED = ("step", "loss", "learning_rate")


@REBUILD.enforced
def rebuild(settings: Settings, store: Store, ref: str, *, progress: Progress) -> Rebuild:
    """Train a version again from its dataset, contract, configuration, seed and base.

    Args:
        settings: the profile: it must name the base that the version was trained from.
        store: where the version, its run and its dataset lie.
        ref: the version.
        progress: told after every step.

    Raises:
        ModelNotFound, DatasetNotFound, RunNotFound: something that it was made from is gone.
        IntegrityError: the version, or the dataset, is not as it was then.
        ContractError: the profile's base or embedder is not the one that it was trained from.
        StoreError: the run's settings are not those of a training that this fti knows.
    """
    with store.runs.running("rebuild", inputs={"model": ref}) as run:
        report = _again(settings, store, ref, progress)
        run.metrics.update(report.model_dump(mode="json", include={"equal", "seconds"}))
        run.status = "done" if report.equal else "partial"
    return report


def _again(settings: Settings, store: Store, ref: str, progress: Progress) -> Rebuild:
    from fti.store.store import Store as Scratch

    version = store.models.get(ref)
    recorded = store.models.open(version.ref)
    run = store.runs.get(version.run_id)
    dataset = store.datasets.get(version.dataset)
    store.layout.checkpoints.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store.layout.checkpoints, prefix="rebuild-") as folder:
        scratch = Scratch(Path(folder))
        scratch.datasets = store.datasets
        train = _train_embedder if version.kind == "embedder" else _train_adapter
        again = train(settings, store, scratch, version, dataset, run, progress)
        made = scratch.models.open(again.ref)
        differences = tuple(_differences(version, recorded, again, made))
        files = {
            entry.path: _same(recorded / entry.path, made / entry.path)
            for entry in version.files
            if entry.path not in (CARD_FILE, LOG_FILE, _MANIFEST)
        }
    return Rebuild(
        ref=version.ref,
        equal=not differences and all(files.values()),
        inputs={
            "dataset": dataset.ref,
            "dataset_digest": dataset.digest,
            "contract": version.contract.digest,
            "base": version.contract.base.id,
            "base_weights": version.contract.base.weights_sha256,
            "run": run.id,
            "seed": str(run.settings.get("seed", "")),
        },
        differences=differences,
        circumstances=tuple(_circumstances(run, version)),
        files=files,
        seconds=float(again.metrics.get("seconds", 0.0)),
    )


def _train_adapter(
    settings: Settings,
    store: Store,
    scratch: Store,
    version: ModelVersion,
    dataset: DatasetVersion,
    run: Run,
    progress: Progress,
) -> ModelVersion:
    from fti.app.build import build_embedder
    from fti.pipelines.engines.causal_lm.loading import load_causal_lm, load_whole
    from fti.pipelines.training.finetune import finetune
    from fti.pipelines.training.training_config import TrainingConfig

    contract = version.prompt_contract
    config = _config(TrainingConfig, run, version)
    begun = None if version.parent is None else store.models.get(version.parent)
    if begun is not None:  # what training goes on from must lie where it is trained
        name, number = begun.ref.split("/")
        held = store.models.open(begun.ref)
        shutil.copytree(held, scratch.layout.models / name / number)
    base = (
        load_whole(store.models.open(begun.ref), settings.generator, contract.base)
        if begun is not None and begun.whole
        else load_causal_lm(settings.generator)
    )
    _require_same(version, "base model", contract.base.model_dump(), base.identity.model_dump())
    embedder = build_embedder(settings) if contract.evidence_sentences else None
    if embedder is not None:
        _require_same(
            version, "embedder", contract.embedder.model_dump(), embedder.identity.model_dump()
        )
    return finetune(
        dataset,
        name=version.name,
        store=scratch,
        base=base,
        contract=contract,
        config=config,
        embedder=embedder,
        start=begun,
        progress=progress,
    )


def _train_embedder(
    settings: Settings,
    store: Store,
    scratch: Store,
    version: ModelVersion,
    dataset: DatasetVersion,
    run: Run,
    progress: Progress,
) -> ModelVersion:
    from fti.app.operations.training.embedder_training import compose
    from fti.pipelines.engines.embedders.trained_embedder import open_embedder
    from fti.pipelines.training.embedder.embedder_config import EmbedderTrainingConfig
    from fti.pipelines.training.embedder.train_embedder import finetune_embedder

    config = _config(EmbedderTrainingConfig, run, version)
    base = open_embedder(settings.embedder)
    contract = version.vector_contract
    _require_same(version, "embedder", contract.base.model_dump(), base.identity.model_dump())
    return finetune_embedder(
        dataset,
        name=version.name,
        store=scratch,
        base=base,
        compose=compose,
        config=config,
        progress=progress,
    )


def _config(kind: type[_Config], run: Run, version: ModelVersion) -> _Config:
    try:
        return kind.model_validate(dict(run.settings))
    except ValidationError as error:
        first = error.errors()[0]
        raise StoreError(
            f"The settings of run {run.id}, which trained {version.ref}, are not understood: "
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}.",
            hint="Rebuild it with the fti that trained it"
            + (f", version {run.code_version}." if run.code_version else "."),
        ) from error


def _require_same(
    version: ModelVersion, what: str, recorded: Mapping[str, Any], loaded: Mapping[str, Any]
) -> None:
    faults = [
        f"{key}: recorded {recorded[key]!r}, loaded {loaded[key]!r}"
        for key in recorded
        if recorded[key] != loaded[key]
    ]
    if faults:
        raise ContractError(
            f"{version.ref} was trained from another {what} than the profile's: "
            f"{'; '.join(faults)}.",
            hint="Rebuild with the profile that it was trained with.",
        )


def _differences(
    version: ModelVersion, recorded: Path, again: ModelVersion, made: Path
) -> Iterator[Difference]:
    if version.contract.digest != again.contract.digest:
        ours = version.contract.model_dump(mode="json")
        theirs = again.contract.model_dump(mode="json")
        for key in ours:
            if ours[key] != theirs.get(key):
                yield Difference(
                    what=f"contract.{key}", recorded=ours[key], rebuilt=theirs.get(key)
                )
    yield from _log_differences(recorded / LOG_FILE, made / LOG_FILE)
    for key in dict.fromkeys((*version.metrics, *again.metrics)):
        before, after = version.metrics.get(key), again.metrics.get(key)
        if key not in _INCIDENTAL and before != after:
            yield Difference(what=f"metrics.{key}", recorded=before, rebuilt=after)
    paths = {e.path for e in version.files} | {e.path for e in again.files}
    for path in sorted(paths - {CARD_FILE, LOG_FILE, _MANIFEST}):
        if not _same(recorded / path, made / path):
            yield from _file_differences(path, recorded / path, made / path)


def _log_differences(recorded: Path, made: Path) -> Iterator[Difference]:
    """The first step that went otherwise: what comes after it follows from it."""
    if not (recorded.is_file() and made.is_file()):
        return
    steps = [json.loads(path.read_text("utf-8"))["steps"] for path in (recorded, made)]
    for before, after in zip(*steps, strict=False):
        for key in (*_LEARNED, *(k for k in before if k.startswith("validation"))):
            if before.get(key) != after.get(key):
                yield Difference(
                    what=f"step {before.get('step')}: {key}",
                    recorded=before.get(key),
                    rebuilt=after.get(key),
                )
                return
    if len(steps[0]) != len(steps[1]):
        yield Difference(what="steps", recorded=len(steps[0]), rebuilt=len(steps[1]))


def _file_differences(path: str, recorded: Path, made: Path) -> Iterator[Difference]:
    if not (recorded.is_file() and made.is_file()):
        yield Difference(what=path, recorded=recorded.is_file() or None,
                         rebuilt=made.is_file() or None)  # fmt: skip
    elif recorded.suffix == ".safetensors":
        yield from _tensor_differences(path, recorded, made)
    else:
        yield Difference(what=path, recorded=_hash(recorded), rebuilt=_hash(made))


def _tensor_differences(path: str, recorded: Path, made: Path) -> Iterator[Difference]:
    """How many tensors differ, and by how much at most."""
    from safetensors import safe_open

    with (
        safe_open(str(recorded), framework="pt") as before,
        safe_open(str(made), framework="pt") as after,
    ):
        names = dict.fromkeys((*before.keys(), *after.keys()))
        there = [set(side.keys()) for side in (before, after)]
        odd = [name for name in names if not all(name in side for side in there)]
        if odd:
            yield Difference(
                what=f"{path}: {odd[0]} and {len(odd) - 1} more",
                recorded=odd[0] in there[0],
                rebuilt=odd[0] in there[1],
            )
        most, which, count = 0.0, "", 0
        for name in names:
            if name in odd:
                continue
            one, other = before.get_tensor(name), after.get_tensor(name)
            gap = float("inf") if one.shape != other.shape else _gap(one, other)
            if gap > 0.0:
                count += 1
                if gap > most:
                    most, which = gap, name
    if count:
        yield Difference(
            what=f"{path}: {count} of {len(names)} tensors, most in {which}",
            recorded=0.0,
            rebuilt=most,
        )


def _gap(one: Any, other: Any) -> float:
    return float((one.double() - other.double()).abs().max()) if one.numel() else 0.0


def other_versions(run: Run) -> Iterator[Difference]:
    """The libraries, and the fti, that are not those of a run."""
    now = dict(libraries())
    for name in dict.fromkeys((*run.libraries, *now)):
        if run.libraries and run.libraries.get(name) != now.get(name):
            yield Difference(what=name, recorded=run.libraries.get(name), rebuilt=now.get(name))
    if run.code_version != code_version():
        yield Difference(what="fti-llm", recorded=run.code_version, rebuilt=code_version())


def _circumstances(run: Run, version: ModelVersion) -> Iterator[Difference]:
    yield from other_versions(run)
    limit = run.settings.get("max_seconds")
    if limit is not None and version.metrics.get("stopped") == "time":
        yield Difference(
            what="training.max_seconds ended the training: it depends on the machine's speed",
            recorded=limit,
            rebuilt=limit,
        )


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and _hash(one) == _hash(other)


def _hash(path: Path) -> str:
    from fti.store.versioned.versions import file_sha256

    return file_sha256(path)
