"""Who may call the service, how often, and what: keys, rate limits, read-only keys."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from pydantic import SecretStr

from fti.app.service.service_config import ServiceConfig
from fti.app.service.sites import is_loopback
from fti.store.answer_types import Answer
from fti.store.errors import (
    ConfigError,
    InvalidApiKey,
    OutsideCollections,
    QuotaExceeded,
    RateLimitExceeded,
    ReadOnlyKey,
    RoleNeeded,
)
from fti.store.features.filters import Condition, conditions, parse
from fti.store.logs.keys import ROLES, ApiKey, KeyStore, Role, match
from fti.store.logs.usage import UsageLog
from fti.store.types import now, sha256_hex

_READING = ("GET", "HEAD", "OPTIONS")
_KEPT = ("/v1/documents", "/v1/feedback", "/v1/corrections")  # what is given there lasts
#: What costs tokens.
_COSTLY = ("/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/mcp")
#: What a request that is more than a look needs, by the beginning of its path.
_NEEDED: tuple[tuple[str, Role], ...] = (
    *((path, "ask") for path in (*_COSTLY, "/v1/search", "/v1/feedback")),
    ("/v1/documents", "write"),
    ("/v1/corrections", "review"),
    ("/v1/forget", "operate"),
)
#: What a key for certain collections may use; each of these keeps to them itself.
_WITHIN_COLLECTIONS = (
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/search",
    "/v1/sources/",
    "/v1/embeddings",
    "/v1/models",
    "/v1/feedback",
    "/v1/usage",
    "/openapi.json",
    "/mcp",
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request: the id of its key, and the collections that this is for, if not all.

    Without a key, where none is asked for, everything is everybody's. ``read_only``: may neither
    change documents nor judge answers. ``jobs``: may start and stop them. ``reviewer``: was given
    all answers to look at.
    """

    key: str = ""
    collections: tuple[str, ...] = ()
    read_only: bool = False
    jobs: bool = False
    roles: frozenset[Role] = frozenset(ROLES)
    reviewer: bool = False

    @property
    def may_add(self) -> bool:
        """Whether documents may be added: they belong to the whole store."""
        return "write" in self.roles and not self.read_only and not self.collections

    @property
    def operates(self) -> bool:
        """Whether what all keys did is this caller's to see and to erase."""
        return "operate" in self.roles

    def may_see(self, answer: Answer) -> bool:
        """Whether an answer is this caller's.

        What a key asked is for that key alone. What none did (a command, or somebody before there
        were keys) may rest on any document, and is for keys of the whole store.
        """
        if not self.key or self.reviewer:
            return True
        return answer.key == self.key or not (answer.key or self.collections)

    def within(
        self, collection: str, where: Mapping[str, str] | Sequence[str]
    ) -> tuple[tuple[str, ...], tuple[Condition, ...]]:
        """The collections and conditions that a request of this caller is kept within.

        Raises:
            OutsideCollections: it asks for a collection that its key is not for.
            InvalidFilter: a condition is none.
        """
        if self.collections and collection and collection not in self.collections:
            raise OutsideCollections(
                f"This key is for {', '.join(self.collections)} alone, not for {collection!r}."
            )
        given = conditions(where) if isinstance(where, Mapping) else parse(where)
        return ((collection,) if collection else self.collections), given

    def require_any_version(self, at: str) -> None:
        """Refuse earlier versions to who is kept within collections: then others were in them.

        Raises:
            OutsideCollections: the caller's key is for certain collections.
        """
        if at and self.collections:
            raise OutsideCollections(
                f"This key is for {', '.join(self.collections)} as they are now, not for earlier "
                "versions."
            )


ANYBODY = Caller()


def caller_of(key: ApiKey | None) -> Caller:
    """Who calls with this key."""
    if key is None:
        return ANYBODY
    return Caller(
        key.id,
        key.collections,
        key.read_only,
        "operate" in key.may,
        key.may,
        # Keys from before there were roles see their own answers, as they did.
        reviewer="review" in (key.roles or ()),
    )


