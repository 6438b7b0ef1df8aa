"""Which names a service answers to, and which pages' requests it takes, when nobody needs a key.

A page that a person visits can send requests to this machine. By DNS rebinding it can even read the
answers: its own name then leads here, and only the Host header tells. So without keys the name must
be a known one, and what changes something must come from a page of this service or from no page.
An address is a known name where the service listens on all of them: no DNS stands behind one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from fti.store.errors import ConfigError

_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?", re.ASCII)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?", re.ASCII)
_HOST = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:.]+|\*", re.ASCII)
_EVERYWHERE = ("0.0.0.0", "::", "")  # what listening there is called, not done here
_PORTS = {"http": "80", "https": "443"}
_ELSEWHERE = ("cross-site", "same-site")


class Sites:
    """The names and pages of one service.

    Args:
        listening: the host it was told to listen on.
        hosts: further names; ``*.example.org`` is every name below it, ``*`` every name at all.
        origins: other pages that may use it.
    """

    def __init__(self, listening: str, hosts: Sequence[str], origins: Sequence[str]) -> None:
        self._everywhere = listening in _EVERYWHERE
        self._names = {_name(listening), *map(_name, hosts)}
        self._below = tuple(host[1:].lower() for host in hosts if host.startswith("*."))
        self._any = "*" in hosts
        self._origins = frozenset(origins) - {"*"}

    def answers_to(self, hosts: Sequence[str]) -> bool:
        """Whether a request's Host headers, of which there must be one, name this service."""
        if self._any:
            return True
        authority = _AUTHORITY.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if authority is None:
            return False
        name = _name(authority[1])
        if name in self._names or is_loopback(name) or name.endswith(self._below or ("\0",)):
            return True
        return self._everywhere and _address(name) is not None

    def may_change(self, host: str, origin: str | None, fetch_site: str) -> bool:
        """Whether a request that changes something comes from no page, or from one of ours.

        Args:
            host: its Host header, which is a known one.
            origin: its Origin header.
            fetch_site: its Sec-Fetch-Site header, which new browsers send.
        """
        if origin is not None:
            if origin.lower() in self._origins:
                return True
            if not _same(origin, host):
                return False
        return fetch_site not in _ELSEWHERE


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, as only this machine sees it."""
    address = _address(host)
    if address is None:
        return _name(host) == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def require_named(origins: Sequence[str], *, asks: bool) -> None:
    """Refuse to let every page in where no key is asked for.

    Raises:
        ConfigError: it is so; says what to do.
    """
    if "*" in origins and not asks:
        raise ConfigError(
            "service.cors_origins '*' without API keys would let every page that somebody visits "
            "read and change the documents.",
            hint="Name the pages' origins, or make a key: fti keys create NAME",
        )


def plain_host(host: str) -> str:
    """A setting's host as it is compared.

    Raises:
        ValueError: it is no name or address alone.
    """
    found = host.strip().strip("[]").rstrip(".").lower()
    if not _HOST.fullmatch(found) or (":" in found and _address(found) is None):
        raise ValueError(
            f"{host!r} is not a name or an address alone; write it like fti.example.org or "
            "*.example.org, without scheme and port"
        )
    return found


def plain_origin(origin: str) -> str:
    """A setting's origin as browsers send it.

    Raises:
        ValueError: no page has such an origin.
    """
    found = origin.strip().removesuffix("/").lower()
    if found != "*" and not _ORIGIN.fullmatch(found):
        raise ValueError(
            f"{origin!r} is no origin of a page; write it like https://chat.example.org, with "
            "scheme and port and without a path"
        )
    return found


def _name(host: str) -> str:
    """A name or address in one spelling."""
    plain = host.strip("[]").removesuffix(".").lower()
    address = _address(plain)
    return plain if address is None else str(address)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _same(origin: str, host: str) -> bool:
    """Whether a page of this origin was served under this Host header.

    The scheme is not compared: a proxy in front may speak TLS for us.
    """
    scheme, _, authority = origin.lower().partition("://")
    theirs, ours = _AUTHORITY.fullmatch(authority), _AUTHORITY.fullmatch(host.lower())
    usual = _PORTS.get(scheme)
    if theirs is None or ours is None or usual is None:
        return False
    ports = [None if match[2] == usual else match[2] for match in (theirs, ours)]
    return _name(theirs[1]) == _name(ours[1]) and ports[0] == ports[1]
