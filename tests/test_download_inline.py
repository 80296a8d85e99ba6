"""A result may stand in its own link, and is held to the same checks there."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from octoremix import (
    DownloadError,
    IncompleteDownloadError,
    NotAVideoError,
    OctoremixError,
    RetryPolicy,
    Session,
    TaskStatus,
    TooLargeError,
    Video,
)
from octoremix._download import inline
from octoremix._download.inline import decode
from octoremix._download.links import Place

from .raw_servers import KEY
from .scripted import ScriptedGateway, reply, task

MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(range(256)) * 1000
ENCODED = base64.b64encode(MP4).decode()


def video(link: str) -> Video:
    return Video(id="task_1", status=TaskStatus.COMPLETED, url=link)


def session(gateway: ScriptedGateway, attempts: int = 1) -> Session:
    retry = RetryPolicy(attempts=attempts, wait=tenacity.wait_fixed(1))
    return Session(KEY, base_url=gateway.url, retry=retry)


def refused(link: str) -> OctoremixError:
    with pytest.raises(OctoremixError) as caught:
        decode("task_1", Place(URL("data:"), link))
    assert caught.value.id == "task_1"
    assert len(str(caught.value)) < 200
    return caught.value


@pytest.mark.parametrize(
    "link",
    [
        f"data:video/mp4;base64,{ENCODED}",
        f"DATA:Video/MP4;codecs=avc1;BASE64,{ENCODED}",
        f"data:video/mp4;base64,{quote(ENCODED, safe='')}",
        f"data:video/mp4;base64,{ENCODED[:100]}%0A {ENCODED[100:]}\n",
        f"data:video/mp4,{quote(MP4)}",
    ],
    ids=["base64", "in capitals", "quoted base64", "broken lines", "quoted"],
)
async def test_a_video_in_its_link_is_decoded(link: str, tmp_path: Path) -> None:
    """In base64 or percent-encoded; no server is asked."""
    async with ScriptedGateway() as gateway, session(gateway) as octo:
        path = await octo.download(video(link), tmp_path / "clip.mp4")
        assert path.read_bytes() == MP4
        async with octo.open(video(link)) as stream:
            assert (stream.url, stream.length) == ("data:…", len(MP4))
            assert stream.content_type == "video/mp4"
            assert b"".join([chunk async for chunk in stream]) == MP4
        assert gateway.calls == []


@pytest.mark.parametrize(
    ("link", "words"),
    [
        (f"data:text/html;base64,{ENCODED}", "brought text/html"),
        (f"data:;base64,{ENCODED}", "brought text/plain"),
        ("data:", "brought text/plain"),
        (f"data:image/png;base64,{ENCODED}", "brought image/png"),
        ("data:video/mp4;base64,A", "can't be decoded"),
        ("data:video/mp4;base64,!!!!", "can't be decoded"),
        ("data:video/mp4;base64,\ud800", "can't be decoded"),
    ],
)
def test_what_is_no_video_in_a_link_is_refused(link: str, words: str) -> None:
    """Other types, none, and what can't be decoded."""
    error = refused(link)
    assert words in str(error)
    assert isinstance(error, DownloadError)
    assert error.url == "data:…"


def test_a_link_that_is_too_long_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a limit without `max_size`, since all of it is in memory."""
    monkeypatch.setattr(inline, "LONGEST_LINK", 100)
    assert "longer than 100" in str(refused(f"data:video/mp4;base64,{ENCODED}"))


@pytest.mark.parametrize(
    ("link", "kind"),
    [
        ("data:video/mp4;base64,", IncompleteDownloadError),
        ("data:video/mp4,1234567", IncompleteDownloadError),
        ("data:video/mp4,<html>no video</html>", NotAVideoError),
        ("data:text/html,<html>", NotAVideoError),
    ],
)
async def test_a_link_without_a_video_leads_to_content(
    link: str, kind: type[OctoremixError], tmp_path: Path
) -> None:
    """It is one place among others, and held to what every result is."""
    async with ScriptedGateway() as gateway, session(gateway) as octo:
        with pytest.raises(DownloadError) as caught:
            await octo.download(video(link), tmp_path / "clip.mp4")
        gateway.contents = [reply(MP4, headers={"Content-Type": "video/mp4"})]
        path = await octo.download(video(link), tmp_path / "clip.mp4")
        assert len(gateway.calls) == 2
    assert path.read_bytes() == MP4
    if kind is NotAVideoError:
        assert "data:…" in caught.value.__notes__[0]
    else:
        assert isinstance(caught.value, kind)


async def test_a_limit_holds_for_a_link_too(tmp_path: Path) -> None:
    """`max_size` is the video's, not the link's."""
    link = f"data:video/mp4;base64,{ENCODED}"
    async with ScriptedGateway() as gateway, session(gateway) as octo:
        await octo.download(video(link), tmp_path / "clip.mp4", max_size=len(MP4))
        with pytest.raises(TooLargeError):
            await octo.download(video(link), tmp_path / "other.mp4", max_size=len(MP4) - 1)
        assert gateway.calls == []


async def test_an_expired_link_may_be_replaced_by_the_video_itself(tmp_path: Path) -> None:
    """The query that refreshes a link may bring the result at once."""
    async with ScriptedGateway() as gateway:
        gateway.polls = [task("completed", url=f"data:video/mp4;base64,{ENCODED}")]
        async with ScriptedGateway(contents=[reply(status=410)]) as cdn:
            async with session(gateway) as octo:
                old = video(f"{cdn.url}/clip.mp4")
                path = await octo.download(old, tmp_path / "clip.mp4")
    assert path.read_bytes() == MP4
    assert [call.path for call in gateway.calls] == ["/v1/videos/task_1"]


def test_a_long_link_is_not_shown() -> None:
    """What a place says of itself holds neither megabytes nor permissions."""
    assert repr(Place(URL("data:"), f"data:video/mp4;base64,{ENCODED}")).count("A") < 10
    assert "secret" not in repr(Place(URL("https://user:secret@cdn.example/x?secret#secret")))


@given(st.text())
def test_any_link_is_decoded_or_refused(text: str) -> None:
    """No text in the place of a video is anything but a video or an error of ours."""
    for start in ("data:", "data:video/mp4,", "data:video/mp4;base64,"):
        try:
            found = decode("task_1", Place(URL("data:"), start + text))
        except DownloadError:
            continue
        assert found.status == 200
