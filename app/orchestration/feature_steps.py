"""Steps of the feature pipelines: documents, datasets, case sets, and how the store is doing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from fti.app.orchestration.resources import Context, Resource
from fti.app.orchestration.step import Outcome, PlainName, Step, files_of
from fti.store.errors import ExpectationsBroken, IntegrityError

if TYPE_CHECKING:
    from fti.pipelines.feature.dataset.sources.reviewed import Review
    from fti.store.types import DatasetVersion

_FEEDBACK = "Verdicts on answers that were looked through: see fti dataset feedback."


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
        return (Resource("features"), Resource("documents"))

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


class VerifyStep(Step):
    """Whether all that is stored is as its digests say: ``fti store verify``."""

    kind: ClassVar[str] = "verify"
    sections: ClassVar[tuple[str, ...]] = ()
    always: ClassVar[str] = "files can be damaged at any time"

    def reads(self) -> tuple[Resource, ...]:
        """All that is stored when its turn comes, whoever made it."""
        return ()

    def writes(self) -> tuple[Resource, ...]:
        """Nothing."""
        return ()

    def run(self, context: Context) -> Outcome:
        """Look at everything; what is wrong is a failure, as nothing should be built on it."""
        from fti.store.upkeep.checking import check_store

        found = check_store(context.store, progress=context.progress)
        if found.problems:
            first = found.problems[0]
            raise IntegrityError(
                f"The store is not as it should be: {first.where}: {first.problem} (the first of "
                f"{len(found.problems)}).",
                hint="List them with: fti store verify",
            )
        looked = ", ".join(f"{n} {what.replace('_', ' ')}" for what, n in found.checked.items())
        return Outcome(summary=f"all as it should be: {looked or 'an empty store'}")


class ValidateStep(Step):
    """What landed against what is expected of it: ``fti validate``."""

    kind: ClassVar[str] = "validate"
    sections: ClassVar[tuple[str, ...]] = ("expectations",)
    always: ClassVar[str] = "documents grow old"

    file: Path | None = Field(default=None, description="YAML file of expectations.")
    on_violation: Literal["fail", "tell"] = Field(
        default="fail", description="fail: nothing is made of what is not as expected."
    )
    report: Path | None = Field(default=None, description="An .html file to write.")

    def reads(self) -> tuple[Resource, ...]:
        """The documents, and what is expected of them."""
        return (Resource("features"), *files_of(self.file))

    def writes(self) -> tuple[Resource, ...]:
        """The report, where one is named."""
        return () if self.report is None else (Resource("report", str(self.report)),)

    def run(self, context: Context) -> Outcome:
        """Look; what is broken fails the step, or is told with exit code 3."""
        from fti.app.reports.validation_page import write_report
        from fti.pipelines.feature.validating.validate_features import validate_features

        expected = context.settings.expectations
        if self.file is not None:
            expected = expected.model_copy(update={"file": self.file})
        found = validate_features(store=context.store, config=expected, progress=context.progress)
        if self.report is not None:
            write_report(found, self.report, store=str(context.store.layout.root))
        told = f"{found.broken} of {found.expectations} expectations are broken"
        if not found.broken:
            return Outcome(summary=f"all {found.expectations} expectations are kept", run=found.run)
        first = found.findings[0]
        where = f"{first.collection}, {first.frame} {first.column}".strip()
        if self.on_violation == "fail":
            raise ExpectationsBroken(
                f"{told}: {where}: {first.check}, by {first.rows} of {first.of}.",
                hint="See all of them with: fti validate",
            )
        return Outcome(status="partial", summary=f"{told}: {where}: {first.check}", run=found.run)


class DatasetStep(Step):
    """Instruction examples from the stored documents: ``fti dataset build``."""

    kind: ClassVar[str] = "dataset"
    sections: ClassVar[tuple[str, ...]] = (
        "dataset", "prompt", "embedder", "inference", "reranker",
    )  # fmt: skip

    dataset: PlainName = Field(description="Name of the dataset; a new version is published.")
    cases: Path | None = Field(default=None, description="CASES.jsonl to build from too.")
    feedback: Path | None = Field(default=None, description=_FEEDBACK)
    imports: tuple[str, ...] = Field(
        default=(),
        description="Conversations to take in too, as --import names them: files, folders, or "
        "OWNER/NAME@COMMIT of the Hub.",
    )
    write: bool = Field(default=False, description="Let a language model write questions too.")

    def settings_read(self) -> tuple[str, ...]:
        """The model that writes may be the one that answers."""
        return (*self.sections, *(("generator",) if self.write else ()))

    def reads(self) -> tuple[Resource, ...]:
        """The features, the cases, and all frozen ones: what they ask is left out of training."""
        chats = (Resource("chats", source) for source in self.imports)
        files = files_of(self.cases, self.feedback)
        return (Resource("features"), Resource("cases"), *files, *chats)

    def writes(self) -> tuple[Resource, ...]:
        """The dataset."""
        return (Resource("dataset", self.dataset),)

    def run(self, context: Context) -> Outcome:
        """Build."""
        from fti.app.build import build_embedder, build_writer
        from fti.app.operations.training.dataset_building import make_dataset
        from fti.pipelines.inference.evaluating.cases import load_cases

        settings, store = context.settings, context.store
        cases = None if self.cases is None else load_cases(self.cases)
        reviews = _reviews(self.feedback)
        embedder = build_embedder(settings)
        version = make_dataset(
            settings,
            store,
            name=self.dataset,
            embedder=embedder,
            cases=cases,
            reviews=reviews,
            imports=self.imports,
            writer=build_writer(settings, store, embedder) if self.write else None,
            progress=context.progress,
        )
        return _built(version)


class PairsStep(Step):
    """Preference pairs from a dataset's rows and corrections: ``fti dataset pairs``."""

    kind: ClassVar[str] = "pairs"
    sections: ClassVar[tuple[str, ...]] = ("pairs", "prompt", "generator", "embedder")

    dataset: PlainName = Field(description="Name of the dataset of pairs.")
    source: PlainName = Field(description="Name of the dataset to make pairs of; the newest.")
    feedback: Path | None = Field(default=None, description=_FEEDBACK)

    def reads(self) -> tuple[Resource, ...]:
        """The rows and the corrections."""
        return (Resource("dataset", self.source), *files_of(self.feedback))

    def writes(self) -> tuple[Resource, ...]:
        """The dataset of pairs."""
        return (Resource("dataset", self.dataset),)

    def run(self, context: Context) -> Outcome:
        """Make pairs."""
        from fti.app.build import build_embedder
        from fti.app.operations.training.dataset_building import make_pairs

        reviews = _reviews(self.feedback)
        version = make_pairs(
            context.settings,
            context.store,
            name=self.dataset,
            source=self.source,
            embedder=build_embedder(context.settings),
            reviews=reviews,
            progress=context.progress,
        )
        return _built(version)


