"""What the chat API takes: OpenAI's chat completions, and the bodies of our own routes.

Unknown request fields are accepted and ignored, as OpenAI-compatible clients send many; what would
change the meaning of an answer (``n`` above 1, tools) is refused.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from fti.store.answer_types import Feedback, Sampling
from fti.store.types import Message, SearchMode


class Lenient(BaseModel):
    """Base of request bodies: unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore")


StopStrings = str | list[str]
MOST_MESSAGES = 256  # of a conversation; older ones are left out
_MOST_STOPS, _LONGEST_STOP = 16, 200
_MOST_TEXTS, _LONGEST_TEXT = 256, 100_000
_MOST_CONDITIONS = 32
_UNUSED_ROLES = ("tool", "function")  # what tools said belongs to answers of another service


class TextPart(Lenient):
    """A text part of a message's content."""

    type: Literal["text"]
    text: str


class ChatMessage(Lenient):
    """A turn as the client sends it."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = ""

    @field_validator("content", mode="before")
    @classmethod
    def _readable(cls, content: Any) -> Any:
        if content is None or isinstance(content, str):
            return content
        if not isinstance(content, list):
            raise ValueError("is neither a text nor a list of text parts")
        require_text_parts(content, ("text",))
        return content

    def plain(self) -> str:
        """The content as one text."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


def require_text_parts(parts: list[Any], kinds: Sequence[str], *, where: str = "") -> None:
    """Refuse a message with another part than texts, naming it.

    Raises:
        ValueError: there is one.
    """
    for number, part in enumerate(parts):
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        if kind not in kinds:
            raise ValueError(f"part {number} {where}is {kind!r}; only text parts are read")
        if not isinstance(part.get("text"), str):
            raise ValueError(f"part {number} {where}has no text")


def content_text(content: str | list[Any]) -> str:
    """A content of text parts as one text."""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def refuse_tools(tools: Any, choice: Any, named: str) -> Any:
    """Tools that a client offers, where it says that none is to be called.

    Raises:
        ValueError: it does not say so.
    """
    if tools and choice != "none":
        raise ValueError(f"cannot be called here: leave them out, or send {named} 'none'")
    return tools


def question_of(turns: Sequence[Message]) -> tuple[str, tuple[Message, ...]]:
    """The last turn, when it is a user's, and the turns before it."""
    if not turns or turns[-1].role != "user":
        return "", ()
    return turns[-1].content, tuple(turns[:-1])


class SamplingFields(Lenient):
    """How a request says that tokens are chosen."""

    temperature: float | None = Field(
        default=None, ge=0, le=2, description="0 is greedy; without one, as configured."
    )
    top_p: float | None = Field(
        default=None, ge=0, le=1, description="Matters at temperatures above 0."
    )

    def sampled(
        self, default: Sampling, *, seed: int | None, max_tokens: int | None, stop: Sequence[str]
    ) -> Sampling:
        """How this answer's tokens are chosen; what the request leaves open is as in ``default``.

        A sampled answer without a seed gets one of its own, so that asking again gives another
        answer and the log can repeat each.
        """
        temperature = default.temperature if self.temperature is None else self.temperature
        if seed is None:
            seed = secrets.randbits(31) if temperature > 0 else default.seed
        return Sampling(
            temperature=temperature,
            # 0 stands for the likeliest token alone, which the smallest share gives.
            top_p=default.top_p if self.top_p is None else max(self.top_p, 1e-6),
            seed=seed,
            max_tokens=max_tokens or default.max_tokens,
            stop=tuple(dict.fromkeys(stop)),
        )


class StreamOptions(Lenient):
    """Options of a streamed answer."""

    include_usage: bool = False


class ResponseFormat(Lenient):
    """The form an answer shall have."""

    type: str = "text"

    @field_validator("type")
    @classmethod
    def _plain_text(cls, kind: str) -> str:
        if kind != "text":
            raise ValueError(f"{kind!r} is not supported; answers are text: leave it out")
        return kind


def _as_conditions(where: Any) -> Any:
    """Pairs that are equal or a list of conditions, checked as far as their form goes."""
    if where is None:
        return {}
    if isinstance(where, dict):
        for key, value in where.items():
            if not isinstance(value, str):
                raise ValueError(f"the value of {key!r} is no text")
        return where
    if not isinstance(where, list):
        raise ValueError("is neither an object of pairs nor a list of conditions")
    _require_texts(where, most=_MOST_CONDITIONS, longest=_LONGEST_TEXT, what="conditions")
    return where


