"""``fti dataset``: instruction datasets from the stored chunks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.options import ConfigOption, JsonOption, SetOption, StoreOption, open_session

if TYPE_CHECKING:
    from app.options import Session
    from pipelines.feature.dataset.reviewed import Review
    from pipelines.feature.dataset.writer import Estimate
    from store.types import DatasetVersion

FeedbackOption = Annotated[
    Path | None,
    typer.Option(
        "--feedback", help="Verdicts on answers that were looked through: see fti dataset feedback."
    ),
]

group = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Build, list, show and export instruction datasets.",
)


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(group, name="dataset")


def dataset_json(dataset: DatasetVersion) -> dict[str, Any]:
    """A dataset version as commands print it."""
    return {
        "name": dataset.name,
        "version": dataset.version,
        "kind": dataset.kind,
        "rows": dict(dataset.rows),
        "kinds": dict(dataset.kinds),
        "documents": {split: len(names) for split, names in dataset.documents.items()},
        "digest": dataset.digest,
        "created_at": dataset.created_at.isoformat(),
        "run": dataset.run_id,
        "features_version": dataset.features_version,
    }


@group.command("build")
def build(
    name: Annotated[str, typer.Argument(help="Name of the dataset; each build is a new version.")],
    cases: Annotated[
        Path | None,
        typer.Option("--cases", help="Question and answer cases (CASES.jsonl) to build from too."),
    ] = None,
    imports: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            help="Conversations to take in: a JSONL, Parquet or CSV file, a folder of "
            "save_to_disk, or OWNER/NAME@COMMIT of the Hub. Repeatable.",
        ),
    ] = None,
    feedback: FeedbackOption = None,
    write: Annotated[
        bool,
        typer.Option(
            "--write",
            help="Let a language model write questions too (section dataset.writer); kept where "
            "its quote stands in the passage.",
        ),
    ] = False,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate", help="With --write: say what it will take, and ask the model nothing."
        ),
    ] = False,
    mask_pii: Annotated[
        bool,
        typer.Option(
            "--mask-pii",
            help="Mask e-mail addresses, telephone numbers, IBANs, card numbers and IP addresses.",
        ),
    ] = False,
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Make instruction examples from the stored documents; no language model is needed.

    Documents are split into train, validation and test before any example is made, and nothing to
    learn from asks what a frozen case set asks.
    Example: fti dataset build handbook --cases questions.jsonl
    """
    from app.build import build_embedder, build_writer, dataset_config, make_dataset
    from store.errors import InputError

    if estimate and not write:
        raise InputError(
            "--estimate says what --write will take, and --write is not there.",
            hint="Add --write.",
        )
    mask = ["dataset.mask=[email, phone, iban, card, ip]"] if mask_pii else []
    session = open_session(store, config, [*(set_ or ()), *mask], json)
    loaded = None
    if cases is not None:
        from pipelines.inference.cases import load_cases

        loaded = load_cases(cases)
    reviews = _reviews(feedback)
    embedder = build_embedder(session.settings)
    writer = None
    if write:
        from pipelines.feature.instructions import estimate_writing

        writer = build_writer(session.settings, session.store, embedder)
        expected = estimate_writing(session.store, writer, dataset_config(session.settings))
        said = _estimate(expected)
        if estimate:
            session.report.result(expected.model_dump(mode="json") | {"tokens": expected.tokens})
            session.report.say(said)
            return
        session.report.note(said)
    with session.report.progress() as progress:
        dataset = make_dataset(
            session.settings,
            session.store,
            name=name,
            embedder=embedder,
            cases=loaded,
            reviews=reviews,
            imports=imports or (),
            writer=writer,
            progress=progress,
        )
    _say_built(session, dataset)
    session.report.note(f"fine-tune on it with: fti finetune {dataset.ref} --name MODEL")


