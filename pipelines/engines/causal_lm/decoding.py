"""The parts of the token loop: a prompt read, a step taken, a token picked, ids become text.

Plain calls of the model's forward pass with its key-value cache; ``engines.batching`` makes a loop
of them.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.engines.causal_lm.plain_llama import KeysValues, PlainLlama
from fti.pipelines.engines.causal_lm.refusals import Refusal
from fti.store.answer_types import FinishReason
from fti.store.errors import GenerationFailed

# A prompt is read in pieces of this many tokens, so that a cancelled one stops within a piece and
# memory stays bounded.
PREFILL_TOKENS = 512
_LEAST_TEMPERATURE = 1e-4  # below it, dividing by it overflows, and the choice is greedy anyway


@dataclass(eq=False)
class Job:
    """One sequence to continue: what is asked, and what has come of it.

    ``fixed`` ids at the prompt's beginning are the same in every prompt of its kind. ``refusal`` is
    weighed when decoding is greedy.
    """

    prompt: list[int]
    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    cancel: threading.Event = field(default_factory=threading.Event)
    fixed: int = 0
    refusal: Refusal | None = None
    ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    _random: Any = None

    def sample(self, logits: Any) -> int:
        """A token by this job's temperature, above 0, from a row of logits."""
        import torch

        if self._random is None:
            self._random = torch.Generator().manual_seed(self.seed)
        # On the CPU in float32: the same seed gives the same text on every device.
        chances = torch.softmax(logits.float().cpu() / self.temperature, dim=-1)
        if self.top_p < 1.0:
            ranked, order = chances.sort(descending=True)
            ranked[ranked.cumsum(0) - ranked >= self.top_p] = 0.0
            chances = torch.zeros_like(chances).scatter_(0, order, ranked)
        return int(torch.multinomial(chances, 1, generator=self._random))


def pick_each(jobs: Sequence[Job], logits: Any) -> list[int]:
    """The next token of each job by its temperature, from its row of logits.

    Raises:
        GenerationFailed: the logits of one are no numbers.
    """
    import torch

    best = logits.argmax(dim=-1, keepdim=True)  # NaN counts as the largest
    if not torch.isfinite(logits.gather(-1, best)).all():
        raise GenerationFailed(
            "The model's output is not a number.",
            hint="Its weights or adapter may be damaged, or float16 is too narrow for it: "
            "try dtype bfloat16 or float32.",
        )
    picked: list[int] = best.squeeze(-1).tolist()
    for row, job in enumerate(jobs):
        if job.temperature >= _LEAST_TEMPERATURE:
            picked[row] = job.sample(logits[row])
        elif job.refusal is not None:
            picked[row] = job.refusal.weigh(job.ids, picked[row], logits[row])
    return picked


def read_prompt(
    loaded: LoadedModel,
    adapter: str | None,
    prompt: Sequence[int],
    cancel: threading.Event,
    cache: Any = None,
    between: Callable[[], None] = lambda: None,
) -> tuple[Any, Any]:
    """The logits after one prompt, or the rest of one, and its cache.

    Args:
        loaded: the model.
        adapter: under which adapter.
        prompt: ids; at least one.
        cancel: when set, reading stops within a piece, and the logits are None.
        cache: of the ids before.
        between: called between two pieces.

    Raises:
        GenerationFailed: the forward pass broke off.
    """
    import torch

    logits = None
    for number, piece in enumerate(torch.tensor([list(prompt)]).split(PREFILL_TOKENS, dim=1)):
        if number:
            between()
        if cancel.is_set():
            return None, cache
        logits, cache = forward(loaded, adapter, piece, None, cache)
    return logits, cache


