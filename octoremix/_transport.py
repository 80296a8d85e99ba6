"""aiohttp, and nothing above it: sends once what it is given, and reads no more than it must.

What goes wrong is named by `_translation`. A traceback shows its frames' locals, so no frame of
ours that an error of ours passes holds the key.
"""

from __future__ import annotations

import ssl
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from attrs import define, field
from yarl import URL

from ._credentials import APIKey
from ._environment import (
    check_headers,
    check_proxy,
    check_ssl,
    environment_proxy,
    environment_ssl,
)
from ._guard import check_host, guarded_connector, uses_proxy
from ._protocol import API, Request, Response, is_loopback
from ._translation import translated
from ._version import __version__
from .errors import SessionClosedError

__all__ = ["Stream", "Transport"]

LONGEST_BODY = 8 * 2**20
"""Bytes of an API answer that are read at most."""

LONGEST_REFUSAL = 64 * 2**10
"""Bytes that are read where a download was refused."""

MOST_PROXIES = 256
"""Hosts whose proxy is remembered at most."""

# Every call is timed as a whole from outside: aiohttp's own limits count the wait for a pooled
# connection, and leave a body that drips.
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)

_USER_AGENT = f"octoremix/{__version__}"


class _PaidBody(aiohttp.BytesPayload):
    """A body that tells when it begins to leave, and can't leave twice.

    Whoever would send the request again, a retry of aiohttp's or a middleware, fails here.
    """

    def __init__(self, body: bytes, on_sent: Callable[[], None]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # of more than 1 MiB: a prompt's image
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
    _content: aiohttp.StreamReader = field(repr=False)
    _key: APIKey = field(repr=False)
    _timeout: float = field(repr=False)

    async def read(self) -> bytes:
        """Return the next bytes of the body as they come, none at its end.

        Raises:
            APITimeoutError: Nothing came for the session's ``request_timeout``.
            APIConnectionError: It was cut off.
        """
        return await translated(self._content.readany(), self.url, self._timeout)

    async def refusal(self) -> Response:
        """Read the beginning of an answer that is no video, and blot out the key.

        Raises:
            APITimeoutError: It took longer than the session's ``request_timeout``.
            APIConnectionError: It was cut off.
        """
        reading = _read_bounded(self._content, LONGEST_REFUSAL)
        body, _ = await translated(reading, self.url, self._timeout)
        return Response(
            status=self.status,
            headers=self._key.redact_headers(self.headers),
            body=self._key.redact(body),
        )


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
        permit: Waits until a download from the gateway itself may be opened. A call has its permit
            before it comes here.
        allow_private_links: Whether downloads may go to addresses that are not public.
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
        permit: Callable[[], Coroutine[Any, Any, None]],
        allow_private_links: bool = False,
    ) -> None:
        self._api = api
        self._key = key
        self._permit = permit
        self._theirs = http
        self._ours: aiohttp.ClientSession | None = None
        self._guarded: aiohttp.ClientSession | None = None
        self._allow_private_links = allow_private_links
        self._closed = False
        self._proxy = check_proxy(proxy)
        self._ssl = check_ssl(ssl)
        self._further = check_headers(headers)
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",  # what aiohttp reads without further packages
            "Accept-Language": "en",
            "User-Agent": _USER_AGENT,
            **self._further,
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

    def send(
        self,
        request: Request,
        *,
        timeout: float | None,
        on_sent: Callable[[], None] | None = None,
    ) -> Coroutine[Any, Any, Response]:
        """Send a call to the gateway, once, and return the answer, whatever it says.

        Args:
            request: The call.
            timeout: Seconds for all of it, from the connection to the last byte, or ``None``.
            on_sent: Called when the body begins to leave; until then nothing was bought.

        Raises:
            APITimeoutError: It took longer.
            APIConnectionError: There was no whole answer.
        """
        return translated(self._exchange(request, on_sent), request.url, timeout, self._key)

    @asynccontextmanager
    async def stream(self, url: URL, headers: Mapping[str, str]) -> AsyncGenerator[Stream, None]:
        """Open a download; key and further headers go along only to the gateway's own origin.

        Its body comes as it is sent, without being decoded from a content coding.

        Raises:
            DownloadError: The address is none where a link may lead.
            APITimeoutError: No answer began in time.
            APIConnectionError: There was no answer.
        """
        trusted = self._allow_private_links or self._api.is_own_host(url)
        if not trusted:
            check_host(url)
        further: Mapping[str, str] = {}
        if self._api.is_own(url):
            further = self._further
            await self._permit()
        headers = {"User-Agent": _USER_AGENT, **further, **headers}
        opening = self._open("GET", url, None, headers, decode=False, trusted=trusted)
        response = await translated(opening, url, self._timeout, self._key)
        async with response:
            yield Stream(
                url=url,
                status=response.status,
                headers=response.headers,
                content=response.content,
                key=self._key,
                timeout=self._timeout,
            )

    async def aclose(self) -> None:
        """Close our own connections; the caller's session stays as it is."""
        self._closed = True
        for client in (self._ours, self._guarded):
            if client is not None:
                await client.close()

    async def _exchange(self, request: Request, on_sent: Callable[[], None] | None) -> Response:
        body = None
        headers = self._headers
        if request.body is not None:
            body = _PaidBody(request.body, on_sent or (lambda: None))
            headers = {**headers, "Content-Type": "application/json"}
        async with await self._open(request.method, request.url, body, headers) as response:
            content, complete = await _read_bounded(response.content, LONGEST_BODY)
            return Response(
                status=response.status,
                headers=self._key.redact_headers(response.headers),
                body=self._key.redact(content),
                complete=complete,
            )

    async def _open(
        self,
        method: str,
        url: URL,
        body: _PaidBody | None,
        headers: Mapping[str, str],
        *,
        decode: bool = True,
        trusted: bool = True,
    ) -> aiohttp.ClientResponse:
        client, proxy = self._client(), self._proxy_for(url)
        if not trusted and proxy is None and not uses_proxy(self._theirs, url):
            client = self._guarded_client()
        # From here on no error of ours may pass: this frame comes to hold the key.
        own = self._api.is_own(url)
        middlewares: tuple[Any, ...] | None = None
        if client is not self._theirs:
            headers = await self._key.headers(headers) if own else headers
        else:
            credentials = await self._key.headers({}) if own else {}
            # Set last, over any header or credentials of the session, and instead of its
            # middlewares, which could send a paid request again.
            middlewares = (_stamp(credentials),)
        return await client.request(
            method,
            url,
            data=body,
            headers=headers,
            allow_redirects=False,
            raise_for_status=False,
            auto_decompress=decode,
            timeout=_NO_TIMEOUT,
            proxy=proxy,
            ssl=True if self._ssl is None else self._ssl,
            middlewares=middlewares,
        )

    def _client(self) -> aiohttp.ClientSession:
        if self._closed:
            raise SessionClosedError("the session is closed: make a new one")
        client = self._theirs or self._ours
        if client is None:
            # Requests are bounded before they come here; a full pool would be a false timeout.
            client = self._ours = _made(aiohttp.TCPConnector(limit=0, ssl=self._verify()))
        if client.closed:
            raise SessionClosedError("the aiohttp.ClientSession given as http= is closed")
        return client

    def _guarded_client(self) -> aiohttp.ClientSession:
        if self._guarded is None:
            self._guarded = _made(guarded_connector(self._verify()))
        return self._guarded

    def _verify(self) -> ssl.SSLContext | bool:
        needed = self._api.base_url.scheme == "https"
        return environment_ssl(needed=needed) if self._ssl is None else True

    def _proxy_for(self, url: URL) -> URL | None:
        if isinstance(self._proxy, URL):
            return self._proxy
        if self._proxy is False or self._theirs is not None:
            return None  # a session of the caller's has settings of its own
        authority = url.raw_authority
        if authority not in self._proxies:
            if len(self._proxies) >= MOST_PROXIES:  # each link may lead to a host of its own
                self._proxies.clear()
            self._proxies[authority] = environment_proxy(url)
        return self._proxies[authority]


def _made(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,  # it would read .netrc, and start a thread for each call
    )


def _stamp(credentials: Mapping[str, str]) -> Any:
    async def stamp(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        request.headers.popall("Authorization", None)
        request.headers.update(credentials)
        return await handler(request)

    return stamp


async def _read_bounded(content: aiohttp.StreamReader, limit: int) -> tuple[bytes, bool]:
    """Return the body and whether it is whole; leaving the rest closes the connection."""
    body = await content.readany()
    if content.at_eof() or not body:
        return body, True
    pieces, length = [body], len(body)
    while length <= limit:
        piece = await content.readany()
        if not piece:
            return b"".join(pieces), True
        pieces.append(piece)
        length += len(piece)
    return b"".join(pieces)[:limit], False
