"""Those who ask at once are answered together, and nobody notices but by the time it takes."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.causal_lm import decoding
from fti.pipelines.engines.causal_lm.batching import Batcher, _Asked, _Rows
from fti.pipelines.engines.causal_lm.decoding import Job
from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.engines.causal_lm.prefixes import Prefixes
from fti.pipelines.engines.causal_lm.transformers_generator import TransformersGenerator
from fti.pipelines.engines.encoding import PromptEncoder, encode_prompt
from fti.pipelines.engines.generator import GenerationRequest
from fti.store.contracts.prompt_contract import PromptForm
from fti.store.errors import GenerationFailed
from fti.store.types import Message

TEXTS = ["When does it open?", "Who may use the saw, and when, and for how long at most?", "Why?"]


def request(text: str = TEXTS[0], **fields: Any) -> GenerationRequest:
    message = Message(role="user", content=text)
    return GenerationRequest(messages=(message,), question=text, **fields)


class Watched:
    """A model that counts its forward passes and their tokens, and can be held before the first."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.shapes: list[tuple[int, int]] = []
        self.go = threading.Event()
        self.go.set()
        self.reading = threading.Event()
        self.fails_at: int | None = None
        self.fails_on: int | None = None

    def forward(self, logits_to_keep: int = 0) -> None: ...

    def _has(self, ids: Any) -> bool:
        return self.fails_on is not None and bool((ids == self.fails_on).any())

    def __call__(self, **inputs: Any) -> Any:
        self.reading.set()
        assert self.go.wait(30)
        self.shapes.append(tuple(inputs["input_ids"].shape))
        if len(self.shapes) == self.fails_at or self._has(inputs["input_ids"]):
            raise RuntimeError("weights on two devices")
        return self._model(**inputs)


@pytest.fixture
def watched(loaded_lm: LoadedModel) -> Watched:
    return Watched(loaded_lm.model)


@pytest.fixture
def loaded(loaded_lm: LoadedModel, watched: Watched) -> LoadedModel:
    return replace(loaded_lm, model=watched)


def at_once(
    generator: TransformersGenerator, requests: Sequence[GenerationRequest], watched: Watched
) -> list[Any]:
    """What each gets, when all others ask while the first is read: deltas, or the error."""
    results: list[Any] = [None] * len(requests)

    def ask(n: int) -> None:
        try:
            results[n] = list(generator.stream(requests[n]))
        except GenerationFailed as error:
            results[n] = error

    watched.go.clear()
    watched.reading.clear()
    threads = [threading.Thread(target=ask, args=(n,)) for n in range(len(requests))]
    for thread in threads:
        thread.start()
        assert watched.reading.wait(30)  # the first is being read, and held
    while len(generator._batcher._waiting) < len(requests) - 1:
        threading.Event().wait(0.001)
    watched.go.set()
    for thread in threads:
        thread.join(60)
    return results


def test_steps_are_shared_and_answers_are_those_of_each_alone(
    loaded: LoadedModel, watched: Watched
) -> None:
    asked = [
        request(TEXTS[0], max_new_tokens=12),
        request(TEXTS[1], max_new_tokens=30),
        request(TEXTS[2], max_new_tokens=20, temperature=0.8, seed=5),
        request(TEXTS[1], max_new_tokens=25, temperature=0.8, top_p=0.7, seed=6),
        request(TEXTS[0], max_new_tokens=30, stop=("e",)),
    ]
    generator = TransformersGenerator(loaded)
    alone = [list(generator.stream(one)) for one in asked]
    passes = len(watched.shapes)
    watched.shapes.clear()
    together = at_once(generator, asked, watched)
    for mine, ours in zip(alone, together, strict=True):
        assert "".join(d.text for d in ours) == "".join(d.text for d in mine)
        assert ours[-1] == replace(mine[-1], text=ours[-1].text)
    assert len(watched.shapes) < passes / 2
    assert any(rows > 1 and columns > 1 for rows, columns in watched.shapes), "prompts are too"
    assert max(rows for rows, _ in watched.shapes) == len(asked)


