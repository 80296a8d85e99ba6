"""A download's file is whole or not there, and nothing else is left beside it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import socket
import stat
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from attrs import define, field
from yarl import URL

from octoremix import (
    APIConnectionError,
    ConfigurationError,
    DownloadError,
    IncompleteDownloadError,
    RetryPolicy,
    Session,
    TaskStatus,
    Video,
)
from octoremix._download import Downloader
from octoremix._download.file import Part, _rename
from octoremix._protocol import API, Response, parse_base_url

from .raw_servers import KEY, RawCall, RawServer, http
from .scripted import ScriptedGateway, reply

MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(200_000)
DONE = Video(id="task_1", status=TaskStatus.COMPLETED)
OLD = b"what was there before"


def content(body: bytes = MP4) -> Any:
    return reply(body, headers={"Content-Type": "video/mp4"})


def session(gateway: Any, **settings: Any) -> Session:
    return Session(KEY, base_url=gateway.url, retry=RetryPolicy(attempts=1), **settings)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


async def download(target: Any, **settings: Any) -> Path:
    async with ScriptedGateway(contents=[content()]) as gateway:
        async with session(gateway, **settings) as octo:
            return await octo.download(DONE, target)


@pytest.mark.parametrize("wrap", [str, Path, lambda path: _PathLike(str(path))])
async def test_the_target_may_be_any_kind_of_path(
    wrap: Callable[[Path], Any], tmp_path: Path
) -> None:
    """A str, a Path and an `os.PathLike` name the file, and a Path comes back."""
    path = await download(wrap(tmp_path / "clip.mp4"))
    assert path == tmp_path / "clip.mp4"
    assert path.read_bytes() == MP4


class _PathLike:
    def __init__(self, path: str) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return self._path


async def test_a_relative_target_is_of_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A bare name needs no folder."""
    monkeypatch.chdir(tmp_path)
    assert await download("clip.mp4") == Path("clip.mp4")
    assert names(tmp_path) == ["clip.mp4"]


async def test_a_file_of_that_name_is_replaced(tmp_path: Path) -> None:
    """What was there is gone only when the new file is whole."""
    target = tmp_path / "clip.mp4"
    target.write_bytes(OLD)
    await download(target)
    assert target.read_bytes() == MP4
    assert names(tmp_path) == ["clip.mp4"]


async def test_a_link_is_replaced_itself(tmp_path: Path) -> None:
    """A symbolic link of the target's name, even a dangling one, does not lead elsewhere."""
    (tmp_path / "elsewhere").write_bytes(OLD)
    for name, leads in (("clip.mp4", "elsewhere"), ("other.mp4", "nowhere")):
        (tmp_path / name).symlink_to(tmp_path / leads)
        await download(tmp_path / name)
        assert not (tmp_path / name).is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == OLD


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
async def test_permissions_are_as_the_umask_says(umask: int, mode: int, tmp_path: Path) -> None:
    """The file can be read by whom any other new file can."""
    before = os.umask(umask)
    try:
        path = await download(tmp_path / "clip.mp4")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("name", ["n" * 255, "n" * 251 + ".mp4", "é" * 125 + ".mp4", "-rf *\n"])
async def test_any_name_that_the_system_takes_is_taken(name: str, tmp_path: Path) -> None:
    """The longest names leave room for the .part file's, and odd ones need no care."""
    await download(tmp_path / name)
    assert names(tmp_path) == [name]


def unusable(folder: Path) -> dict[str, tuple[Any, str]]:
    return {
        "a folder": (folder, "is a folder: name a file in it"),
        "a folder's name": (f"{folder}/new/", "is a folder: name a file in it"),
        "an empty name": ("", "is a folder"),
        "no folder": (folder / "missing" / "clip.mp4", "does not exist: make it"),
        "a folder that is a file": (folder / "file" / "clip.mp4", "does not exist: make it"),
        "a device": ("/dev/null", "is no regular file"),
        "a pipe": (folder / "pipe", "is no regular file"),
        "a socket": (folder / "socket", "is no regular file"),
        "too long": (folder / ("n" * 300), "File name too long"),
        "a NUL": (f"{folder}/a\0b", "embedded null"),
        "a loop of links": (folder / "loop", "can't be written to"),
        "None": (None, "must be a str or a Path, not NoneType"),
        "bytes": (bytes(folder / "clip.mp4"), "must be a str or a Path, not bytes"),
        "a number": (3, "must be a str or a Path, not int"),
        "an open file": (io.BytesIO(), "must be a str or a Path, not BytesIO"),
    }


