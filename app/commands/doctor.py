"""``fti doctor``: is this machine, this profile and this store ready?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fti.app.options import CommonOptions

if TYPE_CHECKING:
    from fti.app.build import Engines
    from fti.app.options import Session

Check = tuple[str, str, str]
"""Name, verdict (ok, note or fail), and what was found."""

_MANY_VERSIONS = 1000


def doctor(
    common: CommonOptions,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Put right what is wrong with the features, from their stored texts."
        ),
    ] = False,
) -> None:
    """Check the machine, the models that the profile names, and the store.

    Example: fti doctor --repair
    """
    session = common.open()
    repaired = _repair(session) if repair else None
    checks: list[Check] = []
    for check in _checks(session):
        checks.append(check)
        session.report.say(
            f"{check[1]:>4}  {check[0]}: {check[2]}",
            style={"ok": "green", "note": "yellow", "fail": "bold red"}[check[1]],
        )
    failed = [name for name, verdict, _ in checks if verdict == "fail"]
    session.report.result(
        {
            "ok": not failed,
            "checks": [{"name": n, "verdict": v, "found": f} for n, v, f in checks],
            "repaired": repaired,
        }
    )
    if failed:
        raise typer.Exit(1)


def _repair(session: Session) -> dict[str, Any] | None:
    if not session.store.layout.features.is_dir() and not session.store.features.exists():
        return None
    from fti.app.build import build_embedder
    from fti.pipelines.feature.ingesting.repair import repair

    with session.report.progress() as progress:
        done = repair(
            store=session.store,
            embedder=build_embedder(session.settings),
            config=session.settings.features,
            progress=progress,
        )
    session.report.say(
        f"repaired: chunks of {done.orphans_removed} documents that are gone were removed, "
        f"{done.documents_remade} documents made anew, {done.rows_indexed} chunks indexed"
        + (
            f"; damaged tables made anew: {', '.join(done.tables_remade)}"
            if done.tables_remade
            else ""
        )
    )
    for source in done.left:
        session.report.say(
            f"  not repaired: {source}: take it again with fti ingest", style="yellow"
        )
    return done.model_dump(mode="json")


def _checks(session: Session) -> Iterator[Check]:
    from fti.app.build import Engines

    engines = Engines(session.settings)  # each model is loaded once
    yield _machine()
    yield from _packages()
    yield _guarded("embedder", lambda: _embedder(engines))
    yield _guarded("embedding speed", lambda: _speed(session, engines))
    files = _guarded("files", lambda: _files(session))
    yield files
    if files[1] != "fail":
        yield _guarded("language model", lambda: _generator(session, engines))
        yield _guarded("store", lambda: _store(session))
        yield _guarded("features", lambda: _features(session))
        yield _guarded("near-duplicates", lambda: _near_duplicates(session))
        yield _guarded("versions", lambda: _versions(session))
    yield _guarded("registry", lambda: _registry(session))
    yield _disk(session)


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    from fti.store.errors import FtiError

    try:
        return check()
    except FtiError as error:
        return name, "fail", str(error)


def _machine() -> Check:
    import os
    import platform

    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = (
        f"Python {platform.python_version()}, {os.cpu_count()} cores, torch {torch.__version__} "
        f"on {device}"
    )
    return "machine", "ok", found


def _packages() -> Iterator[Check]:
    from importlib.metadata import requires, version

    from packaging.requirements import Requirement

    wrong = []
    for line in requires("fti-llm") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = version(requirement.name)
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found} is not {requirement.specifier}")
    if wrong:
        yield "packages", "fail", "; ".join(wrong)
    else:
        yield "packages", "ok", "every version is within what fti was written for"


def _embedder(engines: Engines) -> Check:
    identity = engines.embedder.identity
    return "embedder", "ok", f"{identity.id}, {identity.dimension} dimensions"


def _speed(session: Session, engines: Engines) -> Check:
    from fti.pipelines.engines.embedders.sentence_embedder import SentenceTransformerEmbedder
    from fti.pipelines.feature.ingesting.probing import kept_probe

    embedder = engines.embedder
    if not isinstance(embedder, SentenceTransformerEmbedder) or embedder.tokens_at_once is None:
        return "embedding speed", "ok", "the profile says how much is embedded at once"
    probe = kept_probe(session.store, embedder)
    if probe is None:
        return (
            "embedding speed",
            "ok",
            f"{embedder.tokens_at_once} tokens at once on each core; what is quickest here is "
            "measured by the first ingest of a megabyte or more",
        )
    tried = ", ".join(f"{tokens}: {rate:.1f}" for tokens, rate in probe.texts_per_s.items())
    return (
        "embedding speed",
        "ok",
        f"{probe.tokens_at_once} tokens at once on each core, the quickest on this machine "
        f"({probe.machine}) on {probe.at:%Y-%m-%d}; passages a second: {tried}",
    )


def _generator(session: Session, engines: Engines) -> Check:
    generator = engines.generator(store=session.store)
    return "language model", "ok", f"{generator.identity.id}, {generator.context_tokens} tokens"


def _store(session: Session) -> Check:
    features = session.store.features
    root = session.store.layout.store_url or session.store.layout.root
    if not features.exists():
        return "store", "note", f"{root} is empty; fill it with: fti ingest FOLDER"
    stats = features.stats()
    failed = f", {stats.failed} failed" if stats.failed else ""
    recall = features.index_recall()
    by = "exactly" if stats.vector_index == "exact" else f"by {stats.vector_index}"
    found = f", recall@10 {recall:.3f} of exact" if recall is not None else ""
    return (
        "store",
        "ok",
        f"{root}: {stats.documents} documents, {stats.chunks} chunks{failed}; vectors are "
        f"searched {by}{found}",
    )


def _files(session: Session) -> Check:
    """Against their checksums; what reads a damaged table may read anything."""
    from fti.store.upkeep.checking import damaged_tables

    sums = session.store.layout.sums
    wrong = [f"{where} {what}" for where, what in damaged_tables(sums.check())]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return "files", "fail", "; ".join(wrong[:3]) + more
    return "files", "ok", f"{sums.count()} files of the features are as they were written"


def _features(session: Session) -> Check:
    found = session.store.features.diagnose()
    wrong = {
        "documents that are gone still have chunks": len(found.orphans),
        "documents have other chunks than the ledger says": len(found.broken),
        "documents have a chunk twice": len(found.duplicated),
        "documents have a chunk without a vector": len(found.without_vector),
    }
    said = [f"{count} {what}" for what, count in wrong.items() if count]
    if said:
        return "features", "fail", "; ".join(said) + "; put right by: fti doctor --repair"
    if found.stale_index:
        lag = f"{found.unindexed_rows} chunks are found without the index, by a scan"
        return "features", "ok", lag + "; indexed by the next large ingest or fti doctor --repair"
    return "features", "ok", "every chunk is of a document, once, with a vector, indexed"


def _near_duplicates(session: Session) -> Check:
    found = session.store.features.near_duplicates()
    if not found:
        return "near-duplicates", "ok", "no document says nearly the same as another"
    shown = "; ".join(f"{one} is like {other}" for one, other in list(found.items())[:5])
    more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
    return "near-duplicates", "note", f"{len(found)}: {shown}{more}"


def _versions(session: Session) -> Check:
    # A stream leaves a version with each commit, several in a second: days of them are many files.
    count, size = session.store.features.history.extent()
    said = f"{count:,} of the features, in {size / 1e6:,.1f} MB"
    if count <= _MANY_VERSIONS:
        return "versions", "ok", said
    from fti.store.features.bykey import has_pylance

    hint = "remove those that nothing needs with: fti versions prune --older-than 1 --yes"
    if not has_pylance():  # the likely reason that so many stayed
        hint += "; those younger than one that must stay go only with: pip install "
        hint += "'fti-llm[maintenance]'"
    return "versions", "note", f"{said}; {hint}"


def _registry(session: Session) -> Check:
    registry = session.store.models
    versions = registry.list()
    problems = [f"{v.ref}: {p}" for v in versions for p in registry.verify(v.ref)]
    if problems:
        return "registry", "fail", "; ".join(problems)
    return "registry", "ok", f"{len(versions)} model versions, as published"


def _disk(session: Session) -> Check:
    import shutil

    free = shutil.disk_usage(session.store.layout.root).free / 2**30
    return "disk", "ok" if free > 2 else "note", f"{free:.1f} GiB free"
