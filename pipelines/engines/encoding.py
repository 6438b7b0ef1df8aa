"""Messages to token ids, for training and for serving, side by side.

The one place where a conversation becomes ids. The prompt comes from the tokenizer's own chat
template; text inside messages is encoded as plain text even where it spells a control token. The
response is tokenised apart and joined as ids, so the ids served are exactly the unlabelled prefix
of the ids trained on.

Everything here may be called from several threads at once.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from fti.store.errors import EngineError
from fti.store.types import Message

IGNORED = -100  # the label that PyTorch's cross entropy leaves out
_REMEMBERED_PROMPTS = 8
_SURROGATE = re.compile("[\ud800-\udfff]")
_PROBE = "answer\u2042probe"  # stands for an assistant's turn when reading a chat template


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """Ids of prompt and response; ``labels`` is ``IGNORED`` over the prompt."""

    input_ids: list[int]
    labels: list[int]


def encode_prompt(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Ids of the conversation up to where the assistant begins to speak.

    Args:
        tokenizer: a transformers tokenizer with a chat template.
        messages: turns; control tokens spelt inside them become ordinary text.

    Raises:
        EngineError: the tokenizer has no chat template, or its template refuses these turns.
    """
    facts = _facts(tokenizer)
    ids = _render(tokenizer, messages)
    if ids is not None and _controls(facts, ids) == _expected_controls(tokenizer, messages):
        return ids
    # Some tokenizers make a control token out of plain text: a unigram vocabulary that lists it,
    # or a normaliser that turns another spelling into it. Then the spelling itself is broken up.
    broken = [m.model_copy(update={"content": _break_up(facts, m.content)}) for m in messages]
    ids = _render(tokenizer, broken)
    if ids is None or _controls(facts, ids) != _expected_controls(tokenizer, messages):
        raise EngineError(
            f"The tokenizer of {tokenizer.name_or_path!r} turns text inside a message into a "
            "control token, and no spelling of the text prevents it.",
            hint="Use another model.",
        )
    return ids


def encodable(text: str) -> str:
    """The text with lone surrogates, which are no characters, replaced one for one."""
    return _SURROGATE.sub("\ufffd", text)


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Ids of plain text: nothing added, and control tokens spelt in it are not control tokens."""
    return list(_facts(tokenizer).plain.encode(encodable(text), add_special_tokens=False).ids)


def end_ids(tokenizer: Any) -> list[int]:
    """The ids that end a turn: what a response is trained to end with.

    It is the control token that the chat template itself writes after an assistant's turn, and
    ``eos_token`` where it writes none. The two differ for some models (Phi-3, Gemma).
    """
    return [_facts(tokenizer).end_id]


def stop_ids(tokenizer: Any, more: Sequence[int] = ()) -> frozenset[int]:
    """All ids at which generation ends: end of turn, end of text, and any token that opens a turn.

    Args:
        tokenizer: a transformers tokenizer with a chat template.
        more: further ids, such as those of the model's generation settings.
    """
    facts = _facts(tokenizer)
    eos = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    return frozenset({facts.end_id, *eos, *facts.turn_ids, *more})


def encode_example(tokenizer: Any, messages: Sequence[Message], response: str) -> EncodedExample:
    """Ids and labels of one training row; only the response and its end are learned."""
    prompt = encode_prompt(tokenizer, messages)
    answer = encode_text(tokenizer, response) + end_ids(tokenizer)
    return EncodedExample(input_ids=prompt + answer, labels=[IGNORED] * len(prompt) + answer)


class PromptEncoder:
    """Encodes, counts and cuts as this tokenizer does; the prompt contract's ``TokenCounter``."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        # Fitting encodes the prompt that generation then encodes again: the last few are kept.
        self._recent: OrderedDict[tuple[Message, ...], tuple[int, ...]] = OrderedDict()
        self._fixed: dict[str, int] = {}
        self._lock = threading.Lock()

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Ids of the whole prompt, as ``encode_prompt`` gives them."""
        key = tuple(messages)
        with self._lock:
            if key in self._recent:
                self._recent.move_to_end(key)
                return list(self._recent[key])
        ids = encode_prompt(self.tokenizer, messages)
        with self._lock:
            self._recent[key] = tuple(ids)
            while len(self._recent) > _REMEMBERED_PROMPTS:
                self._recent.popitem(last=False)
        return ids

    def fixed(self, messages: Sequence[Message]) -> int:
        """With how many ids every prompt begins that has this system turn, whatever is asked."""
        if not messages or messages[0].role != "system":
            return 0
        system = messages[0]
        if system.content not in self._fixed:
            asked = (Message(role="user", content=text) for text in ("a", "9 b"))
            one, other = (encode_prompt(self.tokenizer, (system, turn)) for turn in asked)
            differing = (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
            self._fixed[system.content] = next(differing, min(len(one), len(other)))
        return self._fixed[system.content]

    def count(self, messages: Sequence[Message]) -> int:
        """Token count of the whole encoded prompt."""
        return len(self.encode(messages))

    def truncate(self, text: str, max_tokens: int) -> str:
        """The longest prefix of ``text`` that ends on a token and has at most ``max_tokens``."""
        max_tokens = max(0, max_tokens)
        plain = _facts(self.tokenizer).plain
        offsets = plain.encode(encodable(text), add_special_tokens=False).offsets
        if len(offsets) <= max_tokens:
            return text
        # A prefix may tokenise into more pieces than it had inside the text (a merge or a
        # character cut in two at its end), so it is counted again.
        for last in range(max_tokens - 1, -1, -1):
            prefix = text[: offsets[last][1]].rstrip()
            if len(encode_text(self.tokenizer, prefix)) <= max_tokens:
                return prefix
        return ""


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is read off a tokenizer once.

    ``plain`` is its pipeline without control tokens; ``control_ids`` are the ids that text must
    never become; ``turn_ids`` those of them that open a turn.
    """

    plain: Any
    controls: frozenset[str]
    control_ids: frozenset[int]
    end_id: int
    turn_ids: frozenset[int]
    expected: dict[tuple[tuple[str, bool], ...], int]