def read_together(
    loaded: LoadedModel,
    adapter: str | None,
    prompts: Sequence[Sequence[int]],
    before: int = 0,
    cache: Any = None,
) -> tuple[Any, Any, Any]:
    """The logits after several prompts, or the rests of them, in one pass; their cache and mask.

    Args:
        loaded: the model.
        adapter: under which adapter.
        prompts: ids; at least one each.
        before: ids that all of the prompts begin with and that ``cache`` holds.
        cache: of those, with a row per prompt.

    Returns:
        The logits, the cache, and which of its columns hold a token of a row (1) or padding (0).

    Raises:
        GenerationFailed: the forward pass broke off.
    """
    import torch

    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[1] * before + [0] * (width - len(p)) + [1] * len(p) for p in prompts])
    logits, cache = forward(loaded, adapter, ids, None if bool(mask.all()) else mask, cache)
    return logits, cache, mask


def forward(
    loaded: LoadedModel, adapter: str | None, ids: Any, mask: Any, cache: Any
) -> tuple[Any, Any]:
    """One forward pass; the last position's logits and the cache.

    ``ids`` has a row per sequence. ``mask`` is 1 where a token is, over the cache's columns and
    those of ``ids``; None where nothing is padded.
    """
    import torch

    options: dict[str, Any] = {}
    if mask is not None:
        options["attention_mask"] = mask.to(loaded.device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        options["position_ids"] = positions.to(loaded.device)
    if _keeps_logits(type(loaded.model)):
        options["logits_to_keep"] = 1  # the rest of a long prompt's logits would be thrown away
    # The mode ends before anything is yielded: it belongs to the thread, not to this generator.
    with loaded.using(adapter) as model, torch.inference_mode(), _failures(loaded):
        if isinstance(cache, KeysValues) and not isinstance(model, PlainLlama):
            cache = cache.as_transformers()  # an adapter was put on the model meanwhile
        out = model(
            input_ids=ids.to(loaded.device), past_key_values=cache, use_cache=True, **options
        )
        return out.logits[:, -1], out.past_key_values


def _keeps_logits(model: type) -> bool:
    return "logits_to_keep" in inspect.signature(model.forward).parameters  # type: ignore[attr-defined]


@contextmanager
def _failures(loaded: LoadedModel) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, IndexError, MemoryError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        full = isinstance(error, MemoryError) or any(
            sign in text.lower() for sign in ("out of memory", "allocate memory")
        )
        raise GenerationFailed(
            f"The model {loaded.identity.id!r} broke off: {text}",
            hint="Memory ran out: set a smaller generator.batch_size or generator.context_tokens, "
            "or use a smaller model."
            if full
            else "",
        ) from error


def before_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """``text`` up to the first of the stop strings in it, and whether there was one."""
    places = [at for at in map(text.find, stop) if at >= 0]
    return (text[: min(places)], True) if places else (text, False)


def undecided_tail(text: str, stop: Sequence[str]) -> int:
    """Length of the longest end of ``text`` that may be the beginning of a stop string."""
    longest = max(map(len, stop), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(s.startswith(text[-length:]) for s in stop):
            return length
    return 0


class TextStream:
    """Turns ids into text piece by piece; what was given out never changes.

    Args:
        tokenizer: a transformers tokenizer.
        stop: the text ends before the first of these.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._ids: list[int] = []
        self._given = ""
        self.stopped = False  # a stop string was met; no id needs to be pushed any more

    @property
    def text(self) -> str:
        """All text given out so far."""
        return self._given

    def push(self, index: int) -> str:
        """Add one id; the text that is certain now and was not before, often empty."""
        self._ids.append(index)
        # A replacement character at the end may be a character of which some bytes are to come.
        text, self.stopped = before_stop(self._decoded().rstrip("\ufffd"), self._stop)
        if not self.stopped:
            text = text[: len(text) - undecided_tail(text, self._stop)]
        return self._advance(text)

    def finish(self) -> str:
        """The rest, when no id will follow."""
        return self._advance(before_stop(self._decoded(), self._stop)[0])

    def _decoded(self) -> str:
        text: str = self._tokenizer.decode(
            self._ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def _advance(self, text: str) -> str:
        # Invalid bytes can make a decoder take back a character; what was shown stays.
        if not text.startswith(self._given):
            return ""
        piece = text[len(self._given) :]
        self._given = text
        return piece
