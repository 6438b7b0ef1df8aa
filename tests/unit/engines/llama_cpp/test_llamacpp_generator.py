"""A model on llama.cpp keeps the promises of every generator."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.engines.causal_lm.transformers_generator import TransformersGenerator
from fti.pipelines.engines.encoding import encode_text
from fti.pipelines.engines.generator import GenerationRequest, Generator, GeneratorConfig
from fti.pipelines.engines.llama_cpp import gguf_cache
from fti.pipelines.engines.llama_cpp.gguf_cache import cached_gguf, gguf_source
from fti.pipelines.engines.llama_cpp.llamacpp_generator import LlamaCppGenerator, load_llamacpp
from fti.pipelines.engines.llama_cpp.native_server import _own_signals
from fti.store.errors import ContractError, ModelUnavailable, QuestionTooLong
from fti.store.types import Message
from tests.support.tiny_model import make_adapter

pytest.importorskip("xllamacpp", reason="llama.cpp is an extra")

STANDS, FALLS = 1e-4, 1.0


def request(question: str, **options: Any) -> GenerationRequest:
    turns = (Message(role="system", content="Be short."), Message(role="user", content=question))
    return GenerationRequest(messages=turns, question=question, **({"max_new_tokens": 8} | options))


def config(folder: Path, **changes: Any) -> GeneratorConfig:
    fields = {"engine": "llamacpp", "id": str(folder), "context_tokens": 256, "batch_size": 3}
    return GeneratorConfig(**(fields | {"device": "cpu"} | changes))


def text_of(generator: Generator, one: GenerationRequest) -> str:
    return generator.generate([one])[0].text


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTI_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def generator(cache: Path, tiny_lm: Path) -> Iterator[LlamaCppGenerator]:
    made = load_llamacpp(config(tiny_lm))
    yield made
    made.close()


@pytest.fixture(scope="module")
def same(loaded_lm: LoadedModel) -> TransformersGenerator:
    return TransformersGenerator(loaded_lm, batch_size=4)


def test_it_answers_as_transformers_does(
    generator: LlamaCppGenerator, same: TransformersGenerator
) -> None:
    asked = [request(f"Question {n}?") for n in range(12)]
    theirs, ours = same.generate(asked), generator.generate(asked)
    assert generator.identity == same.identity
    # Half precision may turn the choice between two ids that are nearly as likely.
    alike = sum(a.text == b.text for a, b in zip(theirs, ours, strict=True))
    assert alike >= 9
    assert all(a.usage.prompt_tokens == b.usage.prompt_tokens
               for a, b in zip(theirs, ours, strict=True))  # fmt: skip
    assert {one.finish_reason for one in ours} <= {"stop", "length"}


def test_a_stream_says_what_a_batch_says(generator: LlamaCppGenerator) -> None:
    for one in (request("When?"), request("Who?", temperature=0.9, top_p=0.9, seed=7)):
        whole = generator.generate([one])[0]
        deltas = list(generator.stream(one))
        assert "".join(delta.text for delta in deltas) == whole.text
        assert (deltas[-1].finish_reason, deltas[-1].usage) == (whole.finish_reason, whole.usage)


def test_an_answer_ends_before_a_stop_string(generator: LlamaCppGenerator) -> None:
    whole = text_of(generator, request("When?", max_new_tokens=12))
    stop = whole[3:5]
    cut = generator.generate([request("When?", max_new_tokens=12, stop=(stop,))])[0]
    assert cut.text == whole[: whole.index(stop)]
    assert cut.finish_reason == "stop"


def test_a_cancelled_answer_ends(generator: LlamaCppGenerator) -> None:
    one = request("When?", max_new_tokens=200)
    said = []
    for delta in generator.stream(one):
        said.append(delta)
        time.sleep(0.2)  # the worker gets ahead of whoever reads
        one.cancel.set()
    assert [delta.finish_reason for delta in said] == [None, "cancelled"]
    cancelled = request("Who?")
    cancelled.cancel.set()
    assert generator.generate([cancelled])[0].finish_reason == "cancelled"
    assert text_of(generator, request("Who?"))  # the seats are free again


_PROGRAM = """
import sys
from fti.pipelines.engines.generator import GenerationRequest, GeneratorConfig
from fti.pipelines.engines.llama_cpp.llamacpp_generator import load_llamacpp
from fti.store.types import Message

config = GeneratorConfig(
    engine="llamacpp", id=sys.argv[1], context_tokens=4096, batch_size=1, device="cpu"
)
asked = GenerationRequest(
    messages=(Message(role="user", content="When?"),), question="When?", max_new_tokens=4000
)
generator = load_llamacpp(config)
pieces = generator.stream(asked)
next(pieces)
if sys.argv[2] == "closed":
    generator.close()
