"""Every exception that aiohttp, asyncio or the system may raise becomes one of ours."""

from __future__ import annotations

import asyncio
import errno
import pickle
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import tenacity
from aiohttp import client_exceptions
from aiohttp.client_reqrep import ConnectionKey
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from octoremix import (
    APIConnectionError,
    APITimeoutError,
    PollingFailedError,
    PollPolicy,
    RetryPolicy,
    Session,
    TaskStatus,
    Video,
)

from .aioresponses_shim import Answers
from .raw_servers import KEY

GATEWAY = "https://gateway.example"
QUERY = f"{GATEWAY}/v1/videos/task_1"
REMIX = f"{GATEWAY}/v1/videos/video_1/remix"
LINK = "https://cdn.example/clip.mp4?signature=secret-signature"


def key_of(host: str = "gateway.example", port: int = 443) -> ConnectionKey:
    told: dict[str, Any] = {"host": host, "port": port, "is_ssl": True, "ssl": True}
    return ConnectionKey(*(told.get(name) for name in ConnectionKey._fields))  # type: ignore[arg-type]


def info(url: str) -> aiohttp.RequestInfo:
    headers = CIMultiDictProxy(CIMultiDict({"Authorization": f"Bearer {KEY}"}))
    return aiohttp.RequestInfo(URL(url), "GET", headers, URL(url))


def refused() -> OSError:
    return OSError(errno.ECONNREFUSED, "Connect call failed ('203.0.113.7', 443)")


Make = Callable[[str], Exception]

# Every class of aiohttp.client_exceptions, and what a person is to read; {host} is the call's.
AIOHTTP: dict[str, tuple[Make, str]] = {
    "ClientError": (lambda url: aiohttp.ClientError("oops"), "{host} failed: ClientError: oops"),
    "ClientConnectionError": (
        lambda url: aiohttp.ClientConnectionError("Connection closed"),
        "{host} failed: ClientConnectionError: Connection closed",
    ),
    "ClientConnectionResetError": (
        lambda url: aiohttp.ClientConnectionResetError("Cannot write to closing transport"),
        "{host} failed: ClientConnectionResetError: Cannot write to closing transport",
    ),
    "ClientOSError": (
        lambda url: aiohttp.ClientOSError(errno.ECONNRESET, f"Can not write to {url}"),
        "connection to {host} broke: Connection reset by peer",
    ),
    "ClientConnectorError": (
        lambda url: aiohttp.ClientConnectorError(key_of(), refused()),
        "can't connect to {host}: Connection refused",
    ),
    "ClientConnectorDNSError": (
        lambda url: aiohttp.ClientConnectorDNSError(
            key_of(), socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        ),
        "can't connect to {host}, for its name is not known (Temporary failure in name resolution)",
    ),
    "ClientProxyConnectionError": (
        lambda url: aiohttp.ClientProxyConnectionError(key_of("proxy.example", 3128), refused()),
        "the proxy proxy.example:3128 is not there (Connection refused)",
    ),
    "ClientHttpProxyError": (
        lambda url: aiohttp.ClientHttpProxyError(
            info("http://user:secret-signature@proxy.example"),
            (),
            status=407,
            message="Proxy Authentication Required",
        ),
        "the proxy answered 407 Proxy Authentication Required: does it want a name and a password?",
    ),
    "UnixClientConnectorError": (
        lambda url: client_exceptions.UnixClientConnectorError(
            "/run/x.sock", key_of(), OSError(errno.ENOENT, "No such file")
        ),
        "can't connect to {host}: No such file or directory",
    ),
    "ClientSSLError": (
        lambda url: aiohttp.ClientSSLError(key_of(), ssl.SSLError(1, "WRONG_VERSION_NUMBER")),
        "no TLS connection to {host} (WRONG_VERSION_NUMBER): is it an https address?",
    ),
    "ClientConnectorSSLError": (
        lambda url: aiohttp.ClientConnectorSSLError(
            key_of(), ssl.SSLError(1, "TLSV1_ALERT_PROTOCOL_VERSION")
        ),
        "no TLS connection to {host} (TLSV1_ALERT_PROTOCOL_VERSION)",
    ),
    "ClientConnectorCertificateError": (
        lambda url: aiohttp.ClientConnectorCertificateError(
            key_of(), ssl.CertificateError("certificate has expired")
        ),
        "the certificate of {host} is not trusted (('certificate has expired',)",
    ),
    "ServerConnectionError": (
        lambda url: aiohttp.ServerConnectionError("gone"),
        "{host} failed: ServerConnectionError: gone",
    ),
    "ServerDisconnectedError": (
        lambda url: aiohttp.ServerDisconnectedError(),
        "{host} closed the connection without an answer",
    ),
    "ServerTimeoutError": (
        lambda url: aiohttp.ServerTimeoutError(f"Timeout on reading data from {url}"),
        "the connection to {host} timed out",
    ),
    "ConnectionTimeoutError": (
        lambda url: aiohttp.ConnectionTimeoutError(f"Connection timeout to host {url}"),
        "the connection to {host} timed out",
    ),
    "SocketTimeoutError": (
        lambda url: aiohttp.SocketTimeoutError("Timeout on reading data from socket"),
        "the connection to {host} timed out",
    ),
    "ServerFingerprintMismatch": (
        lambda url: aiohttp.ServerFingerprintMismatch(b"a" * 32, b"b" * 32, "gateway.example", 443),
        "{host} failed: ServerFingerprintMismatch",
    ),
    "ClientPayloadError": (
        lambda url: aiohttp.ClientPayloadError("Response payload is not completed"),
        "the answer of {host} was cut off or could not be decoded",
    ),
    "ClientResponseError": (
        lambda url: aiohttp.ClientResponseError(info(url), (), status=400, message="Bad header"),
        "the answer of {host} can't be read as HTTP: Bad header",
    ),
    "ContentTypeError": (
        lambda url: aiohttp.ContentTypeError(info(url), (), message="unexpected mimetype"),
        "the answer of {host} can't be read as HTTP: unexpected mimetype",
    ),
    "WSServerHandshakeError": (
        lambda url: aiohttp.WSServerHandshakeError(info(url), (), message="no handshake"),
        "the answer of {host} can't be read as HTTP: no handshake",
    ),
    "TooManyRedirects": (
        lambda url: aiohttp.TooManyRedirects(info(url), ()),
        "the answer of {host} can't be read as HTTP",
    ),
    "UploadAbortedError": (
        lambda url: client_exceptions.UploadAbortedError("aborted"),
        "{host} failed: UploadAbortedError: aborted",
    ),
    "InvalidURL": (lambda url: aiohttp.InvalidURL(url, "no"), "{host} failed: InvalidURL"),
    "InvalidUrlClientError": (
        aiohttp.InvalidUrlClientError,
        "{host} failed: InvalidUrlClientError",
    ),
    "RedirectClientError": (
        aiohttp.RedirectClientError,
        "{host} failed: RedirectClientError",
    ),
    "NonHttpUrlClientError": (
        aiohttp.NonHttpUrlClientError,
        "{host} failed: NonHttpUrlClientError",
    ),
    "InvalidUrlRedirectClientError": (
        lambda url: aiohttp.InvalidUrlRedirectClientError(url, "bad"),
        "{host} failed: InvalidUrlRedirectClientError",
    ),
    "NonHttpUrlRedirectClientError": (
        aiohttp.NonHttpUrlRedirectClientError,
        "{host} failed: NonHttpUrlRedirectClientError",
    ),
    "WSMessageTypeError": (
        lambda url: aiohttp.WSMessageTypeError("not text"),
        "{host} failed: WSMessageTypeError: not text",
    ),
}

