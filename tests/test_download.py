"""A result is fetched from where it lies, with the key for the gateway alone, and is a video."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import tenacity
from aiohttp import web

from octoremix import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    DownloadError,
    IncompleteDownloadError,
    InvalidResponseError,
    NotAVideoError,
    OctoremixError,
    PermissionDeniedError,
    RemixFailedError,
    ResultExpiredError,
    RetryPolicy,
    ServerError,
    Session,
    TaskNotFoundError,
    TaskStatus,
    Video,
)
from octoremix._download.links import MOST_REDIRECTS
from octoremix._transport import LONGEST_REFUSAL
from octoremix.testing import Emulator

from .raw_servers import KEY, Behaviour, RawCall, RawServer, answering, http
from .scripted import Answer, ScriptedGateway, cut, reply, task

ONCE = RetryPolicy(attempts=1)
MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(5000)
VIDEO_TYPE = {"Content-Type": "video/mp4"}
VIDEO_HEAD = "Content-Type: video/mp4\r\n"
SECRET = "signature-0123456789"


def session(gateway: Any, **settings: Any) -> Session:
    return Session(KEY, base_url=gateway.url, **{"retry": ONCE} | settings)


def video(url: str | None = None, task_id: str = "task_1") -> Video:
    return Video(id=task_id, status=TaskStatus.COMPLETED, url=url)


def content() -> Answer:
    return reply(MP4, headers=VIDEO_TYPE)


def moved(location: str, status: int = 302) -> Answer:
    return reply(status=status, headers={"Location": location})


async def broken(request: web.BaseRequest) -> web.StreamResponse:
    """Begin a video and break off."""
    response = web.StreamResponse(headers={"Content-Length": "1000", **VIDEO_TYPE})
    await response.prepare(request)
    await response.write(MP4[:100])
    assert request.transport is not None
    request.transport.abort()
    return response


def as_text(error: BaseException) -> str:
    return f"{error} {error!r} {vars(error)!r}"


async def fails(gateway: Any, what: Any, folder: Path, **settings: Any) -> OctoremixError:
    """Download what can't be, and check what holds for every such failure."""
    async with session(gateway, **settings) as octo:
        with pytest.raises(OctoremixError) as caught:
            await octo.download(what, folder / "clip.mp4")
    assert list(folder.iterdir()) == []
    assert caught.value.id == "task_1"
    assert SECRET not in as_text(caught.value)
    assert KEY not in as_text(caught.value)
    assert str(caught.value).isprintable()
    return caught.value


