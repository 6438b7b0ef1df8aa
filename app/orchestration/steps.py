"""The steps that a pipeline is made of: what each reads and writes, and the function that it calls.

A step calls the very function that its command calls, and hands nothing to the next one: what it
read and wrote lies in the store or in files, and is named here. From these names come the order of
steps, the digests that decide whether one may be skipped, and the picture of the pipeline.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from fti.app.orchestration.resources import Context, Resource
from fti.store.errors import GateRefused, InvalidName
from fti.store.types import Value, sha256_hex
from fti.store.versioned.versions import check_name

if TYPE_CHECKING:
    from fti.app.settings import Settings


def _plain_name(name: str) -> str:
    try:
        return check_name(name, "dataset, model, case set or alias")
    except InvalidName as error:  # pydantic collects ValueErrors
        raise ValueError(str(error)) from error


PlainName = Annotated[str, AfterValidator(_plain_name)]


class Outcome(Value):
    """What a step did. ``partial``: done with some failures; ``refused``: a gate said no."""

    status: Literal["done", "partial", "refused"] = "done"
    summary: str
    run: str = ""


class Step(Value):
    """One step of a pipeline, as YAML writes it. ``id`` tells steps of one kind apart."""

    kind: ClassVar[str]
    #: Sections of the settings that the result depends on.
    sections: ClassVar[tuple[str, ...]]
    #: Whether the output must be as the step left it; otherwise it must only be there.
    owns_output: ClassVar[bool] = False

    id: str = Field(default="", description="Name of the step; its kind where there is only one.")

    @property
    def name(self) -> str:
        """What the step is called."""
        return self.id or self.kind

    def under(self, settings: Settings) -> Self:
        """The step with what it takes from the settings named in it."""
        return self

    @abstractmethod
    def reads(self) -> tuple[Resource, ...]:
        """What it depends on."""

    @abstractmethod
    def writes(self) -> tuple[Resource, ...]:
        """What it makes."""

    @abstractmethod
    def run(self, context: Context) -> Outcome:
        """Do it, by the function that the command calls."""

    def inputs(self, context: Context) -> dict[str, str]:
        """Digests of all that the result depends on, by what they are of."""
        from importlib.metadata import version

        settings = context.settings.model_dump(mode="json", include=set(self.sections))
        return {
            "step": sha256_hex(self.model_dump_json()),
            "settings": sha256_hex(json.dumps(settings, sort_keys=True)),
            "fti": version("fti-llm"),
        } | {str(resource): resource.digest(context) for resource in self.reads()}

    def outputs(self, context: Context) -> dict[str, str]:
        """Digests of what it makes, as it lies there now."""
        return {str(resource): resource.digest(context) for resource in self.writes()}


class IngestStep(Step):
    """Documents into the feature store: ``fti ingest``."""

    kind: ClassVar[str] = "ingest"
    sections: ClassVar[tuple[str, ...]] = ("features", "embedder")
    owns_output: ClassVar[bool] = True

    sources: tuple[str, ...] = Field(min_length=1, description="Files and folders.")
    delete_missing: bool = Field(default=False, description="Remove documents whose file is gone.")
    collection: PlainName | None = Field(
        default=None, description="Put the documents into this collection."
    )

    def reads(self) -> tuple[Resource, ...]:
        """The files, to the byte."""
        return (Resource("files", "\n".join(self.sources)),)

    def writes(self) -> tuple[Resource, ...]:
        """What can be found."""
        return (Resource("features"),)

    def run(self, context: Context) -> Outcome:
        """Ingest."""
        from fti.app.operations.ingestion import ingest_documents

        report = ingest_documents(
            context.settings,
            context.store,
            self.sources,
            delete_missing=self.delete_missing,
            collection=self.collection,
            progress=context.progress,
        )
        return Outcome(
            status="partial" if report.failed else "done",
            summary=f"{report.added} added, {report.updated} updated, {report.unchanged} "
            f"unchanged, {report.deleted} deleted, {len(report.failed)} failed",
            run=report.run,
        )


class DatasetStep(Step):
    """Instruction examples from the stored documents: ``fti dataset build``."""

    kind: ClassVar[str] = "dataset"
    sections: ClassVar[tuple[str, ...]] = (
        "dataset", "prompt", "embedder", "inference", "reranker",
    )  # fmt: skip

    dataset: PlainName = Field(description="Name of the dataset; a new version is published.")
    cases: Path | None = Field(default=None, description="CASES.jsonl to build from too.")

    def reads(self) -> tuple[Resource, ...]:
        """The features, the cases, and all frozen ones: what they ask is left out of training."""
        return (Resource("features"), Resource("cases"), *_file(self.cases))

    def writes(self) -> tuple[Resource, ...]:
        """The dataset."""
        return (Resource("dataset", self.dataset),)

    def run(self, context: Context) -> Outcome:
        """Build."""
        from fti.app.build import build_embedder
        from fti.app.operations.training.dataset_building import make_dataset
        from fti.pipelines.inference.evaluating.cases import load_cases

        version = make_dataset(
            context.settings,
            context.store,
            name=self.dataset,
            embedder=build_embedder(context.settings),
            cases=None if self.cases is None else load_cases(self.cases),
            progress=context.progress,
        )
        rows = ", ".join(f"{count} {split}" for split, count in version.rows.items())
        return Outcome(summary=f"{version.ref}: {rows} rows", run=version.run_id)


class FreezeStep(Step):
    """A case set to decide promotions on: ``fti cases freeze``."""

    kind: ClassVar[str] = "freeze"
    sections: ClassVar[tuple[str, ...]] = ()

    cases: PlainName = Field(description="Name of the frozen set.")
    file: Path = Field(description="CASES.jsonl or a BEIR folder.")

    def reads(self) -> tuple[Resource, ...]:
        """The file."""
        return _file(self.file)

    def writes(self) -> tuple[Resource, ...]:
        """The frozen set."""
        return (Resource("cases", self.cases),)

    def run(self, context: Context) -> Outcome:
        """Freeze."""
        from fti.app.operations.measuring.freezing import freeze_cases

        frozen = freeze_cases(context.store, self.cases, file=self.file)
        return Outcome(summary=f"{frozen.ref}: {frozen.cases} cases")


class FinetuneStep(Step):
    """A dataset version into a model version: ``fti finetune``."""

    kind: ClassVar[str] = "finetune"
    sections: ClassVar[tuple[str, ...]] = ("training", "prompt", "generator", "embedder")

    dataset: PlainName = Field(description="Name of the dataset; its newest version is trained on.")
    model: PlainName = Field(description="Name of the model to register.")

    def reads(self) -> tuple[Resource, ...]:
        """The dataset's rows."""
        return (Resource("dataset", self.dataset),)

    def writes(self) -> tuple[Resource, ...]:
        """The model's newest version."""
        return (Resource("model", self.model),)

    def run(self, context: Context) -> Outcome:
        """Train."""
        from fti.app.operations.training.finetuning import train

        version = train(
            context.settings,
            context.store,
            dataset=self.dataset,
            name=self.model,
            progress=context.progress,
        )
        loss = version.metrics.get("validation_loss")
        figures = f", validation loss {loss:.4g}" if isinstance(loss, float) else ""
        return Outcome(summary=f"{version.ref}{figures}", run=version.run_id)


