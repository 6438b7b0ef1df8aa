"""The recipe of the built-in reader, on a Llama of two tiny layers and a handful of rows."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.encoding import IGNORED, encode_example
from fti.pipelines.engines.evidence import Remembering
from fti.pipelines.engines.weights import quiet_loading
from fti.pipelines.training.builtin import evaluate
from fti.pipelines.training.builtin import reading_rows as rows
from fti.pipelines.training.builtin.branches import batches, collate, encode_row
from fti.pipelines.training.builtin.evidence_rows import evidence_row
from fti.pipelines.training.builtin.reading_rows import Asked, Mix, Text
from fti.pipelines.training.builtin.recipe import UNANSWERED, Recipe, Stream, contrasted
from tests.support.reading_data import OTHER, PARAGRAPH, SENTINEL, fresh_model

RECIPE = Recipe(tokens_per_step=600, tokens_per_batch=400, row_tokens=1000, rank=2, alpha=4.0)
EMBEDDER = HashingEmbedder()


def all_rows(corpus: rows.Corpus, count: int = 150) -> list[rows.Row]:
    stream = Stream(corpus, 0, Remembering(EMBEDDER), RECIPE)
    rng = random.Random(0)
    found = [stream.row(rng, progress=n / count) for n in range(count)]
    return [row for row in found if row.turns]


# Branches


def test_each_branch_is_encoded_as_serving_encodes_it(tokenizer: Any, corpus: rows.Corpus) -> None:
    for row in all_rows(corpus, 40):
        encoded = encode_row(tokenizer, row)
        for turn, branch in zip(row.turns, encoded.branches, strict=True):
            served = encode_example(
                tokenizer, rows.FORM.messages(turn.question, row.passages), turn.response
            )
            assert encoded.prefix + branch.ids == served.input_ids
            learned = [label for label in served.labels if label != IGNORED]
            assert branch.ids[branch.prompt :] == learned


def test_a_branch_computes_what_it_would_alone(tokenizer: Any, corpus: rows.Corpus) -> None:
    import torch

    model = fresh_model(tokenizer).eval()
    some = [row for row in all_rows(corpus, 40) if len(row.turns) > 1][:3]
    encoded = [encode_row(tokenizer, row) for row in some]
    batch = collate(encoded, 0)
    with torch.no_grad():
        together = model(
            input_ids=batch.ids, attention_mask=batch.sees, position_ids=batch.positions
        ).logits
    checked = 0
    for number, row in enumerate(encoded):
        at = len(row.prefix)
        for branch in row.branches:
            with torch.no_grad():
                alone = model(torch.tensor([row.prefix + branch.ids])).logits[0]
            found = together[number, at : at + len(branch.ids)]
            torch.testing.assert_close(found, alone[-len(branch.ids) :], rtol=1e-3, atol=1e-3)
            at += len(branch.ids)
            checked += 1
    assert checked > 5


def test_only_responses_are_predicted_each_with_the_same_say(
    tokenizer: Any, corpus: rows.Corpus
) -> None:
    row = next(row for row in all_rows(corpus, 40) if len(row.turns) > 1)
    encoded = encode_row(tokenizer, row)
    batch = collate([encoded], 0)
    flat = batch.ids.flatten()
    for number, turn in enumerate(row.turns):
        mine = batch.turn == number
        said = tokenizer.decode(batch.targets[mine])
        assert said == f"{turn.response}{tokenizer.eos_token}"
        assert (flat[batch.where[mine][1:]] == batch.targets[mine][:-1]).all()
        weights = batch.weights[mine]
        assert float(weights.sum()) == pytest.approx(len(weights) ** 0.5)


def test_batches_hold_every_row_within_their_tokens(tokenizer: Any, corpus: rows.Corpus) -> None:
    encoded = [encode_row(tokenizer, row) for row in all_rows(corpus, 30)]
    most = 3 * max(map(len, encoded))
    groups = batches(encoded, most)
    assert sum(map(len, groups)) == len(encoded)
    assert all(len(group) * max(map(len, group)) <= most for group in groups)


# Rows


def test_answers_stand_in_the_passage_they_cite(corpus: rows.Corpus) -> None:
    kinds: Counter[str] = Counter()
    for row in all_rows(corpus, 300):
        for turn in row.turns:
            parsed = rows.FORM.parse(turn.response, len(row.passages))
            assert turn.response.startswith(" ")
            answer = turn.response.rpartition(" [")[0].removeprefix(" ")
            if parsed.abstained:
                kinds["refused"] += 1
            elif answer in row.passages[parsed.markers[0] - 1].text:
                kinds["copied"] += 1
            else:  # two sentences that stand apart, of a question with two parts
                shown = row.passages[parsed.markers[0] - 1].text
                assert ", and " in turn.question
                assert all(f"{part}." in shown for part in answer.rstrip(".").split(". "))
                kinds["two"] += 1
    total = sum(kinds.values())
    assert kinds["copied"] > 300
    assert kinds["two"] > 1
    assert 0.02 * total < kinds["refused"] < 0.3 * total


def test_evidence_always_holds_the_answer_of_a_question_that_has_one(
    corpus: rows.Corpus,
) -> None:
    (text,) = corpus.reading["squad_articles"]
    others = [Text("Sund", OTHER, (Asked("Who drew maps?", "Carl Benz"),), "Sund")] * 4
    rng = random.Random(0)
    embedder = Remembering(EMBEDDER)
    mix = Mix(refused=0.0, withheld=0.0)
    answers = {a.question: a.answer for a in text.asked}
    for _ in range(100):
        row = evidence_row(text, others, (), rng, embedder, mix)
        assert all(p.text in text.text or p.text in OTHER for p in row.passages)
        for turn in row.turns:
            parsed = rows.FORM.parse(turn.response, len(row.passages))
            assert parsed.abstained == (not answers[turn.question])
            if not parsed.abstained:
                assert answers[turn.question] in row.passages[parsed.markers[0] - 1].text


def test_evidence_that_is_withheld_is_refused_and_shows_the_answer_nowhere(
    corpus: rows.Corpus,
) -> None:
    (text,) = corpus.reading["squad_articles"]
    others = [Text("Sund", OTHER, (Asked("Who drew maps?", "Carl Benz"),), "Sund")] * 4
    rng = random.Random(0)
    mix = Mix(refused=0.0, withheld=1.0)
    answers = {a.question: a.answer for a in text.asked}
    seen = 0
    for _ in range(60):
        row = evidence_row(text, others, (), rng, Remembering(EMBEDDER), mix)
        for turn in row.turns:
            parsed = rows.FORM.parse(turn.response, len(row.passages))
            if parsed.abstained and answers[turn.question]:
                seen += 1
                assert row.passages
                assert all(answers[turn.question] not in p.text for p in row.passages)
    assert seen > 20


@pytest.mark.parametrize(
    ("question", "answer", "reply"),
    [
        ("Who built the bridge?", "Anna Weller", "Anna Weller"),
        ("How long is the Lorvel?", "240 kilometres", "240 kilometres"),
        (
            "How do farmers keep their cattle dry?",
            "move their cattle",
            "Every spring the lower fields are flooded, and farmers move their cattle to higher "
            "ground.",
        ),
        (
            "What happens to the lower fields?",
            "flooded",
            "Every spring the lower fields are flooded, and farmers move their cattle to higher "
            "ground.",
        ),
        ("Why are cattle moved?", "the lower fields are flooded", "the lower fields are flooded"),
    ],
)
def test_a_fact_gets_a_phrase_and_a_manner_its_sentence(
    question: str, answer: str, reply: str
) -> None:
    assert rows.in_words(Asked(question, answer), PARAGRAPH) == reply


def test_a_question_with_two_parts_gets_the_sentences_of_both() -> None:
    first = Asked("How long is the Lorvel?", "240 kilometres")
    second = Asked("Who built the bridge?", "Anna Weller")
    question, reply = rows.two_parts(first, second, PARAGRAPH) or ("", "")
    assert question == "How long is the Lorvel, and who built the bridge?"
    assert reply == PARAGRAPH.split(" Every")[0]
    assert rows.two_parts(first, replace(second, question="Was it built?"), PARAGRAPH) is None


def test_no_test_text_and_no_held_out_article_reaches_a_row(corpus: rows.Corpus) -> None:
    assert all(t.heading == "Kenya" for t in corpus.held_out)
    assert len(corpus.held_out) == 1
    found = all_rows(corpus)
    shown = [p for row in found for p in row.passages]
    assert all("Kenya" not in p.heading for p in shown)
    said = [f"{t.question} {t.response}" for row in found for t in row.turns]
    assert SENTINEL not in " ".join([*said, *(p.text for p in shown)])


def test_the_same_seed_gives_the_same_rows(corpus: rows.Corpus) -> None:
    assert all_rows(corpus, 30) == all_rows(corpus, 30)


def test_each_source_is_used_up_before_it_repeats(corpus: rows.Corpus) -> None:
    stream = Stream(corpus, 3, EMBEDDER, RECIPE)
    taken = [stream.next("sentences", 12) for _ in range(24)]
    assert sorted(taken[:12]) == sorted(taken[12:]) == list(range(12))


def test_texts_with_unanswerable_questions_come_with_as_many_of_both_kinds() -> None:
    asked = [Asked(f"Question {n}?", f"answer {n}" if n < 4 else "") for n in range(6)]

    text = contrasted(Text("Kiln", "Words.", tuple(asked)))

    assert text is not None
    assert [bool(a.answer) for a in text.asked] == [False, False, True, True]
    assert contrasted(Text("Kiln", "Words.", tuple(asked[:4]))) is None


def test_a_corpus_without_unanswerable_questions_is_read_all_the_same(
    corpus: rows.Corpus,
) -> None:
    answerable = {
        name: [replace(t, asked=tuple(a for a in t.asked if a.answer)) for t in texts]
        for name, texts in corpus.reading.items()
    }
    only = replace(RECIPE, shares=((UNANSWERED, 1.0),))
    stream = Stream(replace(corpus, reading=answerable), 0, Remembering(EMBEDDER), only)

    assert stream.row(random.Random(0), 0.0).passages


def test_an_altered_question_asks_about_another_year_or_name() -> None:
    rng = random.Random(0)
    changed = rows.altered("When did Anna Weller die?", "It was seen by Carl Benz.", rng)
    assert changed == "When did Carl Benz die?"
    assert rows.altered("why?", "It rained in 1950.", rng) == ""


def test_an_altered_question_may_ask_for_the_opposite_or_be_denied() -> None:
    rng = random.Random(0)
    assert rows.altered("when was the largest bell cast?", "", rng) == (
        "when was the smallest bell cast?"
    )
    assert rows.altered("how many came before noon?", "", rng) == "how many came after noon?"
    denied = {rows.altered("What is the size of a virus?", "", rng) for _ in range(40)}
    assert denied == {"", "What is not the size of a virus?", "What is never the size of a virus?"}


def test_bfloat16_products_learn_nearly_what_float32_learns(
    corpus: rows.Corpus, tokenizer: Any
) -> None:
    import torch

    from fti.pipelines.training.builtin.train import losses, with_adapter

    rng = random.Random(0)
    stream = Stream(corpus, 0, Remembering(EMBEDDER), RECIPE)
    made = [row for row in (stream.row(rng, 0.5) for _ in range(8)) if row.turns]
    batch = collate([encode_row(tokenizer, row) for row in made], 0)
    model = with_adapter(fresh_model(tokenizer), RECIPE, seed=0)
    with torch.no_grad():
        exact, _ = losses(model, batch, "cpu")
        rounded, _ = losses(model, batch, "cpu", bfloat16=True)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact), "the products were computed otherwise"
    torch.testing.assert_close(rounded.mean(), exact.mean(), rtol=2e-2, atol=0.0)


def test_tokenised_text_is_written_normally() -> None:
    given_text = "It 's 4.5 -- `` so '' ( he said ) , in the U.S. ."
    assert rows.detokenised(given_text) == 'It\'s 4.5 -- "so" (he said), in the U.S..'


def test_the_learning_rate_rises_and_falls_over_the_planned_time() -> None:
    recipe = Recipe(warmup=0.1)
    rates = [recipe.rate(n / 100) for n in range(101)]
    top = rates.index(max(rates))
    assert top == 10
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(recipe.floor * recipe.learning_rate)


# Training


@pytest.fixture
def timeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which each look at it takes a second, so that progress is the same each time."""
    from itertools import count

    from fti.pipelines.training.builtin import train

    ticks = count()
    monkeypatch.setattr(train.time, "monotonic", lambda: float(next(ticks)))