@pytest.mark.parametrize("kind", ["id", "Video", "unfinished Video", "RemixFuture"])
async def test_the_source_may_be_an_id_a_video_or_a_future(kind: str, tmp_path: Path) -> None:
    """Whatever names the task leads to the whole file, and the path is returned."""
    async with Emulator(api_key=KEY, duration=20, content_size=100_000) as gateway:
        async with session(gateway) as octo:
            future = await octo.submit("video_1", prompt="snow")
            first = future.video
            source: Any = future
            if kind != "RemixFuture":
                done = await future
                source = {"id": future.id, "Video": done, "unfinished Video": first}[kind]
            path = await octo.download(source, tmp_path / "clip.mp4")
    assert path == tmp_path / "clip.mp4"
    assert path.stat().st_size == 100_000
    assert [each.name for each in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("status", ["processing", "failed", "cancelled", "expired", "odd"])
async def test_a_task_without_a_video_is_refused(status: str, tmp_path: Path) -> None:
    """An unfinished or failed task is asked for once, and the error tells its status."""
    async with ScriptedGateway(polls=[task(status)]) as gateway:
        error = await fails(gateway, "task_1", tmp_path)
        assert isinstance(error, DownloadError)
        assert "no video to download" in str(error)
        assert len(gateway.calls) == 1


async def test_a_future_that_fails_tells_why(tmp_path: Path) -> None:
    """Where the awaited task fails, the download raises that failure."""
    async with ScriptedGateway(polls=[task("failed")]) as gateway:
        async with session(gateway) as octo:
            future = await octo.submit("video_1", prompt="snow")
            with pytest.raises(RemixFailedError):
                await octo.download(future, tmp_path / "clip.mp4")


async def test_the_link_comes_first_and_sees_no_key(tmp_path: Path) -> None:
    """A link to another origin, even another port of the same host, is asked without the key."""
    async with ScriptedGateway(contents=[content()]) as cdn, ScriptedGateway() as gateway:
        link = f"{cdn.url}/clip.mp4?sig=a%2Fb%3D&x=1+2#part"
        async with session(gateway, headers={"X-Access": "internal"}) as octo:
            await octo.download(video(link), tmp_path / "clip.mp4")
    assert gateway.calls == []
    (call,) = cdn.calls
    assert call.path == "/clip.mp4"
    assert call.query == "sig=a%2Fb%3D&x=1+2"  # to the byte, for it is signed
    assert "Authorization" not in call.headers
    assert "X-Access" not in call.headers
    assert call.headers["Accept-Encoding"] == "identity"
    assert call.headers["User-Agent"].startswith("octoremix/")


@pytest.mark.parametrize("link", [None, "own", "own with a user"])
async def test_the_gateway_itself_is_asked_with_key_and_headers(
    link: str | None, tmp_path: Path
) -> None:
    """`/content`, and a link to the gateway's own origin, are calls to the gateway."""
    async with ScriptedGateway(contents=[content()]) as gateway:
        url = {
            "own": f"{gateway.url}/files/clip.mp4",
            "own with a user": f"{gateway.url.replace('//', '//user:else@')}/files/clip.mp4",
        }.get(link or "")
        async with session(gateway, headers={"X-Access": "internal"}) as octo:
            await octo.download(video(url, "task:1/x"), tmp_path / "clip.mp4")
    (call,) = gateway.calls
    assert call.path == ("/files/clip.mp4" if link else "/v1/videos/task%3A1%2Fx/content")
    assert call.headers["Authorization"] == f"Bearer {KEY}"
    assert call.headers["X-Access"] == "internal"
    assert call.headers["Accept"].startswith("video/*")


async def test_redirects_carry_the_key_only_home(tmp_path: Path) -> None:
    """From the gateway to a CDN, back, and out again: only the gateway's own hops see the key."""
    async with ScriptedGateway() as cdn, ScriptedGateway() as gateway:
        gateway.contents = [moved(f"{cdn.url}/a?{SECRET}"), moved(f"{cdn.url}/b", 307)]
        cdn.contents = [moved(f"{gateway.url}/back", 301), moved("/c", 308), content()]
        async with session(gateway) as octo:
            await octo.download(video(), tmp_path / "clip.mp4")
    assert [call.path for call in gateway.calls] == ["/v1/videos/task_1/content", "/back"]
    assert [call.path for call in cdn.calls] == ["/a", "/b", "/c"]
    assert cdn.calls[0].query == SECRET
    assert all(call.headers["Authorization"] == f"Bearer {KEY}" for call in gateway.calls)
    assert not any("Authorization" in call.headers for call in cdn.calls)
    assert (tmp_path / "clip.mp4").read_bytes() == MP4


async def test_a_redirect_loop_ends(tmp_path: Path) -> None:
    """Hops are counted, for each address that is tried."""
    async with ScriptedGateway(contents=[moved(f"/again?{SECRET}")]) as gateway:
        error = await fails(gateway, video(), tmp_path)
    assert isinstance(error, DownloadError)
    assert f"redirected {MOST_REDIRECTS} times" in str(error)
    assert error.url == f"{gateway.url}/again"
    assert len(gateway.calls) == MOST_REDIRECTS


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://cdn.example/clip.mp4",
        f"data:video/mp4;base64,{SECRET}",
        "javascript:alert(1)",
        "https:///clip.mp4",
        "http://cdn.example:port/clip.mp4",
        "http://[::1/clip.mp4",
        f"gopher://user:{SECRET}@cdn.example/?{SECRET}",
    ],
)
async def test_hops_to_anything_but_http_are_refused(location: str, tmp_path: Path) -> None:
    """A redirect to a file, to another protocol or to no address at all is not followed."""
    async with ScriptedGateway(contents=[moved(location)]) as gateway:
        error = await fails(gateway, video(), tmp_path)
        assert len(gateway.calls) == 1
    assert isinstance(error, DownloadError)
    assert "which is not followed" in str(error)


