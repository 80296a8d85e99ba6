"""Connections for links from outside: to public addresses, or none.

The check is in the resolver that a connection itself uses. Nothing is looked up a second time, so
that a name which changes its address in between (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import socket
import ssl

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from ._addresses import refusal_of_address, refusal_of_host
from ._environment import environment_proxy
from .errors import DownloadError, printable

__all__ = ["check_host", "guarded_connector", "uses_proxy"]


def check_host(url: URL) -> None:
    """Raise where a link itself holds an address that it must not lead to.

    Raises:
        DownloadError: It does.
    """
    host = url.raw_host or ""
    kind = refusal_of_host(host)
    if kind is not None:
        raise _refused(f"the link leads to {printable(host, 120)}", kind)


def guarded_connector(verify: ssl.SSLContext | bool) -> aiohttp.TCPConnector:
    """Return a connector that connects names at public addresses only.

    Args:
        verify: How to verify TLS.
    """
    # Without aiohttp's cache each waiter for one name gets an error of its own.
    return aiohttp.TCPConnector(
        limit=0, ssl=verify, resolver=_PublicResolver(), use_dns_cache=False
    )


def uses_proxy(client: aiohttp.ClientSession | None, url: URL) -> bool:
    """Whether a caller's own session sends this to a proxy, which then resolves the name."""
    if client is None:
        return False
    # aiohttp tells a session's proxy nowhere; without this look it would be passed by.
    if getattr(client, "_default_proxy", None) is not None:
        return True
    return client.trust_env and environment_proxy(url) is not None


class _PublicResolver(AbstractResolver):
    """The system's resolver, whose answer is refused if any of its addresses is not public."""

    def __init__(self) -> None:
        self._system = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._system.resolve(host, port, family)
        for each in found:
            kind = refusal_of_address(each["host"])
            if kind is not None:
                shown = printable(host, 120)
                raise _refused(f"the link leads to {shown}, which is at {each['host']}", kind)
        return found

    async def close(self) -> None:
        """Nothing: the system's resolver holds nothing open."""


def _refused(what: str, kind: str) -> DownloadError:
    return DownloadError(
        f"{what}, {kind} address: pass allow_private_links=True to Session if that is meant"
    )
