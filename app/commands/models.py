"""``fti models``: the versioned registry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fti.app.options import Commands, CommonOptions
from fti.app.reporting import damaged_json
from fti.store.errors import IntegrityError

if TYPE_CHECKING:
    from fti.store.versioned.model_version import ModelVersion

group = Commands(
    "models",
    "List, show, compare, promote, roll back, verify, export, push and let go of versions.",
)


def model_json(version: ModelVersion, aliases: list[str]) -> dict[str, Any]:
    """A model version as commands print it."""
    return {
        "name": version.name,
        "version": version.version,
        "ref": version.ref,
        "kind": version.kind,
        "aliases": aliases,
        "created_at": version.created_at.isoformat(),
        "base": version.contract.base.model_dump(),
        "dataset": version.dataset,
        "run": version.run_id,
        "contract": version.contract.digest,
        "metrics": dict(version.metrics),
    }


@group.command("list")
def list_(common: CommonOptions) -> None:
    """List the model versions and their aliases."""
    session = common.open()
    versions, damaged = session.store.models.survey()
    aliases: dict[str, dict[str, int]] = {}
    for name in session.store.models.names():
        try:
            aliases[name] = session.store.models.aliases(name)
        except IntegrityError as error:
            damaged = {**damaged, name: error.message}
    found = [(v, _aimed_at(v, aliases.get(v.name, {}))) for v in versions]
    models = [model_json(v, a) for v, a in found]
    session.report.result({"models": models, "damaged": damaged_json(damaged)})
    if not found and not damaged:
        session.report.say(
            "No model is registered yet. Make one with: fti finetune DATASET --name MODEL"
        )
        return
    session.report.table(
        ["model", "kind", "aliases", "created", "base", "dataset"],
        [
            [
                v.ref,
                v.kind,
                " ".join(a),
                f"{v.created_at:%Y-%m-%d %H:%M}",
                v.contract.base.id,
                v.dataset,
            ]
            for v, a in found
        ],
    )
    if session.report.tell_damaged(damaged):
        raise typer.Exit(3)


def _aliases_of(store: Any, version: ModelVersion) -> list[str]:
    return _aimed_at(version, store.models.aliases(version.name))


def _aimed_at(version: ModelVersion, aliases: Mapping[str, int]) -> list[str]:
    return sorted(alias for alias, number in aliases.items() if number == version.version)


ModelArgument = Annotated[str, typer.Argument(help="NAME/N, NAME@ALIAS or NAME.")]


@group.command("show")
def show(
    common: CommonOptions,
    model: ModelArgument,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Also write the model card, with plots, to this file."),
    ] = None,
) -> None:
    """Show one version: contract, lineage, metrics, files, alias history.

    Example: fti models show reader@champion --html reader.html
    """
    session = common.open()
    version = session.store.models.get(model)
    if html is not None:
        from fti.app.reports.model_card import as_html, gather
        from fti.store.files.atomic import write_bytes

        write_bytes(html, as_html(gather(session.store, version)).encode("utf-8"))
    history = [h.model_dump(mode="json") for h in session.store.models.history(version.name)]
    session.report.result(
        version.model_dump(mode="json")
        | {"ref": version.ref, "aliases": _aliases_of(session.store, version), "history": history}
        | ({} if html is None else {"html": str(html)})
    )
    contract = version.contract
    session.report.table(
        ["what", "value"],
        [
            ["model", version.ref],
            ["kind", version.kind],
            ["aliases", " ".join(_aliases_of(session.store, version))],
            ["base", contract.base.id],
            ["base weights", contract.base.weights_sha256[:12]],
            ["embedder", version.prompt_contract.embedder.id]
            if version.kind == "llm"
            else ["dimensions", version.vector_contract.dimension],
            ["contract", contract.digest[:12]],
            ["dataset", version.dataset],
            ["run", version.run_id],
            *([k, v] for k, v in version.metrics.items() if isinstance(v, int | float | str)),
            *([f.path, f"{f.bytes} bytes, sha256 {f.sha256[:12]}"] for f in version.files),
        ],
    )


@group.command("promote")
def promote(
    common: CommonOptions,
    model: Annotated[str, typer.Argument(help="NAME/N.")],
    alias: Annotated[str, typer.Option("--alias", help="champion, challenger or your own.")],
    force: Annotated[
        bool, typer.Option("--force", help="Promote without the evaluation gate; needs --reason.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Kept in the alias history.")] = "",
    cases: Annotated[
        str,
        typer.Option(
            "--cases",
            help="Frozen case set that decides, NAME or NAME/N.",
            show_default="the profile's gate.cases, else the only one",
        ),
    ] = "",
) -> None:
    """Point an alias at a version; champion asks for proof that it is better.

    The gate reads the newest evaluations, on a frozen case set, of this very version and of the
    current champion (else of what the profile serves): F1 must be better beyond chance, no other
    score significantly worse, and the floors of the profile's `gate` reached. Both must have seen
    the same documents under the same settings, and none that was trained on. An embedder is
    measured here and now, against the store's own: retrieval must be better, and then all vectors
    are made anew by it. Example: fti models promote reader/2 --alias champion
    """
    from fti.app.operations.promoting.promotion import promote as run

    session = common.open()
    with session.report.progress() as progress:
        decision = run(
            session.settings,
            session.store,
            model,
            alias=alias,
            reason=reason,
            force=force,
            cases=cases,
            progress=progress,
        )
    session.report.result(decision.model_dump(mode="json"))
    session.report.say(f"{decision.model}@{decision.alias} is now version {decision.version}")
    session.report.say(f"  {decision.reason}", style="dim")
    if decision.evidence.get("forced"):
        session.report.note(f"forced; the gate had said: {decision.evidence['refusal']}")


@group.command("rollback")
def rollback(
    common: CommonOptions,
    model: Annotated[str, typer.Argument(help="NAME of the model.")],
    alias: Annotated[str, typer.Option("--alias", help="Alias to move back.")] = "champion",
) -> None:
    """Point an alias back at the version it had before; an embedder's champion with the vectors."""
    session = common.open()
    models = session.store.models
    models.aliases(model)  # or there is no such model
    if any(v.kind == "embedder" for v in models.survey()[0] if v.name == model):
        from fti.app.operations.promoting.switching import roll_back_embedder

        with session.report.progress() as progress:
            version = roll_back_embedder(
                session.settings, session.store, model, alias, progress=progress
            )
    else:
        version = models.rollback(model, alias)
    session.report.result({"model": model, "alias": alias, "version": version})
    session.report.say(f"{model}@{alias} is back at version {version}")