class EvaluateStep(Step):
    """The newest version measured beside what it would replace: ``fti evaluate --compare``."""

    kind: ClassVar[str] = "evaluate"
    sections: ClassVar[tuple[str, ...]] = (
        "inference", "generator", "embedder", "reranker", "prompt", "model",
    )  # fmt: skip

    model: PlainName = Field(description="Name of the model; its newest version is measured.")
    cases: PlainName = Field(description="Name of the frozen case set.")
    compare: bool = Field(default=True, description="Also measure what it would replace.")

    def reads(self) -> tuple[Resource, ...]:
        """The model, the cases and the documents."""
        return (
            Resource("model", self.model),
            Resource("cases", self.cases),
            Resource("features"),
        )

    def writes(self) -> tuple[Resource, ...]:
        """An evaluation in the run log."""
        return (Resource("evaluation", f"{self.model} on {self.cases}"),)

    def run(self, context: Context) -> Outcome:
        """Measure."""
        from fti.app.operations.measuring.evaluating import evaluate_model, find_cases

        found = evaluate_model(
            context.settings,
            context.store,
            find_cases(context.store, self.cases),
            model=context.store.models.get(f"{self.model}/latest").ref,
            compare=self.compare,
            progress=context.progress,
        )
        report = found.report
        f1 = (report.answers or {}).get("f1")
        figures = f"f1 {f1.mean:.3f} [{f1.low:.3f}, {f1.high:.3f}]" if f1 else "no answer scored"
        return Outcome(summary=f"{report.model}: {figures}, {report.cases} cases", run=report.run)