@group.command("pairs")
def pairs(
    name: Annotated[str, typer.Argument(help="Name of the preference dataset.")],
    source: Annotated[
        str, typer.Option("--from", help="Instruction dataset, NAME or NAME/N, to make pairs of.")
    ],
    feedback: FeedbackOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Make preference pairs: right answers against what a wrong passage says, and corrections.

    They are a dataset version of kind preference, in the split of their rows.
    Example: fti dataset pairs handbook-pairs --from handbook --feedback review.jsonl
    """
    from app.build import build_embedder, make_pairs

    session = open_session(store, config, set_, json)
    reviews = _reviews(feedback)
    with session.report.progress() as progress:
        made = make_pairs(
            session.settings,
            session.store,
            name=name,
            source=source,
            embedder=build_embedder(session.settings),
            reviews=reviews,
            progress=progress,
        )
    _say_built(session, made)


@group.command("feedback")
def feedback_(
    out: Annotated[Path, typer.Option("--out", help="JSONL file to write; must not exist.")],
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Write what people said of answers, to be looked through before anything learns from it.

    Set "accept" to true or false on each line, and give the file to build or pairs as --feedback.
    Example: fti dataset feedback --out review.jsonl
    """
    from pipelines.feature.dataset.reviewed import to_review
    from store.atomic import dump_line, write_bytes
    from store.errors import InputError

    session = open_session(store, config, set_, json)
    if out.exists():
        raise InputError(
            f"{str(out)!r} is there already, and may hold decisions.",
            hint="Name another file, or delete it.",
        )
    found = to_review(session.store)
    if not found:
        raise InputError(
            "Nobody has said anything of an answer yet.",
            hint="Verdicts come from the chat page, or POST /v1/feedback.",
        )
    lines = "".join(dump_line(one.model_dump(mode="json")) + "\n" for one in found)
    write_bytes(out, lines.encode("utf-8"))
    session.report.result(
        {
            "out": str(out),
            "verdicts": len(found),
            "corrections": sum(bool(one.correction) for one in found),
        }
    )
    session.report.say(f'{len(found)} verdicts in {out}: set "accept" on each line')


def _reviews(path: Path | None) -> list[Review]:
    if path is None:
        return []
    from pipelines.feature.dataset.reviewed import read_reviewed

    return read_reviewed(path)


def _estimate(expected: Estimate) -> str:
    cost = f", {expected.cost:.2f} at the given prices" if expected.cost else ""
    return (
        f"{expected.model} writes about {expected.passages - expected.kept} passages "
        f"({expected.kept} are written about already): {expected.prompt_tokens} tokens of prompts "
        f"and at most {expected.reply_tokens} of replies{cost}"
    )


def _say_built(session: Session, dataset: DatasetVersion) -> None:
    session.report.result(dataset_json(dataset))
    session.report.say(
        f"{dataset.ref}: "
        + ", ".join(f"{count} {split}" for split, count in dataset.rows.items())
        + " rows ("
        + ", ".join(f"{count} {kind}" for kind, count in sorted(dataset.kinds.items()))
        + f"); digest {dataset.digest[:12]}"
    )


@group.command("list")
def list_(
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """List the dataset versions."""
    session = open_session(store, config, set_, json)
    found = session.store.datasets.list()
    session.report.result({"datasets": [dataset_json(d) for d in found]})
    if not found:
        session.report.say("There is no dataset yet. Make one with: fti dataset build NAME")
        return
    session.report.table(
        ["dataset", "created", "train", "validation", "test", "digest"],
        [
            [
                d.ref,
                f"{d.created_at:%Y-%m-%d %H:%M}",
                *(d.rows.get(s, 0) for s in ("train", "validation", "test")),
                d.digest[:12],
            ]
            for d in found
        ],
    )


@group.command("show")
def show(
    dataset: Annotated[str, typer.Argument(help="NAME or NAME/N.")],
    rows: Annotated[int, typer.Option("--rows", min=0, help="Examples to show.")] = 3,
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Show one dataset version and some of its rows."""
    from itertools import islice

    session = open_session(store, config, set_, json)
    version = session.store.datasets.get(dataset)
    examples = list(islice(session.store.datasets.rows(version.ref, "train"), rows))
    sources = {r.id: r.source for r in session.store.features.records()}
    session.report.result(
        dataset_json(version)
        | {
            "sources": {
                split: [sources.get(i, i) for i in ids] for split, ids in version.documents.items()
            },
            "settings": dict(version.settings),
            "examples": [e.model_dump(mode="json") for e in examples],
        }
    )
    session.report.table(
        ["split", "rows", "documents"],
        [[s, version.rows[s], len(version.documents.get(s, ()))] for s in version.rows],
        title=f"{version.ref} (digest {version.digest[:12]}, run {version.run_id})",
    )
    for example in examples:
        session.report.say(f"\n[{example.kind}] {example.question}", style="bold")
        session.report.say(f"  → {example.response}")


@group.command("export")
def export(
    dataset: Annotated[str, typer.Argument(help="NAME or NAME/N.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must be new or empty.")],
    format_: Annotated[
        Literal["messages", "rows", "arrow"],
        typer.Option(
            "--format",
            help="messages: chat JSONL for other trainers; rows: everything; arrow: datasets' "
            "save_to_disk.",
        ),
    ] = "messages",
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Write a dataset version for other tools."""
    from app.exporting import export_dataset

    session = open_session(store, config, set_, json)
    version = session.store.datasets.get(dataset)
    files = export_dataset(session.store, version, out=out, format=format_)
    session.report.result(
        {"name": version.name, "version": version.version, "files": [str(f) for f in files]}
    )
    for file in files:
        session.report.say(str(file))
