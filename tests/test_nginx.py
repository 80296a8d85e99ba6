"""A real proxy between client and gateway: what it changes, breaks, refuses and redirects.

These run in real time, for nginx is another process. Their pauses are short, and nothing that they
assert depends on how long anything takes.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tenacity
from attrs import define, field

import octoremix
from octoremix import Event, PollPolicy, RemixFuture, RetryPolicy, TaskStatus, Video
from octoremix.testing import Emulator, Fault
from octoremix.testing._canned import canned_chunks

from .nginx import PATIENCE, Nginx
from .scripted import ScriptedGateway, task

pytestmark = [pytest.mark.needs("nginx"), pytest.mark.asyncio(loop_factories=["real"])]

QUICK = PollPolicy(first_delay=0.05, wait=tenacity.wait_fixed(0.05))
AGAIN = RetryPolicy(wait=tenacity.wait_fixed(0.05), attempts=10)

REDIRECTS = [301, 302, 307, 308]

UNFINISHED = Fault("status_flap")
"""While it is in the plan no job is seen to end, however slow the machine is."""


def session(gateway: Emulator | None, front: Nginx, **settings: Any) -> octoremix.Session:
    """A session that knows the proxy alone, with pauses that suit real time."""
    key = "sk-scripted" if gateway is None else gateway.api_key
    settings = {"poll": QUICK, "retry": AGAIN, **settings}
    return octoremix.Session(key, base_url=front.url, **settings)


async def buy(octo: octoremix.Session, count: int) -> list[RemixFuture]:
    """Submit so many different jobs at once."""
    submits = (octo.submit("video_1", prompt=f"snow {number}") for number in range(count))
    return await asyncio.gather(*submits)


async def all_end(futures: list[RemixFuture], gateway: Emulator) -> None:
    """Wait for every job, and hold that each was completed and paid for once."""
    videos = await asyncio.gather(*futures)
    assert {video.status for video in videos} == {TaskStatus.COMPLETED}
    assert {video.id for video in videos} == {job.id for job in gateway.books.jobs}
    gateway.books.assert_charged_once(len(futures))


def statuses(front: Nginx, method: str) -> Counter[int]:
    """How often nginx answered requests of that method with each status."""
    return Counter(call.status for call in front.log if call.method == method)


@define(eq=False)
class Witness:
    """Sees a session's events, and tells when a few polls have failed."""

    wanted: int = 2
    failures: list[Exception] = field(factory=list)
    pauses: list[float | None] = field(factory=list)
    _enough: asyncio.Event = field(factory=asyncio.Event)

    def __call__(self, event: Event) -> None:
        if event.kind == "cool_down":
            self.pauses.append(event.delay)
        if event.kind == "polled" and event.error is not None:
            self.failures.append(event.error)
            if len(self.failures) >= self.wanted:
                self._enough.set()

    async def enough(self) -> None:
        await asyncio.wait_for(self._enough.wait(), PATIENCE)


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address that refuses connections for as long as the test runs."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # and does not listen
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}"


async def test_compressed_answers_are_read(tmp_path: Path) -> None:
    """Answers that the proxy compresses are understood, and what is sent arrives as it was."""
    compressed = "gzip on; gzip_min_length 0; gzip_types application/json;"
    async with Emulator(duration=0.2) as gateway:
        async with Nginx(tmp_path, gateway.url, http=compressed) as front:
            async with session(gateway, front) as octo:
                video = await octo.remix("video/1 #ü?%2F", prompt="snöw ❄")
        assert video.status is TaskStatus.COMPLETED
        gateway.books.assert_charged_once(1)
        request = gateway.books.jobs[0].request
        assert (request.source_id, request.prompt) == ("video/1 #ü?%2F", "snöw ❄")
    assert {call.method for call in front.log} == {"POST", "GET"}
    assert {(call.status, call.encoding) for call in front.log} == {(200, "gzip")}


