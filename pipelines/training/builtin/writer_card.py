"""From a checkpoint to the question writer's adapter that ships, with its card."""

from __future__ import annotations

import json
from pathlib import Path

from fti.pipelines.training.builtin.export import CARD, CURVE, before, curve, write_weights
from fti.pipelines.training.builtin.train import LOG
from fti.store.files.atomic import write_bytes


def write_writer(checkpoint: Path, folder: Path) -> None:
    """Write the adapter of a checkpoint, its log, curve and card; the rest is the reader's."""
    write_weights(checkpoint, folder)
    log = json.loads((folder / LOG).read_text(encoding="utf-8"))
    write_bytes(folder / CURVE, curve(log["log"]).encode("utf-8"))
    recipe = log["recipe"]
    text = _TEXT.format(
        steps=log["step"], tokens=log["tokens"], turns=log["turns"],
        minutes=log["seconds"] / 60, seed=log["seed"], picture=CURVE,
        rank=recipe["rank"], rate=recipe["learning_rate"], earlier=before(log),
    )  # fmt: skip
    write_bytes(folder / CARD, text.encode("utf-8"))


_TEXT = """\
# The built-in question writer

A LoRA adapter (rank {rank}, all linear layers, fp16) of `SmolLM2-135M-Instruct` that makes it ask
what a passage answers: `fti dataset build` lets it write the questions of a dataset. It does two
things with a few sentences. It names the answers that people ask for, one per line; and it writes
the question that one answer answers. Base, tokenizer and settings are those of the built-in reader
(`../builtin_lm`), and so is the way in which base and adapter become one model of the cache folder.

## Prompts

`pipelines/engines/question_prompts.py` composes them. The passage stands first, so that it is read
once for all its questions:

```
Handbook > Sports
The pool is open from 9:00 to 17:00. It is closed on Mondays.

Answer: Mondays
Write the question that this answers.
```

## Training

`python -m fti.pipelines.training.builtin --writer --data DATA --out FOLDER --seed {seed}
--from-adapter pipelines/engines/builtin_lm`: the reader's rows the other way round, begun with the
reader's weights, which know how passages and questions go together. {steps} steps, {turns:,} lists
and questions, {tokens:,} tokens with padding, {minutes:.0f} minutes on two CPU cores; the
learning rate fell from {rate} to nearly nothing over the planned time. Only questions that make
sense by themselves, and that name nothing that the passage does not, are learned from. Sources and
licences are the reader's, without PolicyQA, whose questions are a form's. {earlier}

![learning curve]({picture})

## Limits

- English only, running text only: tables and fields are asked about by rule.
- A part of what it writes is odd, or asks for something else. The round trip through the reader
  (`dataset.writer.round_trip`) is there to find that part; the dataset's card says what was kept.
- Passages are untrusted text to it. At worst they spoil the questions about them.
"""
