"""Who may use the service: API keys, of which only digests are kept.

A key is random enough (256 bits) that a plain sha256 of it tells nothing; whoever reads the store
cannot use the service with it. Revoked keys stay in the list: once a key was made, callers are
asked for one for ever, so that revoking the last does not open the door.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
from collections.abc import Callable, Hashable, Iterator, Sequence
from datetime import datetime
from typing import Literal, get_args

from pydantic import Field, ValidationError

from fti.store.errors import InputError, IntegrityError, InvalidName, KeyNotFound
from fti.store.files.atomic import open_sealed, sealed_json
from fti.store.files.bucket import BucketStorage
from fti.store.files.layout import Layout
from fti.store.types import Value, now, sha256_hex
from fti.store.versioned.versions import check_name

#: What a key may be for: to ask and search; to add and delete documents; to look at all answers
#: and decide on corrections; to run jobs, see everybody's usage and erase what people asked.
Role = Literal["ask", "write", "review", "operate"]
_KEY = "keys.json"
ROLES: tuple[Role, ...] = get_args(Role)


class ApiKey(Value):
    """A key as it is kept: everything but the key.

    ``requests_per_minute`` None leaves the service's own limit; a ``read_only`` key may ask and
    look, but neither add nor delete documents, nor judge answers. A key with ``collections`` is
    answered from these and sees nothing else of the store. With ``jobs`` it may start and stop
    training and what belongs to it. ``roles`` says in their place what it may do; None: they say.
    ``tokens_per_day`` None leaves the service's own limit.
    """

    id: str
    name: str
    digest: str
    created_at: datetime
    revoked_at: datetime | None = None
    requests_per_minute: int | None = Field(default=None, ge=1)
    read_only: bool = False
    collections: tuple[str, ...] = ()
    jobs: bool = False
    roles: tuple[Role, ...] | None = None
    tokens_per_day: int | None = Field(default=None, ge=1)

    @property
    def may(self) -> frozenset[Role]:
        """What it may do; of keys from before there were roles, what they might then."""
        if self.roles is not None:
            return frozenset(self.roles)
        able: set[Role] = {"ask"}
        if not self.read_only:
            able |= {"write", "review"}
        return frozenset(able | {"operate"} if self.jobs else able)

    @property
    def active(self) -> bool:
        """Whether it still lets in."""
        return self.revoked_at is None


_Edit = Callable[[Sequence[ApiKey]], Sequence[ApiKey]]


class KeyStore:
    """API keys under the store's root."""

    def __init__(self, layout: Layout) -> None:
        self._storage = layout.storage
        self._read: tuple[Hashable, tuple[ApiKey, ...]] | None = None

    @property
    def far(self) -> bool:
        """Whether they lie in a bucket."""
        return isinstance(self._storage, BucketStorage)

    def create(
        self,
        name: str,
        *,
        requests_per_minute: int | None = None,
        read_only: bool = False,
        collections: Sequence[str] = (),
        jobs: bool = False,
        roles: Sequence[str] = (),
        tokens_per_day: int | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key; the text returned beside it is shown once and kept nowhere.

        Args:
            name: whose it is.
            requests_per_minute: its own limit.
            read_only: whether documents are only looked at.
            collections: all that it may be answered from; empty: the whole store. They need not
                exist yet.
            jobs: whether it may start and stop jobs.
            roles: all that it may do, of ``ROLES``, in place of ``read_only`` and ``jobs``; none:
                these say.
            tokens_per_day: its own limit.

        Raises:
            InvalidName: no name says whose it is.
            InputError: it is to start jobs, but only to read, or within collections; or there is
                no such role.
        """
        chosen = _roles(roles, collections, flags=read_only or jobs)
        if jobs and (read_only or collections):
            raise InputError(
                "A key that only reads, or is for collections alone, can start no jobs: these are "
                "about the whole store.",
                hint="Make two keys.",
            )
        name = " ".join(name.split())
        if not name or len(name) > 100:
            raise InvalidName(
                f"{name[:40]!r} is no name for a key.", hint="Say whose it is: fti keys create NAME"
            )
        text = f"fti_{secrets.token_urlsafe(32)}"
        key = ApiKey(
            id=f"k-{secrets.token_hex(4)}",
            name=name,
            digest=sha256_hex(text),
            created_at=now(),
            requests_per_minute=requests_per_minute,
            read_only=read_only,
            collections=tuple(sorted({check_name(each, "collection") for each in collections})),
            jobs=jobs,
            roles=chosen,
            tokens_per_day=tokens_per_day,
        )
        with self._changing("keys create") as write:
            write(lambda keys: (*keys, key))
        return key, text

    def revoke(self, key_id: str) -> ApiKey:
        """Let a key in no more; running services notice at the next request.

        Raises:
            KeyNotFound: there is none with this id; says which there are.
        """
        revoked: list[ApiKey] = []

        def edit(keys: Sequence[ApiKey]) -> Sequence[ApiKey]:
            found = next((k for k in keys if k.id == key_id), None)
            if found is None:
                there = ", ".join(f"{k.id} ({k.name})" for k in keys if k.active)
                raise KeyNotFound(
                    f"There is no key {key_id!r}.",
                    hint=f"There are: {there}." if there else "Make one: fti keys create NAME",
                )
            revoked[:] = [found.model_copy(update={"revoked_at": found.revoked_at or now()})]
            return [revoked[0] if k.id == key_id else k for k in keys]

        with self._changing("keys revoke") as write:
            write(edit)
        return revoked[0]

    def list(self) -> Sequence[ApiKey]:
        """Every key ever made, oldest first. Cheap when the file has not changed.

        Raises:
            IntegrityError: the file cannot be understood; nobody is let in then.
        """
        seen = self._storage.stamp(_KEY)
        if seen is None:
            return ()
        if self._read is None or self._read[0] != seen:
            self._read = (seen, self._parse(self._storage.read(_KEY)))
        return self._read[1]

    def get(self, key_id: str) -> ApiKey:
        """The key of an id, revoked or not.

        Raises:
            KeyNotFound: there is none; says what there is.
        """
        for key in self.list():
            if key.id == key_id:
                return key
        there = ", ".join(key.id for key in self.list())
        raise KeyNotFound(
            f"There is no key {key_id!r}.",
            hint=f"There are: {there}." if there else "Make one: fti keys create NAME",
        )

    def find(self, text: str) -> ApiKey | None:
        """The active key that a caller's text is, compared in constant time."""
        return match(text, self.list())

    @contextlib.contextmanager
    def _changing(self, what: str) -> Iterator[Callable[[_Edit], None]]:
        """Gives what replaces all keys by what is made of them."""

        def write(edit: _Edit) -> None:
            def changed(found: bytes | None) -> bytes:
                keys = edit(self._parse(found) if found is not None else ())
                return sealed_json({"keys": [key.model_dump(mode="json") for key in keys]})

            self._storage.change(_KEY, changed)

        with self._storage.locked("keys.lock", timeout_s=10.0, what=what):
            yield write

    def _parse(self, found: bytes) -> tuple[ApiKey, ...]:
        try:
            return tuple(map(ApiKey.model_validate, open_sealed(found)["keys"]))
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            raise IntegrityError(
                f"{self._storage.at(_KEY)!r} cannot be read as a list of API keys.",
                hint="Restore it from a backup, or delete it and make new keys: "
                "fti keys create NAME",
            ) from error


def _roles(
    roles: Sequence[str], collections: Sequence[str], *, flags: bool
) -> tuple[Role, ...] | None:
    if not roles:
        return None
    unknown = [role for role in roles if role not in ROLES]
    if unknown:
        raise InputError(f"There is no role {unknown[0]!r}.", hint=f"There is: {', '.join(ROLES)}.")
    if flags:
        raise InputError(
            "Roles say all that a key may do; --read-only and --jobs say it too.",
            hint="Name the roles alone: --role ask --role operate",
        )
    if collections and set(roles) != {"ask"}:
        raise InputError(
            "A key that is for collections alone may ask; the other roles are about the whole "
            "store.",
            hint="Make two keys.",
        )
    return tuple(role for role in ROLES if role in roles)


def match(text: str, keys: Sequence[ApiKey]) -> ApiKey | None:
    """The active one of ``keys`` that ``text`` is; every one is compared, whichever it is."""
    digest = sha256_hex(text)
    same = [key for key in keys if hmac.compare_digest(digest, key.digest) and key.active]
    return same[0] if same else None
