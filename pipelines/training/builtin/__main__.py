"""Train the built-in reader's adapter, or the question writer's, from raw rows; resumable.

    python -m fti.pipelines.training.builtin --data DATA --out pipelines/engines/builtin_lm
    python -m fti.pipelines.training.builtin --data DATA --out FOLDER --minutes 10 --resume
    python -m fti.pipelines.training.builtin --data DATA --out FOLDER --from-adapter OTHER
    python -m fti.pipelines.training.builtin --data DATA --out FOLDER --evaluate
    python -m fti.pipelines.training.builtin --writer --data DATA --out FOLDER --from-adapter READER

DATA holds squad/train and reading; --evaluate reads squad/corpus and its questions, measures
the model that `builtin` names and writes the figures to FOLDER. Checkpoints lie beside FOLDER, in
FOLDER.training. Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fti.pipelines.training.builtin.recipe import Recipe
from fti.store.errors import FtiError, TrainingError

if TYPE_CHECKING:
    from fti.pipelines.training.builtin.evaluate import Case, Said
    from fti.pipelines.training.builtin.train import Develop, Rows


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fti.pipelines.training.builtin",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the raw rows")
    parser.add_argument("--out", type=Path, required=True, help="folder of the adapter")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--minutes", type=float, help="stop after so long; go on later with --resume"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--planned", type=float, default=Recipe().minutes, help="minutes of the whole run"
    )
    parser.add_argument("--threads", type=int, default=2, help="batches computed at once")
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="what products are computed in; auto: bfloat16 where the machine has it",
    )
    parser.add_argument(
        "--from-adapter",
        type=Path,
        help="begin with the weights of this folder's adapter, not with the base's answers",
    )
    parser.add_argument(
        "--writer", action="store_true", help="train the question writer, not the reader"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument(
        "--export", action="store_true", help="only write the adapter of the last checkpoint"
    )
    parser.add_argument(
        "--evaluate", action="store_true", help="only measure the built-in model on the test data"
    )
    parser.add_argument(
        "--questions", type=int, default=500, help="how many of each kind --evaluate asks"
    )
    return parser.parse_args(argv)


def train(options: argparse.Namespace) -> None:
    """Run the recipe, or a piece of it, and write the adapter."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from fti.pipelines.engines.builtin_model import base_model
    from fti.pipelines.engines.weights import has_bfloat16
    from fti.pipelines.training.builtin.export import write_adapter
    from fti.pipelines.training.builtin.train import Trainer, with_adapter
    from fti.pipelines.training.builtin.writer_card import write_writer

    beside = options.out.with_name(options.out.name + ".training")
    checkpoint = beside / "checkpoint"
    if checkpoint.exists() and not (options.resume or options.export):
        raise TrainingError(
            f"There is a checkpoint of an earlier run in {str(checkpoint)!r}.",
            hint="Add --resume to go on with it, or remove that folder to start again.",
        )
    base = base_model(beside / "base")
    if not options.export:
        recipe = Recipe(minutes=options.planned)
        tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            base, local_files_only=True, dtype=torch.float32
        )
        bfloat16 = (
            has_bfloat16(options.device)
            if options.precision == "auto"
            else options.precision == "bfloat16"
        )
        stream, develop = _rows(options, recipe, tokenizer, bfloat16)
        trainer = Trainer(
            with_adapter(model, recipe, seed=options.seed),
            tokenizer,
            stream,
            recipe,
            seed=options.seed,
            device=options.device,
            workers=options.threads,
            bfloat16=bfloat16,
            develop=develop,
        )
        if checkpoint.exists():
            trainer.load(checkpoint)
        elif options.from_adapter:
            trainer.begin_with(options.from_adapter)
        trainer.run(checkpoint, minutes=options.minutes)
    if options.writer:
        write_writer(checkpoint, options.out)
    else:
        write_adapter(checkpoint, base, options.out)


def _rows(
    options: argparse.Namespace, recipe: Recipe, tokenizer: Any, bfloat16: bool
) -> tuple[Rows, Develop]:
    """Where the rows come from, and what the held-out articles say of the model now and then."""
    from functools import partial

    from fti.pipelines.engines.embedders.embedder_loading import load_embedder
    from fti.pipelines.engines.embedders.embedding import EmbedderConfig
    from fti.pipelines.engines.evidence import Remembering
    from fti.pipelines.training.builtin.evaluate import development
    from fti.pipelines.training.builtin.reading_rows import read_corpus
    from fti.pipelines.training.builtin.recipe import Stream
    from fti.pipelines.training.builtin.writing_rows import WritingStream, held_out_loss

    corpus = read_corpus(options.data)
    if options.writer:
        return WritingStream(corpus, options.seed), partial(
            held_out_loss, tokenizer=tokenizer, corpus=corpus, bfloat16=bfloat16
        )
    embedder = Remembering(load_embedder(EmbedderConfig()))
    return Stream(corpus, options.seed, embedder, recipe), partial(
        development, tokenizer=tokenizer, corpus=corpus, embedder=embedder, bfloat16=bfloat16
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the built-in model and a baseline; rewrite the card."""
    import torch

    from fti.pipelines.engines.embedders.embedder_loading import load_embedder
    from fti.pipelines.engines.embedders.embedding import EmbedderConfig
    from fti.pipelines.engines.generation import load_generator
    from fti.pipelines.engines.generator import GeneratorConfig
    from fti.pipelines.training.builtin.evaluate import (
        AS_SERVED,
        REFUSE_ABOVE,
        by_threshold,
        evaluate,
        outright,
        repeat_nearest,
        samples,
        timing,
    )
    from fti.pipelines.training.builtin.export import MEASURED, write_card
    from fti.store.files.atomic import write_json

    embedder = load_embedder(EmbedderConfig())
    generator: Any = load_generator(
        GeneratorConfig(engine="transformers", id="builtin", device=options.device),
        embedder=embedder,
    )
    count = options.questions
    asked = samples(options.data, embedder, count)
    said: dict[int, list[Said]] = {}

    def read(sample: Sequence[Case]) -> list[str]:
        said[id(sample)] = outright(generator, sample)
        return [each.above(REFUSE_ABOVE) for each in said[id(sample)]]

    ways: dict[str, Callable[[Sequence[Case]], list[str]]] = {
        "built-in": read,
        "nearest sentence": lambda asked: repeat_nearest(asked, embedder),
    }
    models = {name: evaluate(ask, asked) for name, ask in ways.items()}
    seconds = timing(generator, asked[AS_SERVED])
    models["built-in"] |= {
        "as served: seconds to the first token": str(seconds["first"]),
        "as served: seconds to the whole answer": str(seconds["whole"]),
    }
    figures = {
        "what": f"On articles that training never saw: {count} answerable and {count} unanswerable "
        "questions of SQuAD's development set (fixed samples, seed 0), greedy, citation markers "
        "taken off, 95 % intervals. As served: the 4 sentences that fit the question best, of the "
        "4 paragraphs that hybrid search finds among all test articles. The nearest sentence is "
        "what the extractive baseline shows. A refusal stands when the model gives it a chance of "
        f"at least {REFUSE_ABOVE}, as the default profile has it. Medians of 20 on "
        f"{torch.get_num_threads()} CPU threads. F1 and exact match count a refusal as 0.",
        "models": models,
        "thresholds": by_threshold({w: said[id(sample)] for w, sample in asked.items()}, asked),
    }
    write_json(options.out / MEASURED, figures)
    write_card(options.out)
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = arguments(argv)
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
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