class PromoteStep(Step):
    """The newest version to an alias, through the gate: ``fti models promote``."""

    kind: ClassVar[str] = "promote"
    sections: ClassVar[tuple[str, ...]] = ("gate", "model")

    model: PlainName = Field(description="Name of the model; its newest version is promoted.")
    cases: PlainName = Field(description="Name of the frozen case set that decides.")
    alias: PlainName = Field(default="champion", description="Only champion passes the gate.")
    on_refusal: Literal["keep", "fail"] = Field(
        default="keep", description="keep: a refusal leaves the alias and is no failure."
    )

    def reads(self) -> tuple[Resource, ...]:
        """The evaluation and the model."""
        return (
            Resource("evaluation", f"{self.model} on {self.cases}"),
            Resource("model", self.model),
        )

    def writes(self) -> tuple[Resource, ...]:
        """The alias."""
        return (Resource("alias", f"{self.model}@{self.alias}"),)

    def run(self, context: Context) -> Outcome:
        """Promote, or keep what is there when the gate says no."""
        from fti.app.operations.promoting.promotion import promote

        ref = context.store.models.get(f"{self.model}/latest").ref
        try:
            done = promote(context.settings, context.store, ref, alias=self.alias, cases=self.cases)
        except GateRefused as refusal:
            if self.on_refusal == "fail":
                raise
            return Outcome(status="refused", summary=refusal.message)
        return Outcome(summary=f"{ref} is {done.alias}: {done.reason}")


class BatchStep(Step):
    """Answers for a table of questions: ``fti batch``."""

    kind: ClassVar[str] = "batch"
    sections: ClassVar[tuple[str, ...]] = (
        "inference", "generator", "embedder", "reranker", "prompt", "model", "batch",
    )  # fmt: skip
    owns_output: ClassVar[bool] = True

    questions: Path = Field(description="A .jsonl, .csv or .parquet file.")
    out: Path | None = Field(default=None, description="A .jsonl or .parquet file; or")
    table: str | None = Field(default=None, description="a LanceDB table of the store.")
    model: str | None = Field(
        default=None,
        description="base, extractive, NAME@ALIAS or NAME/N; without, that of the profile.",
    )

    def under(self, settings: Settings) -> Self:
        """With the profile's model named: where it is an alias, the answers follow it."""
        return self if self.model else self.model_copy(update={"model": settings.model})

    @model_validator(mode="after")
    def _one_output(self) -> Self:
        if (self.out is None) == (self.table is None):
            raise ValueError("give 'out' or 'table', one of the two")
        return self

    def reads(self) -> tuple[Resource, ...]:
        """The questions, the documents, and the alias where one answers."""
        name = self.model or ""
        alias = (Resource("alias", name),) if "@" in name else ()
        return (*_file(self.questions), Resource("features"), *alias)

    def writes(self) -> tuple[Resource, ...]:
        """The answers."""
        return (Resource("answers", f"table {self.table}" if self.table else str(self.out)),)

    def run(self, context: Context) -> Outcome:
        """Answer."""
        from fti.app.operations.batch_answering import run_batch

        report = run_batch(
            context.settings,
            context.store,
            self.questions,
            out=self.out,
            table=self.table,
            model=self.model,
            progress=context.progress,
        )
        return Outcome(
            status="partial" if report.failed else "done",
            summary=f"{report.done} answered, {report.failed} failed, {report.skipped} already "
            "there",
            run=report.run,
        )


#: Every kind of step, by the key that YAML names it with.
STEPS: Mapping[str, type[Step]] = {
    step.kind: step
    for step in (
        IngestStep, DatasetStep, FreezeStep, FinetuneStep, EvaluateStep, PromoteStep, BatchStep,
    )
}  # fmt: skip


def _file(path: Path | None) -> tuple[Resource, ...]:
    return () if path is None else (Resource("files", str(path)),)
