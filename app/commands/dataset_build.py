"""``fti dataset build``, ``pairs`` and ``feedback``: datasets from the stored chunks."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fti.app.commands.dataset import dataset_json, say_imported
from fti.app.options import (
    CommonOptions,
    ExecutorOption,
    WithinOptions,
    WorkersOption,
    require_ray_for_workers,
)

if TYPE_CHECKING:
    from fti.app.build import Engines
    from fti.app.options import Session
    from fti.pipelines.feature.dataset.round_trip import RoundTrip
    from fti.pipelines.feature.dataset.sources.question_writing import Estimate, Writer
    from fti.pipelines.feature.dataset.sources.reviewed import Review
    from fti.store.types import DatasetVersion

FeedbackOption = Annotated[
    Path | None,
    typer.Option(
        "--feedback", help="Verdicts on answers that were looked through: see fti dataset feedback."
    ),
]


def build(
    within: WithinOptions,
    common: CommonOptions,
    name: Annotated[str, typer.Argument(help="Name of the dataset; each build is a new version.")],
    cases: Annotated[
        Path | None,
        typer.Option("--cases", help="Question and answer cases (CASES.jsonl) to build from too."),
    ] = None,
    imports: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            help="Conversations to take in: a JSONL, Parquet, CSV or TSV file, a folder of "
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
            "--estimate", help="Only say what a model's writing will take, and ask it nothing."
        ),
    ] = False,
    questions: Annotated[
        Literal["rules", "model", "both"] | None,
        typer.Option(
            "--questions",
            help="Who writes questions about the documents: rules, the built-in question writer "
            "(and rules for tables), or both; as the profile says by default.",
        ),
    ] = None,
    mask_pii: Annotated[
        bool,
        typer.Option(
            "--mask-pii",
            help="Mask e-mail addresses, telephone numbers, IBANs, card numbers and IP addresses.",
        ),
    ] = False,
    executor: ExecutorOption = "local",
    workers: WorkersOption = None,
) -> None:
    """Make instruction examples from the stored documents; everything needed ships with fti.

    Documents are split into train, validation and test before any example is made, and nothing to
    learn from asks what a frozen case set asks.
    Example: fti dataset build handbook --cases questions.jsonl
    """
    from fti.app.build import Engines
    from fti.app.operations.training.dataset_building import dataset_config, make_dataset, writes
    from fti.store.errors import InputError

    require_ray_for_workers(executor, workers)
    mask = ["dataset.mask=[email, phone, iban, card, ip]"] if mask_pii else []
    by = [f"dataset.questions={questions}"] if questions else []
    session = common.open([*mask, *by, *within.overrides()])
    loaded = None
    if cases is not None:
        from fti.pipelines.inference.evaluating.cases import load_cases

        loaded = load_cases(cases)
    reviews = _reviews(feedback)
    engines = Engines(session.settings)
    asks_models = write or writes(session.settings, loaded)
    if not asks_models and (estimate or executor != "local"):
        raise InputError(
            "--estimate says what a model's writing will take, and none is to write."
            if estimate
            else "--executor ray is for models that write questions, and none is to write.",
            hint="Add --write, or --questions model.",
        )
    dataset = expected = None
    with ExitStack() as stack:
        writer, reader = None, None
        if asks_models:
            from fti.pipelines.feature.dataset.instructions import estimate_writing

            # Its estimate needs no replicas.
            spread = executor == "ray" and not estimate
            writer, reader = _writer(session, engines, write, spread, workers, stack)
            expected = estimate_writing(session.store, writer, dataset_config(session.settings))
        if not estimate:
            if expected is not None:
                session.report.note(_estimate(expected))
            with session.report.progress() as progress:
                dataset = make_dataset(
                    session.settings,
                    session.store,
                    name=name,
                    embedder=engines.embedder,
                    cases=loaded,
                    reviews=reviews,
                    imports=imports or (),
                    writer=writer,
                    round_trip=reader,
                    engines=engines,
                    progress=progress,
                )
    if dataset is None:
        assert expected is not None  # an estimate was asked for
        session.report.result(expected.model_dump(mode="json") | {"tokens": expected.tokens})
        session.report.say(_estimate(expected))
        return
    _say_built(session, dataset)
    session.report.note(f"fine-tune on it with: fti finetune {dataset.ref} --name MODEL")


def _writer(
    session: Session,
    engines: Engines,
    write: bool,
    spread: bool,
    workers: int | None,
    stack: ExitStack,
) -> tuple[Writer, RoundTrip | None]:
    """What writes questions, and what reads them again: here, or as replicas with the stack."""
    settings, store = session.settings, session.store
    if not spread:
        from fti.app.build import build_writer
        from fti.app.operations.training.dataset_building import writer_and_reader

        if write:
            return build_writer(settings, store, engines.embedder), None
        return writer_and_reader(settings, store, engines)
    from fti.app.operations.training.dataset_replicas import (
        writer_and_reader_of_replicas,
        writer_of_replicas,
    )
    from fti.pipelines.engines.replicas.cluster import cluster

    stack.enter_context(cluster())
    if write:
        return writer_of_replicas(settings, store, engines, workers), None
    return writer_and_reader_of_replicas(settings, store, engines, workers)


def pairs(
    common: CommonOptions,
    name: Annotated[str, typer.Argument(help="Name of the preference dataset.")],
    source: Annotated[
        str, typer.Option("--from", help="Instruction dataset, NAME or NAME/N, to make pairs of.")
    ],
    feedback: FeedbackOption = None,
) -> None:
    """Make preference pairs: right answers against what a wrong passage says, and corrections.

    They are a dataset version of kind preference, in the split of their rows.
    Example: fti dataset pairs handbook-pairs --from handbook --feedback review.jsonl
    """
    from fti.app.build import build_embedder
    from fti.app.operations.training.dataset_building import make_pairs

    session = common.open()
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


def feedback(
    common: CommonOptions,
    out: Annotated[Path, typer.Option("--out", help="JSONL file to write; must not exist.")],
) -> None:
    """Write what people said of answers, to be looked through before anything learns from it.

    Set "accept" to true or false on each line, and give the file to build or pairs as --feedback.
    Example: fti dataset feedback --out review.jsonl
    """
    from fti.pipelines.feature.dataset.sources.reviewed import to_review
    from fti.store.errors import InputError
    from fti.store.files.atomic import dump_line, write_bytes

    session = common.open()
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
    from fti.pipelines.feature.dataset.sources.reviewed import read_reviewed

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
    say_imported(session, dataset)
