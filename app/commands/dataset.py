"""``fti dataset list``, ``show``, ``diff`` and ``export``: what datasets there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fti.app.options import Commands, CommonOptions
from fti.app.reporting import damaged_json
from fti.store.types import PreferenceExample

if TYPE_CHECKING:
    from fti.app.options import Session
    from fti.store.store import Store
    from fti.store.types import DatasetVersion, Split
    from fti.store.versioned.datasets import Example


group = Commands(
    "dataset", "Build, list, show, compare and export datasets of instruction rows and of pairs."
)


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
        "retrieval": dataset.retrieval and dataset.retrieval.model_dump(mode="json"),
        **({"imported": imported} if (imported := _imported(dataset)) else {}),
    }


#: Why something of imported files became no row, for people.
LEFT_OUT = {
    "answers_of_weight_0": "answers of weight 0, which are only read",
    "answers_without_question": "answers that no user's turn comes before",
    "asked_before": "asked and answered alike before",
    "beyond_max_imported_share": "beyond dataset.max_imported_share",
    "beyond_max_rows": "beyond dataset.max_rows",
    "cut_at_a_tool": "conversations cut where a tool is used",
    "empty_turn": "conversations with an empty turn",
    "in_frozen_cases": "asked in a frozen case set",
    "no_answer": "conversations without an answer",
    "no_list_of_turns": "rows whose turns are no list of turns",
    "no_question": "conversations without a question",
    "no_such_weight": "conversations with a weight that is no number from 0 on",
    "none_of_the_forms": "rows of no form that can be imported",
    "not_text": "conversations with a turn that is no text",
    "only_with_tools": "conversations that use a tool from the first question on",
    "system_turns_left_out": "system turns, since a model's contract has its own",
    "unknown_role": "conversations with an unknown role",
}


def _imported(dataset: DatasetVersion) -> dict[str, Any]:
    """Of imported files what was given, taken and used, and by reason what was left out."""
    counts = dict(dataset.statistics.get("sources", {}).get("imported", {}))
    if not counts:
        return {}
    said = {name: counts.pop(name, 0) for name in ("rows", "conversations", "answers", "used")}
    return {**said, "left_out": counts}


def say_imported(session: Session, dataset: DatasetVersion) -> None:
    """What became of conversations that a dataset was built from, for people."""
    found = _imported(dataset)
    if not found:
        return
    session.report.say(
        f"imported: {found['used']} of {found['answers']} answers are rows, from "
        f"{found['conversations']} of {found['rows']} conversations"
    )
    for reason, count in sorted(found["left_out"].items(), key=lambda pair: (-pair[1], pair[0])):
        session.report.say(f"  left out: {count} {LEFT_OUT.get(reason, reason.replace('_', ' '))}")


@group.command("list")
def list_(common: CommonOptions) -> None:
    """List the dataset versions."""
    session = common.open()
    found, damaged = session.store.datasets.survey()
    listed = [dataset_json(d) for d in found]
    session.report.result({"datasets": listed, "damaged": damaged_json(damaged)})
    if not found and not damaged:
        session.report.say("There is no dataset yet. Make one with: fti dataset build NAME")
        return
    session.report.table(
        ["dataset", "kind", "created", "train", "validation", "test", "digest"],
        [
            [
                d.ref,
                d.kind,
                f"{d.created_at:%Y-%m-%d %H:%M}",
                *(d.rows.get(s, 0) for s in ("train", "validation", "test")),
                d.digest[:12],
            ]
            for d in found
        ],
    )
    if session.report.tell_damaged(damaged):
        raise typer.Exit(3)


@group.command("show")
def show(
    common: CommonOptions,
    dataset: Annotated[str, typer.Argument(help="NAME or NAME/N.")],
    rows: Annotated[int, typer.Option("--rows", min=0, help="Examples to show.")] = 3,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write the card, with plots and samples, as one HTML file."),
    ] = None,
) -> None:
    """Show one dataset version and some of its rows.

    Example: fti dataset show handbook --html card.html
    """
    from itertools import islice

    session = common.open()
    datasets = session.store.datasets
    version = datasets.get(dataset)
    examples = list(islice(datasets.examples(version.ref, "train"), rows))
    sources = {r.id: r.source for r in session.store.features.records()}
    result = dataset_json(version) | {
        "sources": {
            split: [sources.get(i, i) for i in ids] for split, ids in version.documents.items()
        },
        "settings": dict(version.settings),
        "statistics": dict(version.statistics),
        "examples": [e.model_dump(mode="json") for e in examples],
    }
    if html is not None:
        from fti.app.reports.dataset_card import as_html
        from fti.store.files.atomic import write_bytes

        card = as_html(version, _samples(session.store, version, rows), sources)
        path = html if html.suffix == ".html" else html / "dataset.html"
        write_bytes(path, card.encode("utf-8"))
        result["card"] = str(path)
    session.report.result(result)
    session.report.table(
        ["split", "rows", "documents"],
        [[s, version.rows[s], len(version.documents.get(s, ()))] for s in version.rows],
        title=f"{version.ref} ({version.kind}, digest {version.digest[:12]}, run {version.run_id})",
    )
    _say_filters(session, version)
    say_imported(session, version)
    for example in examples:
        session.report.say(f"\n[{example.kind}] {example.question}", style="bold")
        if isinstance(example, PreferenceExample):
            session.report.say(f"  → {example.chosen_response}")
            session.report.say(f"  ✗ {example.rejected_response}", style="dim")
        else:
            session.report.say(f"  → {example.response}")
    if html is not None:
        session.report.say(f"\n{result['card']}")


def _say_filters(session: Session, version: DatasetVersion) -> None:
    found = [f for f in version.statistics.get("filters", ()) if f["share"] not in (None, 1.0)]
    if found:
        session.report.table(
            ["filter", "considered", "kept", "share"],
            [[f["filter"], f["considered"], f["kept"], f"{100 * f['share']:.1f} %"] for f in found],
            title="Filters that turned something away",
        )


def _samples(store: Store, version: DatasetVersion, count: int) -> dict[Split, list[Example]]:
    """Of each kind of row its first ones, in every split."""
    from collections import Counter

    from fti.store.types import SPLITS

    found: dict[Split, list[Example]] = {}
    for split in SPLITS:
        seen: Counter[str] = Counter()
        found[split] = []
        for row in store.datasets.examples(version.ref, split):
            seen[row.kind] += 1
            if seen[row.kind] <= count:
                found[split].append(row)
    return found


@group.command("diff")
def diff(
    common: CommonOptions,
    first: Annotated[str, typer.Argument(help="NAME/N to compare with.")],
    second: Annotated[str, typer.Argument(help="NAME or NAME/N that is asked about.")],
    rows: Annotated[int, typer.Option("--rows", min=0, help="Rows to show of each side.")] = 3,
) -> None:
    """Say what is different between two versions: rows, documents, settings.

    Example: fti dataset diff handbook/1 handbook/2
    """
    from fti.pipelines.feature.dataset.comparison import compare

    session = common.open()
    found = compare(session.store, first, second, samples=rows)
    report = session.report
    report.result(found.model_dump(mode="json"))
    if found.same_digest:
        report.say(f"{found.first} and {found.second} hold the same rows.")
        return
    report.table(
        ["rows", found.first, found.second],
        [[name, *pair] for name, pair in {**found.rows, **found.kinds}.items()],
        title=f"{found.added} rows added, {found.removed} removed, {found.kept} kept; "
        f"{found.changed} of the questions have another answer or other passages, "
        f"{found.moved_rows} rows another split",
    )
    for name, (was, now) in found.settings.items():
        report.say(f"{name}: {was!r} → {now!r}")
    for what, names in (("added", found.documents_added), ("removed", found.documents_removed)):
        for name in names:
            report.say(f"document {what}: {name}")
    for name, (before, after) in found.documents_moved.items():
        report.say(f"document moved: {name} from {before} to {after}")
    for mark, samples in (("+", found.added_samples), ("-", found.removed_samples)):
        for row in samples:
            report.say(f"{mark} [{row.kind}] {row.question} → {row.response}")


@group.command("export")
def export(
    common: CommonOptions,
    dataset: Annotated[str, typer.Argument(help="NAME or NAME/N.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must be new or empty.")],
    format_: Annotated[
        Literal["messages", "rows", "arrow", "parquet"],
        typer.Option(
            "--format",
            help="messages: chat JSONL for other trainers (pairs: prompt, chosen, rejected); "
            "rows: everything, as JSONL; arrow: for datasets.load_from_disk; parquet: a file per "
            "split.",
        ),
    ] = "messages",
) -> None:
    """Write a dataset version for other tools."""
    from fti.app.operations.releasing.exporting import export_dataset

    session = common.open()
    version = session.store.datasets.get(dataset)
    files = export_dataset(session.store, version, out=out, format=format_)
    session.report.result(
        {"name": version.name, "version": version.version, "files": [str(f) for f in files]}
    )
    for file in files:
        session.report.say(str(file))