class FreezeStep(Step):
    """A case set to decide promotions on: ``fti cases freeze``."""

    kind: ClassVar[str] = "freeze"
    sections: ClassVar[tuple[str, ...]] = ()

    cases: PlainName = Field(description="Name of the frozen set.")
    file: Path = Field(description="CASES.jsonl or a BEIR folder.")

    def reads(self) -> tuple[Resource, ...]:
        """The file."""
        return files_of(self.file)

    def writes(self) -> tuple[Resource, ...]:
        """The frozen set."""
        return (Resource("cases", self.cases),)

    def run(self, context: Context) -> Outcome:
        """Freeze."""
        from fti.app.operations.measuring.freezing import freeze_cases

        frozen = freeze_cases(context.store, self.cases, file=self.file)
        return Outcome(summary=f"{frozen.ref}: {frozen.cases} cases")


class MonitorStep(Step):
    """How the system is doing, and whether what comes in has changed: ``fti monitor``.

    With alerts it is done in part, so that the pipeline exits with 3 as the command does.
    """

    kind: ClassVar[str] = "monitor"
    sections: ClassVar[tuple[str, ...]] = (
        "monitoring", "promises", "evaluation", "batch", "embedder",
    )  # fmt: skip
    always: ClassVar[str] = "it looks back from now"

    days: int = Field(default=7, ge=1, description="How far back answers count.")
    cases: PlainName | None = Field(
        default=None, description="Frozen case set that users' questions are compared with."
    )
    report: Path | None = Field(default=None, description="An .html file to write.")

    def reads(self) -> tuple[Resource, ...]:
        """The documents, the answers, and the cases that questions are compared with."""
        cases = Resource("cases", self.cases or "")
        return (Resource("features"), Resource("answers"), cases)

    def writes(self) -> tuple[Resource, ...]:
        """The report, where one is named."""
        return () if self.report is None else (Resource("report", str(self.report)),)

    def run(self, context: Context) -> Outcome:
        """Look, write the report, and tell the alerts."""
        from fti.app.operations.observing.monitor_run import run_monitor
        from fti.app.reports.monitoring_report import write_report

        found = run_monitor(
            context.settings,
            context.store,
            days=self.days,
            cases=self.cases or "",
            progress=context.progress,
        )
        if self.report is not None:
            write_report(found, self.report, store=context.store)
        counted = f"{found.answers.count} answers of {self.days} days"
        if found.alerts:
            told = " ".join(f"{alert.what}: {alert.message}" for alert in found.alerts)
            return Outcome(status="partial", summary=f"{counted}; alerts: {told}", run=found.run)
        return Outcome(summary=f"{counted}, nothing beyond its threshold", run=found.run)


def _reviews(path: Path | None) -> list[Review]:
    from fti.pipelines.feature.dataset.sources.reviewed import read_reviewed

    return [] if path is None else read_reviewed(path)


def _built(version: DatasetVersion) -> Outcome:
    rows = ", ".join(f"{count} {split}" for split, count in version.rows.items())
    return Outcome(summary=f"{version.ref}: {rows} rows", run=version.run_id)
