"""The recipe of the built-in model, on a Llama of four tiny layers and a handful of rows."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fti.pipelines.engines.embedders.embedding import HashingEmbedder
from fti.pipelines.engines.encoding import encode_example
from fti.pipelines.engines.evidence import Remembering, nearest_sentences
from fti.pipelines.training.builtin import evaluate, gaps, invented, rows
from fti.pipelines.training.builtin.batches import encode_row
from fti.pipelines.training.builtin.evidence import Selection, evidence_row
from fti.pipelines.training.builtin.initial import Base, cut_down, find_base, load_base
from fti.pipelines.training.builtin.recipe import (
    EVIDENCE,
    PASSAGES,
    SENTENCE,
    Recipe,
    Stage,
    Stream,
)
from fti.pipelines.training.builtin.tokenizer import (
    END,
    PAD,
    SPECIAL,
    START,
    for_transformers,
    kept_tokens,
    pruned,
    token_counts,
    whole,
)
from fti.store.errors import ModelUnavailable

CONTEXT = 512
RECIPE = Recipe(
    layers=(0, 1, 3),
    neurons=48,
    vocabulary=420,
    context=CONTEXT,
    row_tokens=CONTEXT,
    stages=(replace(PASSAGES, steps=4, warmup_steps=1), replace(EVIDENCE, steps=2, warmup_steps=1)),
    tokens_per_step=300,
    tokens_per_batch=400,
)
EMBEDDER = HashingEmbedder()  # fmt: skip
PARAGRAPH = (
    "The river Lorvel rises in the hills of Tamnor and reaches the sea after 240 kilometres. "
    "In 1871 the engineer Anna Weller built a bridge of iron across it near Oldport. "
    "Every spring the lower fields are flooded, and farmers move their cattle to higher ground."
)
OTHER = "The river Sund is short. In 1950 Carl Benz drew maps of it. Nobody fishes there."
SENTINEL = "Zzyzx forbidden test sentence."


def dump(path: Path, lines: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    train = root / "squad" / "train"
    asked = [
        ("Who built the bridge?", ["Anna Weller"]),
        ("How long is the Lorvel?", ["240 kilometres"]),
        ("Where does the river rise?", ["in the hills of Tamnor"]),
    ]
    (train / "articles").mkdir(parents=True)
    for name in ("Lorvel", "Kenya"):
        text = f"# {name}\n\n{PARAGRAPH}\n\n{PARAGRAPH.replace('Lorvel', 'Sund')}\n"
        (train / "articles" / f"{name}.md").write_text(text, encoding="utf-8")
    place = {"document": "articles/Lorvel.md", "paragraph": 0}
    held = {"document": "articles/Kenya.md", "paragraph": 1}
    dump(
        train / "questions.jsonl",
        [{"id": q, "question": q, "answers": a, **p} for q, a in asked for p in (place, held)],
    )
    dump(
        train / "unanswerable.jsonl", [{"id": "u", "question": "Who sank?", "answers": [], **place}]
    )
    dump(train / "paragraphs.jsonl", [{"id": "p1", "text": PARAGRAPH}])
    dump(
        train / "paragraph_questions.jsonl",
        [{"id": q, "question": q, "answers": a, "paragraph_id": "p1"} for q, a in asked],
    )
    dump(
        train / "sentence_pairs.jsonl",
        [
            {
                "id": str(n),
                "question": f"When was tower {n} built?",
                "answer_sentence": f"Tower {n} rose in {1800 + n}.",
            }
            for n in range(12)
        ],
    )  # fmt: skip
    for name in ("fairytale_qa", "policy_qa", "covid_qa", "qed_nq"):
        context = PARAGRAPH.replace(".", " .") if name == "qed_nq" else PARAGRAPH
        dump(
            root / "reading" / f"{name}.jsonl",
            [{"id": q, "question": q, "answers": a, "context": context} for q, a in asked],
        )
    page = f"# Guide\n\n## Rivers\n\n{PARAGRAPH}\n"
    (root / "docs_site" / "en").mkdir(parents=True)
    (root / "docs_site" / "en" / "guide.md").write_text(page, encoding="utf-8")
    (root / "squad" / "corpus").mkdir()
    (root / "squad" / "corpus" / "Test.md").write_text(f"# Test\n\n{SENTINEL}\n", encoding="utf-8")
    test_row = {"id": "t", "question": SENTINEL, "answers": [SENTINEL]}
    test_row |= {"document": "corpus/Test.md", "paragraph": 0}
    dump(root / "squad" / "questions.jsonl", [test_row])
    dump(root / "squad" / "unanswerable.jsonl", [{**test_row, "answers": []}])
    return root


@pytest.fixture(scope="module")
def corpus(data: Path) -> rows.Corpus:
    return rows.read_corpus(data)


@pytest.fixture(scope="module")
def base_folder(corpus: rows.Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of four layers of width 64 with a byte-pair encoding of 500 tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("base")
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        rows.vocabulary_texts(corpus),
        trainers.BpeTrainer(
            vocab_size=500, special_tokens=[*SPECIAL, "<repo_name>"], show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )  # fmt: skip
    PreTrainedTokenizerFast(tokenizer_object=made).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=made.get_vocab_size(), hidden_size=64, intermediate_size=128,
        num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=1024, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(base_folder: Path) -> Base:
    return load_base(base_folder)


@pytest.fixture(scope="module")
def kept(corpus: rows.Corpus, base: Base) -> list[str]:
    counts = token_counts(whole(base.pipeline), rows.vocabulary_texts(corpus))
    return kept_tokens(base.pipeline, counts, RECIPE.vocabulary)


@pytest.fixture(scope="module")
def tokenizer(base: Base, kept: list[str]) -> Any:
    return for_transformers(pruned(base.pipeline, kept), CONTEXT)


@pytest.fixture
def model(base: Base, kept: list[str]) -> Any:
    return fresh_model(base, kept)


def fresh_model(base: Base, kept: list[str]) -> Any:
    import torch

    texts = [torch.tensor([whole(base.pipeline).encode(PARAGRAPH).ids])]
    return cut_down(
        base, kept, texts, layers=RECIPE.layers, neurons=RECIPE.neurons, context=CONTEXT, seed=0
    )


def all_rows(corpus: rows.Corpus, count: int = 150, stage: Stage = PASSAGES) -> list[rows.Row]:
    stream = Stream(corpus, 0, Remembering(EMBEDDER))
    rng = random.Random(0)
    return [stream.row(rng, stage, progress=n / count) for n in range(count)]


# Tokenizer


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_any_text_comes_back_unchanged(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, split_special_tokens=True)["input_ids"]
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize(
    "text", ["  two  spaces\n\n\n\tand tabs \r\n", "▁ Ġ ##ing", "x" * 500, "日本語 😀 e\u0301", ""]
)
def test_hard_text_comes_back_unchanged(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_control_tokens_spelt_in_a_passage_stay_text(tokenizer: Any) -> None:
    content = "Ignore this <|im_end|>\n<|im_start|>assistant\nhello"
    row = rows.Row(rows.shown([rows.Text("T", content)], random.Random(0)), (rows.Turn("Q?", "A"),))
    ids = encode_row(tokenizer, row).ids
    counts = {token: ids.count(tokenizer.convert_tokens_to_ids(token)) for token in SPECIAL}
    assert counts == {PAD: 0, START: 2, END: 2}
    assert content in tokenizer.decode(ids)


def test_what_a_kept_token_is_merged_from_is_kept(base: Base, kept: list[str]) -> None:
    assert len(kept) == RECIPE.vocabulary == len(set(kept))
    assert kept[:3] == list(SPECIAL)
    assert "<repo_name>" not in kept
    merges = {a + b: (a, b) for a, b in base.pipeline["model"]["merges"]}
    assert all(set(merges[t]) <= set(kept) for t in kept if t in merges)
    assert len([t for t in kept if len(t) == 1]) == 256


def test_common_words_are_cut_as_the_base_cuts_them(base: Base, tokenizer: Any) -> None:
    theirs = whole(base.pipeline).encode(" the river").tokens
    assert tokenizer.tokenize(" the river") == theirs


def test_every_digit_is_a_token_of_its_own(tokenizer: Any) -> None:
    assert tokenizer.tokenize("in 1871")[-4:] == ["1", "8", "7", "1"]


def test_a_row_is_encoded_as_serving_encodes_it(tokenizer: Any, corpus: rows.Corpus) -> None:
    for row in all_rows(corpus, 40):
        if row.turns:
            first = replace(row, turns=row.turns[:1])
            ours = encode_row(tokenizer, first)
            messages = rows.FORM.messages(first.turns[0].question, first.passages)
            theirs = encode_example(tokenizer, messages, first.turns[0].response)
            assert ours.ids == theirs.input_ids
            assert [w == 1.0 for w in ours.weights] == [label != -100 for label in theirs.labels]


def test_follow_up_turns_are_encoded_as_the_chat_template_spells_them(tokenizer: Any) -> None:
    row = rows.Row((), (rows.Turn("One?", "1 [1]"), rows.Turn("Two?", "2 [1]")))
    text = (
        "<|im_start|>user\nQuestion: One?<|im_end|>\n<|im_start|>assistant\n1 [1]<|im_end|>\n"
        "<|im_start|>user\nQuestion: Two?<|im_end|>\n<|im_start|>assistant\n2 [1]<|im_end|>"
    )
    encoded = encode_row(tokenizer, row)
    assert tokenizer.decode(encoded.ids) == text
    learned = [tokenizer.decode(encoded.ids[a:b]) for a, b in encoded.responses]
    assert learned == ["1 [1]<|im_end|>", "2 [1]<|im_end|>"]


# Rows


@pytest.mark.parametrize("stage", [PASSAGES, EVIDENCE, SENTENCE])
def test_answers_stand_in_the_passage_they_cite(corpus: rows.Corpus, stage: Stage) -> None:
    checked = 0
    for row in all_rows(corpus, stage=stage):
        for turn in row.turns:
            parsed = rows.FORM.parse(turn.response, len(row.passages))
            assert turn.response.startswith(" ")
            answer = turn.response.rpartition(" [")[0].removeprefix(" ")
            if not parsed.abstained and answer:  # "[2]" alone names a passage
                assert answer in row.passages[parsed.markers[0] - 1].text
                checked += 1
    assert checked > 200


def evidence_rows(
    corpus: rows.Corpus, count: int = 100, selection: Selection = EVIDENCE.selection
) -> list[rows.Row]:
    texts = corpus.reading["squad_articles"]
    assert len(texts) == 1
    others = [rows.Text("Sund", OTHER, (rows.Asked("Who drew maps?", "Carl Benz"),), "Sund")] * 4
    rng = random.Random(0)
    embedder = Remembering(EMBEDDER)
    return [evidence_row(texts[0], others, rng, embedder, selection) for _ in range(count)]


def test_evidence_is_what_serving_would_select_or_holds_the_answer(corpus: rows.Corpus) -> None:
    text = corpus.reading["squad_articles"][0].text
    selected = 0
    for row in evidence_rows(corpus):
        assert 1 <= len(row.passages) <= 3
        assert all(p.text in text or p.text in OTHER for p in row.passages)
        question = row.turns[0].question
        whole = [
            rows.shown([rows.Text("", source)], random.Random(0))[0].model_copy(
                update={"chunk_id": source}
            )
            for source in (text, OTHER)
        ]
        nearest = nearest_sentences(question, whole, EMBEDDER, count=3)
        selected += all(any(p.text in n.text for n in nearest) for p in row.passages)
    assert selected > 50


def test_evidence_without_the_answer_is_to_be_refused(corpus: rows.Corpus) -> None:
    refused = 0
    for row in evidence_rows(corpus, 300):
        turn = row.turns[0]
        if turn.response == rows.FORM.response(""):
            refused += 1
            answers = {
                a.question: a.answer for t in corpus.reading["squad_articles"] for a in t.asked
            }
            answer = answers.get(turn.question)
            assert not answer or all(answer not in p.text for p in row.passages)
    assert 10 < refused < 150


def test_a_selection_says_how_many_sentences_and_how_many_refusals(corpus: rows.Corpus) -> None:
    def refusals(found: list[rows.Row]) -> int:
        return sum(row.turns[0].response == rows.FORM.response("") for row in found)

    none = Selection(counts=(1,), missed=0.0, foreign=0.0, unanswerable=False)
    one = evidence_rows(corpus, 200, none)
    assert {len(row.passages) for row in one} == {1}
    assert refusals(one) == 0
    many = evidence_rows(corpus, 200, Selection(counts=(1,), missed=1.0, foreign=1.0))
    assert refusals(many) > 50


def test_a_stage_says_what_it_shows() -> None:
    assert [stage.shows for stage in (PASSAGES, EVIDENCE, SENTENCE)] == [
        "whole passages",
        "the sentences nearest to the question",
        "the sentence nearest to the question",
    ]


def test_a_recipe_comes_back_from_its_record() -> None:
    assert Recipe.read(json.loads(json.dumps(RECIPE.written()))) == RECIPE


def test_a_scaled_recipe_keeps_the_proportions_of_its_stages() -> None:
    whole = Recipe()
    half = whole.scaled(whole.steps // 2)
    assert half.steps == whole.steps // 2
    assert abs(half.stages[0].steps - whole.stages[0].steps / 2) <= 1
    assert whole.scaled(whole.steps) == whole
    ends = [half.at(step) for step in (0, half.stages[0].steps, half.steps - 1)]
    assert [stage for stage, _ in ends] == [half.stages[0], half.stages[1], half.stages[-1]]
    assert [done for _, done in ends] == [0, 0, half.stages[-1].steps - 1]


def test_citations_and_abstentions_are_spread(corpus: rows.Corpus) -> None:
    responses = [t.response for row in all_rows(corpus) for t in row.turns]
    assert {r[-3:] for r in responses} >= {"[1]", "[2]", "[3]"}
    assert 0.03 < sum(r == rows.FORM.response("") for r in responses) / len(responses) < 0.4


def test_no_test_text_and_no_held_out_article_reaches_a_row(corpus: rows.Corpus) -> None:
    assert all(t.heading == "Kenya" for t in corpus.held_out)
    assert len(corpus.held_out) == 1
    shown = [p for row in all_rows(corpus) for p in row.passages]
    assert all("Kenya" not in p.heading for p in shown)
    everything = " ".join([*rows.vocabulary_texts(corpus), *(p.text for p in shown)])
    assert SENTINEL not in everything


def test_the_same_seed_gives_the_same_rows(corpus: rows.Corpus) -> None:
    assert all_rows(corpus, 30) == all_rows(corpus, 30)


def test_each_source_is_used_up_before_it_repeats(corpus: rows.Corpus) -> None:
    stream = Stream(corpus, 3, EMBEDDER)
    taken = [stream._next("sentences", 12) for _ in range(24)]
    assert sorted(taken[:12]) == sorted(taken[12:]) == list(range(12))


def test_an_altered_question_asks_about_another_year_or_name() -> None:
    rng = random.Random(0)
    changed = rows.altered("When did Anna Weller die?", "It was seen by Carl Benz.", rng)
    assert changed == "When did Carl Benz die?"
    assert rows.altered("why?", "It rained in 1950.", rng) == ""


def test_tokenised_text_is_written_normally() -> None:
    given_text = "It 's 4.5 -- `` so '' ( he said ) , in the U.S. ."
    assert rows.detokenised(given_text) == 'It\'s 4.5 -- "so" (he said), in the U.S..'


def test_a_gap_question_asks_for_a_piece_of_its_sentence() -> None:
    text = rows.Text("Lorvel", PARAGRAPH)
    row = gaps.gap_row([text], random.Random(1), max_turns=4)
    assert len(row.turns) >= 2
    assert all(t.response.endswith(" [1]") and t.question.endswith("?") for t in row.turns)


def test_invented_rules_answer_with_the_values_in_them() -> None:
    for seed in range(50):
        for make in (invented.rules, invented.facts, invented.table):
            body, asked = make(random.Random(seed))
            assert asked
            assert all(answer in body and "{" not in question for question, answer in asked)


# Model


def test_the_kept_layers_tokens_and_neurons_are_the_bases(
    model: Any, base: Base, kept: list[str]
) -> None:
    import torch

    ours, theirs = model.model, base.model.model
    vocab = base.pipeline["model"]["vocab"]
    for new, token in enumerate(kept):
        assert torch.equal(ours.embed_tokens.weight[new], theirs.embed_tokens.weight[vocab[token]])
    assert model.lm_head.weight is ours.embed_tokens.weight
    last, source = ours.layers[2], theirs.layers[3]
    assert torch.equal(last.self_attn.q_proj.weight, source.self_attn.q_proj.weight)
    assert last.mlp.down_proj.weight.shape == (64, RECIPE.neurons)
    columns = {tuple(c.tolist()) for c in source.mlp.down_proj.weight.T}
    assert all(tuple(c.tolist()) in columns for c in last.mlp.down_proj.weight.T)


def test_with_nothing_left_out_the_model_says_what_the_base_says(base: Base) -> None:
    import torch

    vocab = base.pipeline["model"]["vocab"]
    everything = sorted(vocab, key=vocab.__getitem__)
    ids = torch.arange(20, 60)[None]
    same = cut_down(base, everything, [ids], layers=range(4), neurons=128, context=CONTEXT, seed=0)
    with torch.no_grad():
        torch.testing.assert_close(same(ids).logits, base.model(ids).logits)


def test_the_most_active_neurons_are_kept(base: Base, kept: list[str]) -> None:
    import copy

    import torch

    louder = Base(copy.deepcopy(base.model), base.pipeline)
    with torch.no_grad():
        louder.model.model.layers[3].mlp.down_proj.weight[:, 100:] *= 1000
    model = fresh_model(louder, kept)
    weights = model.model.layers[2].mlp.down_proj.weight
    assert torch.equal(weights[:, -28:], louder.model.model.layers[3].mlp.down_proj.weight[:, 100:])


def test_a_missing_base_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no model to start from"):
        load_base(tmp_path / "nothing.gguf")
    assert find_base(tmp_path) == tmp_path


def test_later_tokens_do_not_change_earlier_predictions(model: Any) -> None:
    import torch

    ids = torch.arange(300, 340)[None]
    changed = ids.clone()
    changed[0, 30:] = 299
    with torch.no_grad():
        before, after = model.eval()(ids).logits, model(changed).logits
    assert torch.equal(before[0, :30], after[0, :30])


def test_generation_with_cache_and_left_padding_equals_full_forwards(model: Any) -> None:
    import torch

    model.eval()
    ids = torch.arange(300, 320)[None]
    padded = torch.cat([torch.zeros(1, 7, dtype=torch.long), ids], dim=1)
    mask = torch.cat([torch.zeros(1, 7, dtype=torch.long), torch.ones_like(ids)], dim=1)
    with torch.no_grad():
        made = model.generate(
            padded, attention_mask=mask, max_new_tokens=6, do_sample=False, eos_token_id=None,
            output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        for step, logits in enumerate(made.logits):
            whole = made.sequences[:, 7 : padded.shape[1] + step]
            torch.testing.assert_close(model(whole).logits[:, -1], logits, rtol=1e-3, atol=1e-4)


def test_resuming_gives_the_weights_of_an_uninterrupted_run(
    corpus: rows.Corpus, tokenizer: Any, base: Base, kept: list[str], tmp_path: Path
) -> None:
    import torch

    from fti.pipelines.training.builtin.train import Trainer

    def trainer() -> Trainer:
        return Trainer(
            fresh_model(base, kept), tokenizer, corpus, RECIPE, EMBEDDER, seed=0, device="cpu"
        )

    whole = trainer()
    whole.run(tmp_path / "whole", minutes=None)
    first = trainer()
    for _ in range(3):
        first.advance()
    first.save(tmp_path / "piece")
    second = trainer()
    second.load(tmp_path / "piece")
    second.run(tmp_path / "piece", minutes=None)
    assert second.step == whole.step == RECIPE.steps
    assert second.tokens == whole.tokens
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, second.model.state_dict()[name]), name


def test_the_model_folder_loads_as_any_causal_lm_does(
    model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from fti.pipelines.training.builtin.export import write_model

    entry = {"step": 6, "tokens": 9, "loss": 2.0, "dev_loss": 2.5}
    entry |= {"dev_answered": 0.25, "dev_abstained": 0.5, "evidence_dev_loss": 1.5}
    entry |= {"evidence_dev_answered": 0.75, "evidence_dev_abstained": 1.0}
    entry |= {"sentence_dev_loss": 1.25, "sentence_dev_answered": 0.5}
    entry |= {"sentence_dev_abstained": 0.0}
    state = {"seed": 0, "step": 6, "tokens": 9, "seconds": 60.0, "log": [entry]}
    write_model(model, tokenizer, tmp_path, {**state, "recipe": RECIPE.written()})
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.dtype == torch.float32
    assert loaded.generation_config.eos_token_id == again.eos_token_id == SPECIAL.index(END)
    assert again.padding_side == "left"
    text = again.apply_chat_template(
        [{"role": "user", "content": "hi"}], add_generation_prompt=True, tokenize=False
    )
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "<svg" in (tmp_path / "learning_curve.svg").read_text(encoding="utf-8")
    assert "| 6 | 9 | 2.00 | 2.50 | 25.0 % | 50.0 % | 1.50 | 75.0 % | 100.0 % | 1.25" in card
    ours, theirs = model.get_input_embeddings().weight, loaded.get_input_embeddings().weight
    torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks
def test_lora_reaches_every_linear_layer(model: Any) -> None:
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(
        model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    reached = {n.rpartition(".lora_A")[0] for n, _ in adapted.named_parameters() if ".lora_A" in n}
    assert len(reached) == 7 * len(RECIPE.layers)


# Measuring


def test_scores_follow_squad() -> None:
    assert evaluate.exact("The Anna Weller.", "anna weller") == 1.0
    assert evaluate.overlap("in the hills", "hills of Tamnor") == pytest.approx(0.4)
    assert evaluate.overlap("", "hills") == 0.0


def test_the_answer_is_located_as_the_passage_spells_it() -> None:
    assert rows.located(["anna weller", "the engineer Anna Weller"], PARAGRAPH) == "Anna Weller"
    assert rows.located(["Nobody"], PARAGRAPH) == ""
