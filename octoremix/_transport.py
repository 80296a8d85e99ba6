"""aiohttp, and nothing above it: sends once what it is given, and translates what goes wrong.

aiohttp's exceptions hold the request's headers, the key among them. None is chained to ours: an
error is made in the handler and raised after it.
"""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
from attrs import define, field
from yarl import URL

from ._credentials import APIKey
from ._environment import check_headers, check_proxy, environment_proxy, environment_ssl
from ._protocol import API, Request, Response, is_loopback
from ._version import __version__
from .errors import (
    APIConnectionError,
    APITimeoutError,
    OctoremixError,
    SessionClosedError,
    printable,
)

__all__ = ["Stream", "Transport"]

_T = TypeVar("_T")

LONGEST_BODY = 8 * 2**20
"""Bytes of an API answer that are read at most."""

# Every call is timed as a whole from outside: aiohttp's own limits count the wait for a pooled
# connection, and leave a body that drips.
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)


class _PaidBody(aiohttp.BytesPayload):
    """A body that tells when it begins to leave, and can't leave twice.

    Whoever would send the request again, a retry of aiohttp's or a middleware, fails here.
    """

    def __init__(self, body: bytes, on_sent: Callable[[], None]) -> None:
        super().__init__(body, content_type="application/json")
        self._on_sent = on_sent
        self._begun = False

    async def write(self, writer: Any) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: Any, content_length: int | None) -> None:
        if self._begun:
            raise RuntimeError("a request that may have been paid for is not sent again")
        self._begun = True
        self._on_sent()
        await super().write_with_length(writer, content_length)


