"""``fti demo``: the whole loop on the documents that ship."""

from __future__ import annotations

import json as jsonlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fti.app.options import CommonOptions

if TYPE_CHECKING:
    from fti.app.build import Engines
    from fti.app.reporting import Reporter
    from fti.app.settings import Settings
    from fti.pipelines.inference.answering.answer import Assistant
    from fti.pipelines.inference.evaluating.evaluation_figures import EvaluationReport
    from fti.store.store import Store
    from fti.store.types import Case, DatasetVersion
    from fti.store.versioned.model_version import ModelVersion

FOLDER = Path(__file__).resolve().parent.parent / "demo"  # not by the link of a clone
NAME = "workshop"
_WITHOUT_RETRIEVAL = 40  # questions; enough to see that nobody knows a handbook by heart
MODEL = "reader"
QUESTIONS = (
    "How thick is the thickest birch ply that Ruby cuts?",
    "Who is the tool librarian?",
    "What happens to unlabelled work on the bisque shelf?",
    "What is the password of the guest Wi-Fi?",
)


def demo(
    common: CommonOptions,
    seconds: Annotated[
        int, typer.Option("--train-seconds", min=5, help="Longest time to spend on fine-tuning.")
    ] = 240,
    cases: Annotated[
        int | None,
        typer.Option(
            "--cases",
            min=5,
            help="How many of the held-out questions to evaluate on.",
            show_default="all",
        ),
    ] = None,
    thorough: Annotated[
        bool,
        typer.Option(
            "--thorough",
            help="Go through the training rows twice, however long that takes.",
        ),
    ] = False,
) -> None:
    """Ingest, ask, build a dataset, fine-tune, evaluate, promote, serve and trace, in minutes.

    Works on a fictional workshop's handbook that ships with fti, in a store of its own
    (./.fti-demo), which stays for you to look around in.
    """
    from fti.app.build import Engines
    from fti.app.service.logs import configure_logs
    from fti.app.settings import load_settings
    from fti.store.store import Store

    settings = load_settings(
        common.config,
        store=common.store or Path(".fti-demo"),
        # Minutes on two cores. What people asked is learned from, half of it; a gain of some points
        # shows on a hundred questions and more, so 40 % of the documents are held out. The base
        # answers where it should refuse: that is what there is to learn, from many such questions.
        # So few validation rows cannot tell which weights are best: the last ones are kept.
        overrides=[
            f"training.max_seconds={'null' if thorough else seconds}",
            "training.batch_size=4",
            "training.learning_rate=3e-4",
            "training.dropout=0",
            "training.evaluations=1",
            "training.max_validation_rows=16",
            "dataset.synthetic=without_cases",
            "dataset.unanswerable=0.4",
            "dataset.train=0.5",
            "dataset.test=0.4",
            "evaluation.group=8",
            *(common.set_ or ()),
        ],
    )
    # Without this the service's log lines would stand on stdout, among the results.
    configure_logs(logging.WARNING)
    opened = Store(settings.store)
    loop = Loop(settings, opened, Engines(settings), common.reporter())
    started = time.monotonic()
    loop.ingest()
    loop.ask()
    dataset = loop.build_dataset()
    version = loop.finetune(dataset)
    reports = loop.evaluate(dataset, version, cases)
    served = loop.promote(version)
    answer = loop.serve(served)
    loop.trace(answer)
    loop.finish(reports, served, time.monotonic() - started)


