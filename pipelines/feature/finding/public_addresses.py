"""Connections that are opened to public addresses only."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpcore


class PrivateAddressError(Exception):
    """A name leads into a private network."""


def guarded_backend(allow_private: bool) -> httpcore.SyncBackend:
    """What opens connections; to private addresses only where that is allowed.

    The check is made on the address that is connected to, so that neither a redirect nor a name
    that resolves anew gets around it.
    """
    import httpcore

    class Guarded(httpcore.SyncBackend):
        """Connects to addresses that were looked at, and not to names that may change."""

        def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> Any:
            found = [i[4][0] for i in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
            for address in found:
                if not allow_private and not _is_public(str(address)):
                    raise PrivateAddressError(f"{host} ({address})")
            return super().connect_tcp(str(found[0]), port, *args, **options)

    return Guarded()


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


_COMPATIBLE = ipaddress.IPv6Network("::/96")


def _is_public(address: str) -> bool:
    found = ipaddress.ip_address(address.split("%", 1)[0])  # without the zone of a link
    if isinstance(found, ipaddress.IPv6Address):
        if found.is_site_local:
            return False
        carried = _carried(found)
        if carried is not None:
            found = carried
    return found.is_global and not found.is_multicast


def _carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The address of the older protocol that one of the newer leads to, where it is such a one."""
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    if address in _NAT64 or address in _COMPATIBLE:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return None