def test_those_who_are_answered_go_on_between_passes_over_prompts(
    loaded: LoadedModel, watched: Watched
) -> None:
    others = [TEXTS[1] * 9, TEXTS[1] * 18, TEXTS[1] * 27]  # too unlike to be read in one pass
    asked = [request(TEXTS[0], max_new_tokens=40), *[request(t, max_new_tokens=3) for t in others]]

    at_once(TransformersGenerator(loaded), asked, watched)

    passes = [n for n, (_, columns) in enumerate(watched.shapes) if columns > 16]
    assert len(passes) >= len(asked)
    first, *later = passes[-len(others) :]
    for before, after in zip([first, *later], later, strict=False):
        assert any(columns == 1 for _, columns in watched.shapes[before + 1 : after])


def test_those_who_are_answered_go_on_between_the_pieces_of_a_long_prompt(
    loaded: LoadedModel, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "PREFILL_TOKENS", 32)
    asked = [request(TEXTS[0], max_new_tokens=60), request(TEXTS[1] * 9, max_new_tokens=9)]
    generator = TransformersGenerator(loaded)
    alone = [list(generator.stream(one)) for one in asked]
    watched.shapes.clear()

    together = at_once(generator, asked, watched)

    pieces = [n for n, (_, columns) in enumerate(watched.shapes) if columns == 32]
    assert len(pieces) >= 4
    assert all(b - a > 1 for a, b in zip(pieces[-3:], pieces[-2:], strict=False))
    for mine, ours in zip(alone, together, strict=True):
        assert "".join(d.text for d in ours) == "".join(d.text for d in mine)


def test_who_asked_first_is_read_first(loaded: LoadedModel, watched: Watched) -> None:
    """A short prompt that comes later does not overtake a long one that waits."""
    rows, prefixes = _Rows(loaded), Prefixes(loaded)
    long, short = (
        _Asked(Job(prompt=[5] * count, max_new_tokens=4), None, lambda _: "") for count in (300, 9)
    )

    left = rows.join([long, short], prefixes)

    assert rows.asked == [long]
    assert left == [short]


def test_no_more_go_on_together_than_is_configured(loaded: LoadedModel, watched: Watched) -> None:
    generator = TransformersGenerator(loaded, batch_size=2)
    together = at_once(generator, [request(text, max_new_tokens=9) for text in TEXTS * 2], watched)
    assert all(deltas[-1].finish_reason for deltas in together)
    assert max(rows for rows, _ in watched.shapes) == 2


def test_one_who_leaves_or_reads_slowly_holds_up_nobody(
    loaded: LoadedModel, watched: Watched
) -> None:
    generator = TransformersGenerator(loaded)
    alone = list(generator.stream(request(TEXTS[1], max_new_tokens=30)))
    slow = generator.stream(request(TEXTS[0], max_new_tokens=400))
    next(slow)  # and never again
    cancel = threading.Event()
    leaving = generator.stream(request(TEXTS[2], max_new_tokens=400, cancel=cancel))
    next(leaving)
    cancel.set()
    assert list(generator.stream(request(TEXTS[1], max_new_tokens=30))) == alone
    assert list(leaving)[-1].finish_reason == "cancelled"
    slow.close()
    rest = list(generator.stream(request(TEXTS[1], max_new_tokens=30)))
    assert rest == alone
    assert watched.shapes[-1][0] == 1, "who left is in the batch no more"


def test_a_broken_step_fails_those_in_it_and_the_next_are_served(
    loaded: LoadedModel, watched: Watched
) -> None:
    generator = TransformersGenerator(loaded)
    watched.fails_at = 5  # a prompt, two prompts, then the third step
    failed = at_once(generator, [request(text, max_new_tokens=20) for text in TEXTS], watched)
    assert [str(error) for error in failed] == [str(failed[0])] * 3
    assert "weights on two devices" in str(failed[0])
    assert len({id(error) for error in failed}) == 3
    assert list(generator.stream(request()))[-1].finish_reason in ("stop", "length")