async def test_connections_that_close_lose_no_job_and_double_none(tmp_path: Path) -> None:
    """Where every connection is closed after two requests, each job is still one POST."""
    async with Emulator(duration=0.2) as gateway:
        async with Nginx(tmp_path, gateway.url, http="keepalive_requests 2;") as front:
            async with session(gateway, front) as octo:
                await all_end(await buy(octo, 40), gateway)
    assert statuses(front, "POST") == {200: 40}
    assert statuses(front, "GET").keys() == {200}
    assert {call.nth for call in front.log} == {1, 2}, "some connections were used again"


async def test_a_502_page_for_a_submit_is_an_unknown_outcome(tmp_path: Path, nowhere: str) -> None:
    """With no gateway behind it the proxy's 502 page tells nothing of the job: one POST, a doubt."""
    async with Nginx(tmp_path, nowhere) as front:
        async with session(None, front) as octo:
            with pytest.raises(octoremix.SubmitOutcomeUnknownError, match="502") as caught:
                await octo.submit("video_1", prompt="snow")
            assert not octo.pending
    assert caught.value.request is not None
    assert caught.value.request.prompt == "snow"
    assert statuses(front, "POST") == {502: 1}


async def test_a_502_page_after_the_charge_is_not_paid_again(tmp_path: Path) -> None:
    """A gateway that dies after the charge is a 502 page too: the job is charged once."""
    async with Emulator(faults=["lost_answer"]) as gateway:
        async with Nginx(tmp_path, gateway.url) as front:
            async with session(gateway, front) as octo:
                with pytest.raises(octoremix.SubmitOutcomeUnknownError, match="502"):
                    await octo.submit("video_1", prompt="snow")
        gateway.books.assert_charged_once(1)
    assert statuses(front, "POST") == {502: 1}


async def test_a_504_page_for_a_job_that_was_accepted(tmp_path: Path) -> None:
    """Where the proxy's patience ends before the gateway's answer, the job is charged once."""
    impatient = "proxy_read_timeout 100ms;"
    late = Fault("hung_submit", seconds=1.0)
    async with Emulator(faults=[late]) as gateway:
        async with Nginx(tmp_path, gateway.url, http=impatient) as front:
            async with session(gateway, front) as octo:
                with pytest.raises(octoremix.SubmitOutcomeUnknownError, match="504"):
                    await octo.submit("video_1", prompt="snow")
                async with asyncio.timeout(PATIENCE):
                    while not gateway.books.accepted:
                        await asyncio.sleep(0.02)
        gateway.books.assert_charged_once(1)
    assert statuses(front, "POST") == {504: 1}


async def test_a_task_survives_a_gateway_that_is_down(tmp_path: Path) -> None:
    """502 pages while the gateway is restarted are failed polls, and the wait goes on."""
    witness = Witness()
    async with Emulator(duration=0.0, faults=[UNFINISHED]) as gateway:
        async with Nginx(tmp_path, gateway.url) as front:
            async with session(gateway, front, on_event=witness) as octo:
                futures = await buy(octo, 3)
                await gateway.aclose()
                await witness.enough()
                await gateway.start()
                gateway.faults.remove(UNFINISHED)
                await all_end(futures, gateway)
    assert octoremix.ServerError in {type(error) for error in witness.failures}
    assert statuses(front, "GET")[502] >= 1
    assert statuses(front, "POST") == {200: 3}


async def test_a_task_survives_a_page_of_maintenance(tmp_path: Path) -> None:
    """503 pages of the proxy's own are failed polls, and the wait goes on."""
    witness = Witness()
    sign = tmp_path / "maintenance"
    closed = f'if (-f "{sign}") {{ return 503; }}'
    async with Emulator(duration=0.0, faults=[UNFINISHED]) as gateway:
        async with Nginx(tmp_path, gateway.url, server=closed) as front:
            async with session(gateway, front, on_event=witness) as octo:
                futures = await buy(octo, 3)
                sign.touch()
                await witness.enough()
                sign.unlink()
                gateway.faults.remove(UNFINISHED)
                await all_end(futures, gateway)
    assert {type(error) for error in witness.failures} == {octoremix.ServerError}
    assert statuses(front, "GET")[503] >= 2
    assert statuses(front, "POST") == {200: 3}


