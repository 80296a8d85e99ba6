"""A download that was cut goes on where it was, if what goes on is the same."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from octoremix import (
    APIConnectionError,
    IncompleteDownloadError,
    OctoremixError,
    ResultExpiredError,
    RetryPolicy,
    Session,
    TaskStatus,
    TooLargeError,
    Video,
)
from octoremix._download.body import LEAST_PROGRESS
from octoremix._download.ranges import (
    Validator,
    announced_length,
    continued_total,
    validator_of,
)

from .raw_servers import KEY, Behaviour, RawServer, answering, http
from .results import CHANGED, ETAG, MP4, Result
from .scripted import ScriptedGateway
from .virtual_time import VirtualTimeLoop

PATIENT = RetryPolicy(attempts=3, wait=tenacity.wait_fixed(2))
FAR = 4 * LEAST_PROGRESS


def session(gateway: Any, **settings: Any) -> Session:
    return Session(KEY, base_url=gateway.url, **{"retry": PATIENT} | settings)


async def download(script: list[Behaviour], folder: Path, **settings: Any) -> bytes:
    """Fetch from a link whose server behaves so, while `/content` is not there."""
    async with RawServer(script) as cdn, ScriptedGateway() as gateway:
        done = Video(id="task_1", status=TaskStatus.COMPLETED, url=f"{cdn.url}/clip.mp4")
        async with session(gateway, **settings) as octo:
            path = await octo.download(done, folder / "clip.mp4")
    assert [each.name for each in folder.iterdir()] == ["clip.mp4"]
    return path.read_bytes()


async def fails(script: list[Behaviour], folder: Path, **settings: Any) -> OctoremixError:
    with pytest.raises(OctoremixError) as caught:
        await download(script, folder, **settings)
    assert list(folder.iterdir()) == []
    return caught.value


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("etag", "changed", "condition"),
    [(ETAG, "", ETAG), (ETAG, CHANGED, ETAG), ("", CHANGED, CHANGED)],
)
async def test_a_cut_is_resumed_where_it_was(
    etag: str, changed: str, condition: str, chunked: bool, tmp_path: Path
) -> None:
    """The rest alone is asked for, on the condition that the result is the same."""
    result = Result(etag=etag, changed=changed, cuts=[FAR], chunked=chunked)
    assert await download([result], tmp_path) == MP4
    first, second = result.asked
    assert first == (None, None)
    wanted, conditioned = second
    assert conditioned == condition
    assert wanted is not None
    assert LEAST_PROGRESS < int(wanted.removeprefix("bytes=").removesuffix("-")) <= FAR


async def test_progress_gives_new_attempts(tmp_path: Path) -> None:
    """As long as each attempt brings the download forward, it may be cut more often than allowed."""
    loop = asyncio.get_running_loop()
    result = Result(cuts=[2 * LEAST_PROGRESS] * 5)
    assert await download([result], tmp_path, retry=RetryPolicy(attempts=2)) == MP4
    assert len(result.asked) > 3
    assert loop.time() < 20  # each pause is a first one


async def test_attempts_in_vain_are_counted(tmp_path: Path) -> None:
    """A server that cuts on and on without bringing more is left after the policy's attempts."""
    result = Result(cuts=[FAR, *[100] * 50])
    error = await fails([result], tmp_path)
    assert isinstance(error, APIConnectionError)
    assert len(result.asked) == 1 + 2


async def test_a_cut_is_not_resumed_where_one_attempt_is_allowed(tmp_path: Path) -> None:
    """`attempts=1` means one request."""
    result = Result(cuts=[FAR])
    error = await fails([result], tmp_path, retry=RetryPolicy(attempts=1))
    assert isinstance(error, APIConnectionError)
    assert len(result.asked) == 1