def test_a_broken_prompt_fails_its_own_answer_only(loaded: LoadedModel, watched: Watched) -> None:
    asked = [request(text, max_new_tokens=5) for text in [*TEXTS, "Whence?"]]
    generator = TransformersGenerator(loaded)
    ids = [generator.counter.encode(one.messages) for one in asked]
    (watched.fails_on, *_) = set(ids[3]).difference(*ids[:3])
    results = at_once(generator, asked, watched)
    assert [isinstance(result, GenerationFailed) for result in results] == [False] * 3 + [True]


def test_a_defect_in_the_thread_reaches_those_who_wait(loaded: LoadedModel) -> None:
    def push(index: int) -> str:
        raise ZeroDivisionError

    batcher = Batcher(loaded, batch_size=2)
    for _ in range(2):  # and a new thread takes the next
        with pytest.raises(ZeroDivisionError):
            list(batcher.run(Job([5, 6], 4), None, push))


def asked(prompt: list[int], most: int) -> _Asked:
    return _Asked(Job(prompt, most), None, lambda index: "")


def test_padding_that_no_row_needs_any_more_is_cut_off(loaded_lm: LoadedModel) -> None:
    rows, prefixes = _Rows(loaded_lm), Prefixes(loaded_lm)
    long, short = asked([7] * 300, 3), asked([9, 8, 7], 40)
    assert rows.join([long], prefixes) == rows.join([short], prefixes) == []
    assert rows._mask.shape == (2, 300)
    while long.job.finish_reason is None:
        rows.step()
    assert rows._mask.shape[1] < 10
    assert rows._cache.get_seq_length() == rows._mask.shape[1]
    while short.job.finish_reason is None:
        rows.step()
    alone = _Rows(loaded_lm)
    other = asked([9, 8, 7], 40)
    alone.join([other], prefixes)
    while other.job.finish_reason is None:
        alone.step()
    assert other.job.ids == short.job.ids


# The part that all prompts begin with


@pytest.fixture
def prompts(loaded_lm: LoadedModel) -> list[tuple[list[int], int]]:
    """Prompts under one system turn, and how many ids they share."""
    encoder = PromptEncoder(loaded_lm.tokenizer)
    form = PromptForm()
    messages = [form.messages(text) for text in TEXTS]
    return [(encoder.encode(m), encoder.fixed(m)) for m in messages]


def test_the_fixed_part_is_the_beginning_of_every_prompt_of_a_form(
    prompts: list[tuple[list[int], int]], loaded_lm: LoadedModel
) -> None:
    (_, fixed), *_ = prompts
    assert {n for _, n in prompts} == {fixed}
    assert len({tuple(ids[:fixed]) for ids, _ in prompts}) == 1
    assert fixed > 40
    encoder = PromptEncoder(loaded_lm.tokenizer)
    assert encoder.fixed((Message(role="user", content="a"),)) == 0
    other = PromptForm(system="Be brief and polite.").messages("Who?")
    head = encoder.fixed(other)
    assert encode_prompt(loaded_lm.tokenizer, other)[:head] != prompts[0][0][:head]


def test_logits_with_the_fixed_part_kept_are_bit_equal_to_those_without(
    loaded: LoadedModel, watched: Watched, prompts: list[tuple[list[int], int]]
) -> None:
    import torch

    fixed = prompts[0][1]
    kept = Prefixes(loaded)
    kept.read([Job(prompts[0][0], 1, fixed=fixed)], None)
    for ids, _ in prompts:
        watched.shapes.clear()
        with_kept, cache, _ = kept.read([Job(ids, 1, fixed=fixed)], None)
        assert watched.shapes == [(1, len(ids) - fixed)], "the fixed part is not read again"
        anew, fresh, _ = Prefixes(loaded).read([Job(ids, 1, fixed=fixed)], None)
        assert torch.equal(with_kept, anew)
        for layer, other in zip(cache.layers, fresh.layers, strict=True):
            assert torch.equal(layer.keys, other.keys)
            assert torch.equal(layer.values, other.values)