async def test_a_task_survives_polls_that_hang(tmp_path: Path) -> None:
    """504 pages for polls that the gateway leaves unanswered are failed polls."""
    impatient = """
        location ~ ^/v1/videos/[^/]+$ {
            proxy_pass http://gateway;
            proxy_read_timeout 200ms;
        }
    """
    witness = Witness()
    async with Emulator(duration=0.0, faults=[Fault("hung", on="query", next=2)]) as gateway:
        async with Nginx(tmp_path, gateway.url, server=impatient) as front:
            async with session(gateway, front, on_event=witness) as octo:
                await all_end(await buy(octo, 1), gateway)
    assert {type(error) for error in witness.failures} == {octoremix.ServerError}
    assert statuses(front, "GET")[504] >= 2
    assert statuses(front, "POST") == {200: 1}


async def test_a_limit_on_polls_is_a_pause_for_all(tmp_path: Path) -> None:
    """Where the proxy answers 429 to polls the session pauses, and every job still ends."""
    # A few in a second and four at once, of eight that are due together.
    limited = """
        map $request_method $poller { GET $binary_remote_addr; default ""; }
        limit_req_zone $poller zone=polls:1m rate=4r/s;
        limit_req zone=polls burst=3 nodelay;
        limit_req_status 429;
    """
    witness = Witness()
    async with Emulator(duration=0.0, faults=[UNFINISHED]) as gateway:
        async with Nginx(tmp_path, gateway.url, http=limited) as front:
            async with session(gateway, front, on_event=witness) as octo:
                futures = await buy(octo, 8)
                await witness.enough()
                gateway.faults.remove(UNFINISHED)
                await all_end(futures, gateway)
    assert {type(error) for error in witness.failures} == {octoremix.RateLimitError}
    assert witness.pauses
    assert min(pause or 0.0 for pause in witness.pauses) >= 1.0
    # What a pause did not stop were the polls that were out when it began.
    assert statuses(front, "GET")[429] <= 8 * len(witness.pauses)
    assert statuses(front, "POST") == {200: 8}


async def test_a_submit_that_was_limited_is_sent_again(tmp_path: Path) -> None:
    """The proxy's 429 page says that nothing was bought: the submit is repeated, and paid once."""
    sign = tmp_path / "busy"
    limited = f'if (-f "{sign}") {{ return 429; }}'

    def relax(event: Event) -> None:
        if event.kind == "cool_down":
            sign.unlink()

    async with Emulator(duration=0.0) as gateway:
        async with Nginx(tmp_path, gateway.url, server=limited) as front:
            sign.touch()
            async with session(gateway, front, on_event=relax) as octo:
                await all_end(await buy(octo, 1), gateway)
    assert statuses(front, "POST") == {429: 1, 200: 1}


@pytest.mark.parametrize("status", REDIRECTS)
async def test_a_submit_is_not_redirected(status: int, tmp_path: Path) -> None:
    """A POST that is redirected to another origin goes no further, and nor does the key."""
    async with ScriptedGateway() as gateway, ScriptedGateway() as elsewhere:
        moved = f"location /v1/ {{ return {status} {elsewhere.url}$request_uri; }}"
        async with Nginx(tmp_path, gateway.url, server=moved) as front:
            async with session(None, front) as octo:
                with pytest.raises(octoremix.UnexpectedRedirectError) as caught:
                    await octo.submit("video_1", prompt="snow")
    assert caught.value.location == f"{elsewhere.url}/v1/videos/video_1/remix"
    # The others say that the answer lies elsewhere, and so that the request may have been heard.
    assert caught.value.safe_to_resubmit is (status in {307, 308})
    assert statuses(front, "POST") == {status: 1}
    assert not gateway.calls
    assert not elsewhere.calls


