"""How a stream is read: waits, and how much of it is held."""

from __future__ import annotations

from pydantic import Field

from fti.store.types import Value


class StreamConfig(Value):
    """How records of a stream are taken (``fti ingest --follow``, ``fti batch --follow``)."""

    linger_s: float = Field(
        default=0.2,
        ge=0,
        le=60,
        description="How long to wait for more records before taking those that came.",
    )
    buffer_records: int = Field(
        default=256,
        ge=1,
        le=100_000,
        description="Records read and not taken yet; when so many wait, no more are read.",
    )
    max_record_bytes: int = Field(default=1 << 20, ge=1, description="A larger record is rejected.")
    claim_idle_s: float = Field(
        default=60,
        gt=0,
        description="Records that another consumer of the group was given so long ago and did "
        "not acknowledge are taken over.",
    )
    reconnect_s: float = Field(
        default=30, ge=0, description="How long a lost connection is tried again."
    )
