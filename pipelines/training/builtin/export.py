"""From a checkpoint to the model folder that ships: half-precision weights, tokenizer, card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.training.builtin.recipe import Recipe
from store.atomic import write_bytes, write_json

if TYPE_CHECKING:
    from transformers import BertLMHeadModel, PreTrainedTokenizerFast

LOG, CARD, MEASURED = "training_log.json", "README.md", "measured.json"


def write_model(
    model: BertLMHeadModel, tokenizer: PreTrainedTokenizerFast, folder: Path, state: dict[str, Any]
) -> None:
    """Write the model folder; ``state`` is the checkpoint's account of the run.

    Weights are rounded to fp16, whose ten bits of fraction suit weights near zero better than
    bf16's seven. The config says float32, so that loading gives what a CPU computes fastest.
    """
    import torch
    from transformers import BertLMHeadModel

    folder.mkdir(parents=True, exist_ok=True)
    half = BertLMHeadModel(model.config)
    half.load_state_dict(model.state_dict())
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


def write_card(folder: Path) -> None:
    """Write the model card from the training log and, once there are any, the measured figures."""
    log = json.loads((folder / LOG).read_text(encoding="utf-8"))
    recipe = Recipe(**log["recipe"])
    measured = folder / MEASURED
    results = "Not measured yet: run the module with `--evaluate`."
    if measured.exists():
        figures = json.loads(measured.read_text(encoding="utf-8"))
        results = f"{figures['what']}\n\n{table(figures)}"
    development = [entry for entry in log["log"] if "dev_loss" in entry]
    curve = "\n".join(
        f"| {e['step']} | {e['tokens']:,} | {e['loss']:.2f} | {e['dev_loss']:.2f} "
        f"| {e['dev_exact'] * 100:.1f} % |"
        for e in development
    )
    text = CARD_TEXT.format(
        steps=log["step"], planned=recipe.steps, tokens=log["tokens"], minutes=log["seconds"] / 60,
        seed=log["seed"], results=results, curve=curve, context=recipe.context,
    )  # fmt: skip
    write_bytes(folder / CARD, text.encode("utf-8"))


CARD_TEXT = """\
# The built-in reader

A causal language model of 22.8 million parameters that does one thing: it reads a question and up
to about four numbered passages and answers shortly, in the words of a passage, with its number as
citation; or it says `The passages do not answer this question.` It knows nothing of its own and
does not converse. It ships so that everything works offline on a laptop's CPU, and so that the gain
from fine-tuning can be seen.

Architecture: `BertLMHeadModel` as decoder (6 layers, width 384, 12 heads), {context} tokens of
context, 30,000 cased word pieces over bytes, so that any text comes back unchanged. Weights are
fp16 on disk and load as fp32. No code of its own is needed.

## Prompt

The user message holds the question, the passages, and the question again; there is no system
message. `store.contract.PromptForm(system="", question_position="both")` composes it:

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

- Layers, and word embeddings as the start of ours: `sentence-transformers/all-MiniLM-L6-v2`
  (Apache-2.0).
- `squad/train` (SQuAD 1.1 and 2.0, Rajpurkar et al. 2016 and 2018): CC BY-SA 4.0.
- `fairytale_qa` (FairytaleQA, uci-soe/FairytaleQAData): Apache-2.0.
- `policy_qa` (PolicyQA, wasiahmad/PolicyQA, its development and test files): MIT.
- `covid_qa` (COVID-QA, deepset-ai/COVID-QA): Apache-2.0.
- `qed_nq` (QED development file, google-research-datasets/QED; the texts are Wikipedia's):
  CC BY-SA 3.0.
- The FastAPI documentation in English: MIT.
- Invented handbooks, fact sheets and tables, generated by the recipe itself.

Of these, only questions whose answer stands in the passage are used. Gaps cut into the plain text,
questions moved to passages that do not answer them, and questions with a name or year exchanged are
made by the recipe. No score may be reported on PolicyQA's development and test files or on QED's
development file, since they were trained on.

## Training

One command (`python -m pipelines.training.builtin --data DATA --out FOLDER --seed {seed}`),
fp32, on two shared CPU cores with AVX-512 and no GPU: {steps} of {planned} steps, {tokens:,} tokens
with padding, {minutes:.0f} minutes. `training_log.json` holds the curve. Held-out articles (Kenya,
Construction) gave the development figures: loss a token of the response, and the share of
responses that are right token for token given the right beginning. Three in ten of the held-out
questions are unanswerable, so a model that always abstains is already right on about 0.3.

| step | tokens | training loss | development loss | development exact |
|---|---|---|---|---|
{curve}

## Measured

{results}

## Limits

- English only. Small and briefly trained: it confuses people, dates and numbers of the same kind
  that stand near each other, and it can cut an answer short or cite a passage that merely looks
  similar. Check the cited passage.
- It abstains on some questions that the passages answer, and answers some that they do not,
  especially where only one name or year in the question is wrong.
- No arithmetic, no comparison, no combination of passages, no yes or no.
- Passages are untrusted text to it only by habit: it was never trained against instructions hidden
  in them.
- Nothing was done to remove what may be offensive in the sources above.
"""