OTHERS: dict[str, tuple[Make, str]] = {
    "OSError": (
        lambda url: OSError(errno.ENETUNREACH, "Network is unreachable"),
        "{host} failed: OSError: [Errno 101] Network is unreachable",
    ),
    "ConnectionResetError": (
        lambda url: ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        "{host} failed: ConnectionResetError",
    ),
    "BrokenPipeError": (lambda url: BrokenPipeError(), "{host} failed: BrokenPipeError"),
    "TimeoutError": (lambda url: TimeoutError(), "the connection to {host} timed out"),
    "a time-out of the system": (
        lambda url: OSError(errno.ETIMEDOUT, "Connection timed out"),
        "the connection to {host} timed out",
    ),
    "asyncio.TimeoutError": (
        lambda url: asyncio.TimeoutError(),  # noqa: UP041  # an alias, if it stays one
        "the connection to {host} timed out",
    ),
    "SSLError": (lambda url: ssl.SSLError(1, "bad record mac"), "{host} failed: SSLError"),
    "SSLZeroReturnError": (lambda url: ssl.SSLZeroReturnError(6, "EOF"), "{host} failed: SSLZero"),
    "SSLCertVerificationError": (
        lambda url: ssl.SSLCertVerificationError(1, "self-signed certificate"),
        "{host} failed: SSLCertVerificationError",
    ),
    "IncompleteReadError": (
        lambda url: asyncio.IncompleteReadError(b"x", 7),
        "{host} failed: IncompleteReadError",
    ),
    "InvalidStateError": (
        lambda url: asyncio.InvalidStateError("odd"),
        "{host} failed: InvalidStateError: odd",
    ),
    "RuntimeError": (
        lambda url: RuntimeError("Session is closed"),
        "{host} failed: RuntimeError: Session is closed",
    ),
    "UnicodeError": (
        lambda url: UnicodeError("label too long"),
        "{host} failed: UnicodeError: label too long",
    ),
    "MemoryError": (lambda url: MemoryError(), "{host} failed: MemoryError"),
    "AssertionError": (lambda url: AssertionError(), "{host} failed: AssertionError"),
    "a group": (
        lambda url: ExceptionGroup("connects", [refused(), refused()]),
        "{host} failed: ExceptionGroup: connects",
    ),
}

