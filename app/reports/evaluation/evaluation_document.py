"""What the report of an evaluation shows: what was measured, how sure it is, what to read next."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fti.store.errors import AnswerNotFound
from fti.store.types import Interval, now

if TYPE_CHECKING:
    from fti.app.operations.measuring.evaluating import Compared
    from fti.pipelines.inference.evaluating.evaluation_figures import EvaluationReport
    from fti.pipelines.inference.evaluating.slices import Slice
    from fti.store.store import Store

#: What each score means, in a few words, in the order reports show them.
MEANINGS: Mapping[str, str] = {
    "f1": "words shared with an accepted answer (SQuAD)",
    "exact_match": "equal to an accepted answer (SQuAD)",
    "rouge_l": "words shared in order (ROUGE-L)",
    "abstention": "answered when answerable, refused when not",
    "citation_precision": "citations that point at a relevant passage",
    "citation_recall": "answers that cite a relevant passage they were shown",
    "faithfulness": "content words that stand in the cited passages",
    "groundedness": "claims that follow from the cited passages (NLI)",
    "judge": "a language model's score by its rubric, 0 to 1",
    "recall@1": "relevant passages among the first 1",
    "recall@5": "relevant passages among the first 5",
    "recall@10": "relevant passages among the first 10",
    "mrr": "reciprocal rank of the first relevant passage",
    "ndcg@10": "graded, discounted by rank",
    "map@10": "average precision of the first 10",
    "hit_rate@10": "any relevant passage among the first 10",
}
_PACKAGES = (
    "fti-llm",
    "torch",
    "transformers",
    "peft",
    "sentence-transformers",
    "lancedb",
    "numpy",
)
_PASSAGE_CHARACTERS = 700


@dataclass(frozen=True)
class EvaluationDocument:
    """Everything a report shows.

    Args:
        found: the systems with their figures.
        rows: by system, the scores per case.
        slices: of the main system.
        worst: its cases that went wrong, each with the passages it was shown and its prompt.
        cases: how the command line named the cases.
        command: what reproduces it.
        origins: of each model version among the systems, what it was made from.
        store: where it was measured.
        failed: thresholds that were not met, a sentence each.
        at: when.
    """

    found: Compared
    rows: Mapping[str, Sequence[Mapping[str, Any]]]
    slices: Sequence[Slice]
    worst: Sequence[Mapping[str, Any]]
    cases: str
    command: str
    store: str
    origins: Mapping[str, str] = field(default_factory=dict)
    failed: Sequence[str] = ()
    at: datetime = field(default_factory=now)

    @property
    def main(self) -> EvaluationReport:
        """The report that the figures at the top are about."""
        return self.found.report


def score_tables(
    document: EvaluationDocument,
) -> list[tuple[str, list[str], dict[str, EvaluationReport]]]:
    """What the scores are about, their names, and the systems that have any of them.

    Scores of answers and of retrieval apart: a search alone has no answers, and a system that was
    given the right passages has searched for none.
    """
    at = list(MEANINGS).index("recall@1")
    tables = []
    for about, all_names in (("answers", [*MEANINGS][:at]), ("retrieval", [*MEANINGS][at:])):
        reports = {
            system: report
            for system, report in document.found.reports.items()
            if any(has(report, name) for name in all_names)
            and not (about == "retrieval" and report.oracle)
        }
        names = [n for n in all_names if any(has(r, n) for r in reports.values())]
        if names:
            tables.append((about, names, reports))
    return tables


def gather(
    found: Compared, store: Store, *, cases: str, command: str, failed: Sequence[str] = ()
) -> EvaluationDocument:
    """Collect what a report shows of an evaluation that has just ended."""
    from fti.pipelines.inference.evaluating.evaluation import case_rows
    from fti.pipelines.inference.evaluating.findings import missed, worst
    from fti.pipelines.inference.evaluating.slices import slices

    rows = {name: case_rows(store, report.run) for name, report in found.reports.items()}
    main = rows[found.main]
    chosen = worst(main) if found.report.answers else missed(main)
    return EvaluationDocument(
        found=found,
        rows=rows,
        slices=slices(main),
        worst=[_with_passages(row, found, store) for row in chosen],
        cases=cases,
        command=command,
        store=str(store.layout.root),
        origins={
            report.model: _origin(store, report.model)
            for report in found.reports.values()
            if "/" in report.model
        },
        failed=failed,
    )


def _origin(store: Store, model: str) -> str:
    version = store.models.get(model)
    files = ", ".join(
        f"{file.path} {file.sha256[:16]}"
        for file in version.files
        if file.path.endswith(".safetensors")
    )
    goes_on = f", going on from {version.parent}" if version.parent else ""
    return (
        f"dataset {version.dataset} (digest {version.dataset_digest[:16]}){goes_on}, "
        f"run {version.run_id}, {files}"
    )


def _with_passages(row: Mapping[str, Any], found: Compared, store: Store) -> dict[str, Any]:
    shown = dict(row)
    try:
        answer = store.answers.get(row["answer_id"]) if "answer_id" in row else None
    except AnswerNotFound:  # the log was cut down since an earlier evaluation asked this case
        answer = None
    if answer is None:
        return shown
    cited = {citation.chunk_id for citation in answer.citations}
    relevant = set(row.get("relevant_shown") or ())
    shown["passages"] = [
        {
            "number": number,
            "heading": passage.heading,
            "source": passage.source,
            "text": passage.text[:_PASSAGE_CHARACTERS]
            + ("…" if len(passage.text) > _PASSAGE_CHARACTERS else ""),
            "similarity": passage.similarity,
            "cited": passage.chunk_id in cited,
            "relevant": passage.chunk_id in relevant,
        }
        for number, passage in enumerate(answer.passages, start=1)
    ]
    shown["said"] = answer.text
    if answer.usage.prompt_tokens:  # the model was asked
        messages = found.contracts[found.main].form.messages(answer.question, answer.passages)
        shown["prompt"] = "\n\n".join(f"<{m.role}>\n{m.content}" for m in messages)
    return shown


def versions(document: EvaluationDocument) -> dict[str, str]:
    """Exactly what was measured, by name."""
    main = document.main
    frozen = f" (frozen as {main.frozen})" if main.frozen else " (not frozen)"
    facts = {
        "cases": f"{document.cases}, digest {main.case_set}{frozen}",
        "store": f"{document.store}, features version {main.features_version}",
    }
    for name, report in document.found.reports.items():
        contract = document.found.contracts.get(name)
        what = report.model or f"search only ({report.mode})"
        if contract is not None:
            base = contract.base
            what += f", contract {report.contract_digest[:16]}, base {base.id}"
            what += f" (weights {base.weights_sha256[:16]})" if base.weights_sha256 else ""
            what += f", embedder {contract.embedder.id}"
        facts[f"system {name}"] = f"{what}, run {report.run}"
    facts |= {f"model {name}": origin for name, origin in document.origins.items()}
    for report in document.found.reports.values():
        if report.grounding is not None:
            nli = report.grounding
            facts["groundedness"] = f"{nli.model} (weights {nli.weights_sha256[:16]})"
        if report.judge is not None:
            facts["judge"] = report.judge.model
    facts["software"] = ", ".join(
        [f"Python {platform.python_version()}", *filter(None, map(_package, _PACKAGES))]
    )
    facts["machine"] = f"{platform.machine()}, {sys.platform}"
    facts["measured"] = f"{document.at:%Y-%m-%d %H:%M} UTC"
    return facts


def _package(name: str) -> str:
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


def score(report: EvaluationReport, name: str) -> Interval | None:
    """A score of a report, whichever part it stands in."""
    return (report.answers or {}).get(name) or report.retrieval_intervals.get(name)


def has(report: EvaluationReport, name: str) -> bool:
    """Whether a report measured a score on any case."""
    value = score(report, name)
    return value is not None and value.n > 0


def lead(document: EvaluationDocument) -> str:
    """In a sentence, what was asked and what was left out."""
    main = document.main
    parts = [f"{main.cases} cases"]
    for excluded, what in (
        (main.trained_on, "about documents that a model was trained on"),
        (main.not_in_store, "about documents that are not in the store"),
        (main.ambiguous, "that several documents could be meant by"),
    ):
        if excluded.count:
            parts.append(f"{excluded.count} {what} left out")
    spans = "brackets are 95 % bootstrap intervals over the cases"
    return f"{'; '.join(parts)}; {spans}."
