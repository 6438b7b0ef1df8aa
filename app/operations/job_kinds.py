"""What can be started through a service, each by the function that its command calls.

What a request may set is less than a command may: no path of the server, no setting, and no way
around the gate.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter

from fti.app.build import BASE, EXTRACTIVE
from fti.pipelines.training.choices import Method
from fti.store.errors import InputError, InvalidName
from fti.store.types import Value
from fti.store.versioned.aliases import CHAMPION
from fti.store.versioned.versions import check_name

if TYPE_CHECKING:
    from fti.app.settings import Settings
    from fti.store.progress import Progress
    from fti.store.store import Store


def _plain_name(name: str) -> str:
    try:
        return check_name(name, "new version")
    except InvalidName as error:
        raise ValueError(str(error)) from error


PlainName = Annotated[str, AfterValidator(_plain_name)]
Reference = Annotated[str, Field(min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True)
class Made:
    """What a job made: in a sentence, and by name."""

    summary: str
    outputs: Mapping[str, str] = field(default_factory=dict)


class _Job(Value):
    """Base of the kinds. Unknown fields are mistakes, as for every ``Value``."""

    kind: str

    @abstractmethod
    def check(self, store: Store) -> None:
        """Look whether what it names is there, before a process is started for it.

        Raises:
            NotFoundError: something is not; says what there is.
        """

    @abstractmethod
    def do(self, settings: Settings, store: Store, progress: Progress) -> Made:
        """Do it."""

    def overrides(self) -> list[str]:
        """What it changes of the settings, as ``--set`` takes it."""
        return []


class DatasetJob(_Job):
    """``fti dataset build NAME``."""

    kind: Literal["dataset"]
    name: PlainName = Field(description="Of the dataset; each build is a new version.")
    mask_pii: bool = Field(default=False, description="Mask addresses, numbers and the like.")

    def check(self, store: Store) -> None:
        """There are documents."""
        from fti.app.build import require_documents

        require_documents(store)

    def overrides(self) -> list[str]:
        """Masking."""
        return ["dataset.mask=[email, phone, iban, card, ip]"] if self.mask_pii else []

    def do(self, settings: Settings, store: Store, progress: Progress) -> Made:
        """Build."""
        from fti.app.build import build_embedder
        from fti.app.operations.training.dataset_building import make_dataset

        version = make_dataset(
            settings,
            store,
            name=self.name,
            embedder=build_embedder(settings),
            cases=None,
            progress=progress,
        )
        rows = ", ".join(f"{count} {split}" for split, count in version.rows.items())
        made = {"dataset": version.ref, "run": version.run_id}
        return Made(f"{version.ref}: {rows} rows", made)


class FreezeJob(_Job):
    """``fti cases freeze NAME --dataset DATASET``."""

    kind: Literal["freeze"]
    name: PlainName = Field(description="Of the case set.")
    dataset: Reference = Field(description="NAME or NAME/N, whose test split becomes cases.")

    def check(self, store: Store) -> None:
        """There is such a dataset."""
        store.datasets.get(self.dataset)

    def do(self, settings: Settings, store: Store, progress: Progress) -> Made:
        """Freeze."""
        from fti.app.operations.measuring.freezing import freeze_cases

        frozen = freeze_cases(store, self.name, dataset=self.dataset)
        return Made(f"{frozen.ref}: {frozen.cases} cases", {"cases": frozen.ref})


class FinetuneJob(_Job):
    """``fti finetune DATASET --name NAME``."""

    kind: Literal["finetune"]
    dataset: Reference = Field(description="NAME or NAME/N.")
    name: PlainName = Field(description="Of the model to register.")
    method: Method | None = Field(default=None, description="As configured without.")
    start: str = Field(
        default="", max_length=200, description="A model version to go on from; from the base."
    )

    def check(self, store: Store) -> None:
        """There is such a dataset, and such a version to go on from."""
        store.datasets.get(self.dataset)
        store.models.check_name(self.name)
        if self.start:
            store.models.get(self.start)

    def overrides(self) -> list[str]:
        """The method."""
        return [] if self.method is None else [f"training.method={self.method}"]

    def do(self, settings: Settings, store: Store, progress: Progress) -> Made:
        """Train, or go on where a training of the very same was broken off."""
        from fti.app.operations.training.finetuning import train

        version = train(
            settings,
            store,
            dataset=self.dataset,
            name=self.name,
            start=self.start or None,
            progress=progress,
        )
        loss = version.metrics.get("validation_loss")
        figures = f", validation loss {loss:.4g}" if isinstance(loss, float) else ""
        made = {"model": version.ref, "run": version.run_id}
        return Made(f"{version.ref}{figures}", made)


class EvaluateJob(_Job):
    """``fti evaluate CASES --model MODEL --compare``, on a frozen case set."""

    kind: Literal["evaluate"]
    cases: Reference = Field(description="NAME or NAME/N of a frozen case set.")
    model: str = Field(
        default="",
        max_length=200,
        description="base, extractive, NAME@ALIAS or NAME/N; what is served without.",
    )
    compare: bool = Field(default=True, description="Also measure what it would replace.")
    limit: int | None = Field(default=None, ge=1, description="Only so many cases.")

    def check(self, store: Store) -> None:
        """There is such a case set, and such a version."""
        store.cases.get(self.cases)
        if self.model not in ("", BASE, EXTRACTIVE):
            store.models.get(self.model)

    def do(self, settings: Settings, store: Store, progress: Progress) -> Made:
        """Measure, or go on where an evaluation of the very same was broken off."""
        from fti.app.operations.measuring.evaluating import evaluate_model, sample

        found = evaluate_model(
            settings,
            store,
            sample(list(store.cases.cases(self.cases)), self.limit),
            model=self.model or None,
            compare=self.compare,
            progress=progress,
        )
        report = found.report
        f1 = (report.answers or {}).get("f1")
        figures = f"F1 {f1.mean:.3f} [{f1.low:.3f}, {f1.high:.3f}]" if f1 else "no answer scored"
        return Made(f"{found.main}: {figures}, {report.cases} cases", {"run": report.run})


class PromoteJob(_Job):
    """``fti models promote MODEL --alias ALIAS``, through the gate."""

    kind: Literal["promote"]
    model: Reference = Field(description="NAME/N.")
    alias: PlainName = Field(default=CHAMPION, description="Only champion passes the gate.")
    cases: str = Field(
        default="", max_length=200, description="Frozen case set that decides; as configured."
    )
    reason: str = Field(default="", max_length=500, description="Kept in the alias history.")

    def check(self, store: Store) -> None:
        """There is such a version, and such a case set."""
        store.models.get(self.model)
        if self.cases:
            store.cases.get(self.cases)

    def do(self, settings: Settings, store: Store, progress: Progress) -> Made:
        """Ask the gate, and point the alias."""
        from fti.app.operations.promoting.promotion import promote

        done = promote(
            settings,
            store,
            self.model,
            alias=self.alias,
            reason=self.reason,
            cases=self.cases,
            progress=progress,
        )
        alias = f"{done.model}@{done.alias}"
        return Made(f"{alias} is version {done.version}: {done.reason}", {"alias": alias})


Job = Annotated[
    DatasetJob | FreezeJob | FinetuneJob | EvaluateJob | PromoteJob, Field(discriminator="kind")
]
_JOB: TypeAdapter[Job] = TypeAdapter(Job)


def job_of(asked: Mapping[str, Any]) -> Job:
    """The job that a record asks for.

    Raises:
        InputError: this fti knows no such job.
    """
    try:
        return _JOB.validate_python(dict(asked))
    except ValueError as error:
        raise InputError(f"This fti cannot do the job {dict(asked)!r}.") from error