@pytest.mark.parametrize("kind", unusable(Path("/x")))
async def test_a_target_that_can_not_be_written_is_refused_before_any_request(
    kind: str, tmp_path: Path
) -> None:
    """A wrong path costs no call, and the error says what to do."""
    (tmp_path / "file").write_bytes(OLD)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(tmp_path / "socket"))  # the absolute name may be too long
        target, words = unusable(tmp_path)[kind]
        before = names(tmp_path)
        async with ScriptedGateway(contents=[content()]) as gateway, session(gateway) as octo:
            with pytest.raises(ConfigurationError, match=words) as caught:
                await octo.download("task_1", target)
            assert gateway.calls == []
    assert str(caught.value).isprintable()
    assert names(tmp_path) == before


@contextlib.asynccontextmanager
async def half_done(tmp_path: Path) -> AsyncIterator[tuple[Session, asyncio.Task[Path]]]:
    """A download whose first half is written and whose second never comes."""
    target = tmp_path / "clip.mp4"
    target.write_bytes(OLD)

    async def half(_: RawCall, writer: asyncio.StreamWriter) -> bool:
        writer.write(http(MP4[:1000], headers="Content-Type: video/mp4\r\n", length=2000))
        await asyncio.Event().wait()
        return False

    async with RawServer([half]) as gateway, session(gateway) as octo:
        task = asyncio.create_task(octo.download(DONE, target))
        while not (parts := list(tmp_path.glob("*.part"))):
            await asyncio.sleep(0.01)
        assert parts[0].name.startswith("clip.mp4.")
        await asyncio.sleep(1)
        yield octo, task
    assert names(tmp_path) == ["clip.mp4"]
    assert target.read_bytes() == OLD


async def test_a_cancellation_leaves_everything_as_it_was(tmp_path: Path) -> None:
    """Cancelled in the middle: no .part, and the older file untouched."""
    async with half_done(tmp_path) as (_, task):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_closing_the_session_ends_a_download(tmp_path: Path) -> None:
    """A download that runs when the session is closed fails, and leaves nothing."""
    async with half_done(tmp_path) as (octo, task):
        await octo.aclose()
        with pytest.raises(APIConnectionError):
            await task