def test_a_prompt_of_another_form_or_adapter_does_not_get_anothers_beginning(
    loaded: LoadedModel, watched: Watched, prompts: list[tuple[list[int], int]]
) -> None:
    ids, fixed = prompts[0]
    kept = Prefixes(loaded)
    kept.read([Job(ids, 1, fixed=fixed)], None)
    watched.shapes.clear()
    other = [ids[0] + 1, *ids[1:]]
    kept.read([Job(other, 1, fixed=fixed)], None)
    assert watched.shapes == [(1, fixed), (1, len(ids) - fixed)]


def test_prompts_read_together_have_the_logits_and_the_cache_of_each_alone(
    loaded: LoadedModel, watched: Watched, prompts: list[tuple[list[int], int]]
) -> None:
    import torch

    jobs = [Job(ids, 1, fixed=fixed) for ids, fixed in prompts]
    kept = Prefixes(loaded)
    alone = [kept.read([job], None) for job in jobs]
    watched.shapes.clear()
    logits, cache, mask = kept.read(jobs, None)
    rests = [len(ids) - fixed for ids, fixed in prompts]
    assert watched.shapes == [(len(jobs), max(rests))]
    for row, (expected, other, _) in enumerate(alone):
        torch.testing.assert_close(logits[row], expected[0])
        there = mask[row].bool()
        assert int(there.sum()) == len(prompts[row][0])
        for layer, mine in zip(cache.layers, other.layers, strict=True):
            torch.testing.assert_close(layer.keys[row][:, there], mine.keys[0])
            torch.testing.assert_close(layer.values[row][:, there], mine.values[0])


def test_only_prompts_of_one_beginning_and_like_length_are_read_together(
    loaded_lm: LoadedModel,
) -> None:
    head, other = list(range(20)), list(range(40, 60))
    lengths = [3, 9, 300, 4, 700, 310]
    jobs = [Job(head + [7] * n, 1, fixed=20) for n in lengths]
    jobs += [Job(other + [7] * 5, 1, fixed=20), Job(head[:5], 1, fixed=20)]
    assert Prefixes(loaded_lm).groups(jobs) == [[0, 3, 1], [2, 5], [4], [6], [7]]


def test_a_cache_that_cannot_be_merged_is_shared_by_those_who_begin_together_only(
    loaded: LoadedModel, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with sliding windows: the others wait until the batch has ended."""
    generator = TransformersGenerator(loaded)
    alone = [list(generator.stream(request(text, max_new_tokens=9))) for text in TEXTS]
    for module in ("batching", "prefixes"):
        monkeypatch.setattr(
            f"fti.pipelines.engines.causal_lm.{module}.mergeable", lambda cache: False
        )
    watched.shapes.clear()
    requests = [request(text, max_new_tokens=9) for text in TEXTS]
    together = TransformersGenerator(replace(loaded)).generate(requests)
    for mine, ours in zip(alone, together, strict=True):
        assert "".join(delta.text for delta in mine) == ours.text
    steps = [shape for shape in watched.shapes if shape[1] == 1]
    assert max(rows for rows, _ in steps) > 1


_PROGRAM = """
import sys
from fti.pipelines.engines.causal_lm.loading import load_to_answer
from fti.pipelines.engines.causal_lm.transformers_generator import serve_here
from fti.pipelines.engines.generator import GenerationRequest, GeneratorConfig
from fti.store.types import Message

config = GeneratorConfig(id=sys.argv[1], device="cpu")
generator = serve_here(load_to_answer(config), config)
asked = GenerationRequest(
    messages=(Message(role="user", content="When?"),), question="When?",
    max_new_tokens=int(sys.argv[2]),
)
pieces = generator.stream(asked)
for piece in pieces:
    if sys.argv[2] != "4":
        break
print("said")
"""


@pytest.mark.parametrize("most", ["4", "400"], ids=["after an answer", "in the midst of one"])
def test_a_program_may_end_at_any_time(most: str, tiny_lm: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tiny_lm), most],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (0, "said\n"), done.stderr
