"""A store moved to a fine-tuned embedder: measured on a frozen case set, then all vectors anew.

The gate searches the same chunks under both embedders, one after the other in one go, and reads
retrieval's scores: the one in ``gate.retrieval_score`` must be better (or not worse, by the gate's
rule), no other significantly worse. The alias moves first and the vectors follow in one commit, so
that a crash between the two leaves a store that works, and the same command finishes it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from fti.app.embedder_choice import load_version, standing_on, trained_from_profile
from fti.app.operations.promoting.gating import (
    Promotion,
    evidence_or_force,
    frozen_set,
    reason_from,
    require_reason,
    weigh,
)
from fti.store.errors import ContractError, GateRefused, IntegrityError, StoreError
from fti.store.progress import Progress, quiet
from fti.store.versioned.aliases import CHAMPION

if TYPE_CHECKING:
    from fti.app.settings import Settings
    from fti.pipelines.engines.embedders.embedding import Embedder
    from fti.store.features.feature_store import FeatureStore
    from fti.store.store import Store
    from fti.store.versioned.model_version import ModelVersion


def promote_embedder(
    settings: Settings,
    store: Store,
    version: ModelVersion,
    *,
    reason: str = "",
    force: bool = False,
    cases: str = "",
    progress: Progress = quiet,
) -> Promotion:
    """Make a fine-tuned embedder the champion of its name, and the store's.

    Args:
        settings: the gate's rules, and how is searched.
        store: the store.
        version: of kind ``embedder``.
        reason: kept in the alias history.
        force: switch whatever the gate says; needs a reason, and both are kept.
        cases: the frozen case set to decide on, over the one in the settings.
        progress: told as chunks are embedded and cases searched.

    Raises:
        GateRefused: the gate found no proof that the version is better, or models that are served
            were trained behind the present embedder.
        ContractError: the profile's embedder is not the one that the version was trained from.
        InputError: force without a reason.
        StoreEmpty: there is nothing to search.
    """
    from fti.app.build import require_documents
    from fti.pipelines.feature.ingesting.reembedding import re_embedded

    require_documents(store)
    if force:
        require_reason(reason)
    champion = store.models.aliases(version.name).get(CHAMPION) == version.version
    held = standing_on(store)
    if champion and held is not None and held.ref == version.ref:
        raise GateRefused(
            f"{version.ref} is the champion already, and the store's vectors are its.",
            hint=f"See its history with: fti models show {version.ref}",
        )
    _require_profile(settings, version)
    embedder = load_version(settings, store, version.ref)
    with re_embedded(store, embedder, config=settings.features, progress=progress) as made:
        proof = partial(
            _proof, settings, store, version, embedder, made.features, cases=cases,
            progress=progress,
        )  # fmt: skip
        evidence = evidence_or_force(proof, force=force)
        score = settings.gate.retrieval_score
        reason = reason or reason_from(evidence, score)
        store.models.promote(
            version.name, version.version, CHAMPION, reason=reason, evidence=evidence
        )
        evidence["adopted_features_version"] = made.adopt(progress)
    return Promotion.of(version, CHAMPION, reason, evidence, score)


def roll_back_embedder(
    settings: Settings, store: Store, name: str, alias: str, *, progress: Progress = quiet
) -> int:
    """Point an embedder's alias back, and for the champion the store's vectors with it.

    Returns:
        The version number that the alias points at now.

    Raises:
        StoreError: it has had no other version; says how to go back to the profile's embedder.
    """
    from fti.pipelines.feature.ingesting.reembedding import re_embedded

    try:
        number = store.models.previous(name, alias)
    except StoreError as error:
        if isinstance(error, IntegrityError):
            raise
        raise StoreError(
            error.message,
            hint="Go back to the profile's embedder with: fti ingest PATH --re-embed --set "
            "embedder.tuned=false",
        ) from error
    held = standing_on(store)
    if alias == CHAMPION and held is not None and held.name == name and held.version != number:
        embedder = load_version(settings, store, f"{name}/{number}")
        with re_embedded(store, embedder, config=settings.features, progress=progress) as made:
            made.adopt(progress)
    # Last: run again after a crash, this finds the vectors made and moves the alias alone.
    return store.models.rollback(name, alias)


def _require_profile(settings: Settings, version: ModelVersion) -> None:
    if not trained_from_profile(settings, version):
        base = version.vector_contract.base
        raise ContractError(
            f"{version.ref} was trained from {base.id!r} (weights {base.weights_sha256[:12]}), and "
            f"the profile's embedder is {settings.embedder.id!r}: commands with this profile would "
            "not find the store's vectors theirs.",
            hint="Promote with the profile that it was trained with.",
        )


def _proof(
    settings: Settings,
    store: Store,
    version: ModelVersion,
    embedder: Embedder,
    rebuilt: FeatureStore,
    *,
    cases: str,
    progress: Progress,
) -> dict[str, Any]:
    """What speaks for an embedder, for the alias history.

    Raises:
        GateRefused: something is missing, or speaks against it.
    """
    from fti.app.build import Engines
    from fti.pipelines.inference.answering.retrieve import Retriever
    from fti.pipelines.inference.evaluating.evaluation import case_rows, evaluate_retrieval

    frozen = frozen_set(store, cases or settings.gate.cases)
    _require_nobody_behind(store, version)
    engines = Engines(settings)
    held = standing_on(store)
    against = engines.embedder.identity.id
    unseen_by = [version.ref, *([held.ref] if held is not None else [])]
    asked = list(store.cases.cases(frozen.ref))
    runs: dict[str, str] = {}
    for name, features, side in (
        (against, store.features, engines.embedder),
        (embedder.identity.id, rebuilt, embedder),
    ):
        retriever = Retriever(features, side, engines.reranker, settings.inference.retrieval)
        report = evaluate_retrieval(
            retriever, asked, store=store, progress=progress, unseen_by=unseen_by, system=name
        )
        runs[name] = report.run
    theirs, ours = ({r["id"]: r for r in case_rows(store, run)} for run in runs.values())
    score = settings.gate.retrieval_score
    shared = [case for case in ours if ours[case].get(score) is not None]
    if not shared:
        raise GateRefused(
            f"No case of {frozen.ref} has the score {score!r} to decide by.",
            hint="Freeze cases that name their document, or set gate.retrieval_score to one of "
            "recall@1, recall@5, recall@10, mrr, ndcg@10.",
        )
    evidence, faults = weigh(
        settings.gate, score, frozen=frozen, against=against, ours=ours, theirs=theirs,
        shared=shared, only_measured=True,
    )  # fmt: skip
    if faults:
        raise GateRefused(
            f"The store is not switched from {against} to {version.ref} (on {frozen.ref}). "
            f"{' '.join(faults)}",
            hint="Train it on more questions, evaluate on more cases, or switch all the same with "
            "--force --reason TEXT.",
        )
    return {
        **evidence,
        "runs": runs,
        "features_version": str(store.features.version()),
        "mode": settings.inference.retrieval.mode,
    }


def _require_nobody_behind(store: Store, version: ModelVersion) -> None:
    """Refuse to take the embedder from under champions that were trained behind its search."""
    contract = version.vector_contract
    behind = []
    for name in store.models.names():
        number = store.models.aliases(name).get(CHAMPION)
        if number is None:
            continue
        champion = store.models.get(f"{name}/{number}")
        if champion.kind == "llm" and champion.prompt_contract.embedder != contract.identity(
            version.ref
        ):
            behind.append(f"{name}@{CHAMPION} ({champion.ref})")
    if behind:
        raise GateRefused(
            f"{', '.join(behind)} was trained behind another embedder's search and cannot be "
            f"served behind {version.ref}.",
            hint="Switch with --force --reason TEXT, then build a dataset and fine-tune again: fti "
            "dataset build, fti finetune",
        )
