"""The recipe of the built-in question writer, on a handful of rows."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.encoding import IGNORED, encode_example
from fti.pipelines.engines.question_prompts import NAME_ANSWERS, WRITE_QUESTION
from fti.pipelines.training.builtin.branches import encode_turns
from fti.pipelines.training.builtin.reading_rows import Asked, Corpus, Text
from fti.pipelines.training.builtin.recipe import Recipe
from fti.pipelines.training.builtin.writing_rows import (
    SHARES,
    WritingStream,
    as_asked,
    grounded,
    held_out_loss,
    pairs_row,
    stands_alone,
    writing_row,
)
from tests.support.reading_data import PARAGRAPH, SENTINEL, fresh_model

RECIPE = Recipe(tokens_per_step=600, tokens_per_batch=400, row_tokens=1000, rank=2, alpha=4.0)
TEXT = Text(
    "Lorvel",
    PARAGRAPH,
    (
        Asked("In what year was the bridge of iron built?", "1871"),
        Asked("Which engineer built the bridge near Oldport?", "Anna Weller"),
        Asked("Why do farmers move cattle to higher ground?", "flooded"),
        Asked("Who was Anna Weller's teacher in Paris?", "Oldport"),
        Asked("Who did he marry?", "Anna Weller"),
    ),
    "Lorvel",
)


def turns(count: int = 40) -> list[tuple[str, str]]:
    rng = random.Random(0)
    found = [turn for _ in range(count) for turn in writing_row(TEXT, rng).turns]
    return [(messages[-1].content, reply) for messages, reply in found]


def test_a_row_asks_for_what_people_asked() -> None:
    asked = {reply for prompt, reply in turns() if prompt.endswith(WRITE_QUESTION)}

    assert "In what year was the bridge of iron built?" in asked
    assert "Which engineer built the bridge near Oldport?" in asked
    assert "Who did he marry?" not in asked  # nobody else knows who he is
    assert "Who was Anna Weller's teacher in Paris?" not in asked  # Paris is not shown


def test_the_answer_stands_in_what_is_shown() -> None:
    for prompt, _ in turns():
        shown, _, task = prompt.rpartition("\n\n")
        if task.endswith(WRITE_QUESTION):
            answer = task.removeprefix("Answer: ").removesuffix(f"\n{WRITE_QUESTION}")
            assert answer in shown


def test_answers_are_named_in_their_order() -> None:
    listed = {reply for prompt, reply in turns() if prompt.endswith(NAME_ANSWERS)}

    assert "1871\nAnna Weller" in listed
    assert all(len(reply.splitlines()) > 1 for reply in listed)


def test_a_question_why_gets_a_sentence() -> None:
    prompts = [prompt for prompt, reply in turns(80) if reply.startswith("Why do farmers")]

    assert any("Answer: Every spring the lower fields are flooded, and" in p for p in prompts)


def test_pairs_ask_about_a_sentence_or_the_phrase_that_leaves_no_doubt() -> None:
    pairs = [
        ("When was the tower of Ovingdean built?", "The tower of Ovingdean rose in 1804."),
        ("Why do storks leave Ovingdean?", "Storks leave because the marsh there is drained."),
    ]

    first, second = pairs_row(pairs, random.Random(0)).turns

    assert "Answer: 1804\n" in first[0][-1].content
    assert "Answer: Storks leave because the marsh there is drained.\n" in second[0][-1].content
    assert second[1] == "Why do storks leave Ovingdean?"


@pytest.mark.parametrize(
    ("question", "alone"),
    [
        ("Who built the bridge near Oldport?", True),
        ("Who did she marry?", False),
        ("What does the passage say of Kenya?", True),  # names what it is about
        ("What is it?", False),
        ("Why?", False),
    ],
)
def test_a_question_stands_alone(question: str, alone: bool) -> None:
    assert stands_alone(question) is alone


def test_a_grounded_question_names_what_is_shown() -> None:
    assert grounded("Who built a bridge across the Lorvel?", PARAGRAPH)
    assert not grounded("Who built a bridge across the Thames?", PARAGRAPH)
    assert not grounded("Which emperor ruled the southern empire?", PARAGRAPH)


def test_questions_are_written_as_people_write_them() -> None:
    assert as_asked("who plays  Tom in the play") == "Who plays Tom in the play?"
    assert as_asked("Who plays Tom ?") == "Who plays Tom?"


def test_the_stream_is_the_same_for_the_same_seed_and_reads_no_test_data(
    corpus: Corpus, tokenizer: Any
) -> None:
    def rows() -> list[Any]:
        stream, rng = WritingStream(corpus, 3), random.Random(5)
        return [stream.encoded(tokenizer, rng, 0.0) for _ in range(60)]

    first = rows()

    assert first == rows()
    assert sum(share for _, share in SHARES) == pytest.approx(1.0)
    told = tokenizer.decode([i for row in first if row for i in row.prefix])
    assert SENTINEL not in told


def test_branches_are_encoded_as_the_writer_will_be_asked(tokenizer: Any) -> None:
    rng = random.Random(1)
    row = next(r for r in (writing_row(TEXT, rng) for _ in range(50)) if len(r.turns) > 1)
    encoded = encode_turns(tokenizer, row.turns)

    for (messages, reply), branch in zip(row.turns, encoded.branches, strict=True):
        asked = encode_example(tokenizer, messages, reply)
        assert encoded.prefix + branch.ids == asked.input_ids
        learned = [label for label in asked.labels if label != IGNORED]
        assert branch.ids[branch.prompt :] == learned


def test_the_writer_trains_and_its_adapter_and_card_are_written(
    corpus: Corpus, tokenizer: Any, tmp_path: Path
) -> None:
    import torch

    from fti.pipelines.training.builtin.train import Trainer, with_adapter
    from fti.pipelines.training.builtin.writer_card import write_writer

    threads = torch.get_num_threads()
    model = with_adapter(fresh_model(tokenizer), RECIPE, seed=0)
    before = held_out_loss(model, tokenizer=tokenizer, corpus=corpus)
    trainer = Trainer(
        model, tokenizer, WritingStream(corpus, 0), RECIPE, seed=0, device="cpu",
        develop=lambda m: held_out_loss(m, tokenizer=tokenizer, corpus=corpus),
    )  # fmt: skip
    for _ in range(12):
        trainer._note([trainer.advance()], {})
    trainer.save(tmp_path / "checkpoint")
    write_writer(tmp_path / "checkpoint", tmp_path / "writer")
    torch.set_num_threads(threads)

    after = held_out_loss(model, tokenizer=tokenizer, corpus=corpus)
    assert after["dev_loss"] < before["dev_loss"]
    card = (tmp_path / "writer" / "README.md").read_text(encoding="utf-8")
    assert "12 steps" in card
    names = {path.name for path in (tmp_path / "writer").iterdir()}
    assert names == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "learning_curve.svg",
        "training_log.json",
    }  # fmt: skip
