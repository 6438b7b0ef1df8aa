"""Which language model judges answers, and by what rubric."""

from __future__ import annotations

from pydantic import Field, model_validator

from fti.pipelines.engines.generator import ServerConfig
from fti.store.types import Value

RUBRIC = """\
5: the answer says the same as an accepted answer, in whatever words
4: it says the same, and more that does not contradict it
3: it is partly right, or says the right thing among others
2: it is about the question, and wrong
1: it is empty, or about something else"""


class JudgeConfig(Value):
    """Which language model judges, and by what."""

    id: str = Field(default="", description="Name that the server knows the judge by.")
    server: ServerConfig | None = Field(
        default=None, description="The OpenAI-compatible server behind which the judge is."
    )
    rubric: str = Field(
        default=RUBRIC,
        min_length=1,
        description="What each score from 1 to 5 means for an answer.",
    )
    max_new_tokens: int = Field(
        default=300, ge=32, le=8192, description="Longest verdict, its reason included."
    )

    @model_validator(mode="after")
    def _whole(self) -> JudgeConfig:
        if bool(self.id) != (self.server is not None):
            raise ValueError("a judge needs both id and server.base_url")
        return self
