"""A connection to a Redis: opened at once, tried again when it is lost, without its password."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from fti.store.errors import ConfigError, InputError, SourceNotFound

if TYPE_CHECKING:
    import redis

#: How addresses of a Redis begin.
ADDRESSES = ("redis://", "rediss://", "unix://")


class RedisConnection:
    """A client, and errors in our words.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        what: the stream that is read or written, for errors.

    Raises:
        ConfigError: the package ``redis`` is not installed.
        InputError: it is no address of a Redis.
    """

    def __init__(self, url: str, *, what: str) -> None:
        try:
            import redis
            from redis.backoff import ExponentialBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise ConfigError(
                "A Redis stream needs the package redis, which is not installed.",
                hint="pip install 'fti-llm[stream]'",
            ) from error
        self._redis = redis
        self._what = what
        self.shown = _without_password(url)
        try:
            self.client: redis.Redis = redis.Redis.from_url(
                url, retry=Retry(ExponentialBackoff(cap=2.0, base=0.1), 0)
            )
        except ValueError as error:
            raise InputError(
                f"{self.shown!r} is no address of a Redis: {error}.",
                hint="Write it like redis://localhost:6379/0",
            ) from error

    def try_again_for(self, seconds: float) -> None:
        """From now on, try a lost connection again for about so long before giving up."""
        from redis.backoff import ExponentialBackoff
        from redis.retry import Retry

        if not seconds:
            return
        # Waits of 0.1, 0.2, ... 2 s between attempts.
        attempts = 5 + round(seconds / 2)
        self.client.set_retry(
            Retry(
                ExponentialBackoff(cap=2.0, base=0.1),
                attempts,
                supported_errors=(self._redis.ConnectionError, self._redis.TimeoutError),
            )
        )

    def ask(self, question: Callable[[], Any]) -> Any:
        """What a question to the client gives.

        Raises:
            SourceNotFound: nothing answers at the address.
            InputError: Redis refuses; says why.
        """
        try:
            return question()
        except (self._redis.ConnectionError, self._redis.TimeoutError, OSError) as error:
            raise SourceNotFound(
                f"No Redis answers at {self.shown!r}: {error}.",
                hint="Start it, or name another address. What was not acknowledged comes again.",
            ) from error
        except self._redis.RedisError as error:
            raise InputError(
                f"The Redis stream {self._what!r} at {self.shown!r} cannot be used: {error}.",
                hint="Name another stream, or mend its permissions.",
            ) from error


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]))
