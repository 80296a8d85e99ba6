"""Loopback servers that send bytes as they are, for what no HTTP server would do, and a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

from attrs import define, field, frozen

from octoremix._credentials import APIKey
from octoremix._protocol import API, parse_base_url
from octoremix._transport import Transport

KEY = "sk-live-0123456789abcdef"

CERTIFICATE = Path(__file__).parent / "data" / "localhost.pem"
"""A server's key with its own certificate, for localhost and 127.0.0.1."""


async def _at_once() -> None:
    pass


def transport_to(url: str, **settings: Any) -> Transport:
    """A transport to a gateway, with nothing from the environment unless `proxy=None` is given."""
    defaults: dict[str, Any] = {
        "http": None,
        "proxy": False,
        "ssl": None,
        "headers": None,
        "timeout": 30.0,
        "permit": _at_once,
    }
    return Transport(API(parse_base_url(url)), APIKey(KEY), **(defaults | settings))


def http(
    body: bytes = b'{"id": "task_1", "status": "completed"}',
    *,
    status: str = "200 OK",
    headers: str = "Content-Type: application/json\r\n",
    length: int | None = None,
) -> bytes:
    """An HTTP answer, whose length may be a lie."""
    announced = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {announced}\r\n\r\n".encode() + body


@frozen
class RawCall:
    """One request as it arrived, and on which of the server's connections."""

    head: bytes
    body: bytes
    connection: int

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode()

    @property
    def target(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    def header(self, name: str) -> str | None:
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            given, _, value = line.partition(":")
            if given.lower() == name.lower():
                return value.strip()
        return None


Behaviour = Callable[[RawCall, asyncio.StreamWriter], Awaitable[bool]]
"""Answers one request; returns whether its connection goes on."""


def answering(answer: bytes, *, keep: bool = False) -> Behaviour:
    """Send these bytes, then close the connection unless it is kept."""

    async def behave(_: RawCall, writer: asyncio.StreamWriter) -> bool:
        writer.write(answer)
        await writer.drain()
        return keep

    return behave


@define(eq=False)
class RawServer:
    """Behaves as the script says, entry by entry; the last one goes on for ever.

    Args:
        script: What is done with each request.
        tls: Whether the server speaks TLS, with the certificate of the tests.
    """

    script: list[Behaviour]
    tls: bool = False
    calls: list[RawCall] = field(factory=list, init=False)
    connections: int = field(default=0, init=False)
    hung_up: asyncio.Event = field(factory=asyncio.Event, init=False)
    port: int = field(default=0, init=False)
    _server: asyncio.Server | None = field(default=None, init=False)
    _tasks: set[asyncio.Task[Any]] = field(factory=set, init=False)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        context = None
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        # Whatever breaks a connection is the client's affair.
        with contextlib.suppress(
            ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError
        ):
            await self._converse(reader, writer, self.connections)
        self.hung_up.set()
        writer.transport.abort() if self.tls else writer.close()
        self._tasks.discard(task)

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        going_on = True
        while going_on:
            head = await reader.readuntil(b"\r\n\r\n")
            call = RawCall(head, b"", connection)
            body = await reader.readexactly(int(call.header("Content-Length") or 0))
            call = RawCall(head, body, connection)
            self.calls.append(call)
            going_on = await self._answer(call, reader, writer)

    async def _answer(
        self, call: RawCall, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        behave = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return await behave(call, writer)


@define(eq=False)
class RecordingProxy(RawServer):
    """An HTTP proxy: tunnels what asks for it, answers all else itself by its script."""

    refuse_tunnels: bytes = b""

    async def _answer(
        self, call: RawCall, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if call.method != "CONNECT":
            return await super()._answer(call, reader, writer)
        if self.refuse_tunnels:
            writer.write(self.refuse_tunnels)
            return False
        host, _, port = call.target.rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            far_writer.close()
        return False


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while chunk := await source.read(65536):
        target.write(chunk)
        await target.drain()
    target.close()
