"""A language model writes questions: over real HTTP, and in this process."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.causal_lm.transformers_generator import TransformersGenerator
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.extractive import ExtractiveGenerator
from fti.pipelines.engines.generation import load_generator
from fti.pipelines.engines.generator import GeneratorConfig
from fti.pipelines.engines.remote import openai_server
from fti.pipelines.feature.dataset.asked import Asked, Tally
from fti.pipelines.feature.dataset.dataset_config import WriterConfig
from fti.pipelines.feature.dataset.rows import passage_of
from fti.pipelines.feature.dataset.sources.question_writing import chosen
from fti.pipelines.feature.dataset.sources.writer import QuestionWriter
from fti.store.errors import GenerationFailed, InputError, ModelUnavailable
from fti.store.files.layout import Layout
from fti.store.logs.results import CaseResults
from fti.store.progress import quiet
from fti.store.types import Chunk, Document, Message
from tests.support.chat_server import Server, refuses, says, serving
from tests.support.features import an_update

TEXTS = {
    "kiln.md": "The kiln in the yard is fired at 1220 degrees on Thursdays by Rosa Bellini.",
    "saw.md": "The table saw may be used by members who have passed the blade test in spring.",
    "hall.md": "The hall holds 140 people when the folding wall is open on the north side.",
}


def a_reply(question: str, answer: str, quote: str) -> str:
    return json.dumps({"question": question, "answer": answer, "quote": quote})


GOOD = {
    "kiln": a_reply("At what temperature is the kiln fired?", "1220 degrees",
                    "kiln in the yard is fired at 1220 degrees"),
    "saw": a_reply("Who may use the table saw?", "members who have passed the blade test",
                   "may be used by members who have passed the blade test"),
    "hall": a_reply("How many people does the hall hold?", "140 people",
                    "The hall holds 140 people"),
}  # fmt: skip


def about(server: Server, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    """A good reply about whichever passage was asked about."""
    asked = body["messages"][-1]["content"]
    name = next(n for n in GOOD if f"Passage: {n}.md" in asked)
    says(f"Here you are:\n{GOOD[name]}")(server, handler, body)


class Corpus:
    """Documents and chunks by hand, and where replies are kept."""

    def __init__(self, root: Path) -> None:
        updates = [an_update(f"/docs/{name}", [text]) for name, text in TEXTS.items()]
        self.documents: dict[str, Document] = {u.document.id: u.document for u in updates}
        self.chunks: list[Chunk] = [c for u in updates for c in u.chunks]
        self.results = CaseResults(Layout(root / "store"))
        self.tally = Tally()

    def write(self, writer: QuestionWriter, chunks: list[Chunk] | None = None) -> list[Asked]:
        self.tally = Tally()
        split_of = dict.fromkeys(self.documents, "train")
        return writer.write(
            self.chunks if chunks is None else chunks, self.documents, split_of,  # type: ignore[arg-type]
            self.tally, quiet,
        )  # fmt: skip

    def share(self, name: str) -> Any:
        return next(f["share"] for f in self.tally.filters if f["filter"] == name)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(openai_server, "_FIRST_WAIT_S", 0.01)
    with serving() as state:
        state.responses, state.repeats = [about], True
        yield state


def remote(server: Server, corpus: Corpus, **settings: Any) -> QuestionWriter:
    where = {"base_url": server.url, "retries": settings.pop("retries", 2), "concurrency": 1}
    config = GeneratorConfig.model_validate({"engine": "openai", "id": "acme", "server": where})
    options = {k: settings.pop(k) for k in ("clock", "sleep", "seed") if k in settings}
    generator = load_generator(config, embedder=HashingEmbedder())
    return QuestionWriter(generator, WriterConfig(**settings), corpus.results, **options)


def test_questions_with_a_quote_in_the_passage_become_rows(server: Server, corpus: Corpus) -> None:
    asked = corpus.write(remote(server, corpus))

    assert [(a.question, a.answer) for a in asked] == [
        (r["question"], r["answer"]) for r in map(json.loads, GOOD.values())
    ]
    for one, chunk in zip(asked, corpus.chunks, strict=True):
        assert (one.kind, one.chunks, one.document) == ("written", (chunk.id,), chunk.document_id)
        assert one.evidence in chunk.text
    assert server.bodies[0]["temperature"] == 0
    assert TEXTS["kiln.md"] in server.bodies[0]["messages"][0]["content"]
    assert corpus.tally.written["prompt_tokens"] == 7 * 3
    assert corpus.share("written_reply_is_json") == 1.0


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (a_reply("At what heat is the kiln fired?", "1220 degrees", "the kiln is fired at 1220"),
         "quote_not_in_passage"),
        (a_reply("At what heat is the kiln fired?", "1220 degrees", "1220 degrees"),
         "quote_not_in_passage"),
        (a_reply("At what heat is the kiln fired?", "1240 degrees", "is fired at 1220 degrees"),
         "answer_not_supported"),
        (a_reply("Why is the kiln in the yard fired?", "because clay needs heat",
                 "kiln in the yard is fired"), "answer_not_supported"),
        (a_reply("What is the kiln fired at in May?", "it", "kiln in the yard is fired at"),
         "answer_pronoun"),
        (a_reply("Is the kiln fired on Thursdays by her?", "on Thursdays", "on Thursdays by Rosa"),
         "answer_in_question"),
    ],
)  # fmt: skip
def test_what_its_quote_does_not_bear_out_is_left_out(
    server: Server, corpus: Corpus, reply: str, reason: str
) -> None:
    server.responses = [says(f"[{reply},\n{GOOD['kiln']}]")]
    asked = corpus.write(remote(server, corpus), corpus.chunks[:1])

    assert [a.answer for a in asked] == ["1220 degrees"]
    assert corpus.share(f"written_{reason}") == 0.5
    assert corpus.tally.left_out[f"written_{reason}"] == 1


def test_a_reply_that_cannot_be_read_is_asked_for_again_and_warmer(
    server: Server, corpus: Corpus
) -> None:
    server.responses = [says("I would rather not."), about]
    asked = corpus.write(remote(server, corpus), corpus.chunks[:1])

    assert len(asked) == 1
    assert [b["temperature"] for b in server.bodies] == [0.0, 0.3]
    assert [b["seed"] for b in server.bodies] == [0, 1]
    assert corpus.tally.written["asked_again"] == 1


def test_a_busy_server_is_asked_again(server: Server, corpus: Corpus) -> None:
    server.responses = [refuses(429, Retry_After="0.01"), refuses(503), about]

    assert len(corpus.write(remote(server, corpus), corpus.chunks[:1])) == 1
    assert len(server.bodies) == 3


def test_one_passage_that_fails_does_not_end_the_others(server: Server, corpus: Corpus) -> None:
    def broken(server: Server, handler: Any, body: dict[str, Any]) -> None:
        if "Passage: saw.md" in body["messages"][-1]["content"]:
            refuses(500)(server, handler, body)
        else:
            about(server, handler, body)

    server.responses = [broken]
    asked = corpus.write(remote(server, corpus, batch=3))

    assert [a.answer for a in asked] == ["1220 degrees", "140 people"]
    assert corpus.tally.written["failed"] == 1
    # What failed is asked again by the next run, and only that.
    server.responses = [about]
    server.bodies.clear()
    assert len(corpus.write(remote(server, corpus, batch=3))) == 3
    assert (len(server.bodies), corpus.tally.written["kept"]) == (1, 2)


def test_when_every_passage_fails_the_reason_is_given(server: Server, corpus: Corpus) -> None:
    server.responses = [refuses(500, {"error": {"message": "out of memory"}})]

    with pytest.raises(GenerationFailed, match="out of memory"):
        corpus.write(remote(server, corpus))


def test_an_interrupted_run_goes_on_where_it_stopped(server: Server, corpus: Corpus) -> None:
    server.responses = [about, refuses(401)]
    with pytest.raises(ModelUnavailable, match="401"):
        corpus.write(remote(server, corpus, batch=1))
    before = remote(server, corpus, batch=1).estimate(corpus.chunks, corpus.documents)

    server.bodies.clear()
    server.responses = [about]
    whole = corpus.write(remote(server, corpus, batch=1))

    assert (before.passages, before.kept) == (3, 1)
    assert len(server.bodies) == 2
    assert [a.answer for a in whole] == [json.loads(r)["answer"] for r in GOOD.values()]
    # A third run asks nothing, and gives the same.
    server.responses = [refuses(500)]
    assert corpus.write(remote(server, corpus, batch=1)) == whole
    # Another seed, or another question, is another task.
    assert remote(server, corpus, seed=1).estimate(corpus.chunks, corpus.documents).kept == 0


def test_the_estimate_comes_before_anything_is_asked(server: Server, corpus: Corpus) -> None:
    writer = remote(
        server, corpus, max_new_tokens=100, price_per_million_prompt=2.0,
        price_per_million_reply=10.0, budget_tokens=500,
    )  # fmt: skip

    found = writer.estimate(corpus.chunks, corpus.documents)

    assert (found.model, found.passages, found.kept) == ("acme", 3, 0)
    assert found.reply_tokens == 300
    assert found.prompt_tokens > 3 * 100
    assert found.cost == pytest.approx((2 * found.prompt_tokens + 10 * 300) / 1e6, abs=1e-6)
    with pytest.raises(InputError, match=rf"may take {found.tokens} tokens, and the budget is 500"):
        corpus.write(writer)
    assert server.bodies == []


def test_requests_are_spread_over_the_minute(server: Server, corpus: Corpus) -> None:
    clock, waited = [100.0], []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        clock[0] += seconds

    writer = remote(
        server, corpus, requests_per_minute=30, batch=2, clock=lambda: clock[0], sleep=sleep
    )
    corpus.write(writer)

    assert waited == [pytest.approx(4.0)]  # two at once, then two seconds for each of them


def test_passages_are_drawn_by_the_seed_and_each_text_once(corpus: Corpus) -> None:
    twice = [*corpus.chunks, corpus.chunks[0].model_copy(update={"id": "copy"})]

    assert chosen(twice, WriterConfig(), 0) == corpus.chunks
    drawn = {chosen(twice, WriterConfig(max_passages=1), seed)[0].id for seed in range(9)}
    assert 1 < len(drawn) <= 3


def test_a_model_in_this_process_writes_too(tiny_lm: Path, corpus: Corpus) -> None:
    chunk = corpus.chunks[2]
    generator = taught(tiny_lm, corpus, chunk, GOOD["hall"])
    writer = QuestionWriter(
        generator, WriterConfig(max_new_tokens=120, questions=1), corpus.results
    )

    (asked,) = corpus.write(writer, [chunk])

    assert (asked.question, asked.answer) == ("How many people does the hall hold?", "140 people")
    assert corpus.tally.written["reply_tokens"] > 20


def test_an_untaught_model_writes_nothing_that_is_kept(loaded_lm: Any, corpus: Corpus) -> None:
    writer = QuestionWriter(
        TransformersGenerator(loaded_lm), WriterConfig(max_new_tokens=24), corpus.results
    )

    assert corpus.write(writer) == []
    assert corpus.share("written_reply_is_json") == 0
    assert corpus.tally.written["asked_again"] == 3


def test_a_passage_beyond_the_context_is_counted(loaded_lm: Any, corpus: Corpus) -> None:
    long = an_update("/docs/long.md", ["Word after word. " * 900])
    corpus.documents[long.document.id] = long.document
    writer = QuestionWriter(
        TransformersGenerator(loaded_lm), WriterConfig(max_new_tokens=16), corpus.results
    )

    corpus.write(writer, [corpus.chunks[0], *long.chunks])

    assert corpus.tally.written["passage_too_long"] == 1


def taught(folder: Path, corpus: Corpus, chunk: Chunk, reply: str) -> TransformersGenerator:
    """The tiny model after it has learned one reply by heart."""
    import torch

    from fti.pipelines.engines.causal_lm.loading import load_causal_lm
    from fti.pipelines.engines.encoding import encode_example
    from fti.pipelines.engines.model_config import ModelConfig

    loaded = load_causal_lm(ModelConfig(id=str(folder), device="cpu"))
    blank = QuestionWriter(ExtractiveGenerator(HashingEmbedder()), WriterConfig(questions=1),
                           corpus.results)  # fmt: skip
    prompt: tuple[Message, ...] = blank.messages(passage_of(chunk, corpus.documents))
    example = encode_example(loaded.tokenizer, prompt, reply)
    ids, labels = torch.tensor([example.input_ids]), torch.tensor([example.labels])
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=5e-3)
    loaded.model.requires_grad_(True).train()
    for _ in range(200):
        loss = loaded.model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 0.02:
            break
    loaded.model.requires_grad_(False).eval()
    return TransformersGenerator(loaded)
