"""One call goes out once, tells when it begins to leave, and is ended in time."""

from __future__ import annotations

import asyncio
import socket
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from yarl import URL

from octoremix import (
    APIConnectionError,
    APITimeoutError,
    ConfigurationError,
    RetryPolicy,
    Session,
    SessionClosedError,
    SubmitOutcomeUnknownError,
    UnexpectedRedirectError,
)
from octoremix._protocol import Request
from octoremix._transport import _PaidBody

from .raw_servers import KEY, RawCall, RawServer, answering, http, transport_to
from .scripted import ScriptedGateway, reply

ONCE = RetryPolicy(attempts=1)
JOB = {"prompt": "make it snow"}


def get(server: Any, path: str = "/v1/videos/task_1") -> Request:
    return Request(method="GET", url=URL(server.url + path, encoded=True))


def post(server: Any) -> Request:
    return Request(method="POST", url=URL(f"{server.url}/v1/videos/v/remix"), body=b'{"a": 1}')


@pytest.fixture
async def free_port() -> AsyncIterator[int]:
    """A port of loopback that refuses connections."""
    with socket.socket() as bound:  # bound without listening: nobody else can take it
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


async def test_a_call_is_exactly_what_was_built() -> None:
    """Method, path, headers and body arrive as documented, and a GET has no body."""
    async with RawServer([answering(http(), keep=True)]) as server:
        transport = transport_to(server.url, headers={"X-Team": "film"})
        await transport.send(get(server, "/v1/videos/a%3Ab%2Fc%20d"), timeout=5)
        await transport.send(post(server), timeout=5)
        await transport.aclose()
    query, submit = server.calls
    assert query.target == "/v1/videos/a%3Ab%2Fc%20d"
    assert query.header("Content-Length") is query.header("Content-Type") is None
    for call in server.calls:
        assert call.header("Authorization") == f"Bearer {KEY}"
        assert call.header("Accept") == "application/json"
        assert call.header("Accept-Encoding") == "gzip, deflate"
        assert call.header("Accept-Language") == "en"
        assert (call.header("User-Agent") or "").startswith("octoremix/")
        assert call.header("X-Team") == "film"
    assert submit.header("Content-Type") == "application/json"
    assert submit.header("Content-Length") == "8"
    assert submit.body == b'{"a": 1}'


async def test_the_users_headers_win_over_the_defaults_in_any_case() -> None:
    """A header given in lower case takes the place of the default instead of standing beside it."""
    async with RawServer([answering(http())]) as server:
        transport = transport_to(server.url, headers={"user-agent": "mine", "ACCEPT": "text/x"})
        await transport.send(get(server), timeout=5)
        await transport.aclose()
    head = server.calls[0].head.lower()
    assert head.count(b"user-agent: mine") == head.count(b"user-agent") == 1
    assert head.count(b"accept: text/x") == head.count(b"\r\naccept:") == 1


async def test_a_post_on_a_connection_that_was_closed_meanwhile_goes_out_once() -> None:
    """The keep-alive race is lost with one POST, and its outcome is reported as unknown."""
    vanish = answering(b"")
    async with RawServer([answering(http(), keep=True), vanish]) as server:
        async with Session(KEY, base_url=server.url, retry=RetryPolicy(attempts=5)) as octo:
            await octo.retrieve("task_1")
            with pytest.raises(SubmitOutcomeUnknownError, match="without an answer"):
                await octo.submit("v", **JOB)
    assert [call.method for call in server.calls] == ["GET", "POST"]
    assert server.connections == 1  # it was the reused one


async def test_a_get_on_a_connection_that_was_closed_meanwhile_is_asked_again() -> None:
    """A query costs nothing: aiohttp's second try on a fresh connection hides the lost race."""
    script = [answering(http(), keep=True), answering(b""), answering(http())]
    async with RawServer(script) as server:
        transport = transport_to(server.url)
        await transport.send(get(server), timeout=5)
        response = await transport.send(get(server), timeout=5)
        await transport.aclose()
    assert response.status == 200
    assert [call.connection for call in server.calls] == [1, 1, 2]


async def test_a_session_that_sends_again_by_itself_is_stopped_before_the_second_post() -> None:
    """A subclass of aiohttp's session that repeats requests can't make a paid one leave twice."""
    with pytest.warns(DeprecationWarning, match="discouraged"):

        class Stubborn(aiohttp.ClientSession):
            async def _request(self, *args: Any, **options: Any) -> aiohttp.ClientResponse:
                try:
                    return await super()._request(*args, **options)
                except aiohttp.ClientError:
                    return await super()._request(*args, **options)

    async with RawServer([answering(b"")]) as server, Stubborn() as own:
        async with Session(KEY, base_url=server.url, http=own, retry=ONCE) as octo:
            with pytest.raises(SubmitOutcomeUnknownError):
                await octo.submit("v", **JOB)
    assert len(server.calls) == 1