@define(eq=False)
class Stream:
    """The answer to a download, whose body is read in chunks.

    Attributes:
        url: Where it came from.
        status: The HTTP status.
        headers: Its headers; names are compared without case.
    """

    url: URL = field(repr=False)
    status: int
    headers: Mapping[str, str] = field(repr=False)
    _read: Callable[[], Any] = field(repr=False)
    _timeout: float = field(repr=False)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes.

        Raises:
            APITimeoutError: Nothing came for the session's ``request_timeout``.
            APIConnectionError: It was cut off.
        """
        while chunk := await _translated(self._read(), self.url, self._timeout):
            yield chunk


class Transport:
    """Sends calls over one `aiohttp.ClientSession`, the caller's or its own.

    Args:
        api: Tells which origin may see the key.
        key: The key.
        http: The caller's own session, which is never closed here.
        proxy: The address of a proxy, ``None`` for the environment's, ``False`` for none.
        ssl: An `ssl.SSLContext`, ``False`` to verify nothing, ``None`` for the default.
        headers: Further headers for calls to the gateway.
        timeout: Seconds that a download's opening, and each silence in it, may take.
    """

    def __init__(
        self,
        api: API,
        key: APIKey,
        *,
        http: aiohttp.ClientSession | None,
        proxy: str | bool | None,
        ssl: ssl.SSLContext | bool | None,
        headers: Mapping[str, str] | None,
        timeout: float,
    ) -> None:
        self._api = api
        self._key = key
        self._theirs = http
        self._ours: aiohttp.ClientSession | None = None
        self._proxy = check_proxy(proxy)
        self._ssl = ssl
        self._headers = {
            "Accept": "application/json",
            "Accept-Language": "en",
            "User-Agent": f"octoremix/{__version__}",
            **check_headers(headers),
        }
        self._timeout = timeout
        self._proxies: dict[str, URL | None] = {}
        if api.base_url.scheme == "http" and not is_loopback(api.base_url):
            warnings.warn(
                f"{api.base_url} is not encrypted: the API key is sent in clear text; use https",
                stacklevel=3,
            )

    def __repr__(self) -> str:
        return f"<Transport to {self._api.origin}>"

    async def send(
        self,
        request: Request,
        *,
        timeout: float | None,
        on_sent: Callable[[], None] | None = None,
    ) -> Response:
        """Send a call to the gateway, once, and return the answer, whatever it says.

        Args:
            request: The call.
            timeout: Seconds for all of it, from the connection to the last byte, or ``None``.
            on_sent: Called when the body begins to leave; until then nothing was bought.

        Raises:
            APITimeoutError: It took longer.
            APIConnectionError: There was no whole answer.
        """
        return await _translated(self._exchange(request, on_sent), request.url, timeout, self._key)

    @asynccontextmanager
    async def stream(self, url: URL, headers: Mapping[str, str]) -> AsyncGenerator[Stream, None]:
        """Open a download; the key goes along only to the gateway's own origin.

        Raises:
            APITimeoutError: No answer began in time.
            APIConnectionError: There was no answer.
        """
        opening = self._open(
            "GET", url, None, {"User-Agent": self._headers["User-Agent"], **headers}
        )
        response = await _translated(opening, url, self._timeout, self._key)
        async with response:
            yield Stream(
                url=url,
                status=response.status,
                headers=response.headers,
                read=response.content.readany,
                timeout=self._timeout,
            )

    async def aclose(self) -> None:
        """Close our own connections; the caller's session stays as it is."""
        if self._ours is not None:
            await self._ours.close()

    async def _exchange(self, request: Request, on_sent: Callable[[], None] | None) -> Response:
        body = None
        headers = self._headers
        if request.body is not None:
            body = _PaidBody(request.body, on_sent or (lambda: None))
            headers = {**headers, "Content-Type": "application/json"}
        async with await self._open(request.method, request.url, body, headers) as response:
            content, complete = await _read_bounded(response)
            return Response(
                status=response.status,
                headers=self._key.redact_headers(response.headers),
                body=self._key.redact(content),
                complete=complete,
            )

    async def _open(
        self, method: str, url: URL, body: _PaidBody | None, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        credentials = await self._key.headers() if self._api.is_own(url) else {}
        middlewares: tuple[Any, ...] | None = None
        if self._theirs is None:
            headers = {**headers, **credentials}
        else:
            # Set last, over any header or credentials of the session, and instead of its
            # middlewares, which could send a paid request again.
            middlewares = (_stamp(credentials),)
        return await self._client().request(
            method,
            url,
            data=body,
            headers=headers,
            allow_redirects=False,
            raise_for_status=False,
            auto_decompress=True,
            timeout=_NO_TIMEOUT,
            proxy=self._proxy_for(url),
            ssl=True if self._ssl is None else self._ssl,
            middlewares=middlewares,
        )

    def _client(self) -> aiohttp.ClientSession:
        client = self._theirs or self._ours
        if client is None:
            client = self._ours = aiohttp.ClientSession(
                # Requests are bounded before they come here; a full pool would be a false timeout.
                connector=aiohttp.TCPConnector(limit=0, ssl=environment_ssl()),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # it would read .netrc, and start a thread for each call
            )
        if client.closed:
            raise SessionClosedError("the aiohttp.ClientSession given as http= is closed")
        return client

    def _proxy_for(self, url: URL) -> URL | None:
        if isinstance(self._proxy, URL):
            return self._proxy
        if self._proxy is False or self._theirs is not None:
            return None  # a session of the caller's has settings of its own
        authority = url.raw_authority
        if authority not in self._proxies:
            self._proxies[authority] = environment_proxy(url)
        return self._proxies[authority]


def _stamp(credentials: Mapping[str, str]) -> Any:
    async def stamp(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        request.headers.popall("Authorization", None)
        request.headers.update(credentials)
        return await handler(request)

    return stamp


async def _read_bounded(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """Return the body and whether it is whole; what is too long is cut off, with its connection."""
    body = await response.content.readany()
    if response.content.at_eof() or not body:
        return body, True
    pieces, length = [body], len(body)
    while length <= LONGEST_BODY:
        piece = await response.content.readany()
        if not piece:
            return b"".join(pieces), True
        pieces.append(piece)
        length += len(piece)
    response.close()
    return b"".join(pieces)[:LONGEST_BODY], False


async def _translated(
    call: Awaitable[_T], url: URL, timeout: float | None, key: APIKey | None = None
) -> _T:
    """Await a call of aiohttp's for so many seconds, and name its errors ours, without a chain."""
    failure: APIConnectionError
    try:
        if timeout is None:
            return await call
        async with asyncio.timeout(timeout):
            return await call
    except TimeoutError:
        failure = APITimeoutError(f"no answer from {_host(url)} within {timeout:g} s")
    except OctoremixError:
        raise
    except Exception as error:  # noqa: BLE001  # aiohttp documents no closed set
        text = _describe(error, url)
        failure = APIConnectionError(key.redact_text(text) if key else text)
    raise failure


def _describe(error: Exception, url: URL) -> str:
    host = _host(url)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return (
            f"the certificate of {host} is not trusted ({printable(error.certificate_error)}); "
            "pass ssl= or set SSL_CERT_FILE if it should be"
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"can't connect to {printable(error.host)}: {printable(error.os_error)}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return f"{host} closed the connection without an answer"
    if isinstance(error, aiohttp.ClientPayloadError):
        return f"the answer of {host} was cut off or could not be decoded"
    return f"the call to {host} failed: {type(error).__name__}: {printable(error)}"


def _host(url: URL) -> str:
    return printable(url.authority, 120)
