"""A model version on one page: what it is, what it was made from, how good, and where it stands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fti.app.reports import charts
from fti.app.reports.markup import Markup, el, join, table
from fti.app.reports.page import card, page, section
from fti.store.contracts.embedder_contract import REGISTRY
from fti.store.errors import NotFoundError
from fti.store.types import Interval, Run, Value
from fti.store.versioned.model_version import LOG_FILE

if TYPE_CHECKING:
    from fti.store.store import Store
    from fti.store.types import DatasetVersion
    from fti.store.versioned.aliases import AliasChange
    from fti.store.versioned.marks import Mark
    from fti.store.versioned.model_version import ModelVersion

_SHOWN = 10  # evaluations, the newest first
_HIDDEN = ("training_digest", "attempt")


class Evaluated(Value):
    """An evaluation of the version: on what, against what passages, with which scores."""

    run: str
    at: str
    cases: str
    system: str
    scores: Mapping[str, Interval]


class CardFacts(Value):
    """Everything that a card shows, read from the store at one time."""

    version: Any
    aliases: tuple[str, ...]
    history: tuple[Any, ...]
    marks: tuple[Any, ...]
    dataset: Any = None
    run: Run | None = None
    curve: tuple[Mapping[str, float], ...] = ()
    evaluated: tuple[Evaluated, ...] = ()
    parents: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def gather(store: Store, version: ModelVersion) -> CardFacts:
    """What the store knows of a version; what is gone since is left out."""
    registry = store.models
    every = registry.list()
    aliases = registry.aliases(version.name)
    return CardFacts(
        version=version,
        aliases=tuple(sorted(a for a, n in aliases.items() if n == version.version)),
        history=tuple(
            change
            for change in registry.history(version.name)
            if version.version in (change.from_version, change.to_version)
        ),
        marks=tuple(m for m in registry.marks(version.name) if m.version == version.version),
        dataset=_found(lambda: store.datasets.get(version.dataset)),
        run=_found(lambda: store.runs.get(version.run_id)),
        curve=tuple(_curve(registry.path(version.ref) / LOG_FILE)),
        evaluated=tuple(_evaluations(store, version)),
        parents=tuple(_parents(version, {v.ref: v for v in every})),
        children=tuple(
            v.ref
            for v in every
            if v.parent == version.ref
            or (v.kind == "llm" and v.prompt_contract.embedder.id == REGISTRY + version.ref)
        ),
        problems=tuple(registry.verify(version.ref)),
    )


def as_html(facts: CardFacts) -> str:
    """The card as one file that loads nothing."""
    version: ModelVersion = facts.version
    what = "embedder" if version.kind == "embedder" else "language model"
    title = f"{version.ref}"
    return page(
        title,
        el("h1", title),
        el(
            "p",
            f"A fine-tuned {what}, registered on {version.created_at:%Y-%m-%d %H:%M} UTC"
            + (f"; {', '.join(facts.aliases)} of {version.name}." if facts.aliases else "."),
            class_="lead",
        ),
        _state(facts),
        _cards(version.metrics),
        section("What it is", _contract(version)),
        section("What it was made from", _lineage(facts)),
        section("How its training went", _training(facts.curve)),
        section("What was measured", _metrics(version.metrics)),
        section("Evaluations", _evaluated(facts.evaluated)),
        section("Where it stands", _standing(facts)),
        section("Files", _files(version)),
        el("footer", f"Contract {version.contract.digest}"),
    )


def _state(facts: CardFacts) -> Markup:
    if facts.problems:
        told = f"Not as published: {'; '.join(facts.problems)}"
        return el("div", told, class_="alert")
    return el("div", "Every file is as published.", class_="alert fine")


def _cards(metrics: Mapping[str, Any]) -> Markup:
    shown = [
        (name, metrics[name], metrics.get(f"{name}_before"))
        for name in ("validation_loss", "validation_exact", "validation_recall@1", "validation_mrr")
        if isinstance(metrics.get(name), int | float)
    ]
    cards = [
        card(f"{value:.3f}", name.replace("_", " "), "" if before is None else f"was {before:.3f}")
        for name, value, before in shown
    ]
    cards += [
        card(f"{metrics[name]:,}", label)
        for name, label in (("train_rows", "rows trained on"), ("steps", "steps"))
        if isinstance(metrics.get(name), int)
    ]
    return el("div", *cards, class_="cards")


def _contract(version: ModelVersion) -> Markup:
    base = version.contract.base
    rows: list[list[object]] = [
        ["kind", version.kind],
        ["base", base.id + (f" at {base.revision}" if base.revision else "")],
        ["base weights", el("code", base.weights_sha256)],
        ["base tokenizer", el("code", base.tokenizer_sha256)],
    ]
    if version.kind == "embedder":
        vectors = version.vector_contract
        rows += [
            ["weights", el("code", vectors.weights_sha256)],
            ["vectors", f"{vectors.dimension} dimensions, {vectors.pooling} pooling, unit length"],
            ["tokens of a text", vectors.max_tokens],
            ["before questions", vectors.query_prefix or "nothing"],
            ["before documents", vectors.document_prefix or "nothing"],
        ]
    else:
        prompt = version.prompt_contract
        rows += [
            ["embedder behind it", prompt.embedder.id],
            ["prompt", f"up to {prompt.max_prompt_tokens} tokens, {prompt.max_passages} passages "
             f"of up to {prompt.max_passage_tokens}"],
            ["answer", f"up to {prompt.max_new_tokens} tokens"],
            ["system text", prompt.form.system or "none"],
            ["refusal", prompt.form.abstention],
        ]  # fmt: skip
    if version.adapter is not None:
        adapter = version.adapter
        rows.append(
            ["adapter", f"rank {adapter.rank}, alpha {adapter.alpha:g}, on "
             f"{', '.join(adapter.target_modules)}"]
        )  # fmt: skip
    return table(["what", "value"], rows, text_columns=2)


def _lineage(facts: CardFacts) -> Markup:
    version: ModelVersion = facts.version
    rows: list[list[object]] = [["dataset", version.dataset],
                                ["its digest", el("code", version.dataset_digest)]]  # fmt: skip
    dataset: DatasetVersion | None = facts.dataset
    if dataset is None:
        rows.append(["", "the dataset is not in the store any more"])
    else:
        kept = ", ".join(f"{n} {split}" for split, n in dataset.rows.items() if n)
        documents = sum(len(ids) for ids in dataset.documents.values())
        rows += [
            ["rows", kept],
            ["documents", documents],
            ["features version", dataset.features_version],
        ]
        if "from" in dataset.settings:
            rows.append(["rows taken from", dataset.settings["from"]])
    rows.append(["trained by run", version.run_id])
    run = facts.run
    if run is None:
        rows.append(["", "the run is not in the log any more"])
    else:
        rows.append(["with", f"fti {run.code_version}" if run.code_version else "an unknown fti"])
        if run.libraries:
            rows.append(["libraries", ", ".join(f"{k} {v}" for k, v in run.libraries.items())])
        rows += [[f"setting {key}", value] for key, value in run.settings.items()]
    rows += [["trained on from", ref] for ref in facts.parents]
    rows += [["others rest on it", ref] for ref in facts.children]
    return table(["what", "value"], rows, text_columns=2)


def _training(curve: Sequence[Mapping[str, float]]) -> Markup:
    shown: list[Markup] = []
    for keys, title, caption in (
        (("loss", "validation_loss"), "Loss by step",
         "Loss of each step, and of the validation rows where they were measured."),
        (("learning_rate",), "Learning rate by step", "How the learning rate went up and down."),
    ):  # fmt: skip
        series = {
            key.replace("_", " "): [(e["step"], e[key]) for e in curve if _is_number(e.get(key))]
            for key in keys
        }
        series = {name: points for name, points in series.items() if points}
        if series:
            shown.append(charts.figure(charts.lines(title, series, across="step"), caption))
    return join(*shown) if shown else el("p", "It has no training log.")


def _metrics(metrics: Mapping[str, Any]) -> Markup:
    rows: list[list[object]] = []
    for key, value in metrics.items():
        if key in _HIDDEN:
            continue
        interval = _interval(value)
        if interval is not None:
            rows.append([key, f"{interval.mean:.4g} [{interval.low:.4g}, {interval.high:.4g}]"])
        elif isinstance(value, float):
            rows.append([key, f"{value:.4g}"])
        elif isinstance(value, int | str):
            rows.append([key, value])
    return table(["metric", "value"], rows)


def _evaluated(evaluated: Sequence[Evaluated]) -> Markup:
    if not evaluated:
        return el("p", "It was not evaluated yet.")
    names = list(dict.fromkeys(name for each in evaluated for name in each.scores))
    # A row for each score: there are more of them than evaluations, and paper is narrow.
    rows: list[list[object]] = [
        ["cases", *(each.cases for each in evaluated)],
        ["asked as", *(each.system for each in evaluated)],
        ["run", *(each.run for each in evaluated)],
    ]
    for name in names:
        rows.append([name, *(_score(each.scores.get(name)) for each in evaluated)])
    return el("div", table(["when", *(each.at for each in evaluated)], rows), class_="wide")


def _score(value: Interval | None) -> Markup:
    if value is None or not value.n:
        return Markup("")
    return join(f"{value.mean:.3f} ", charts.dot(value))


def _standing(facts: CardFacts) -> Markup:
    rows: list[list[object]] = []
    for change in facts.history:
        moved: AliasChange = change
        before = "nothing" if moved.from_version is None else str(moved.from_version)
        evidence = moved.evidence or {}
        against = evidence.get("refusal") if evidence.get("forced") else None
        kind = f"{moved.kind}, against the gate," if against else moved.kind
        why = f"{moved.reason}. The gate had said: {against}" if against else moved.reason
        rows.append([f"{moved.at:%Y-%m-%d %H:%M}",
                     f"{kind} {moved.alias}: {before} → {moved.to_version}", why])  # fmt: skip
    for each in facts.marks:
        mark: Mark = each
        rows.append([f"{mark.at:%Y-%m-%d %H:%M}", mark.kind, mark.reason])
    if not rows:
        return el("p", "No alias ever pointed at it.")
    return table(["when", "what", "why"], sorted(rows, key=lambda row: str(row[0])), text_columns=3)


def _files(version: ModelVersion) -> Markup:
    rows: list[list[object]] = [
        [entry.path, el("code", entry.sha256), f"{entry.bytes:,}"] for entry in version.files
    ]
    return el("div", table(["file", "sha256", "bytes"], rows, text_columns=2), class_="wide")


def _evaluations(store: Store, version: ModelVersion) -> Sequence[Evaluated]:
    """The newest evaluations of the version as it is served, or of its search."""
    named = {version.ref, REGISTRY + version.ref}
    found: list[Evaluated] = []
    for run in store.runs.list("evaluate"):
        if run.status != "done" or not named & {run.inputs.get("model"), run.inputs.get("system")}:
            continue
        answers = run.metrics.get("answers") or {}
        scores = {k: v for k, raw in answers.items() if (v := _interval(raw)) is not None}
        if version.kind == "embedder":
            ranks = run.metrics.get("retrieval") or {}
            n = int(run.metrics.get("cases") or 0)
            scores = {k: Interval(mean=v, low=v, high=v, n=n) for k, v in ranks.items()}
        found.append(
            Evaluated(
                run=run.id,
                at=f"{run.started_at:%Y-%m-%d %H:%M}",
                cases=run.inputs.get("frozen") or "cases that are not frozen",
                system=run.inputs.get("system", ""),
                scores=scores,
            )
        )
        if len(found) == _SHOWN:
            break
    return found


def _parents(version: ModelVersion, every: Mapping[str, ModelVersion]) -> Sequence[str]:
    found: list[str] = []
    following = version.parent
    while following and following not in found:
        found.append(following)
        following = every[following].parent if following in every else None
    return found


def _curve(path: Path) -> Sequence[Mapping[str, float]]:
    if not path.is_file():
        return []
    steps = json.loads(path.read_text("utf-8")).get("steps", [])
    return [{k: v for k, v in step.items() if _is_number(v)} for step in steps]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _interval(value: object) -> Interval | None:
    if not isinstance(value, dict):
        return None
    try:
        return Interval(**{k: value.get(k) for k in Interval.model_fields})
    except ValidationError:
        return None


def _found(look: Any) -> Any:
    try:
        return look()
    except NotFoundError:
        return None
