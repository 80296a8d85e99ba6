"""What goes wrong in aiohttp, named as ours.

aiohttp's exceptions hold the request's headers, the key among them, and some repeat the address
with its query. None is chained to ours: an error is made in the handler and raised after it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from ._credentials import APIKey
from .errors import APIConnectionError, APITimeoutError, OctoremixError, printable
from .models import without_query

__all__ = ["translated"]

_T = TypeVar("_T")


async def translated(
    call: Awaitable[_T], url: URL, timeout: float | None, key: APIKey | None = None
) -> _T:
    """Await a call of aiohttp's.

    Args:
        call: The call.
        url: Where it goes.
        timeout: Seconds that it may take, or ``None``.
        key: What no message may repeat.

    Raises:
        APITimeoutError: It took too long.
        APIConnectionError: It failed.
    """
    failure: APIConnectionError
    limit = None
    try:
        if timeout is None:
            return await call
        async with asyncio.timeout(timeout) as limit:
            return await call
    except OctoremixError:
        raise
    except asyncio.CancelledError as error:
        raise error.with_traceback(None)  # noqa: B904  # itself, without the frames of aiohttp
    except Exception as error:  # noqa: BLE001  # aiohttp documents no closed set
        if limit is not None and limit.expired():
            failure = APITimeoutError(f"{_host(url)} did not answer within {timeout:g} s")
        else:
            kind = APITimeoutError if isinstance(error, TimeoutError) else APIConnectionError
            failure = kind(_describe(error, url, key))
    raise failure


def _describe(error: Exception, url: URL, key: APIKey | None) -> str:
    """Say what failed, for whom, and what may help."""
    host = _host(url)
    for kind, describe in _DESCRIPTIONS:
        if isinstance(error, kind):
            text = describe(error, host)
            break
    else:
        said = str(error).replace(str(url), without_query(str(url)) or "")
        text = f"the call to {host} failed: {type(error).__name__}: {printable(said)}"
    return text if key is None else key.redact_text(text)


def _reason(error: OSError) -> str:
    """Return the system's words; those of asyncio repeat the address."""
    number = error.errno
    if number is not None and number > 0 and not isinstance(error, ssl.SSLError):
        return os.strerror(number)
    return printable(error.strerror or error)


def _verdict(error: Exception) -> str:
    return printable(getattr(error, "verify_message", "") or error)


def _host(url: URL) -> str:
    return printable(url.host_port_subcomponent, 120)


# The first that fits: classes before those that they are derived from.
_DESCRIPTIONS: tuple[tuple[type[Exception], Callable[[Any, str], str]], ...] = (
    (
        aiohttp.ClientConnectorCertificateError,
        lambda error, host: (
            f"the certificate of {host} is not trusted ({_verdict(error.certificate_error)}): "
            "pass ssl= or set SSL_CERT_FILE if it should be"
        ),
    ),
    (
        aiohttp.ClientSSLError,
        lambda error, host: (
            f"no TLS connection to {host} ({_reason(error.os_error)}): is it an https address?"
        ),
    ),
    (
        aiohttp.ClientProxyConnectionError,
        lambda error, host: (
            f"can't connect to {host}, for the proxy {printable(error.host)}:{error.port} is not "
            f"there ({_reason(error.os_error)}): correct proxy= or the environment's HTTPS_PROXY"
        ),
    ),
    (
        aiohttp.ClientHttpProxyError,
        lambda error, host: (
            f"can't connect to {host}, for the proxy answered {error.status} "
            f"{printable(error.message)}: does it want a name and a password?"
        ),
    ),
    (
        aiohttp.ClientConnectorDNSError,
        lambda error, host: (
            f"can't connect to {host}, for its name is not known ({_reason(error.os_error)}): is "
            "the address right, and the network there?"
        ),
    ),
    (
        aiohttp.ClientConnectorError,
        lambda error, host: f"can't connect to {host}: {_reason(error.os_error)}",
    ),
    (TimeoutError, lambda _, host: f"the connection to {host} timed out"),
    (
        aiohttp.ServerDisconnectedError,
        lambda _, host: f"{host} closed the connection without an answer",
    ),
    (
        aiohttp.ClientPayloadError,
        lambda _, host: f"the answer of {host} was cut off or could not be decoded",
    ),
    (
        aiohttp.ClientResponseError,
        lambda error, host: (
            f"the answer of {host} can't be read as HTTP: {printable(error.message)}"
        ),
    ),
    (
        aiohttp.ClientOSError,
        lambda error, host: f"the connection to {host} broke: {_reason(error)}",
    ),
)