async def test_https_never_falls_to_http(tmp_path: Path) -> None:
    """A redirect from an encrypted address to a plain one is refused, even on the same host."""
    plain = answering(http(b"", status="302 Found", headers="Location: http://127.0.0.1:9/x\r\n"))
    async with RawServer([plain], tls=True) as gateway:
        error = await fails(gateway, video(), tmp_path, ssl=False)
    assert "redirected to 'http://127.0.0.1:9/x', which is not followed" in str(error)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply(status=403), "expired"),
        (reply(status=404), "expired"),
        (reply(status=410), "expired"),
        (reply(status=500), "error"),
        (reply("<html>gone</html>"), "a page"),
        (reply({"error": "gone"}), "JSON"),
        (reply(b"<?xml?>", headers={"Content-Type": "application/xml"}), "XML"),
        (reply(b"plainly not", headers={"Content-Type": "text/plain; charset=x"}), "text"),
        (reply(b"plainly not a video", headers=VIDEO_TYPE), "no signature"),
        (reply(b"", headers=VIDEO_TYPE), "empty"),
        (reply(status=302), "redirect to nowhere"),
        (moved("file:///etc/passwd"), "refused redirect"),
        (cut, "cut"),
    ],
)
async def test_a_link_that_fails_leads_to_the_gateways_content(
    answer: Answer, kind: str, tmp_path: Path
) -> None:
    """Whatever is wrong with the link, `/content` is the second place."""
    async with (
        ScriptedGateway(contents=[answer]) as cdn,
        ScriptedGateway(contents=[content()]) as gateway,
    ):
        async with session(gateway) as octo:
            await octo.download(video(f"{cdn.url}/clip.mp4?{SECRET}"), tmp_path / "clip.mp4")
    asked = ["/v1/videos/task_1"] if kind == "expired" else []
    assert [call.path for call in gateway.calls] == [*asked, "/v1/videos/task_1/content"]
    assert (tmp_path / "clip.mp4").read_bytes() == MP4


@pytest.mark.parametrize("link", ["", "ftp://x/y", "http://", "http://[", "https://x:y/z"])
async def test_a_link_that_is_none_is_passed_over(link: str, tmp_path: Path) -> None:
    """What can't be fetched over HTTP is not tried."""
    async with ScriptedGateway(contents=[content()]) as gateway, session(gateway) as octo:
        await octo.download(video(link), tmp_path / "clip.mp4")
        assert len(gateway.calls) == 1


# What a CDN answers, of which type the error is, and what it says.
REFUSALS: dict[str, tuple[Behaviour, type[OctoremixError], str]] = {
    "expired": (answering(http(b"", status="403 Forbidden")), ResultExpiredError, "answered 403"),
    "gone": (answering(http(b"", status="410 Gone")), ResultExpiredError, "answered 410"),
    "failing": (answering(http(b"", status="502 Bad")), DownloadError, "answered 502"),
    "partial": (answering(http(MP4, status="206 Partial")), DownloadError, "answered 206"),
    "a page": (
        answering(http(b"<html>log in</html>", headers="Content-Type: text/HTML; charset=x\r\n")),
        NotAVideoError,
        "brought text/html",
    ),
    "a page named video": (
        answering(http(b"<!doctype html>...", headers=VIDEO_HEAD)),
        NotAVideoError,
        "no video's signature",
    ),
    "compressed": (
        answering(
            http(b"\x1f\x8b\x08" + bytes(50), headers=VIDEO_HEAD + "Content-Encoding: gzip\r\n")
        ),
        NotAVideoError,
        "in the coding gzip, though none was wanted",
    ),
    "empty": (answering(http(b"", headers=VIDEO_HEAD)), IncompleteDownloadError, "0 of 0 bytes"),
    "seven bytes": (
        answering(http(MP4[:7], headers=VIDEO_HEAD)),
        IncompleteDownloadError,
        "7 of 7 bytes",
    ),
    "empty without a length": (
        answering(b"HTTP/1.1 200 OK\r\n\r\n"),
        IncompleteDownloadError,
        "0 of an unknown number of bytes",
    ),
    "shorter than announced": (
        answering(http(MP4, headers=VIDEO_HEAD, length=len(MP4) + 1)),
        APIConnectionError,
        "was cut off",
    ),
    "cut in its chunks": (
        answering(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n" + MP4[:8] + b"\r\n"
        ),
        APIConnectionError,
        "was cut off",
    ),
    "no answer": (answering(b""), APIConnectionError, "closed the connection without an answer"),
}


