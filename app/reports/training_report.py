"""The report of a fine-tuning as one HTML file: how it went, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fti.app.reports import charts
from fti.app.reports.markup import Markup, el, table
from fti.app.reports.page import card, page, section

if TYPE_CHECKING:
    from fti.store.types import Run
    from fti.store.versioned.model_version import ModelVersion

_SMOOTHED = 20  # steps that a point of the training curve is an average over, at most
_SHOWN = 400  # points of a curve, so that a run of a hundred thousand steps is a small file
_MEASURED = {
    "train_loss": "mean loss of the last tenth of the steps",
    "validation_loss": "loss per response token on the validation rows",
    "validation_exact": "share of their responses that greedy decoding gives word for word",
}


def as_html(version: ModelVersion, run: Run, curve: Sequence[Mapping[str, float]]) -> str:
    """The whole report as one file.

    Args:
        version: what was registered.
        run: that trained it.
        curve: what it logged at each step.
    """
    title = f"How {version.ref} was trained"
    return page(
        title,
        el("h1", title),
        el("p", _lead(version, run), class_="lead"),
        _cards(version.metrics),
        section("Loss", _loss(curve)),
        section("Learning rate", _rate(curve)),
        section("Before and after", _before_and_after(version.metrics)),
        section("What it was expected to take", _expected(version.metrics)),
        section(
            "Made from",
            table(["what", "value"], [[k, v] for k, v in _lineage(version, run).items()],
                  text_columns=2),
        ),
        section(
            "Settings",
            table(["training.", "value"], [[k, _plain(v)] for k, v in run.settings.items()],
                  text_columns=2),
        ),
        el("footer", f"fti, {version.created_at:%Y-%m-%d %H:%M} UTC"),
    )  # fmt: skip


def _lead(version: ModelVersion, run: Run) -> str:
    metrics = version.metrics
    method = run.settings.get("method", "lora")
    resumed = metrics.get("resumed_from_step")
    parts = [
        f"{method} on {version.contract.base.id}, {metrics.get('train_rows', 0)} rows of "
        f"{version.dataset}, {metrics.get('steps', 0)} steps of {metrics.get('planned_steps', 0)} "
        f"planned ({metrics.get('stopped', '')})",
        f"gone on from step {resumed} after an interruption" if resumed else "",
    ]
    return "; ".join(filter(None, parts)) + "."


def _cards(metrics: Mapping[str, Any]) -> Markup:
    shown = [
        card(
            f"{metrics[name]:.3f}",
            name.replace("_", " "),
            f"{metrics[f'{name}_before']:.3f} before",
        )
        for name in ("validation_loss", "validation_exact")
        if name in metrics
    ]  # fmt: skip
    if metrics.get("train_loss") is not None:
        shown.append(card(f"{metrics['train_loss']:.3f}", "training loss at the end"))
    shown += [
        card(f"{metrics.get('tokens_per_second', 0):,.0f}", "tokens per second"),
        card(_span(metrics.get("seconds", 0)), "training"),
        card(f"{metrics.get('trainable_parameters', 0):,}", "parameters trained"),
    ]
    return el("div", *shown, class_="cards")


def _loss(curve: Sequence[Mapping[str, float]]) -> Markup:
    train = [(entry["step"], entry["loss"]) for entry in curve if "loss" in entry]
    measured = [
        (entry["step"], entry["validation_loss"]) for entry in curve if "validation_loss" in entry
    ]
    if not train:
        return el("p", "No step was logged.")
    series = {"training, smoothed": _thinned(_smooth(train))}
    if measured:
        series["validation"] = measured
    return charts.figure(
        charts.lines(
            "Loss by step", series, across="optimizer steps",
            dots={"training, smoothed": _thinned(train)},
        ),
        "Cross entropy per response token. Dots are single steps, whose batches differ in "
        "difficulty; the line is their running mean. Where validation rises while training "
        "falls, the model learns the rows by heart: the weights kept are the best of validation.",
    )  # fmt: skip


def _rate(curve: Sequence[Mapping[str, float]]) -> Markup:
    rates = [(entry["step"], entry["learning_rate"]) for entry in curve if "learning_rate" in entry]
    if not rates:
        return el("p", "No step was logged.")
    return charts.figure(
        charts.lines(
            "Learning rate by step", {"learning rate": _thinned(rates)}, across="optimizer steps"
        ),
        "The rate goes up in the warm-up and comes down by the schedule.",
    )


def _smooth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Running mean over the last steps, fewer of them in a short run."""
    window = max(1, min(_SMOOTHED, len(points) // 5))
    smoothed = []
    total = 0.0
    for n, (step, value) in enumerate(points):
        total += value - (points[n - window][1] if n >= window else 0.0)
        smoothed.append((step, total / min(n + 1, window)))
    return smoothed


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    every = -(-len(points) // _SHOWN)
    return [p for n, p in enumerate(points) if n % every == 0 or n == len(points) - 1]


def _before_and_after(metrics: Mapping[str, Any]) -> Markup:
    rows: list[list[object]] = []
    for name, meaning in _MEASURED.items():
        after, before = metrics.get(name), metrics.get(f"{name}_before")
        if after is not None:
            rows.append(
                [
                    el("span", el("b", name), el("div", meaning, class_="ci")),
                    "" if before is None else f"{before:.4f}",
                    f"{after:.4f}",
                ]
            )
    if "best_step" in metrics:
        rows.append(["best step, whose weights were kept", "", metrics["best_step"]])
    for reason, count in dict(metrics.get("dropped_rows") or {}).items():
        rows.append([f"rows left out: {reason}", "", count])
    return table(["what", "before", "after"], rows)


def _expected(metrics: Mapping[str, Any]) -> Markup:
    estimated = metrics.get("estimated")
    if not isinstance(estimated, Mapping):
        return el("p", "It was not estimated.")
    gib = 1024**3
    rows: list[list[object]] = [
        ["memory beside the model", f"{estimated['memory_bytes'] / gib:.2f} GB", ""],
        [
            "… gradients, moments and best weights",
            f"{estimated['optimizer_bytes'] / gib:.2f} GB",
            "",
        ],
        ["… the largest batch", f"{estimated['activation_bytes'] / gib:.2f} GB", ""],
        ["tokens, all passes", f"{estimated['tokens']:,}", ""],
        ["… with padding", f"{estimated['padded_tokens']:,}", ""],
    ]
    if estimated.get("seconds") is not None:
        took = _span(metrics.get("seconds", 0))
        rows.append(["time", _span(estimated["seconds"]), took])
    return table(["what", "expected", "was"], rows)


def _lineage(version: ModelVersion, run: Run) -> dict[str, object]:
    base = version.contract.base
    return {
        "dataset": f"{version.dataset}, digest {version.dataset_digest}",
        "base": f"{base.id}{f' at {base.revision}' if base.revision else ''}, weights "
        f"{base.weights_sha256}",
        "parent": version.parent or "none",
        "contract": version.contract.digest,
        "embedder": version.prompt_contract.embedder.id,
        "run": f"{run.id}, fti {run.code_version}",
    }


def _plain(value: object) -> str:
    return "–" if value is None else str(value)


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
