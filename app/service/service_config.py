"""How the HTTP service behaves: addresses, limits, keys."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator

from fti.app.service.sites import plain_host, plain_origin
from fti.store.types import Value


class ServiceConfig(Value):
    """Settings of ``fti serve``.

    ``concurrency`` answers are generated at once, ``max_queue`` requests may wait, and what comes
    on top is refused with 429 and Retry-After.
    """

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port; 0 takes a free one.")
    api_keys: tuple[SecretStr, ...] = Field(
        default=(), description="Bearer keys that may call /v1; none means no key is asked for."
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, description="For each API key that has no limit of its own."
    )
    tokens_per_day: int | None = Field(
        default=None,
        ge=1,
        description="Tokens that each API key without a limit of its own may use a day (UTC), read "
        "and written.",
    )
    allow_anonymous: bool = Field(
        default=False, description="Listen beyond this machine although no key is asked for."
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        description="Names under which it answers without keys, beside localhost and the host it "
        "listens on; *.example.org is all below it, * every name.",
    )
    cors_origins: tuple[str, ...] = Field(
        default=(),
        description="Origins of other pages that may use it from a browser, such as "
        "https://chat.example.org; with keys, * is every page.",
    )
    concurrency: int = Field(
        default=8,
        ge=1,
        le=64,
        description="Answers made at once; of those, generator.batch_size go on in one batch.",
    )
    max_queue: int = Field(default=32, ge=0, description="Requests that may wait for the model.")
    max_body_bytes: int = Field(default=1_000_000, ge=1_000, description="Largest request body.")
    max_upload_bytes: int = Field(
        default=50_000_000, ge=1_000, description="Largest body with a document to ingest."
    )
    header_timeout_s: float = Field(
        default=20.0, gt=0, le=3600, description="Longest time for a request's headers to come."
    )
    body_timeout_s: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="Longest time for a request's body to come, and one more second for each "
        "5,000 bytes of it.",
    )
    max_upload_passages: int = Field(
        default=20_000, ge=1, description="Passages that are embedded of one upload at most."
    )
    upload_timeout_s: float = Field(
        default=900.0,
        gt=0,
        le=86_400,
        description="Longest time for ingesting one upload, waiting for its turn left out.",
    )
    upload_turn_s: float = Field(
        default=10.0,
        gt=0,
        description="While others wait, an upload that takes longer is set aside after this time "
        "and goes on when they had theirs.",
    )
    queue_timeout_s: float = Field(default=60.0, gt=0, description="Longest wait for the model.")
    answer_timeout_s: float = Field(
        default=300.0, gt=0, description="Longest time for one answer, once the model is free."
    )
    drain_s: float = Field(
        default=30.0, ge=0, description="Time that answers in flight have when the service stops."
    )
    max_models: int = Field(
        default=4, ge=1, description="Model versions kept loaded over the one base."
    )
    alias_poll_s: float = Field(
        default=1.0,
        gt=0,
        le=60,
        description="How often is looked for moved aliases, and for another embedder.",
    )
    read_consistency_s: float = Field(
        default=1.0,
        ge=0,
        le=3600,
        description="How old the service's view of the documents may be.",
    )

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(plain_host, hosts))

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(plain_origin, origins))