# The fast tokenizers change settings of the shared backend on some calls; two threads in one of
# them can encode under each other's settings ("Already borrowed" at best). Encoding a prompt takes
# a millisecond or two, so one at a time is cheap.
_lock = threading.RLock()
_known: WeakKeyDictionary[Any, tuple[str, _Facts]] = WeakKeyDictionary()


def _facts(tokenizer: Any) -> _Facts:
    template = tokenizer.chat_template
    if not template:
        raise EngineError(
            f"The tokenizer of {tokenizer.name_or_path!r} has no chat template.",
            hint="Use an instruct or chat model, or set tokenizer.chat_template and save it.",
        )
    with _lock:
        known = _known.get(tokenizer)
        if known is not None and known[0] == template:
            return known[1]
        facts = _read_facts(tokenizer, str(template))
        _known[tokenizer] = (template, facts)
        return facts


def _read_facts(tokenizer: Any, template: str) -> _Facts:
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise EngineError(
            f"The tokenizer of {tokenizer.name_or_path!r} is not a fast tokenizer.",
            hint="Use a model with a tokenizer.json.",
        )
    # Added tokens that the template writes act as control tokens even where they are not marked
    # special (Qwen's <think>, for one). White space is text whoever added it (Gemma's "\n").
    controls = {
        token.content: int(index)
        for index, token in tokenizer.added_tokens_decoder.items()
        if token.content.strip() and (token.special or token.content in template)
    }
    unknown = tokenizer.unk_token
    # Plain text may well be unknown to a vocabulary; the id says nothing but that.
    ids = frozenset(index for content, index in controls.items() if content != unknown)
    return _Facts(
        plain=_without_controls(tokenizer, frozenset(controls)),
        controls=frozenset(controls),
        control_ids=ids,
        end_id=_end_id(tokenizer, ids),
        turn_ids=_turn_ids(tokenizer, ids),
        expected={},
    )