class WithinFields(Lenient):
    """Which passages a request is kept within."""

    collection: str = Field(default="", max_length=64, description="Only passages of it.")
    where: dict[str, str] | list[str] = Field(
        default_factory=dict,
        description="Only passages for which all hold: pairs that are equal, or conditions as "
        "`fti search --where` takes them.",
    )
    at: str = Field(
        default="",
        max_length=64,
        description="Of an earlier version of the features: a number or a tag.",
    )

    @field_validator("collection", "at", mode="before")
    @classmethod
    def _left_out(cls, given: Any) -> Any:
        return "" if given is None else given

    @field_validator("where", mode="before")
    @classmethod
    def _conditions(cls, where: Any) -> Any:
        return _as_conditions(where)


class UserFields(Lenient):
    """Whom a request is made for, as OpenAI's clients say it."""

    user: str | None = Field(
        default=None,
        max_length=512,
        description="Whom it is asked for. A digest is kept, to forget what they asked by.",
    )
    safety_identifier: str | None = Field(
        default=None, max_length=512, description="The newer name of user, before which it goes."
    )

    @property
    def asked_for(self) -> str:
        """The user, empty where none is named."""
        return self.safety_identifier or self.user or ""


class ChatRequest(SamplingFields, WithinFields, UserFields):
    """Body of ``POST /v1/chat/completions``.

    ``system`` turns are accepted, and only the plain model is told them: the wording around a
    question belongs to the model's contract otherwise, so that serving cannot differ from training.
    """

    model: str | None = Field(
        default=None, description="A name from /v1/models; what is served by default without."
    )
    messages: list[ChatMessage] = Field(
        min_length=1,
        description=f"Of more than {MOST_MESSAGES} the oldest are left out, as are tools' turns.",
    )
    seed: int | None = Field(
        default=None, ge=-(2**63), lt=2**63, description="Without one, each sample is another."
    )
    max_tokens: int | None = Field(
        default=None, ge=1, description="Can only shorten what the model's contract allows."
    )
    max_completion_tokens: int | None = Field(
        default=None, ge=1, description="The newer name of max_tokens, before which it goes."
    )
    stop: StopStrings | None = Field(
        default=None, description="The answer ends before the first of these."
    )
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    n: int | None = None
    tool_choice: Any = None  # before what it decides about
    function_call: Any = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    logprobs: bool | None = None
    logit_bias: dict[str, float] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    modalities: list[Literal["text"]] | None = None

    @field_validator("messages", mode="before")
    @classmethod
    def _latest(cls, messages: Any) -> Any:
        if not isinstance(messages, list):
            return messages
        used = [m for m in messages if not (isinstance(m, dict) and m.get("role") in _UNUSED_ROLES)]
        if not used:
            raise ValueError("holds no turn of a user")
        return used[-MOST_MESSAGES:]

    @field_validator("max_tokens", "max_completion_tokens", mode="before")
    @classmethod
    def _no_limit(cls, tokens: Any) -> Any:
        return None if type(tokens) is int and tokens == -1 else tokens

    @field_validator("stop", mode="before")
    @classmethod
    def _stops(cls, stop: Any) -> Any:
        if stop in (None, "", []):
            return None
        texts = stop if isinstance(stop, list) else [stop]
        _require_texts(texts, most=_MOST_STOPS, longest=_LONGEST_STOP, what="stop texts")
        return stop

    @field_validator("n")
    @classmethod
    def _one_choice(cls, n: int | None) -> int | None:
        if n not in (None, 1):
            raise ValueError(f"{n} answers to a question are not supported; leave it out or send 1")
        return n

    @field_validator("tools", "functions")
    @classmethod
    def _not_called(cls, tools: Any, info: ValidationInfo) -> Any:
        choice = "tool_choice" if info.field_name == "tools" else "function_call"
        return refuse_tools(tools, info.data.get(choice), choice)

    @field_validator("logprobs", "logit_bias", "presence_penalty", "frequency_penalty")
    @classmethod
    def _not_supported(cls, value: Any) -> Any:
        if value:
            raise ValueError("not supported; leave it out")
        return value

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with a chunk of token counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, default: Sampling) -> Sampling:
        """How this answer's tokens are chosen; what the request leaves open is as in default."""
        return self.sampled(
            default,
            seed=self.seed,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            stop=[self.stop] if isinstance(self.stop, str) else self.stop or (),
        )

    def system(self) -> str:
        """What the caller would have a model told."""
        told = [m.plain().strip() for m in self.messages if m.role in ("system", "developer")]
        return "\n\n".join(filter(None, told))

    def turns(self) -> tuple[Message, ...]:
        """The turns of user and assistant, the last of which asks."""
        return tuple(
            Message(role=m.role, content=m.plain())
            for m in self.messages
            if m.role == "user" or m.role == "assistant"
        )

    def conversation(self) -> tuple[str, tuple[Message, ...]]:
        """The question (the last turn, when it is a user's) and the turns before it."""
        return question_of(self.turns())


