"""``fti models``: the versioned registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.options import ConfigOption, JsonOption, SetOption, StoreOption, open_session

if TYPE_CHECKING:
    from store.registry import ModelVersion

group = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="List, show, compare, promote, roll back, verify, export and let go of model versions.",
)


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(group, name="models")


def model_json(version: ModelVersion, aliases: list[str]) -> dict[str, Any]:
    """A model version as commands print it."""
    return {
        "name": version.name,
        "version": version.version,
        "ref": version.ref,
        "aliases": aliases,
        "created_at": version.created_at.isoformat(),
        "base": version.contract.base.model_dump(),
        "dataset": version.dataset,
        "run": version.run_id,
        "contract": version.contract.digest,
        "metrics": dict(version.metrics),
    }


@group.command("list")
def list_(
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """List the model versions and their aliases."""
    session = open_session(store, config, set_, json)
    registry = session.store.models
    found = [(v, _aliases_of(session.store, v)) for v in registry.list()]
    session.report.result({"models": [model_json(v, a) for v, a in found]})
    if not found:
        session.report.say(
            "No model is registered yet. Make one with: fti finetune DATASET --name MODEL"
        )
        return
    session.report.table(
        ["model", "aliases", "created", "base", "dataset"],
        [
            [v.ref, " ".join(a), f"{v.created_at:%Y-%m-%d %H:%M}", v.contract.base.id, v.dataset]
            for v, a in found
        ],
    )


def _aliases_of(store: Any, version: ModelVersion) -> list[str]:
    return sorted(
        alias
        for alias, number in store.models.aliases(version.name).items()
        if number == version.version
    )


ModelArgument = Annotated[str, typer.Argument(help="NAME/N, NAME@ALIAS or NAME.")]


@group.command("show")
def show(
    model: ModelArgument,
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Show one version: contract, lineage, metrics, files, alias history."""
    session = open_session(store, config, set_, json)
    version = session.store.models.get(model)
    history = [h.model_dump(mode="json") for h in session.store.models.history(version.name)]
    session.report.result(
        version.model_dump(mode="json")
        | {"ref": version.ref, "aliases": _aliases_of(session.store, version), "history": history}
    )
    contract = version.contract
    session.report.table(
        ["what", "value"],
        [
            ["model", version.ref],
            ["aliases", " ".join(_aliases_of(session.store, version))],
            ["base", contract.base.id],
            ["base weights", contract.base.weights_sha256[:12]],
            ["embedder", contract.embedder.id],
            ["contract", contract.digest[:12]],
            ["dataset", version.dataset],
            ["run", version.run_id],
            *([k, v] for k, v in version.metrics.items() if isinstance(v, int | float | str)),
            *([f.path, f"{f.bytes} bytes, sha256 {f.sha256[:12]}"] for f in version.files),
        ],
    )


@group.command("promote")
def promote(
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
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Point an alias at a version; champion asks for proof that it is better.

    The gate reads the newest evaluations, on a frozen case set, of this very version and of the
    current champion (else of what the profile serves): F1 must be better beyond chance, no other
    score significantly worse, and the floors of the profile's `gate` reached. Both must have seen
    the same documents under the same settings, and none that was trained on. Example:
    fti models promote reader/2 --alias champion
    """
    from app.promotion import promote as run

    session = open_session(store, config, set_, json)
    decision = run(
        session.settings,
        session.store,
        model,
        alias=alias,
        reason=reason,
        force=force,
        cases=cases,
    )
    session.report.result(decision.model_dump(mode="json"))
    session.report.say(f"{decision.model}@{decision.alias} is now version {decision.version}")
    session.report.say(f"  {decision.reason}", style="dim")
    if decision.evidence.get("forced"):
        session.report.note(f"forced; the gate had said: {decision.evidence['refusal']}")


@group.command("rollback")
def rollback(
    model: Annotated[str, typer.Argument(help="NAME of the model.")],
    alias: Annotated[str, typer.Option("--alias", help="Alias to move back.")] = "champion",
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Point an alias back at the version it had before."""
    session = open_session(store, config, set_, json)
    version = session.store.models.rollback(model, alias)
    session.report.result({"model": model, "alias": alias, "version": version})
    session.report.say(f"{model}@{alias} is back at version {version}")


@group.command("verify")
def verify(
    model: Annotated[str | None, typer.Argument(help="NAME/N or NAME@ALIAS; all without.")] = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Compare every file with its manifest, to the byte."""
    session = open_session(store, config, set_, json)
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
    model: ModelArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must be new or empty.")],
    format_: Annotated[
        Literal["adapter", "merged"],
        typer.Option("--format", help="adapter: the LoRA files; merged: a whole model."),
    ] = "adapter",
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Copy a verified version out of the registry: as a peft adapter folder, or merged.

    A merged model loads with transformers alone; vLLM and others serve it as it is, llama.cpp
    after its own conversion. Its contract.json says how a question and passages become the prompt.
    """
    session = open_session(store, config, set_, json)
    version = session.store.models.get(model)
    if format_ == "merged":
        from app.exporting import export_merged

        export_merged(session.settings, session.store, version, out=out)
    else:
        session.store.models.export(version.ref, out)
    session.report.result({"ref": version.ref, "out": str(out), "format": format_})
    session.report.say(f"{version.ref} → {out}")


@group.command("fetch")
def fetch(
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Download the models that the profile names, at their pinned revisions.

    Example: fti models fetch --config small
    """
    from app.build import fetch_models

    session = open_session(store, config, set_, json)
    done = fetch_models(session.settings)
    session.report.result({"fetched": done})
    for line in done:
        session.report.say(line)