@pytest.mark.usefixtures("timeless")
def test_resuming_gives_the_weights_of_an_uninterrupted_run(
    corpus: rows.Corpus, tokenizer: Any, tmp_path: Path
) -> None:
    import torch

    from fti.pipelines.training.builtin.train import Trainer, with_adapter

    threads = torch.get_num_threads()

    def trainer() -> Trainer:
        model = with_adapter(fresh_model(tokenizer), RECIPE, seed=0)
        stream = Stream(corpus, 0, Remembering(EMBEDDER), RECIPE)
        return Trainer(model, tokenizer, stream, RECIPE, seed=0, device="cpu")

    whole = trainer()
    start = {name: p.detach().clone() for name, p in whole.named.items()}
    for _ in range(5):
        whole.advance()
    first = trainer()
    for _ in range(3):
        first.advance()
    first.save(tmp_path / "piece")
    second = trainer()
    second.load(tmp_path / "piece")
    for _ in range(2):
        second.advance()
    torch.set_num_threads(threads)

    assert (second.step, second.tokens, second.turns) == (5, whole.tokens, whole.turns)
    assert second.taken == whole.taken
    for name, weight in whole.named.items():
        assert torch.equal(weight, second.named[name]), name
    assert any(not torch.equal(weight, start[name]) for name, weight in whole.named.items())