@pytest.mark.parametrize("status", REDIRECTS)
async def test_a_poll_is_not_redirected(status: int, tmp_path: Path) -> None:
    """A GET that is redirected to another origin is a failed poll, and followed by nobody."""
    witness = Witness()
    sign = tmp_path / "moved"
    async with ScriptedGateway(polls=[task("completed")]) as gateway:
        async with ScriptedGateway() as elsewhere:
            moved = f'if (-f "{sign}") {{ return {status} {elsewhere.url}$request_uri; }}'
            async with Nginx(tmp_path, gateway.url, server=moved) as front:
                sign.touch()
                async with session(None, front, on_event=witness) as octo:
                    with pytest.raises(octoremix.UnexpectedRedirectError):
                        await octo.retrieve("task_1")
                    future = octo.track("task_1")
                    await witness.enough()
                    sign.unlink()
                    assert (await future).status is TaskStatus.COMPLETED
    assert {type(error) for error in witness.failures} == {octoremix.UnexpectedRedirectError}
    assert statuses(front, "GET")[status] >= 3
    assert {call.headers["Authorization"] for call in gateway.calls} == {"Bearer sk-scripted"}
    assert not elsewhere.calls


@pytest.mark.parametrize("status", REDIRECTS)
async def test_a_download_is_redirected_without_the_key(status: int, tmp_path: Path) -> None:
    """A result that lies at another origin is fetched from there, and the key stays here."""
    async with Emulator(duration=0.0, cdn=True) as gateway:
        stored = f"return {status} {gateway.cdn_url}/$1.mp4;"
        server = f"location ~ ^/v1/videos/([^/]+)/content$ {{ {stored} }}"
        async with Nginx(tmp_path, gateway.url, server=server) as front:
            async with session(gateway, front) as octo:
                video = await octo.remix("video_1", prompt="snow")
                without_link = Video(id=video.id, status=TaskStatus.COMPLETED)
                file = await octo.download(without_link, tmp_path / "snow.mp4")
        assert file.read_bytes() == b"".join(canned_chunks(file.stat().st_size))
        assert gateway.books.cdn_requests == 1
        assert not gateway.books.cdn_keys
    assert [call.status for call in front.log if call.path.endswith("/content")] == [status]


@pytest.mark.parametrize("faults", [[], [Fault("content_truncated", on="content", next=1)]])
async def test_a_download_is_whole(faults: list[Fault], tmp_path: Path) -> None:
    """A video arrives byte for byte through buffers and compression, if need be the second time."""
    size = 1_000_000
    narrow = """
        gzip on; gzip_types *;
        proxy_buffers 4 4k; proxy_busy_buffers_size 8k;
    """
    async with Emulator(duration=0.0, content_size=size, faults=faults) as gateway:
        async with Nginx(tmp_path, gateway.url, http=narrow) as front:
            async with session(gateway, front) as octo:
                video = await octo.remix("video_1", prompt="snow")
                assert video.url is not None
                assert video.url.startswith(front.url)
                file = await octo.download(video, tmp_path / "snow.mp4")
        assert file.read_bytes() == b"".join(canned_chunks(size))
        assert not list(tmp_path.glob("*.part"))
    fetched = [call for call in front.log if call.path.endswith("/content")]
    assert len(fetched) == 1 + len(faults)
    assert {call.encoding for call in fetched} == {""}


async def test_a_configuration_that_nginx_refuses_is_told(tmp_path: Path, nowhere: str) -> None:
    """A mistake in a test's own directives is reported with nginx's words, and hangs nobody."""
    with pytest.raises(AssertionError, match="no_such_directive"):
        async with Nginx(tmp_path, nowhere, server="no_such_directive on;"):
            pass