@pytest.mark.parametrize("kind", ["no ranges", "no validator", "weak", "changed just now"])
async def test_without_a_safe_way_it_starts_anew(kind: str, tmp_path: Path) -> None:
    """Where the rest can't be had, or not safely, the file is begun again and is whole."""
    settings: dict[str, Any] = {
        "no ranges": {"ranges": False},
        "no validator": {"etag": ""},
        "weak": {"etag": 'W/"the-first"', "changed": CHANGED},
        "changed just now": {
            "etag": "",
            "changed": CHANGED,
            "headers": f"Date: {CHANGED}\r\nContent-Type: video/mp4\r\n",
        },
    }[kind]
    result = Result(cuts=[FAR], **settings)
    assert await download([result], tmp_path) == MP4
    assert len(result.asked) == 2
    assert (result.asked[1][0] is None) is (kind != "no ranges")


async def test_another_result_under_the_same_link_is_not_mixed_in(tmp_path: Path) -> None:
    """A result that changed meanwhile comes whole, and nothing of the old one is left."""
    new = MP4[:12] + bytes(1000)
    old, changed = Result(cuts=[FAR]), Result(new, etag='"the-second"')
    assert await download([old, changed], tmp_path) == new
    assert changed.asked[0][1] == ETAG


REST = f"{FAR}-{len(MP4) - 1}/{len(MP4)}"

