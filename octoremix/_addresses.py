"""Which network addresses a link from outside may not lead to.

A gateway, or whoever has a say in its answers, could name an address that only this machine can
reach: a database beside it, a cloud's metadata service. So a link leads to the public internet or
nowhere, whatever spelling or embedding an address hides in.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

__all__ = ["refusal_of_address", "refusal_of_host"]

# What Python counts as public, and what yet isn't: IETF assignments (Oracle's metadata service
# among them), the anycast of 6to4's relays, and Azure's services for a machine.
_NOT_PUBLIC = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")))

_GLOBAL_UNICAST = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")

# The interface's half of an ISATAP address, before the IPv4 address that it holds.
_ISATAP = frozenset({bytes.fromhex("00005efe"), bytes.fromhex("02005efe")})

# No top-level domain is a number. Systems read such a host as an address all the same: a single
# number, octal and hexadecimal parts, fewer than four.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)

_KINDS = (
    ("is_unspecified", "an unspecified"),
    ("is_loopback", "a loopback"),
    ("is_link_local", "a link-local"),
    ("is_multicast", "a multicast"),
)


def refusal_of_host(host: str) -> str | None:
    """Say which kind of address a link's host names that it must not, such as ``"a loopback"``.

    Args:
        host: A name or an address, as it stands in the link.

    Returns:
        The kind, or ``None`` for a public address, and for a name: where that leads, its
        resolution tells.
    """
    host = host.rstrip(".")
    try:
        ip_address(host)
    except ValueError:
        pass
    else:
        return refusal_of_address(host)
    name = host.lower()
    if name == "localhost" or name.endswith(".localhost"):
        return "a loopback"
    return "an oddly spelled" if _NUMBER.fullmatch(name.rpartition(".")[2]) else None


def refusal_of_address(text: str) -> str | None:
    """Say which kind of address this is that no link may lead to; ``None`` if it is public.

    Args:
        text: An IPv4 or IPv6 address, perhaps with a zone.
    """
    address = ip_address(text)
    for attribute, kind in _KINDS:
        if getattr(address, attribute):
            return kind
    if isinstance(address, IPv6Address):
        inner = _embedded(address)
        if inner is not None:
            return refusal_of_address(str(inner))
        public = address in _GLOBAL_UNICAST and address.is_global
    else:
        public = address.is_global and not any(address in network for network in _NOT_PUBLIC)
    return None if public else "a private or reserved"


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that traffic to this one may end at."""
    packed = address.packed
    last = IPv4Address(packed[12:])
    if address.ipv4_mapped is not None or not any(packed[:12]) or address in _NAT64:
        return last
    if address.sixtofour is not None:
        return address.sixtofour
    return last if packed[8:12] in _ISATAP else None