@pytest.mark.parametrize(("behaviour", "kind", "words"), REFUSALS.values(), ids=REFUSALS)
async def test_nothing_but_a_whole_video_is_kept(
    behaviour: Behaviour, kind: type[OctoremixError], words: str, tmp_path: Path
) -> None:
    """Each way to be no video is told apart, and leaves neither a target nor a .part."""
    async with RawServer([behaviour]) as cdn, RawServer([behaviour]) as gateway:
        link = f"{cdn.url.replace('//', f'//user:{SECRET}@')}/clip.mp4?{SECRET}#{SECRET}"
        if kind in {ResultExpiredError, DownloadError}:
            gateway.script = [
                answering(http(b"", status="302 Found", headers=f"Location: {link}\r\n"))
            ]
        error = await fails(gateway, video(link), tmp_path)
    assert type(error) is kind
    assert words in str(error)
    if isinstance(error, DownloadError):
        assert "127.0.0.1" in str(error)
        assert error.url is not None


GATEWAYS_REFUSALS: dict[str, tuple[Answer, type[OctoremixError]]] = {
    "401": (reply({"error": {"message": KEY, "code": "x"}}, status=401), AuthenticationError),
    "403": (reply({"error": {"message": "blocked"}}, status=403), PermissionDeniedError),
    "404": (reply({"error": {"message": "not found"}}, status=404), TaskNotFoundError),
    "404 of another": (reply({"message": "no such route"}, status=404), ResultExpiredError),
    "404 in HTML": (reply("<html>not here</html>", status=404), ResultExpiredError),
    "410": (reply({"error": {"message": "removed"}}, status=410), ResultExpiredError),
    "not ready": (reply({"error": {"message": "not completed"}}, status=400), BadRequestError),
    "502": (reply("<html>bad gateway</html>", status=502), ServerError),
    "a page": (reply("<html>nothing</html>", status=400), InvalidResponseError),
    "a task": (reply({"id": "task_1", "status": "processing"}, status=425), InvalidResponseError),
    "much": (reply(b"x" * (LONGEST_REFUSAL * 3), status=500), ServerError),
}


@pytest.mark.parametrize(("answer", "kind"), GATEWAYS_REFUSALS.values(), ids=GATEWAYS_REFUSALS)
async def test_a_refusal_of_the_gateways_is_named_as_of_any_call(
    answer: Answer, kind: type[OctoremixError], tmp_path: Path
) -> None:
    """Status, code and message of the gateway's own error are told, without the key."""
    async with ScriptedGateway(contents=[answer]) as gateway:
        error = await fails(gateway, video(), tmp_path)
        assert len(gateway.calls) == 1
    assert type(error) is kind
    assert isinstance(error, (APIError, DownloadError))
    assert error.status


async def test_a_refusal_that_drips_is_ended(tmp_path: Path) -> None:
    """The text of an error is not waited for longer than `request_timeout` as a whole."""

    async def drip(_: RawCall, writer: asyncio.StreamWriter) -> bool:
        writer.write(http(b"", status="500 Oops", length=10_000))
        while True:
            await asyncio.sleep(5)
            writer.write(b"x")

    loop = asyncio.get_running_loop()
    async with RawServer([drip]) as gateway:
        error = await fails(gateway, video(), tmp_path, request_timeout=30)
        assert loop.time() == pytest.approx(30, abs=1)
    assert isinstance(error, APITimeoutError)


async def test_a_body_that_falls_silent_is_ended(tmp_path: Path) -> None:
    """Each silence in a download is bounded; a slow one that goes on is not."""

    async def stutter(_: RawCall, writer: asyncio.StreamWriter) -> bool:
        writer.write(http(MP4[:100], headers=VIDEO_HEAD, length=200))
        for _number in range(5):
            await asyncio.sleep(25)
            writer.write(b"x")
        await asyncio.sleep(1000)
        return False

    loop = asyncio.get_running_loop()
    async with RawServer([stutter]) as gateway:
        error = await fails(gateway, video(), tmp_path, request_timeout=30)
        assert loop.time() == pytest.approx(5 * 25 + 30, abs=1)
    assert isinstance(error, APITimeoutError)