@pytest.mark.parametrize("again", ["write", "write_with_length"])
async def test_a_paid_body_is_written_once(again: str) -> None:
    """Both ways in which aiohttp writes a body tell that it leaves, and neither does so twice."""
    events: list[object] = []

    class Writer:
        async def write(self, chunk: bytes) -> None:
            events.append(chunk)

    body = _PaidBody(b"{}", lambda: events.append("sent"))
    await body.write(Writer())
    with pytest.raises(RuntimeError, match="not sent again"):
        await getattr(body, again)(Writer(), *([None] if again == "write_with_length" else []))
    assert events == ["sent", b"{}"]


REDIRECTS = [301, 302, 303, 307, 308]


@pytest.mark.parametrize("status", REDIRECTS)
async def test_no_api_call_follows_a_redirect(status: int) -> None:
    """Neither a query nor a submit goes to the target, which the error names without its query."""
    target = "https://elsewhere.example/v1?token=secret#part"
    moved = reply(status=status, headers={"Location": target})
    async with ScriptedGateway(polls=[moved], submits=[moved]) as gateway:
        async with Session(KEY, base_url=gateway.url, retry=ONCE) as octo:
            with pytest.raises(UnexpectedRedirectError, match="change the base URL") as query:
                await octo.retrieve("task_1")
            with pytest.raises(UnexpectedRedirectError) as submit:
                await octo.submit("v", **JOB)
    for error in (query.value, submit.value):
        assert error.location == "https://elsewhere.example/v1"
        assert "https://elsewhere.example/v1" in str(error)
        assert "secret" not in str(error)
        assert error.status == status
    assert [call.method for call in gateway.calls] == ["GET", "POST"]
    # Only 307 and 308 say that the request was not processed.
    assert submit.value.safe_to_resubmit is (status in {307, 308})


async def test_a_redirect_to_the_gateway_itself_is_not_followed_either() -> None:
    """A relative target on the same origin is reported, not visited."""
    moved = reply(status=307, headers={"Location": "/v2/videos/task_1"})
    async with ScriptedGateway(polls=[moved]) as gateway:
        async with Session(KEY, base_url=gateway.url, retry=ONCE) as octo:
            with pytest.raises(UnexpectedRedirectError, match="/v2/videos/task_1"):
                await octo.retrieve("task_1")
    assert len(gateway.calls) == 1