FAULTS = {
    name: fault
    for name, fault in {**AIOHTTP, **OTHERS}.items()
    # The lower bound does not know them all.
    if name not in AIOHTTP or hasattr(client_exceptions, name)
}


@pytest.fixture
def answers() -> Iterator[Answers]:
    with Answers() as mock:
        yield mock


def session(**settings: Any) -> Session:
    return Session(
        KEY,
        base_url=GATEWAY,
        proxy=False,
        poll=PollPolicy(wait=tenacity.wait_fixed(1), max_failures=2, failure_window=0),
        **{"retry": RetryPolicy(attempts=1)} | settings,
    )


def check(error: BaseException | None, fault: Exception, words: str, host: str) -> None:
    """Look at an error as a person, as a log, and as an `except` would."""
    assert isinstance(error, APIConnectionError)
    assert words.format(host=host) in str(error)
    assert host in str(error)
    assert str(error).isprintable()
    assert isinstance(error, APITimeoutError) is isinstance(fault, TimeoutError)
    assert error.__cause__ is error.__context__ is None
    for secret in (KEY, "secret-signature"):
        assert secret not in str(error)
        assert secret not in repr(pickle.dumps(error))


def test_no_class_of_aiohttps_exceptions_is_left_out() -> None:
    """A new version's exceptions are noticed here, and get a message that was looked at."""
    known = {
        name
        for name, kind in vars(client_exceptions).items()
        if isinstance(kind, type)
        and issubclass(kind, Exception)
        and kind.__module__ == client_exceptions.__name__
    }
    assert known - AIOHTTP.keys() == set()


@pytest.mark.parametrize(("make", "words"), FAULTS.values(), ids=FAULTS)
async def test_every_call_names_the_fault(
    answers: Answers, make: Make, words: str, tmp_path: Path
) -> None:
    """§3.3: query, submit, poll and download say what failed and where, chained to nothing of aiohttp's."""
    answers.get(QUERY, exception=(at_query := make(QUERY)), repeat=True)
    answers.post(REMIX, exception=(at_submit := make(REMIX)))
    answers.get(LINK, exception=(at_link := make(LINK)))
    answers.get(f"{QUERY}/content", status=404, payload={"message": "no such route"})
    async with session() as octo:
        with pytest.raises(APIConnectionError) as query:
            await octo.retrieve("task_1")
        # Nothing was written, so it is no doubt.
        with pytest.raises(APIConnectionError) as submit:
            await octo.submit("video_1", prompt="snow")
        with pytest.raises(PollingFailedError) as poll:
            await octo.track("task_1")
        video = Video(id="task_1", status=TaskStatus.COMPLETED, url=LINK)
        with pytest.raises(APIConnectionError) as download:
            await octo.download(video, tmp_path / "clip.mp4")
    check(query.value, at_query, words, "gateway.example")
    check(submit.value, at_submit, words, "gateway.example")
    check(poll.value.__cause__, at_query, words, "gateway.example")
    check(download.value, at_link, words, "cdn.example")
    assert query.value.id == poll.value.id == download.value.id == "task_1"
    assert answers.count("POST") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["ClientOSError", "ClientConnectorDNSError", "TimeoutError"])
async def test_of_calls_that_are_tried_again(answers: Answers, name: str) -> None:
    """§3.3: a fault that passes is not seen: query and submit succeed in a later attempt."""
    make, _ = FAULTS[name]
    for method, url in (("GET", QUERY), ("POST", REMIX)):
        answers.add(url, method, exception=make(url))
        answers.add(url, method, exception=make(url))
        answers.add(url, method, payload={"id": "task_1", "status": "queued"})
    async with session(retry=RetryPolicy(attempts=3)) as octo:
        assert (await octo.retrieve("task_1")).status is TaskStatus.QUEUED
        assert (await octo.submit("video_1", prompt="snow")).id == "task_1"
    assert answers.count("GET") == answers.count("POST") == 3


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_is_not_translated(kind: type[BaseException]) -> None:
    """`KeyboardInterrupt` and `SystemExit` pass as they are."""

    async def main() -> None:
        with Answers() as answers:
            answers.get(QUERY, exception=kind())
            async with session() as octo:
                await octo.retrieve("task_1")

    with pytest.raises(kind):
        asyncio.run(main())


async def test_the_shim_answers_like_aiohttp(answers: Answers) -> None:
    """What is injected besides exceptions is read by the library as any answer is."""
    answers.get(QUERY, payload={"id": "task_1", "status": "completed"})
    async with session() as octo:
        video = await octo.retrieve("task_1")
    assert video.status is TaskStatus.COMPLETED
    assert answers.last("GET", QUERY)["headers"]["Authorization"] == f"Bearer {KEY}"