@group.command("verify")
def verify(
    common: CommonOptions,
    model: Annotated[str | None, typer.Argument(help="NAME/N or NAME@ALIAS; all without.")] = None,
) -> None:
    """Compare every file with its manifest, to the byte."""
    session = common.open()
    registry = session.store.models
    refs = [registry.get(model).ref] if model else list(registry.refs())
    problems = {ref: registry.verify(ref) for ref in refs}
    session.report.result({"ok": not any(problems.values()), "problems": problems})
    for ref, found in problems.items():
        session.report.say(f"{ref}: {'; '.join(found) if found else 'as published'}")
    if any(problems.values()):
        raise typer.Exit(1)


@group.command("export")
def export(
    common: CommonOptions,
    model: ModelArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must be new or empty.")],
    format_: Annotated[
        Literal["adapter", "merged", "gguf"],
        typer.Option(
            "--format",
            help="adapter: the version's own files; merged: a whole model; gguf: that as one file "
            "for llama.cpp and Ollama.",
        ),
    ] = "adapter",
    weights: Annotated[
        Literal["f16", "q8_0"],
        typer.Option(
            "--weights", help="Of a gguf file: half precision, or eight bits and half the size."
        ),
    ] = "q8_0",
) -> None:
    """Copy a verified version out of the registry: its own files, merged, or as a GGUF file.

    A merged model loads with transformers alone; vLLM and others serve it as it is. Its
    contract.json says how a question and passages become the prompt. A GGUF file is the merged
    model with its tokenizer and the chat template that was trained with, for llama.cpp; beside it
    lies an Ollama Modelfile. Example: fti models export reader/2 --format gguf --out reader-gguf
    """
    session = common.open()
    version = session.store.models.get(model)
    result: dict[str, str] = {"ref": version.ref, "out": str(out), "format": format_}
    if format_ == "merged":
        from fti.app.operations.releasing.exporting import export_merged

        _ = version.prompt_contract  # an embedder is whole already
        export_merged(session.settings, session.store, version, out=out)
    elif format_ == "gguf":
        from fti.app.operations.releasing.gguf import export_gguf

        done = export_gguf(session.settings, session.store, version, out=out, kind=weights)
        result["file"] = done.file
        if done.no_modelfile:
            session.report.note(f"no Modelfile: {done.no_modelfile}")
    else:
        session.store.models.export(version.ref, out)
    session.report.result(result)
    session.report.say(f"{version.ref} → {out}")


@group.command("push")
def push(
    common: CommonOptions,
    model: ModelArgument,
    repo: Annotated[str, typer.Option("--repo", help="OWNER/NAME on the hub.")],
    format_: Annotated[
        Literal["adapter", "merged"],
        typer.Option("--format", help="adapter: the version's own files; merged: a whole model."),
    ] = "adapter",
    public: Annotated[
        bool, typer.Option("--public", help="Let everybody see a repository that is made.")
    ] = False,
    branch: Annotated[
        str | None, typer.Option("--branch", help="Branch to commit to.", show_default="main")
    ] = None,
) -> None:
    """Push a verified version to a repository of the Hugging Face Hub, in one commit.

    The token is HF_TOKEN or a stored login (hf auth login); HF_ENDPOINT names another hub. It is
    never printed or kept. Example: fti models push reader@champion --repo acme/reader
    """
    from fti.app.operations.releasing.publishing import push as run

    session = common.open()
    version = session.store.models.get(model)
    session.report.note(f"pushing {version.ref} to {repo}")
    pushed = run(
        session.settings,
        session.store,
        version,
        repo=repo,
        format=format_,
        private=not public,
        branch=branch,
    )
    session.report.result(pushed.model_dump(mode="json"))
    session.report.say(f"{pushed.ref} → {pushed.url} ({len(pushed.files)} files)")


@group.command("fetch")
def fetch(common: CommonOptions) -> None:
    """Download the models that the profile names, at their pinned revisions.

    Example: fti models fetch --config small
    """
    from fti.app.operations.model_fetching import fetch_models

    session = common.open()
    done = fetch_models(session.settings)
    session.report.result({"fetched": done})
    for line in done:
        session.report.say(line)