async def test_on_sent_comes_before_any_byte_arrives() -> None:
    """The call is told once, and before the server has received anything of the request."""
    events: list[str] = []

    class Watching(asyncio.Protocol):
        transport: asyncio.Transport

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport
            events.append("connected")

        def data_received(self, data: bytes) -> None:
            events.append("arrived")
            self.transport.write(http())
            self.transport.close()

    server = await asyncio.get_running_loop().create_server(Watching, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        transport = transport_to(f"http://127.0.0.1:{port}")
        request = Request(method="POST", url=URL(f"http://127.0.0.1:{port}/"), body=b"{}")
        await transport.send(request, timeout=5, on_sent=lambda: events.append("sent"))
        await transport.aclose()
    assert events[:3] == ["connected", "sent", "arrived"]
    assert events.count("sent") == 1


async def test_on_sent_is_told_even_if_no_answer_comes() -> None:
    """A request that left and was cut off counts as sent."""
    told: list[str] = []
    async with RawServer([answering(b"")]) as server:
        transport = transport_to(server.url)
        with pytest.raises(APIConnectionError):
            await transport.send(post(server), timeout=5, on_sent=lambda: told.append("sent"))
        await transport.aclose()
    assert told == ["sent"]


async def _unsent(url: str, **settings: Any) -> APIConnectionError:
    """Send a POST that must not leave, and return why it did not."""
    told: list[str] = []
    transport = transport_to(url, **settings)
    request = Request(method="POST", url=URL(f"{url}/v1/videos/v/remix"), body=b"{}")
    with pytest.raises(APIConnectionError) as caught:
        await transport.send(request, timeout=20, on_sent=lambda: told.append("sent"))
    await transport.aclose()
    assert told == []
    return caught.value


async def test_a_refused_connection_sent_nothing(free_port: int) -> None:
    """Where nobody listens, the error names host, port and reason, and nothing was sent."""
    error = await _unsent(f"http://127.0.0.1:{free_port}")
    assert str(error) == f"can't connect to 127.0.0.1:{free_port}: Connection refused"


async def test_an_unknown_name_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that can't be resolved is named as that."""

    def unknown(*_: object, **__: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = await _unsent("https://gateway.example")
    assert "gateway.example" in str(error)
    assert "its name is not known (Name or service not known)" in str(error)


async def test_an_untrusted_certificate_sent_nothing() -> None:
    """A certificate that nobody vouches for ends the call, and the error says what to do."""
    async with RawServer([answering(http())], tls=True) as server:
        error = await _unsent(server.url)
    assert f"certificate of 127.0.0.1:{server.port} is not trusted" in str(error)
    assert "SSL_CERT_FILE" in str(error)
    assert server.calls == []


async def test_a_server_without_tls_sent_nothing() -> None:
    """An https address of a server that speaks plain HTTP is told apart from a refusal."""

    def plain() -> asyncio.Protocol:
        return _Answerer(http())

    server = await asyncio.get_running_loop().create_server(plain, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await _unsent(f"https://127.0.0.1:{port}")
    assert str(error).startswith(f"no TLS connection to 127.0.0.1:{port}")


class _Answerer(asyncio.Protocol):
    """Answers whatever comes with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.write(self._answer)
        self._transport.close()


async def test_a_handshake_that_never_ends_sent_nothing() -> None:
    """A server that accepts the connection and then says nothing is a time-out with nothing sent."""
    held: list[asyncio.BaseTransport] = []

    class Silent(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            held.append(transport)

    server = await asyncio.get_running_loop().create_server(Silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await _unsent(f"https://127.0.0.1:{port}")
        for transport in held:
            transport.close()
    assert isinstance(error, APITimeoutError)
    assert str(error) == f"127.0.0.1:{port} did not answer within 20 s"


class _Resolver(aiohttp.abc.AbstractResolver):
    """A resolver that does what a test says."""

    def __init__(self, resolve: Callable[[], Any]) -> None:
        self._resolve = resolve

    async def resolve(self, *_: Any, **__: Any) -> Any:
        return await self._resolve()

    async def close(self) -> None:
        pass


async def test_a_name_that_is_looked_up_for_ever_sent_nothing() -> None:
    """The look-up of the name is part of what the time-out covers."""
    connector = aiohttp.TCPConnector(resolver=_Resolver(asyncio.Event().wait))
    async with aiohttp.ClientSession(connector=connector) as own:
        error = await _unsent("https://gateway.example", http=own)
    assert isinstance(error, APITimeoutError)


async def test_a_time_out_inside_a_call_without_one_is_named() -> None:
    """A submit is timed from outside; a time-out that aiohttp raises itself is still ours."""

    async def late() -> Any:
        raise TimeoutError

    connector = aiohttp.TCPConnector(resolver=_Resolver(late))
    async with aiohttp.ClientSession(connector=connector) as own:
        transport = transport_to("https://gateway.example", http=own)
        with pytest.raises(APITimeoutError, match=r"connection to gateway\.example timed out"):
            await transport.send(
                Request(method="POST", url=URL("https://gateway.example/"), body=b"{}"),
                timeout=None,
            )


async def test_unsent_submits_are_tried_again_and_sent_ones_are_not(free_port: int) -> None:
    """Where nothing left, the policy's attempts are used up; the error is no doubt."""
    events = []
    async with Session(
        KEY, base_url=f"http://127.0.0.1:{free_port}", retry=RetryPolicy(attempts=3)
    ) as octo:
        send = octo._transport.send

        async def counting(*args: Any, **options: Any) -> Any:
            events.append("attempt")
            return await send(*args, **options)

        octo._submitter._sender._send = counting
        with pytest.raises(APIConnectionError, match="refused"):
            await octo.submit("v", **JOB)
    assert len(events) == 3


async def test_a_large_body_leaves_without_a_warning() -> None:
    """A job with an image in it may be larger than what aiohttp warns about."""
    async with RawServer([answering(http(b'{"id": "task_1"}'))]) as server:
        async with Session(KEY, base_url=server.url) as octo:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                await octo.submit("v", prompt="snow", extra={"image": "x" * 2**21})
    assert len(server.calls[0].body) > 2**21


async def test_a_closed_transport_sends_nothing_more() -> None:
    """After `aclose` a call fails clearly and opens no connections that nobody would close."""
    async with RawServer([answering(http())]) as server:
        transport = transport_to(server.url)
        await transport.aclose()
        with pytest.raises(SessionClosedError, match="the session is closed"):
            await transport.send(get(server), timeout=5)
    assert server.connections == 0


async def test_a_cancelled_call_closes_its_connection() -> None:
    """A call that is given up does not leave its answer to the next one."""

    async def half(_: RawCall, writer: asyncio.StreamWriter) -> bool:
        writer.write(http(length=1000))
        await asyncio.Event().wait()
        return False

    async with RawServer([half, answering(http(b'{"id": "other"}'))]) as server:
        transport = transport_to(server.url)
        with pytest.raises(APITimeoutError):
            await transport.send(get(server), timeout=5)
        response = await transport.send(get(server), timeout=5)
        await transport.aclose()
    assert response.body == b'{"id": "other"}'
    assert [call.connection for call in server.calls] == [1, 2]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"http": object()}, r"http must be an instance of aiohttp\.ClientSession, not object"),
        ({"ssl": "off"}, "ssl must be an ssl.SSLContext"),
        ({"proxy": 3128}, "proxy must be the address"),
        ({"headers": "X-Team: film"}, "headers must be a mapping"),
    ],
)
def test_settings_of_another_type_are_refused_at_once(settings: dict[str, Any], names: str) -> None:
    """A setting that could only fail in the first call fails when the session is made."""
    with pytest.raises(ConfigurationError, match=names):
        Session(KEY, **settings)