@pytest.mark.parametrize("method", ["create", "write", "finish"])
async def test_a_cancellation_during_work_in_a_thread_waits_for_it(
    method: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A thread can't be stopped: what it still makes after the cancellation is removed as well."""
    entered, go_on = threading.Event(), threading.Event()
    done = getattr(Part, method)

    def slow(part: Part, *args: Any) -> None:
        entered.set()
        assert go_on.wait(10)
        done(part, *args)

    monkeypatch.setattr(Part, method, slow)
    target = tmp_path / "clip.mp4"
    target.write_bytes(OLD)
    async with ScriptedGateway(contents=[content()]) as gateway, session(gateway) as octo:
        task = asyncio.create_task(octo.download(DONE, target))
        await asyncio.to_thread(entered.wait, 10)
        for _ in range(3):  # also impatiently
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert names(tmp_path) == ["clip.mp4"]
    assert target.read_bytes() == OLD


async def test_two_downloads_to_one_path_do_not_mix(tmp_path: Path) -> None:
    """Each writes its own .part, and the file is whole, whichever ends last."""
    bodies = [MP4[:12] + bytes([number]) * 50_000 for number in range(8)]
    answers = [content(body) for body in bodies]
    async with ScriptedGateway(contents=answers) as gateway, session(gateway) as octo:
        target = tmp_path / "clip.mp4"
        await asyncio.gather(*(octo.download(DONE, target) for _ in bodies))
    assert target.read_bytes() in bodies
    assert names(tmp_path) == ["clip.mp4"]


DISK: dict[str, tuple[str, OSError, str]] = {
    "a closed folder": ("create", PermissionError(errno.EACCES, "x"), "Permission denied"),
    "a read-only disk": ("create", OSError(errno.EROFS, "x"), "Read-only file system"),
    "a folder that went": ("create", FileNotFoundError(errno.ENOENT, "x"), "No such file"),
    "a full disk": ("write", OSError(errno.ENOSPC, "x"), "No space left on device"),
    "a quota": ("finish", OSError(errno.EDQUOT, "x"), "Disk quota exceeded"),
    "a broken disk": ("finish", OSError(errno.EIO, "x"), "Input/output error"),
    "no reason": ("write", OSError("odd"), "odd"),
}


@pytest.mark.parametrize(("method", "failure", "words"), DISK.values(), ids=DISK)
async def test_what_the_disk_refuses_is_told_clearly(
    method: str,
    failure: OSError,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The error names file and reason, no other address is tried, and nothing is left."""

    def fail(*_: object) -> None:
        raise OSError(failure.errno, os.strerror(failure.errno)) if failure.errno else failure

    monkeypatch.setattr(Part, method, fail)
    target = tmp_path / "clip.mp4"
    target.write_bytes(OLD)
    async with ScriptedGateway(contents=[content()]) as gateway:
        retry = RetryPolicy(attempts=5)
        async with Session(KEY, base_url=gateway.url, retry=retry) as octo:
            linked = Video(id="task_1", status=TaskStatus.COMPLETED, url=f"{gateway.url}/x?secret")
            with pytest.raises(DownloadError, match=words) as caught:
                await octo.download(linked, target)
        assert len(gateway.calls) == 1
    assert type(caught.value) is DownloadError
    assert caught.value.id == "task_1"
    assert caught.value.url == f"{gateway.url}/x"
    assert str(target) in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    assert names(tmp_path) == ["clip.mp4"]
    assert target.read_bytes() == OLD


async def test_a_really_full_disk_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What fails again while the file is closed does not keep the .part from being removed."""

    class Full:
        def __init__(self, file: BinaryIO) -> None:
            self._file = file

        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            self._file.close()
            raise OSError(errno.ENOSPC, "No space left on device")

    create = Part.create

    def create_full(part: Part) -> None:
        create(part)
        assert part._file is not None
        part._file = Full(part._file)  # type: ignore[assignment]

    monkeypatch.setattr(Part, "create", create_full)
    with pytest.raises(DownloadError, match="No space left on device"):
        await download(tmp_path / "clip.mp4")
    assert names(tmp_path) == []


async def test_a_file_that_a_scanner_holds_is_renamed_when_it_lets_go(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On Windows a rename fails while another program looks at the file; it is tried for a while."""
    replace = Path.replace
    refusals = [32, 5, 32]

    def held(path: Path, target: Path) -> Path:
        if refusals:
            error = PermissionError(errno.EACCES, "in use")
            error.winerror = refusals.pop()  # type: ignore[attr-defined]
            raise error
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", held)
    part, target = tmp_path / "part", tmp_path / "clip.mp4"
    part.write_bytes(MP4)
    await _rename(part, target)
    assert names(tmp_path) == ["clip.mp4"]
    # For ever would be too long.
    refusals.extend([32] * 100)
    with pytest.raises(DownloadError, match="in use"):
        await download(tmp_path / "other.mp4")
    refusals.clear()
    assert names(tmp_path) == ["clip.mp4"]


async def test_a_rename_that_is_refused_for_good_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Missing permissions are told at once."""
    tried = []

    def refuse(path: Path, target: Path) -> Path:
        tried.append(target)
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(DownloadError, match="Operation not permitted"):
        await download(tmp_path / "clip.mp4")
    assert len(tried) == 1
    monkeypatch.undo()
    assert names(tmp_path) == []


@define
class _Stream:
    """An answer that lies about its length in a way that no HTTP client would let pass."""

    headers: Mapping[str, str]
    body: bytes = MP4
    url: URL = field(factory=lambda: URL("https://gateway.example/v1/videos/task_1/content"))
    status: int = 200

    async def read(self) -> bytes:
        body, self.body = self.body, b""
        return body

    async def refusal(self) -> Response:
        raise AssertionError("it is none")


@pytest.mark.parametrize("announced", [len(MP4) - 1, len(MP4) + 1, 0])
async def test_another_length_than_announced_is_incomplete(announced: Any, tmp_path: Path) -> None:
    """The file's length is compared with the announced one, whatever the layer below has done."""

    @contextlib.asynccontextmanager
    async def open_stream(_: URL, __: Mapping[str, str]) -> AsyncIterator[_Stream]:
        yield _Stream({"Content-Length": str(announced)})

    async def retrieve(_: str) -> Video:
        raise AssertionError("nobody asks")

    api, once = API(parse_base_url("https://gateway.example")), RetryPolicy(attempts=1)
    downloader = Downloader(api, open_stream, retrieve, once)
    with pytest.raises(IncompleteDownloadError, match=f"brought {len(MP4)} of {announced} bytes"):
        await downloader.download(DONE, tmp_path / "clip.mp4")
    assert names(tmp_path) == []