class FeedbackRequest(Lenient):
    """Body of ``POST /v1/feedback``: a person's verdict on an answer."""

    answer_id: str = Field(description="The id of the completion.")
    rating: Literal[-1, 1] = Field(description="1: helpful, -1: not.")
    correction: str = Field(
        default="", max_length=8000, description="What the answer should have been."
    )
    comment: str = Field(default="", max_length=4000)

    def verdict(self) -> Feedback:
        """As it is kept."""
        return Feedback(
            answer_id=self.answer_id,
            rating="up" if self.rating > 0 else "down",
            correction=self.correction.strip(),
            comment=self.comment.strip(),
        )


class ReviewRequest(Lenient):
    """Body of ``POST /v1/corrections/ID``: whether a correction may teach a model."""

    decision: Literal["accepted", "rejected"]
    number: int | None = Field(
        default=None, ge=1, description="Which of the answer's corrections; the newest without."
    )
    answer: str | None = Field(
        default=None,
        max_length=8000,
        description="What to teach, where it is not the correction word for word; empty where the "
        "documents hold no answer.",
    )
    reason: str = Field(default="", max_length=4000)


class ForgetRequest(Lenient):
    """Body of ``POST /v1/forget``: whose questions go; with both, those of one key's user."""

    key: str = Field(default="", max_length=64, description="Id of an API key.")
    user: str = Field(default="", max_length=512, description="As clients name them in user.")
    dry_run: bool = False


class SearchRequest(WithinFields):
    """Body of ``POST /v1/search``."""

    query: str = Field(min_length=1, max_length=8000)
    k: int | None = Field(default=None, ge=1, le=100, description="As configured without.")
    mode: SearchMode | None = Field(default=None, description="As configured without.")


class EmbeddingsRequest(Lenient):
    """Body of ``POST /v1/embeddings``. Token ids as input are not taken: their tokenizer is not
    ours.
    """

    input: str | list[str]
    model: str | None = Field(default=None, description="The embedder's id, or none.")
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: int | None = Field(default=None, ge=1, description="Only the embedder's own.")
    input_type: Literal["document", "query"] = Field(
        default="document", description="Some embedders put another text before a question."
    )

    @field_validator("input", mode="before")
    @classmethod
    def _input(cls, given: Any) -> Any:
        texts = given if isinstance(given, list) else [given]
        if any(isinstance(each, int | list) for each in texts):
            raise ValueError("token ids are not taken, as their tokenizer is not ours; send texts")
        if not texts:
            raise ValueError("holds no text")
        _require_texts(texts, most=_MOST_TEXTS, longest=_LONGEST_TEXT, what="texts")
        return given

    def texts(self) -> list[str]:
        """What to embed."""
        return [self.input] if isinstance(self.input, str) else self.input


def _require_texts(given: list[Any], *, most: int, longest: int, what: str) -> None:
    """Say which of several texts cannot be used, before pydantic tries every type in turn."""
    if len(given) > most:
        raise ValueError(f"holds {len(given)} {what}; at most {most} are taken at once")
    for number, text in enumerate(given):
        which = f"number {number} of the {what}" if len(given) > 1 else "it"
        if not isinstance(text, str):
            raise ValueError(f"{which} is no text but {type(text).__name__}")
        if not text:
            raise ValueError(f"{which} is empty")
        if len(text) > longest:
            raise ValueError(f"{which} is longer than {longest} characters")
