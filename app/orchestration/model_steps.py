"""Steps of the training and inference pipelines: models made, measured, promoted and asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fti.app.orchestration.resources import Context, Resource, newest, newest_trained
from fti.app.orchestration.step import Outcome, PlainName, Step, files_of
from fti.store.errors import GateRefused
from fti.store.versioned.aliases import CHAMPION

if TYPE_CHECKING:
    from fti.app.settings import Settings


class FinetuneStep(Step):
    """A dataset version into a model version: ``fti finetune``."""

    kind: ClassVar[str] = "finetune"
    sections: ClassVar[tuple[str, ...]] = ("training", "prompt", "generator", "embedder")

    dataset: PlainName = Field(description="Name of the dataset; its newest version is trained on.")
    model: PlainName = Field(description="Name of the model to register.")
    start: PlainName | None = Field(
        default=None,
        description="Name of another model; training goes on from its newest trained version.",
    )

    @model_validator(mode="after")
    def _not_from_itself(self) -> Self:
        if self.start == self.model:
            raise ValueError("'start' is 'model': what it makes would be a reason to run again")
        return self

    def reads(self) -> tuple[Resource, ...]:
        """The dataset's rows, and the version to go on from."""
        start = () if self.start is None else (Resource("trained", self.start),)
        return (Resource("dataset", self.dataset), *start)

    def writes(self) -> tuple[Resource, ...]:
        """The model's newest version, which is a trained one."""
        return (Resource("model", self.model), Resource("trained", self.model))

    def run(self, context: Context) -> Outcome:
        """Train."""
        from fti.app.operations.training.finetuning import train

        version = train(
            context.settings,
            context.store,
            dataset=self.dataset,
            name=self.model,
            start=None if self.start is None else newest_trained(context.store, self.start).ref,
            progress=context.progress,
        )
        loss = version.metrics.get("validation_loss")
        figures = f", validation loss {loss:.4g}" if isinstance(loss, float) else ""
        return Outcome(summary=f"{version.ref}{figures}", run=version.run_id)


class CalibrateStep(Step):
    """When the newest trained version should refuse: ``fti calibrate``.

    Its version is the model's next one, so that what comes after works with that. It starts from
    what was trained and not from its own result, which would be a reason to run every time.
    """

    kind: ClassVar[str] = "calibrate"
    sections: ClassVar[tuple[str, ...]] = (
        "inference", "generator", "embedder", "reranker", "gate",
    )  # fmt: skip

    model: PlainName = Field(description="Name of the model; its newest trained version is asked.")
    cases: Path = Field(description="CASES.jsonl with answerable and unanswerable cases.")
    false_refusals: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Most of the answerable cases that may be refused; else the best F1 decides.",
    )
    limit: int | None = Field(
        default=None, ge=2, description="Ask a seeded sample of so many cases."
    )

    def reads(self) -> tuple[Resource, ...]:
        """What was trained, the cases and the documents."""
        return (Resource("trained", self.model), *files_of(self.cases), Resource("features"))

    def writes(self) -> tuple[Resource, ...]:
        """The model's newest version."""
        return (Resource("model", self.model),)

    def run(self, context: Context) -> Outcome:
        """Calibrate."""
        from fti.app.operations.measuring.calibrating import calibrate_model
        from fti.app.operations.measuring.evaluating import sample
        from fti.pipelines.inference.evaluating.cases import load_cases

        cases = sample(load_cases(self.cases), self.limit)
        done = calibrate_model(
            context.settings,
            context.store,
            cases,
            model=newest_trained(context.store, self.model).ref,
            max_false_refusals=self.false_refusals,
            progress=context.progress,
        )
        chosen = done.found.chosen
        made = done.version.ref if done.version else done.model
        return Outcome(
            summary=f"{made}: refuses below a similarity of {chosen.threshold:.3f}, "
            f"F1 of refusing {chosen.f1:.3f}, {done.found.cases} cases",
            run=done.run,
        )


class FinetuneEmbedderStep(Step):
    """Questions with their passages into a better embedder: ``fti finetune-embedder``.

    It depends on what the documents say and not on their vectors: once its embedder is the store's,
    that is no reason to train it again.
    """

    kind: ClassVar[str] = "finetune-embedder"
    sections: ClassVar[tuple[str, ...]] = (
        "embedder", "embedder_training", "negatives", "dataset", "prompt", "inference", "reranker",
        "features",
    )  # fmt: skip

    model: PlainName = Field(description="Name of the embedder to register.")
    cases: Path | None = Field(default=None, description="CASES.jsonl to train on; or")
    dataset: PlainName | None = Field(default=None, description="a dataset; its newest version.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.cases is None) == (self.dataset is None):
            raise ValueError("give 'cases' or 'dataset', one of the two")
        return self

    def reads(self) -> tuple[Resource, ...]:
        """What is trained on, and the documents that wrong passages are found in."""
        dataset = () if self.dataset is None else (Resource("dataset", self.dataset),)
        return (*files_of(self.cases), *dataset, Resource("documents"))

    def writes(self) -> tuple[Resource, ...]:
        """The embedder's newest version, and what it was trained on."""
        made = ("pairs", "cases") if self.cases is not None else ("pairs",)
        datasets = (Resource("dataset", f"{self.model}-{kind}") for kind in made)
        return (Resource("model", self.model), *datasets)

    def run(self, context: Context) -> Outcome:
        """Train."""
        from fti.app.operations.training.embedder_training import train_embedder
        from fti.pipelines.inference.evaluating.cases import load_cases

        if self.cases is not None:
            load_cases(self.cases)  # a file that is gone would be taken for a dataset's name
        version = train_embedder(
            context.settings,
            context.store,
            source=str(self.cases or self.dataset),
            name=self.model,
            progress=context.progress,
        )
        return Outcome(summary=version.ref, run=version.run_id)


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
            model=newest(context.store, self.model).ref,
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

        ref = newest(context.store, self.model).ref
        try:
            done = promote(
                context.settings,
                context.store,
                ref,
                alias=self.alias,
                cases=self.cases,
                progress=context.progress,
            )
        except GateRefused as refusal:
            if self.on_refusal == "fail":
                raise
            return Outcome(status="refused", summary=refusal.message)
        return Outcome(summary=f"{ref} is {done.alias}: {done.reason}")


class PromoteEmbedderStep(Step):
    """The newest embedder to the store's, through the gate: ``fti models promote``.

    The gate measures both itself, and all vectors are made anew.
    """

    kind: ClassVar[str] = "promote-embedder"
    sections: ClassVar[tuple[str, ...]] = ("gate", "embedder", "inference", "reranker", "features")

    model: PlainName = Field(description="Name of the embedder; its newest version is promoted.")
    cases: PlainName = Field(description="Name of the frozen case set that decides.")
    on_refusal: Literal["keep", "fail"] = Field(
        default="keep", description="keep: a refusal leaves the vectors and is no failure."
    )

    def reads(self) -> tuple[Resource, ...]:
        """The embedder and the cases."""
        return (Resource("model", self.model), Resource("cases", self.cases))

    def writes(self) -> tuple[Resource, ...]:
        """The alias, and how everything is found."""
        return (Resource("alias", f"{self.model}@{CHAMPION}"), Resource("features"))

    def run(self, context: Context) -> Outcome:
        """Promote, or keep the vectors when the gate says no."""
        step = PromoteStep(
            model=self.model, cases=self.cases, alias=CHAMPION, on_refusal=self.on_refusal
        )
        return step.run(context)


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
        return (*files_of(self.questions), Resource("features"), *alias)

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