def _without_controls(tokenizer: Any, controls: frozenset[str]) -> Any:
    """The tokenizer's pipeline with every control token renamed to what no text can spell.

    Renamed, not removed: removing would shift the ids of the added tokens after it. The name is
    random, so that no document can be written to contain it.
    """
    from tokenizers import Tokenizer

    pipeline = json.loads(tokenizer.backend_tokenizer.to_str())
    salt = secrets.token_hex(16)
    names = {content: f"\x00{salt}{n}\x00" for n, content in enumerate(sorted(controls))}
    for token in pipeline["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = pipeline["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(piece, piece): n for piece, n in model["vocab"].items()}
    else:  # unigram: a list of (piece, score)
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
    if model.get("unk_token"):
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    if "merges" in model:
        pairs = (m.split(" ") if isinstance(m, str) else m for m in model["merges"])
        model["merges"] = [pair for pair in pairs if "".join(pair) not in controls]
    pipeline["post_processor"] = pipeline["truncation"] = pipeline["padding"] = None
    return Tokenizer.from_str(json.dumps(pipeline))


def _end_id(tokenizer: Any, control_ids: frozenset[int]) -> int:
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": _PROBE}]
    rendered = _apply_template(tokenizer, turns, tokenize=False, add_generation_prompt=False)
    tail = rendered.rpartition(_PROBE)[2]
    ids = tokenizer(tail, add_special_tokens=False)["input_ids"] if tail else []
    after = next((int(i) for i in ids if i in control_ids), None)
    if after is not None:
        return after
    if tokenizer.eos_token_id is None:
        raise EngineError(
            f"The tokenizer of {tokenizer.name_or_path!r} has no end-of-turn token.",
            hint="Set tokenizer.eos_token and save it with the model.",
        )
    return int(tokenizer.eos_token_id)


def _turn_ids(tokenizer: Any, control_ids: frozenset[int]) -> frozenset[int]:
    """Special tokens that a rendered user turn contains: a model that writes one is past its own.

    Tokens that are not marked special may be part of an answer (<think>), so they do not count.
    """
    turns = [{"role": "user", "content": "question"}]
    rendered = _apply_template(tokenizer, turns, tokenize=False, add_generation_prompt=True)
    special = {int(i) for i in tokenizer.all_special_ids}
    ids = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    return frozenset(int(i) for i in ids if i in control_ids and i in special)


def _render(tokenizer: Any, messages: Sequence[Message]) -> list[int] | None:
    """Ids by the chat template; None when its text cannot be told from control tokens."""
    turns = [{"role": m.role, "content": encodable(m.content)} for m in messages]
    try:
        encoded = _apply_template(
            tokenizer,
            turns,
            add_generation_prompt=True,
            tokenize=True,
            sanitize_control_tokens=True,
            return_dict=True,
        )
    except ValueError as error:
        if "Can't sanitize" in str(error):
            return None
        raise
    return list(encoded["input_ids"])


def _apply_template(tokenizer: Any, turns: list[dict[str, str]], **options: Any) -> Any:
    from jinja2.exceptions import TemplateError

    # "Sequence longer than the model's maximum" is for us to say, with the prompt's budget.
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    try:
        with _lock:
            return tokenizer.apply_chat_template(turns, **options)
    except TemplateError as error:
        roles = [turn["role"] for turn in turns]
        raise EngineError(
            f"The chat template of {tokenizer.name_or_path!r} refuses turns by {roles}: {error}",
            hint="If it refuses a system turn, make the prompt form's system text empty.",
        ) from error


def _controls(facts: _Facts, ids: Sequence[int]) -> int:
    return sum(1 for index in ids if index in facts.control_ids)


def _expected_controls(tokenizer: Any, messages: Sequence[Message]) -> int:
    """How many control tokens the template itself writes around turns like these."""
    facts = _facts(tokenizer)
    shape = tuple((m.role, bool(m.content.strip())) for m in messages)
    if shape not in facts.expected:
        bare = [
            Message(role=m.role, content="x" if filled else "")
            for m, (_, filled) in zip(messages, shape, strict=True)
        ]
        ids = _render(tokenizer, bare)
        facts.expected[shape] = _controls(facts, ids or [])
    return facts.expected[shape]


def _break_up(facts: _Facts, text: str) -> str:
    """Put a space into every control token that the text spells, also after normalisation."""
    text = encodable(text)
    if facts.plain.normalizer is not None:
        text = facts.plain.normalizer.normalize_str(text)
    spelt = re.compile("|".join(map(re.escape, sorted(facts.controls, key=len, reverse=True))))
    return spelt.sub(lambda match: f"{match.group()[:-1]} {match.group()[1:][-1:]}", text)