print("said")
"""


@pytest.mark.parametrize("left", ["open", "closed"])
def test_a_program_may_end_in_the_midst_of_an_answer(cache: Path, tiny_lm: Path, left: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tiny_lm), left],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (0, "said\n"), done.stderr


def test_more_than_there_are_seats_for_take_turns(generator: LlamaCppGenerator) -> None:
    asked = [request(f"Question {n}?") for n in range(9)]
    one_by_one = [text_of(generator, one) for one in asked]
    found: dict[int, str] = {}

    def ask(place: int) -> None:
        found[place] = "".join(delta.text for delta in generator.stream(asked[place]))

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alike = sum(found[place] == text for place, text in enumerate(one_by_one))
    assert alike >= 7  # a pass over several prompts rounds otherwise


def test_a_prompt_that_leaves_no_room_is_refused(generator: LlamaCppGenerator) -> None:
    with pytest.raises(QuestionTooLong, match="holds 256") as caught:
        generator.generate([request("word " * 400)])
    assert "generator.context_tokens" in caught.value.hint


def test_an_unlikely_refusal_gives_way_and_a_likely_one_stands(
    generator: LlamaCppGenerator,
) -> None:
    tokenizer = generator.counter.tokenizer
    for number in range(60):
        plain = text_of(generator, request(f"Question {number}?"))
        start = tokenizer.decode(encode_text(tokenizer, plain)[:2])
        if start and plain.startswith(start) and "\ufffd" not in start:
            break
    refusing = {"question": f"Question {number}?", "refusal": start}
    stands = request(**refusing, refuse_above=STANDS)
    falls = request(**refusing, refuse_above=FALLS)
    assert text_of(generator, stands) == plain
    assert not text_of(generator, falls).startswith(start)
    streamed = "".join(delta.text for delta in generator.stream(falls))
    assert streamed == text_of(generator, falls)


def test_a_refusal_gives_way_as_it_does_with_transformers(
    generator: LlamaCppGenerator, same: TransformersGenerator
) -> None:
    asked = [
        request(f"Question {n}?", refusal="Answer the question", refuse_above=bound)
        for n in range(5)
        for bound in (0.0005, 0.01)
    ]
    alike = sum(text_of(generator, one) == text_of(same, one) for one in asked)
    assert alike >= 7


def test_a_tuned_version_is_merged_into_a_file_of_its_own(
    cache: Path, tiny_lm: Path, loaded_lm: LoadedModel, tmp_path: Path
) -> None:
    adapter = make_adapter(tiny_lm, tmp_path / "adapter")
    tuned = load_llamacpp(config(tiny_lm), adapter=adapter)
    theirs = TransformersGenerator(loaded_lm, adapter)
    try:
        asked = [request(f"Question {n}?") for n in range(8)]
        pairs = zip(tuned.generate(asked), theirs.generate(asked), strict=True)
        assert sum(a.text == b.text for a, b in pairs) >= 5
    finally:
        tuned.close()
        theirs.close()
    assert len(list(cache.glob("gguf-*-f16"))) == 2
    other = make_adapter(tiny_lm, tmp_path / "other", seed=2)
    settings = '{"peft_type": "LORA", "base_model_name_or_path": "elsewhere"}'
    (other / "adapter_config.json").write_text(settings, "utf-8")
    with pytest.raises(ContractError, match="was trained on 'elsewhere'"):
        load_llamacpp(config(tiny_lm), adapter=other)


def test_the_file_is_made_once_and_again_where_it_was_harmed(
    tiny_lm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTI_CACHE", str(tmp_path))
    written: list[Path] = []
    real = gguf_cache.write_gguf

    def counted(path: Path, *rest: Any, **named: Any) -> None:
        written.append(path)
        real(path, *rest, **named)

    monkeypatch.setattr(gguf_cache, "write_gguf", counted)
    source = gguf_source(config(tiny_lm))
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(cached_gguf(source, "f16"))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1
    assert len(set(found)) == 1
    before = found[0].read_bytes()
    found[0].write_bytes(before[:-9])
    assert cached_gguf(source, "f16").read_bytes() == before
    assert cached_gguf(source, "q8_0") != found[0]
    assert len(written) == 3
    assert not list(tmp_path.glob(".gguf-*"))  # nothing half made is left


def test_models_are_loaded_once_for_all_who_ask(
    generator: LlamaCppGenerator, tiny_lm: Path
) -> None:
    other = load_llamacpp(config(tiny_lm))
    assert other._native is generator._native
    other.close()
    assert text_of(generator, request("When?"))


def test_eight_bits_show_in_the_identity(cache: Path, tiny_lm: Path) -> None:
    made = load_llamacpp(config(tiny_lm, gguf="q8_0"))
    assert made.identity.revision == "+q8_0"
    assert text_of(made, request("When?"))
    made.close()


def test_interrupts_stay_this_process_s_own() -> None:
    import ctypes

    libc = ctypes.CDLL(None)
    before = signal.getsignal(signal.SIGINT)
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        with _own_signals():
            libc.signal(int(signal.SIGINT), 1)  # another handler by the C library: to ignore it
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]


def test_without_the_package_the_error_names_the_extra(
    tiny_lm: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(ModelUnavailable, match="xllamacpp") as caught:
        load_llamacpp(config(tiny_lm, batch_size=2))
    assert "fti-llm[llamacpp]" in caught.value.hint
