"""The request body of ``POST /v1/responses``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from fti.app.service.forms.schemas import (
    MOST_MESSAGES,
    Lenient,
    ResponseFormat,
    SamplingFields,
    UserFields,
    WithinFields,
    content_text,
    refuse_tools,
    require_text_parts,
)
from fti.store.answer_types import Sampling
from fti.store.types import Message

_TEXT_PARTS = ("input_text", "output_text", "text")
_ROLES = ("system", "developer", "user", "assistant")
#: Items of a conversation that are no turns: what tools did, and what models thought of it.
_UNUSED_ITEMS = (
    "reasoning", "function_call", "function_call_output", "custom_tool_call",
    "custom_tool_call_output", "web_search_call", "file_search_call", "computer_call",
    "computer_call_output", "code_interpreter_call", "image_generation_call", "local_shell_call",
    "local_shell_call_output", "mcp_call", "mcp_list_tools", "mcp_approval_request",
    "mcp_approval_response", "compaction",
)  # fmt: skip
_MOST_PAIRS, _LONGEST_KEY, _LONGEST_VALUE = 16, 64, 512


class ResponseItem(Lenient):
    """An item of the input: a turn, or something that is left out."""

    type: str = "message"
    role: str | None = Field(default=None, validate_default=True)
    content: Any = Field(default=None, validate_default=True)

    @field_validator("type", mode="before")
    @classmethod
    def _known(cls, kind: Any) -> Any:
        if kind is not None and kind != "message" and kind not in _UNUSED_ITEMS:
            raise ValueError(f"is {kind!r}; only messages are read")
        return kind or "message"

    @field_validator("role")
    @classmethod
    def _speaks(cls, role: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("type") == "message" and role not in _ROLES:
            raise ValueError(f"is {role!r}, not one of {', '.join(_ROLES)}")
        return role

    @field_validator("content")
    @classmethod
    def _readable(cls, content: Any, info: ValidationInfo) -> Any:
        if info.data.get("type") == "message" and not isinstance(content, str):
            if not isinstance(content, list):
                raise ValueError("is neither a text nor a list of text parts")
            require_text_parts(content, _TEXT_PARTS)
        return content


class ResponseText(Lenient):
    """How the text shall read."""

    format: ResponseFormat | None = None


class ResponseRequest(SamplingFields, WithinFields, UserFields):
    """Body of ``POST /v1/responses``.

    ``instructions`` and ``system`` turns are accepted; only the plain model is told them: the
    wording around a question belongs to the model's contract otherwise.
    """

    model: str | None = Field(
        default=None, description="A name from /v1/models; what is served by default without."
    )
    input: list[ResponseItem] = Field(
        description=f"A question, or turns of which the last one asks. Of more than "
        f"{MOST_MESSAGES} the oldest are left out, as is what tools did.",
        json_schema_extra={"type": ["string", "array"]},
    )
    instructions: str | None = None
    previous_response_id: str | None = Field(
        default=None, description="The response to go on from, where it was kept."
    )
    store: bool | None = Field(
        default=True, description="Whether another response may go on from this one."
    )
    metadata: dict[str, str] | None = Field(default=None, description="Comes back as it is.")
    max_output_tokens: int | None = Field(
        default=None, ge=1, description="Can only shorten what the model's contract allows."
    )
    stream: bool | None = False
    text: ResponseText | None = None
    truncation: Literal["auto", "disabled"] | None = None
    tool_choice: Any = None  # before what it decides about
    tools: list[Any] | None = None
    background: bool | None = None
    conversation: Any = None
    prompt: Any = None
    include: list[str] | None = None
    top_logprobs: int | None = None

    @field_validator("input", mode="before")
    @classmethod
    def _items(cls, given: Any) -> Any:
        if isinstance(given, str):
            return [{"role": "user", "content": given}]
        if not isinstance(given, list):
            raise ValueError("is neither a text nor a list of turns")
        if not given:
            raise ValueError("holds no turn")
        return given

    @field_validator("metadata", mode="before")
    @classmethod
    def _pairs(cls, given: Any) -> Any:
        if given is None or not isinstance(given, dict):
            return given
        if len(given) > _MOST_PAIRS:
            raise ValueError(f"holds {len(given)} pairs; at most {_MOST_PAIRS} are taken")
        for key, value in given.items():
            if len(key) > _LONGEST_KEY:
                raise ValueError(f"the key {key[:20]!r}… is longer than {_LONGEST_KEY} characters")
            if not isinstance(value, str) or len(value) > _LONGEST_VALUE:
                raise ValueError(f"the value of {key!r} is no text of at most {_LONGEST_VALUE} "
                                 "characters")  # fmt: skip
        return given

    @field_validator("max_output_tokens", mode="before")
    @classmethod
    def _no_limit(cls, tokens: Any) -> Any:
        return None if type(tokens) is int and tokens == -1 else tokens

    @field_validator("tools")
    @classmethod
    def _not_called(cls, tools: Any, info: ValidationInfo) -> Any:
        return refuse_tools(tools, info.data.get("tool_choice"), "tool_choice")

    @field_validator("background", "conversation", "prompt", "top_logprobs")
    @classmethod
    def _not_supported(cls, value: Any) -> Any:
        if value:
            raise ValueError("not supported; leave it out")
        return value

    @field_validator("include")
    @classmethod
    def _included(cls, include: list[str] | None) -> list[str] | None:
        for what in include or ():
            if "logprobs" in what:
                raise ValueError(f"{what!r} is not known of answers; leave it out")
        return include

    def sampling(self, default: Sampling) -> Sampling:
        """How this answer's tokens are chosen; what the request leaves open is as in default."""
        return self.sampled(default, seed=None, max_tokens=self.max_output_tokens, stop=())

    def system(self) -> str:
        """What the caller would have a model told."""
        told = [
            self.instructions or "",
            *map(_text_of, self._said("system", "developer")),
        ]
        return "\n\n".join(filter(None, map(str.strip, told)))

    def turns(self) -> tuple[Message, ...]:
        """The turns that were sent, the last of which asks."""
        latest = list(self._said("user", "assistant"))[-MOST_MESSAGES:]
        return tuple(
            Message(role="user" if i.role == "user" else "assistant", content=_text_of(i))
            for i in latest
        )

    def _said(self, *roles: str) -> Iterator[ResponseItem]:
        return (item for item in self.input if item.type == "message" and item.role in roles)


def _text_of(item: ResponseItem) -> str:
    return content_text(item.content)