def test_the_adapter_loads_with_peft_and_can_be_gone_on_from(
    corpus: rows.Corpus, tokenizer: Any, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel

    from fti.pipelines.training.builtin.export import write_adapter
    from fti.pipelines.training.builtin.train import Trainer, with_adapter

    threads = torch.get_num_threads()
    base = tmp_path / "base"
    fresh_model(tokenizer).save_pretrained(base)
    tokenizer.save_pretrained(base)

    def trainer() -> Trainer:
        model = with_adapter(fresh_model(tokenizer), RECIPE, seed=0)
        stream = Stream(corpus, 0, Remembering(EMBEDDER), RECIPE)
        return Trainer(model, tokenizer, stream, RECIPE, seed=0, device="cpu")

    one = trainer()
    for _ in range(2):
        one._note([one.advance()], {})
    one.save(tmp_path / "checkpoint")
    write_adapter(tmp_path / "checkpoint", base, tmp_path / "adapter")
    other = trainer()
    other.begin_with(tmp_path / "adapter")
    torch.set_num_threads(threads)

    assert other.taken == one.taken
    assert other.step == 0
    assert [run["tokens"] for run in other.earlier] == [one.tokens]
    for name, weight in one.named.items():
        torch.testing.assert_close(other.named[name], weight, rtol=2e-3, atol=1e-5)
    ids = torch.tensor([[5, 6, 7, 8]])
    with quiet_loading():
        loaded = PeftModel.from_pretrained(fresh_model(tokenizer), str(tmp_path / "adapter"))
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.eval()(ids).logits, one.model.eval()(ids).logits, rtol=1e-2, atol=1e-2
        )
    assert "<svg" in (tmp_path / "adapter" / "learning_curve.svg").read_text(encoding="utf-8")
    card = (tmp_path / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "rank 2" in card
    assert "products in\nfloat32" in card
    assert "earlier runs" not in card
    other.advance()
    other.save(tmp_path / "later")
    write_adapter(tmp_path / "later", base, tmp_path / "adapter")
    assert f"earlier runs\n({one.turns:,} questions" in (
        (tmp_path / "adapter" / "README.md").read_text(encoding="utf-8")
    )


# Measuring


def test_scores_follow_squad() -> None:
    assert evaluate.exact("The Anna Weller.", "anna weller") == 1.0
    assert evaluate.overlap("in the hills", "hills of Tamnor") == pytest.approx(0.4)
    assert evaluate.overlap("", "hills") == 0.0


def test_the_answer_is_located_as_the_passage_spells_it() -> None:
    assert rows.located(["anna weller", "the engineer Anna Weller"], PARAGRAPH) == (
        "the engineer Anna Weller"
    )
    assert rows.located(["240", "240 kilometres", "after 240 kilometres"], PARAGRAPH) == (
        "240 kilometres"
    )
    assert rows.located(["Nobody"], PARAGRAPH) == ""


def test_what_serves_is_what_is_measured(tiny_lm: Path) -> None:
    from fti.pipelines.engines.causal_lm.loading import load_to_answer
    from fti.pipelines.engines.causal_lm.plain_llama import PlainLlama
    from fti.pipelines.engines.causal_lm.transformers_generator import TransformersGenerator
    from fti.pipelines.engines.model_config import ModelConfig

    loaded = load_to_answer(ModelConfig(id=str(tiny_lm), device="cpu"))
    assert isinstance(loaded.model, PlainLlama)
    shown = rows.shown([Text("Lorvel", PARAGRAPH)], random.Random(0))
    case = evaluate.Case("Who rang the bell?", ("Anna Weller",), shown, 1)

    (one, two) = evaluate.outright(TransformersGenerator(loaded), [case, case])

    assert one == two
    assert 0.0 < one.refusal < 1.0


def test_a_threshold_refuses_what_is_as_likely_and_answers_the_rest() -> None:
    from fti.pipelines.training.builtin.export import thresholds

    shown = rows.shown([Text("Lorvel", PARAGRAPH)], random.Random(0))
    asked = {
        "found": [evaluate.Case("Who?", ("Anna Weller",), shown, 1)] * 2,
        "foreign": [evaluate.Case("Who?", (), shown, 1)],
    }
    said = {
        "found": [evaluate.Said(" Anna Weller [1]", 0.1), evaluate.Said(" Anna Weller [1]", 0.45)],
        "foreign": [evaluate.Said(" Anna Weller [1]", 0.6)],
    }
    table = {row["refuse_above"]: row for row in evaluate.by_threshold(said, asked)}
    assert table[0.4] == {
        "refuse_above": 0.4, "found: refused": 50.0, "found: F1": 50.0, "foreign: refused": 100.0,
    }  # fmt: skip
    assert table[0.5]["found: F1"] == 100.0
    assert table[0.7]["foreign: refused"] == 0.0
    assert "| 0.4 | 50 | 50 | 100 |" in thresholds({"thresholds": list(table.values())})
    assert thresholds({}) == ""