class Loop:
    """The steps of the demo; each does its work through the same code as its command."""

    def __init__(
        self, settings: Settings, store: Store, engines: Engines, report: Reporter
    ) -> None:
        self.settings = settings
        self.store = store
        self.engines = engines
        self.report = report
        self.steps = 0
        self.facts: dict[str, Any] = {}

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A headline with its number before, and the time after."""
        self.steps += 1
        started = time.monotonic()
        self.report.say(f"\n[{self.steps}/8] {title}", style="bold blue")
        yield
        self.report.say(f"      {time.monotonic() - started:.1f} s", style="dim")

    def ingest(self) -> None:
        """Documents into the feature store."""
        from fti.pipelines.feature.ingesting.ingest import ingest

        with self.step(f"Ingest: the documents in {FOLDER / 'corpus'}"):
            with self.report.progress() as progress:
                result = ingest(
                    [str(FOLDER / "corpus")],
                    store=self.store,
                    embedder=self.engines.embedder,
                    config=self.settings.features,
                    delete_missing=True,
                    progress=progress,
                )
            self.report.say(
                f"{result.added + result.updated + result.unchanged} documents, "
                f"{result.chunks} chunks, {result.embedded_chunks} embedded now"
            )
            self.facts["ingest"] = result.model_dump(mode="json")

    def ask(self) -> None:
        """A few questions to what the profile serves."""
        from fti.app.build import build_assistant
        from fti.app.commands.ask import answer_json, show_answer

        with self.step("Ask: answers with citations, or a plain refusal"):
            assistant = build_assistant(self.settings, self.store, engines=self.engines)
            self.facts["asked"] = []
            for question in QUESTIONS:
                self.report.say(f"? {question}", style="bold")
                answer = assistant.answer(question)
                show_answer(self.report, answer)
                self.facts["asked"].append(answer_json(answer))

    def build_dataset(self) -> DatasetVersion:
        """Instruction examples from the stored chunks and the cases."""
        from fti.app.commands.dataset import dataset_json
        from fti.app.operations.training.dataset_building import make_dataset

        with self.step("Dataset: instruction examples, split by document"):
            with self.report.progress() as progress:
                dataset = make_dataset(
                    self.settings,
                    self.store,
                    name=NAME,
                    embedder=self.engines.embedder,
                    cases=self.cases(),
                    engines=self.engines,
                    progress=progress,
                )
            self.report.say(
                f"{dataset.ref}: "
                + ", ".join(
                    f"{dataset.rows[s]} rows from {len(dataset.documents[s])} documents to {s}"
                    for s in dataset.rows
                )
            )
            self.facts["dataset"] = dataset_json(dataset)
        return dataset

    def finetune(self, dataset: DatasetVersion) -> ModelVersion:
        """A LoRA adapter on the base model."""
        from fti.app.operations.training.finetuning import train

        with self.step("Fine-tune: a LoRA adapter on the base model"):
            with self.report.progress() as progress:
                version = train(
                    self.settings, self.store, dataset=dataset.ref, name=MODEL, progress=progress
                )
            self.report.say(f"registered {version.ref}")
            self.facts["model"] = {"ref": version.ref, "metrics": dict(version.metrics)}
        return version

    def evaluate(
        self, dataset: DatasetVersion, version: ModelVersion, limit: int | None
    ) -> dict[str, EvaluationReport]:
        """Base and tuned, with and without retrieval, on documents not trained on."""
        from fti.app.operations.measuring.evaluating import evaluate_model, sample

        held_out = self.held_out(dataset)
        chosen = sample(held_out, limit)
        few = sample(chosen, _WITHOUT_RETRIEVAL)
        self.store.cases.freeze("demo", chosen, source="the questions that ship")
        found: dict[str, EvaluationReport] = {}
        with self.step(
            f"Evaluate: {len(chosen)} questions about {len(dataset.documents['test'])} documents "
            "that were not trained on"
        ):
            for name, use_retrieval in (
                ("base", False),
                (version.ref, False),
                ("base", True),
                (version.ref, True),
                ("extractive", True),
            ):
                label = f"{name}, {'with' if use_retrieval else 'without'} retrieval"
                with self.report.progress() as progress:
                    found[label] = evaluate_model(
                        self.settings,
                        self.store,
                        chosen if use_retrieval else few,
                        model=name,
                        use_retrieval=use_retrieval,
                        engines=self.engines,
                        progress=progress,
                    ).report
                answers = found[label].answers or {}
                self.report.say(f"{label}: F1 {answers['f1'].mean:.3f}")
        return found

    def promote(self, version: ModelVersion) -> str:
        """The gate decides who serves."""
        from fti.app.operations.promoting.promotion import promote
        from fti.store.errors import GateRefused

        with self.step("Promote: the gate compares with what is served now, case by case"):
            try:
                decision = promote(self.settings, self.store, version.ref, alias="champion")
            except GateRefused as refusal:
                self.report.say(refusal.message, style="yellow")
                self.report.say(f"{self.settings.model} goes on serving.")
                if version.metrics.get("stopped") == "time":
                    self.report.say("With more time to learn: fti demo --thorough", style="yellow")
                self.facts["promotion"] = {"promoted": False, "reason": refusal.message}
                return self.settings.model
            self.report.say(f"{version.ref} is the champion: {decision.reason}", style="green")
            self.facts["promotion"] = {"promoted": True, "reason": decision.reason}
        return f"{MODEL}@champion"

    def serve(self, model: str) -> str:
        """One request over HTTP."""
        import httpx

        from fti.app.build import build_assistant

        with self.step(f"Serve: {model} answers over HTTP"):
            assistant = build_assistant(
                self.settings, self.store, model=model, engines=self.engines
            )
            with serving(assistant, model) as url:
                body = {"messages": [{"role": "user", "content": QUESTIONS[0]}]}
                self.report.say(f"POST {url}/v1/chat/completions")
                self.report.say(f"  {jsonlib.dumps(body)}", style="dim")
                answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
                answer.raise_for_status()
                got = answer.json()
            self.report.say(got["choices"][0]["message"]["content"], style="bold")
            for source in got["sources"]:
                if source["cited"]:
                    self.report.say(f"  [{source['marker']}] {source['document']}", style="cyan")
            self.facts["served"] = got
        return str(got["id"])

    def trace(self, answer_id: str) -> None:
        """From the answer back to what made it."""
        from fti.app.commands.trace import show_tree
        from fti.pipelines.inference.tracing.answer_lineage import trace_answer

        with self.step(f"Trace: what made the answer {answer_id}"):
            lineage = trace_answer(self.store, answer_id).model_dump(mode="json")
            show_tree(self.report, lineage)
            self.facts["lineage"] = lineage

    def finish(self, reports: dict[str, EvaluationReport], served: str, seconds: float) -> None:
        """The table, and what to try next."""
        rows = [
            [
                _short(label),
                str(report.cases),
                _cell(report, "f1", interval=True),
                _cell(report, "abstention"),
                _cell(report, "citation_precision"),
                _speed(report),
            ]
            for label, report in reports.items()
        ]
        self.report.say()
        # Whole on a terminal of 80 columns.
        self.report.table(
            ["model", "asked", "F1 (95 %)", "refusals", "cited", "median"],
            rows,
            title="On documents that were not trained on",
        )
        self.report.say(
            "refusals: the share rightly answered or rightly refused; "
            "cited: the share of citations that hold the answer"
        )
        retrieval = next(r for r in reports.values() if r.retrieval).retrieval
        self.report.say(
            "retrieval: " + ", ".join(f"{name} {value:.2f}" for name, value in retrieval.items())
        )
        self.explain(reports)
        root = self.settings.store
        self.report.say(f"\nThe whole loop took {seconds:.0f} s. Now with your own documents:\n")
        for command in (
            "fti ingest YOUR-FOLDER",
            'fti ask "Your question?"',
            f"fti serve --store {root} --model {served}   # the demo's chat page: "
            "http://127.0.0.1:8000",
        ):
            self.report.say(f"  {command}", style="bold")
        self.facts["evaluation"] = {k: r.model_dump(mode="json") for k, r in reports.items()}
        self.facts["seconds"] = seconds
        self.report.result(self.facts)

    def explain(self, reports: dict[str, EvaluationReport]) -> None:
        """What fine-tuning changed, and what still goes wrong."""
        from fti.pipelines.inference.evaluating.evaluation import case_rows, compare
        from fti.pipelines.inference.evaluating.findings import FAULTS

        before, after = (
            report for label, report in reports.items()
            if report.retrieval and not label.startswith("extractive")
        )  # fmt: skip
        gain = compare(case_rows(self.store, after.run), case_rows(self.store, before.run))["f1"]
        self.report.say(
            f"fine-tuning: F1 {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] in pairs"
        )
        self.report.say("what goes wrong, before and after:")
        for fault, meaning in FAULTS.items():
            counts = before.faults.get(fault, 0), after.faults.get(fault, 0)
            if any(counts):
                self.report.say(f"  {counts[0]:3d} {counts[1]:3d}  {meaning}")
        self.facts["gain"] = gain.model_dump(mode="json")

    def cases(self) -> list[Case]:
        """The questions that ship."""
        from fti.pipelines.inference.evaluating.cases import load_cases

        return load_cases(FOLDER / "cases.jsonl")

    def held_out(self, dataset: DatasetVersion) -> list[Case]:
        """The cases about documents of the test split."""
        test = set(dataset.documents["test"])
        sources = {r.source for r in self.store.features.records() if r.id in test}
        return [
            case
            for case in self.cases()
            if str((FOLDER / case.document).resolve()) in sources
            or str(FOLDER / case.document) in sources
        ]


@contextmanager
def serving(assistant: Assistant, name: str) -> Iterator[str]:
    """The service in a thread on a free port; yields its address."""
    import uvicorn

    from fti.app.service.api import create_app

    server = uvicorn.Server(
        uvicorn.Config(
            create_app(assistant, name=name),
            host="127.0.0.1",
            port=0,
            log_config=None,
            access_log=False,
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    _until(lambda: server.started or not thread.is_alive(), seconds=60)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


def _until(done: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.02)


def _short(label: str) -> str:
    name, _, how = label.partition(", ")
    return f"{name} + retrieval" if how == "with retrieval" and name != "extractive" else name


def _cell(report: EvaluationReport, metric: str, *, interval: bool = False) -> str:
    value = (report.answers or {}).get(metric)
    if value is None or not value.n:
        return "–"
    return f"{value.mean:.2f}" + (f" ({value.low:.2f}–{value.high:.2f})" if interval else "")


def _speed(report: EvaluationReport) -> str:
    median = report.latency.get("p50")
    return f"{median:.2f} s" if median is not None else "–"