@pytest.mark.parametrize("size", [1, 3, 7, 8, 9])
async def test_a_signature_may_be_spread_over_chunks(size: int, tmp_path: Path) -> None:
    """The first bytes are put together before they are judged, and no length is needed."""

    def sliced(body: bytes) -> Behaviour:
        async def behave(_: RawCall, writer: asyncio.StreamWriter) -> bool:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for start in range(0, 40, size):
                piece = body[start : start + size]
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
                await asyncio.sleep(0.01)
            writer.write(b"0\r\n\r\n")
            return False

        return behave

    async with RawServer([sliced(MP4[:40])]) as gateway, session(gateway) as octo:
        path = await octo.download(video(), tmp_path / "good.mp4")
    assert path.read_bytes() == MP4[:40]
    path.unlink()
    async with RawServer([sliced(b"moov" + MP4[4:7] + b"!" * 40)]) as gateway:
        assert isinstance(await fails(gateway, video(), tmp_path), NotAVideoError)


@pytest.mark.parametrize(
    "beginning",
    [
        *(b"\0\0\0\x18" + box for box in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")),
        b"\x1a\x45\xdf\xa3webm",
    ],
)
async def test_usual_containers_are_videos(beginning: bytes, tmp_path: Path) -> None:
    """MP4, QuickTime and WebM are told by their beginning, whatever type is announced."""
    answer = reply(beginning + bytes(10), headers={"Content-Type": "binary/octet-stream"})
    async with ScriptedGateway(contents=[answer]) as gateway, session(gateway) as octo:
        path = await octo.download(video(), tmp_path / "clip")
    assert path.stat().st_size == len(beginning) + 10


@pytest.mark.parametrize(
    ("transient", "seconds"),
    [
        (broken, 7 + 7),
        (reply({}, status=429), 7 + 7),
        (reply(b"", headers=VIDEO_TYPE), 7 + 7),
        (reply("<html>", status=502), 4 + 8),
        (reply({"error": {"message": "not completed"}}, status=400), 4 + 8),
    ],
    ids=["cut", "429", "empty", "502", "not completed"],
)
async def test_transient_failures_are_tried_again(
    transient: Answer, seconds: float, tmp_path: Path
) -> None:
    """The policy's attempts and pauses hold for a download, and those of `/content` for its own."""
    loop = asyncio.get_running_loop()
    retry = RetryPolicy(attempts=3, wait=tenacity.wait_fixed(7))
    async with ScriptedGateway(contents=[transient, transient, content()]) as gateway:
        async with session(gateway, retry=retry) as octo:
            await octo.download(video(), tmp_path / "clip.mp4")
        assert len(gateway.calls) == 3
    assert loop.time() == pytest.approx(seconds, abs=1)
    assert [each.name for each in tmp_path.iterdir()] == ["clip.mp4"]


async def test_a_cut_of_the_link_is_tried_again_even_if_content_is_missing(tmp_path: Path) -> None:
    """A refusal of `/content` does not hide that another attempt at the link may do."""
    retry = RetryPolicy(attempts=2, wait=tenacity.wait_fixed(1))
    async with ScriptedGateway(contents=[broken, content()]) as cdn, ScriptedGateway() as gateway:
        async with session(gateway, retry=retry) as octo:
            await octo.download(video(f"{cdn.url}/clip.mp4"), tmp_path / "clip.mp4")
    assert (tmp_path / "clip.mp4").read_bytes() == MP4


async def test_lasting_failures_are_not_tried_again(tmp_path: Path) -> None:
    """What another attempt would not change is told at once."""
    answer = reply("<html>no video here</html>")
    async with ScriptedGateway(contents=[answer]) as gateway:
        error = await fails(gateway, video(), tmp_path, retry=RetryPolicy(attempts=5))
        assert isinstance(error, NotAVideoError)
        assert len(gateway.calls) == 1