class Access:
    """Decides about requests by their key.

    Args:
        keys: made by ``fti keys create``; changes are seen at the next request.
        config: keys from the settings, and the rate of keys that name none.
        clock: seconds, for tests.
        usage: told of each request, and asked what a key has used up; None: nobody counts.
    """

    def __init__(
        self,
        keys: KeyStore,
        config: ServiceConfig,
        clock: Callable[[], float] = time.monotonic,
        *,
        usage: UsageLog | None = None,
    ) -> None:
        self._keys = keys
        self._usage = usage
        self._tokens_per_day = config.tokens_per_day
        self._configured = _configured(config.api_keys)
        self._per_minute = config.requests_per_minute
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # requests left, and when that was

    @property
    def far(self) -> bool:
        """Whether to ask for keys takes a round trip, and so a thread."""
        return self._keys.far

    @property
    def asks(self) -> bool:
        """Whether callers need a key: one is configured, or was ever made."""
        return bool(self._configured) or bool(self._keys.list())

    def admit(self, authorization: str, method: str, path: str) -> ApiKey | None:
        """Let a request in; its key, None where none is asked for.

        Raises:
            InvalidApiKey: no key, or none that lets in.
            RateLimitExceeded: the key was used too often in the last minute.
            QuotaExceeded: the key has used up the tokens of this day.
            ReadOnlyKey: the key may neither change documents nor judge answers.
            RoleNeeded: the key is for other things.
            OutsideCollections: the key is for certain collections, and the request is about the
                whole store.
        """
        if not self.asks:
            self._note("")
            return None
        scheme, _, given = authorization.partition(" ")
        # Headers are read as latin-1, so this gives back the text that was sent.
        text = given.strip().encode("latin-1").decode("utf-8", "replace")
        key = match(text, self._configured) or self._keys.find(text)
        if key is None or scheme.lower() != "bearer":
            raise InvalidApiKey("A valid API key is needed: Authorization: Bearer KEY.")
        self._count(key)
        self._note(key.id)
        if key.read_only and method not in _READING and path.startswith(_KEPT):
            raise ReadOnlyKey(
                f"The key {key.id!r} may not add or delete documents, nor give feedback."
            )
        if key.collections and not path.startswith(_WITHIN_COLLECTIONS):
            raise OutsideCollections(
                f"The key {key.id!r} is for {', '.join(key.collections)} alone, and {path!r} is "
                "about the whole store.",
                hint="It may ask, search, and open the sources of its answers.",
            )
        _require_role(key, method, path)
        if method not in _READING and path.startswith(_COSTLY):
            self._require_tokens(key)
        return key

    def _note(self, key: str) -> None:
        if self._usage is not None:
            self._usage.add(key, requests=1)

    def _require_tokens(self, key: ApiKey) -> None:
        quota = key.tokens_per_day or self._tokens_per_day
        if quota is None or self._usage is None:
            return
        used = self._usage.today(key.id).tokens
        if used < quota:
            return
        moment = now()
        midnight = (moment + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        wait = math.ceil((midnight - moment).total_seconds())
        raise QuotaExceeded(
            f"The key {key.id!r} may use {quota} tokens a day (UTC), and has used {used}.",
            hint=f"Try again in {wait} s.",
            retry_after_s=wait,
        )

    def _count(self, key: ApiKey) -> None:
        rate = key.requests_per_minute or self._per_minute
        if rate is None:
            return
        moment = self._clock()
        left, since = self._buckets.get(key.id, (float(rate), moment))
        left = min(float(rate), left + (moment - since) * rate / 60)
        if left < 1:
            wait = math.ceil((1 - left) * 60 / rate)
            self._buckets[key.id] = (left, moment)
            raise RateLimitExceeded(
                f"The key {key.id!r} may make {rate} requests a minute.",
                hint=f"Try again in {wait} s.",
                retry_after_s=wait,
            )
        self._buckets[key.id] = (left - 1, moment)


def _require_role(key: ApiKey, method: str, path: str) -> None:
    if method in _READING:
        return
    needed = next((role for start, role in _NEEDED if path.startswith(start)), None)
    if needed is not None and needed not in key.may:
        raise RoleNeeded(
            f"The key {key.id!r} is there to {' and to '.join(_list(key.may))}; {method} {path!r} "
            f"needs the role {needed!r}.",
            hint=f"Make one that has it: fti keys create NAME --role {needed}",
        )


def _list(roles: frozenset[Role]) -> list[str]:
    return [role for role in ROLES if role in roles]


def require_private(host: str, access: Access, config: ServiceConfig) -> None:
    """Refuse to let a whole network in without keys, unless that is said.

    Raises:
        ConfigError: ``host`` can be reached from elsewhere, and no key is asked for.
    """
    if is_loopback(host) or access.asks or config.allow_anonymous:
        return
    raise ConfigError(
        f"Serving on {host!r} without API keys would let everybody in who can reach this machine.",
        hint="Make a key (fti keys create NAME), listen on 127.0.0.1, or say --allow-anonymous.",
    )


def _configured(keys: Sequence[SecretStr]) -> list[ApiKey]:
    return [
        ApiKey(
            id=f"configured-{number}",
            name="from the settings",
            digest=sha256_hex(key.get_secret_value()),
            created_at=now(),
        )
        for number, key in enumerate(keys, start=1)
    ]