WRONG: dict[str, str] = {
    "another start": f"Content-Range: bytes {FAR + 1}-{len(MP4) - 1}/{len(MP4)}\r\n",
    "from the beginning": f"Content-Range: bytes 0-{len(MP4) - 1}/{len(MP4)}\r\n",
    "another total": f"Content-Range: bytes {FAR}-{len(MP4)}/{len(MP4) + 1}\r\n",
    "an unknown total": f"Content-Range: bytes {FAR}-{len(MP4) - 1}/*\r\n",
    "no range": "",
    "another unit": f"Content-Range: seconds {REST}\r\n",
    "another ETag": f'Content-Range: bytes {REST}\r\nETag: "else"\r\n',
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_range_that_does_not_fit_is_not_taken(wrong: str, tmp_path: Path) -> None:
    """An answer of 206 that is not the rest of the same result leads to a new beginning."""

    async def lie(_: Any, writer: asyncio.StreamWriter) -> bool:
        # Its length is that of the range that it claims, so that nothing but the range is wrong.
        found = re.search(r"(\d+)-(\d+)/", WRONG[wrong])
        body = b"!" * (int(found[2]) - int(found[1]) + 1 if found else len(MP4) - FAR)
        head = f"Content-Type: video/mp4\r\n{WRONG[wrong]}"
        writer.write(http(body, status="206 Partial Content", headers=head))
        await writer.drain()
        return False

    # A cut that is met only after the reader has all that was sent.
    async def begin(_: Any, writer: asyncio.StreamWriter) -> bool:
        writer.write(http(MP4[:FAR], headers=f"ETag: {ETAG}\r\n", length=len(MP4)))
        await writer.drain()
        await asyncio.sleep(1)
        return False

    last = Result()
    assert await download([begin, lie, last], tmp_path) == MP4
    assert last.asked == [(None, None)]


async def test_a_range_that_can_not_be_served_leads_to_a_new_beginning(tmp_path: Path) -> None:
    """A 416 says that there is less than we have: then it is another result."""
    refusal = answering(http(b"<html>", status="416 Range", headers="Content-Type: text/html\r\n"))
    result = Result(cuts=[FAR])
    assert await download([result, refusal, result], tmp_path) == MP4
    assert [wanted is None for wanted, _ in result.asked] == [True, True]


async def test_a_rest_may_come_in_pieces(tmp_path: Path) -> None:
    """A server that answers with less than the whole rest is asked for what is left."""

    async def piece(call: Any, writer: asyncio.StreamWriter) -> bool:
        start = int(call.header("Range").removeprefix("bytes=").removesuffix("-"))
        end = min(start + 2 * LEAST_PROGRESS, len(MP4))
        head = f"Content-Range: bytes {start}-{end - 1}/{len(MP4)}\r\n"
        writer.write(http(MP4[start:end], status="206 Partial Content", headers=head))
        await writer.drain()
        return False

    assert await download([Result(cuts=[FAR]), piece], tmp_path) == MP4


@pytest.mark.parametrize("status", ["503 Busy", "429 Slowly"])
async def test_a_server_that_is_busy_meanwhile_is_waited_for(status: str, tmp_path: Path) -> None:
    """While it resumes, a refusal that passes counts like a cut, and `Retry-After` is honoured."""
    loop = asyncio.get_running_loop()
    result = Result(cuts=[FAR])
    busy = answering(http(b"", status=status, headers="Retry-After: 40\r\n"))
    assert await download([result, busy, result], tmp_path) == MP4
    assert loop.time() == pytest.approx(2 + 40, abs=2)
    assert result.asked[1][0] is not None


async def test_a_link_that_expires_meanwhile_is_told(tmp_path: Path) -> None:
    """What no further attempt mends ends it, and the partial file is gone."""
    gone = answering(http(b"", status="403 Forbidden"))
    error = await fails([Result(cuts=[FAR]), gone], tmp_path)
    assert isinstance(error, ResultExpiredError)


@pytest.mark.parametrize("kind", ["Content-Type: text/html\r\n", "Content-Encoding: gzip\r\n"])
async def test_a_page_in_the_middle_is_no_video(kind: str, tmp_path: Path) -> None:
    """A page or an encoded answer to the range is refused by its headers."""
    headers = f"{kind}Content-Range: bytes {REST}\r\n"
    page = answering(http(b"<html>", status="206 Partial Content", headers=headers))
    error = await fails([Result(cuts=[FAR]), page], tmp_path)
    assert any("brought" in note for note in error.__notes__)


async def test_a_total_that_comes_later_is_held_to_the_limit() -> None:
    """`max_size` holds for the length that only the range tells."""
    result = Result(cuts=[FAR], chunked=True)
    done = Video(id="task_1", status=TaskStatus.COMPLETED)
    read = 0
    with pytest.raises(TooLargeError):
        async with RawServer([result]) as gateway, session(gateway) as octo:
            async with octo.open(done, max_size=len(MP4) - 1) as stream:
                async for chunk in stream:
                    read += len(chunk)
    assert len(result.asked) == 2
    assert read <= FAR  # nothing of the rest


async def test_closing_the_session_ends_resumption(tmp_path: Path) -> None:
    """A download that waits for its next attempt fails when the session is closed."""
    async with RawServer([Result(cuts=[FAR])]) as gateway:
        octo = session(gateway, retry=RetryPolicy(wait=tenacity.wait_fixed(60)))
        done = Video(id="task_1", status=TaskStatus.COMPLETED)
        task = asyncio.create_task(octo.download(done, tmp_path / "clip.mp4"))
        await asyncio.sleep(10)
        await octo.aclose()
        with pytest.raises(OctoremixError, match="closed"):
            await task
    assert list(tmp_path.iterdir()) == []


async def test_resumption_follows_redirects_again(tmp_path: Path) -> None:
    """The link itself is asked for the rest, since where it led may have expired."""
    async with RawServer([Result(cuts=[FAR])]) as cdn:
        hop = answering(
            http(b"", status="302 Found", headers=f"Location: {cdn.url}/x?signature\r\n")
        )
        async with RawServer([hop]) as gateway, session(gateway) as octo:
            done = Video(id="task_1", status=TaskStatus.COMPLETED)
            path = await octo.download(done, tmp_path / "clip.mp4")
            assert len(gateway.calls) == 2
            assert gateway.calls[1].header("Range") == cdn.calls[1].header("Range")
            assert gateway.calls[1].header("Authorization") == f"Bearer {KEY}"
            assert cdn.calls[1].header("Authorization") is None
    assert path.read_bytes() == MP4


async def test_a_cut_of_the_gateways_content_goes_on_there(tmp_path: Path) -> None:
    """New-api cuts `/content` after 60 s: a build that forwards ranges brings the rest."""
    result = Result(cuts=[FAR, LEAST_PROGRESS + 40_000])
    async with RawServer([result]) as gateway, session(gateway) as octo:
        done = Video(id="task_1", status=TaskStatus.COMPLETED)
        path = await octo.download(done, tmp_path / "clip.mp4")
        assert all(call.header("Authorization") == f"Bearer {KEY}" for call in gateway.calls)
    assert path.read_bytes() == MP4
    assert len(result.asked) == 3


async def test_a_body_that_ends_early_in_good_order_is_not_whole(tmp_path: Path) -> None:
    """What ends before it can be told for a video is asked for again, then told."""
    short = Result(body=MP4[:5])
    error = await fails([short], tmp_path)
    assert isinstance(error, IncompleteDownloadError)
    assert [wanted for wanted, _ in short.asked] == [None] * 3


@given(
    cuts=st.lists(st.integers(0, len(MP4)), max_size=8),
    chunked=st.booleans(),
    ranges=st.booleans(),
    etag=st.sampled_from([ETAG, "", 'W/"weak"']),
)
def test_however_it_is_cut_the_file_is_whole_or_not_there(
    cuts: list[int],
    chunked: bool,
    ranges: bool,
    etag: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Any cuts, with or without ranges and lengths: every byte in its place, or an error."""
    folder = tmp_path_factory.mktemp("cuts")
    result = Result(cuts=list(cuts), chunked=chunked, ranges=ranges, etag=etag)

    async def attempt() -> None:
        assert await download([result], folder) == MP4

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        try:
            runner.run(attempt())
        except (APIConnectionError, IncompleteDownloadError):
            assert cuts  # too often
    assert [each.name for each in folder.iterdir()] in ([], ["clip.mp4"])


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"ETag": ETAG}, Validator(ETAG, "ETag")),
        ({"ETag": ETAG, "Last-Modified": CHANGED}, Validator(ETAG, "ETag")),
        ({"ETag": '""'}, Validator('""', "ETag")),
        ({"Last-Modified": CHANGED}, Validator(CHANGED, "Last-Modified")),
        ({"Last-Modified": CHANGED, "Date": CHANGED}, None),
        ({"ETag": 'W/"weak"', "Last-Modified": CHANGED}, None),
        ({"ETag": "no-quotes"}, None),
        ({"ETag": '"'}, None),
        ({}, None),
    ],
)
def test_only_what_stands_for_the_bytes_is_a_validator(
    headers: dict[str, str], validator: Validator | None
) -> None:
    """A strong ETag, else a date of change that is older than the answer."""
    assert validator_of(headers) == validator


@given(st.integers(7, 13), st.integers(7, 13), st.integers(9, 13), st.integers(9, 13))
def test_a_range_fits_only_where_all_its_numbers_do(
    start: int, end: int, whole: int, offset: int
) -> None:
    """Start, end and total are those of the rest, whatever a server claims."""
    headers = {"Content-Range": f"bytes {start}-{end}/{whole}"}
    total = continued_total(headers, offset=offset, total=12, validator=Validator(ETAG, "ETag"))
    fits = start == offset and start <= end < whole == 12
    assert total == (12 if fits else None)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("12", 12),
        (" 0 ", 0),
        ("-1", None),
        ("1e3", None),
        ("²", None),
        ("9" * 19, None),
        ("", None),
    ],
)
def test_lengths_are_plain_numbers(text: str, length: int | None) -> None:
    """What is no number in ASCII digits is no announcement."""
    assert announced_length({"Content-Length": text}) == length


def test_a_range_of_another_length_than_its_own_does_not_fit() -> None:
    """`Content-Length` and `Content-Range` of one answer must agree."""
    headers = {"Content-Range": "bytes 10-19/20", "Content-Length": "9"}
    validator = Validator(ETAG, "ETag")
    assert continued_total(headers, offset=10, total=20, validator=validator) is None
    headers["Content-Length"] = "10"
    assert continued_total(headers, offset=10, total=None, validator=validator) == 20
