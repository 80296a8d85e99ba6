"""`map(..., download_to=…)`: each video in a file of its own, once."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import tenacity
from aiohttp import web

import octoremix
from octoremix._batch import saving

from .scripted import reply
from .shop import FILE, Shop, errors, keyed, open_shop, outcomes, remixes, session_at

PATIENT = octoremix.RetryPolicy(
    wait=tenacity.wait_fixed(100), content_wait=tenacity.wait_fixed(100), attempts=5
)
EMPTY = reply({"error": {"message": "gone", "type": "x"}}, status=404)


def session(shop: Shop, tmp_path: Path) -> octoremix.Session:
    return session_at(shop, journal=tmp_path / "journal", allow_private_links=True)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_each_video_becomes_a_file(tmp_path: Path) -> None:
    """The folder is made with its parents; each outcome has its path, under the default name."""
    folder = tmp_path / "deep" / "videos"
    told: list[octoremix.BatchEvent] = []
    async with open_shop() as (octo, _):
        batch = octo.map(keyed(3), download_to=folder, on_progress=told.append, ordered=True)
        found = await outcomes(batch)
    assert errors(found) == ["", "", ""]
    for number, outcome in enumerate(found):
        assert outcome.path == folder / f"k{number}-{outcome.id}.mp4"
        assert outcome.path.read_bytes() == FILE
    assert len(files(folder)) == 3
    kinds = [event.kind for event in told]
    assert kinds == ["submitted"] * 3 + ["finished"] * 3
    assert all(event.video is not None for event in told[3:])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("{key}.mp4", ["k0.mp4", "k1.mp4"]),
        ("{index:03d}.mp4", ["000.mp4", "001.mp4"]),
        ("{id}-{video}-{model}.mp4", [f"task_{n}-video_1-veo_3_1-extend.mp4" for n in (0, 1)]),
    ],
)
async def test_names_come_from_the_job(name: str, expected: list[str], tmp_path: Path) -> None:
    """Each field of the template stands for what belongs to the job."""
    async with open_shop() as (octo, _):
        await outcomes(octo.map(keyed(2), download_to=tmp_path, name=name, concurrency=1))
    assert files(tmp_path) == expected


@pytest.mark.parametrize("name", ["{key}.mp4", "{video}.mp4", "video.mp4", "{prompt}"])
async def test_no_two_jobs_share_a_file(name: str, tmp_path: Path) -> None:
    """Equal keys, or a template that tells nothing apart, give distinct names all the same."""
    items = [
        octoremix.RemixRequest(video_id="video_1", prompt="p", key=key) for key in ["k", "k", "K"]
    ]
    async with open_shop() as (octo, _):
        found = await outcomes(octo.map(items, download_to=tmp_path, name=name))
    assert errors(found) == ["", "", ""]
    assert len({str(outcome.path).casefold() for outcome in found}) == 3
    assert len(files(tmp_path)) == 3


async def test_downloads_are_bounded_apart(tmp_path: Path) -> None:
    """No more than `download_concurrency` at once, whatever the number of jobs."""
    running = most = 0

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(10)
        running -= 1
        return web.Response(body=FILE)

    async with open_shop(Shop(file=slow)) as (octo, shop):
        batch = octo.map(remixes(7), download_to=tmp_path, download_concurrency=2)
        assert errors(await outcomes(batch)) == [""] * 7
    assert most == 2
    assert len(shop.posts) == 7


async def test_a_download_that_waits_leaves_its_turn_to_others(tmp_path: Path) -> None:
    """A result that lags behind its task holds nobody up, and takes its turn again after that."""
    running = most = 0
    lagging = ["task_0"] * 3

    async def served(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(1)
        running -= 1
        late = any(request.path.endswith(f"/{name}.mp4") for name in lagging)
        if late:
            lagging.pop()
        return web.Response(body=b"" if late else FILE, status=503 if late else 200)

    async with open_shop(Shop(file=served), retry=PATIENT) as (octo, _):
        began = asyncio.get_running_loop().time()
        batch = octo.map(remixes(4), download_to=tmp_path, download_concurrency=1)
        ended = [
            (outcome.id, asyncio.get_running_loop().time() - began, outcome.error)
            async for outcome in batch
        ]
    assert [error for *_, error in ended] == [None] * 4
    assert [name for name, *_ in ended] == ["task_1", "task_2", "task_3", "task_0"]
    assert ended[2][1] < 60
    assert ended[3][1] > 300
    assert most == 1


async def test_a_batch_may_be_left_while_a_download_waits(tmp_path: Path) -> None:
    """It gives up its turn once: what else the folder is for goes on one at a time."""
    lagging = reply("", status=503)
    async with open_shop(Shop(file=lagging), retry=PATIENT) as (octo, shop):
        async with octo.map(remixes(2), download_to=tmp_path, download_concurrency=1) as batch:
            waiting = asyncio.ensure_future(anext(batch))
            await asyncio.sleep(60)
            assert len(shop.fetched) == 2
        with pytest.raises((StopAsyncIteration, octoremix.OctoremixError)):
            await waiting
    assert files(tmp_path) == []


@pytest.mark.parametrize("journalled", [False, True])
async def test_a_download_that_fails_buys_nothing_anew(journalled: bool, tmp_path: Path) -> None:
    """The outcome has the video and the error; a later run fetches it, and pays for nothing."""
    folder = tmp_path / "videos"
    settings = {"journal": tmp_path / "journal"} if journalled else {}
    async with open_shop(Shop(file=EMPTY), **settings) as (octo, shop):
        (found,) = await outcomes(octo.map(keyed(1), download_to=folder))
        assert isinstance(found.error, octoremix.OctoremixError)
        assert found.video is not None
        assert found.video.status == "completed"
        assert (found.id, found.path) == ("task_0", None)
        assert files(folder) == []
        assert len(shop.posts) == 1
        shop.file = reply(FILE)
        (again,) = await outcomes(octo.map(keyed(1), download_to=folder))
        assert again.error is None
        assert again.path is not None
        assert again.path.read_bytes() == FILE
        assert len(shop.posts) == (1 if journalled else 2)


async def test_a_failed_download_stops_nothing(tmp_path: Path) -> None:
    """Not even one that is refused for the key's sake: what is bought is another matter."""
    refusal = reply({"error": {"message": "no", "type": "x", "code": ""}}, status=401)
    async with open_shop(Shop(file=refusal)) as (octo, shop):
        batch = octo.map(remixes(3), download_to=tmp_path, concurrency=1)
        found = await outcomes(batch)
        assert all(outcome.error is not None for outcome in found)
        assert batch.stopped is None
        assert len(shop.posts) == 3


async def test_a_run_again_downloads_nothing_again(tmp_path: Path) -> None:
    """What an earlier run saved is given back with its path, without a request for it."""
    folder = tmp_path / "videos"
    async with Shop().opened() as shop:
        async with session(shop, tmp_path) as octo:
            first = await outcomes(octo.map(keyed(3), download_to=folder, ordered=True))
            saved = {entry.key: entry.downloaded_at for entry in await octo.history()}
        fetched = len(shop.fetched)
        for overwrite in (False, True):
            async with session(shop, tmp_path) as octo:
                batch = octo.map(keyed(3), download_to=folder, ordered=True, overwrite=overwrite)
                again = await outcomes(batch)
                assert again == first
                kept = {entry.key: entry.downloaded_at for entry in await octo.history()}
                assert kept == saved
        assert len(shop.fetched) == fetched
        assert len(shop.posts) == 3
    assert len(files(folder)) == 3


async def test_a_file_that_was_lost_is_fetched_again(tmp_path: Path) -> None:
    """To the same place, and the others are left alone."""
    folder = tmp_path / "videos"
    async with open_shop(journal=tmp_path / "journal") as (octo, shop):
        first = await outcomes(octo.map(keyed(2), download_to=folder, ordered=True))
        assert first[0].path is not None
        first[0].path.unlink()
        fetched = len(shop.fetched)
        assert await outcomes(octo.map(keyed(2), download_to=folder, ordered=True)) == first
        assert len(shop.fetched) == fetched + 1
        assert len(files(folder)) == 2


async def test_an_end_between_rename_and_record_leaves_one_file(tmp_path: Path) -> None:
    """Where a file goes is recorded before it is there, so that the next run knows it as its own."""
    folder = tmp_path / "videos"
    async with Shop().opened() as shop:
        async with session(shop, tmp_path) as octo:
            first = await outcomes(octo.map(keyed(1), download_to=folder))
        # As the journal was at that moment.
        with sqlite3.connect(tmp_path / "journal") as connection:
            connection.execute("UPDATE job SET state = 'completed', downloaded_at = NULL")
        connection.close()
        fetched = len(shop.fetched)
        async with session(shop, tmp_path) as octo:
            assert await outcomes(octo.map(keyed(1), download_to=folder)) == first
            (entry,) = await octo.history()
        assert entry.status == "downloaded"
        assert entry.path == str(first[0].path)
        assert len(shop.fetched) == fetched
    assert len(files(folder)) == 1


async def test_a_folder_that_was_moved_has_its_files(tmp_path: Path) -> None:
    """Files are known by their names where the folder of the record is gone."""
    before, after = tmp_path / "before", tmp_path / "after"
    async with Shop().opened() as shop:
        async with session(shop, tmp_path) as octo:
            await outcomes(octo.map(keyed(2), download_to=before))
        shutil.move(before, after)
        fetched = len(shop.fetched)
        for _ in range(2):
            async with session(shop, tmp_path) as octo:
                found = await outcomes(octo.map(keyed(2), download_to=after, ordered=True))
                assert errors(found) == ["", ""]
                for outcome in found:
                    assert outcome.path is not None
                    assert outcome.path.parent == after
                paths = {entry.path for entry in await octo.history()}
                assert paths == {str(outcome.path) for outcome in found}
        assert len(shop.fetched) == fetched
    assert len(files(after)) == 2


async def test_another_folder_gets_files_of_its_own(tmp_path: Path) -> None:
    """Where the files of an earlier run are still elsewhere, the new folder gets them too."""
    async with open_shop(journal=tmp_path / "journal") as (octo, shop):
        await outcomes(octo.map(keyed(2), download_to=tmp_path / "one"))
        await outcomes(octo.map(keyed(2), download_to=tmp_path / "two"))
        assert files(tmp_path / "one") == files(tmp_path / "two")
        assert len(shop.posts) == 2


async def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """A name that is taken, in whatever case and by whatever it is, is not taken again."""
    (tmp_path / "K0.mp4").write_text("mine")
    (tmp_path / "k1.mp4").mkdir()
    (tmp_path / "k2.mp4").symlink_to(tmp_path / "nowhere")
    async with open_shop() as (octo, _):
        batch = octo.map(keyed(4), download_to=tmp_path, name="{key}.mp4", ordered=True)
        found = await outcomes(batch)
    assert errors(found) == [""] * 4
    assert (tmp_path / "K0.mp4").read_text() == "mine"
    assert (tmp_path / "k1.mp4").is_dir()
    assert (tmp_path / "k2.mp4").is_symlink()
    paths = [outcome.path for outcome in found]
    assert [
        path is not None and path.name.startswith(f"k{n}-") for n, path in enumerate(paths)
    ] == [
        *(True, True, True),
        False,
    ]
    assert len(files(tmp_path)) == 7


async def test_a_file_that_comes_meanwhile_is_left_alone(tmp_path: Path) -> None:
    """Also what was not there when the batch began."""
    async with open_shop() as (octo, _):

        def come(event: octoremix.BatchEvent) -> None:
            if event.kind == "finished":
                (tmp_path / f"{event.request.key}.mp4").write_text("mine")

        batch = octo.map(keyed(2), download_to=tmp_path, name="{key}.mp4", on_progress=come)
        found = await outcomes(batch)
    for outcome in found:
        assert outcome.path is not None
        assert outcome.path.read_bytes() == FILE
        assert (tmp_path / f"{outcome.request.key}.mp4").read_text() == "mine"


async def test_files_are_replaced_where_that_is_asked_for(tmp_path: Path) -> None:
    """`overwrite=True` takes the plain names, whoever has them."""
    (tmp_path / "k0.mp4").write_text("mine")
    async with open_shop() as (octo, _):
        batch = octo.map(keyed(1), download_to=tmp_path, name="{key}.mp4", overwrite=True)
        (found,) = await outcomes(batch)
    assert found.path == tmp_path / "k0.mp4"
    assert found.path.read_bytes() == FILE


async def test_a_folder_that_can_not_be_made_is_told_first(tmp_path: Path) -> None:
    """Nothing is bought for a folder that is a file, lies below one, or can't be written to."""
    (tmp_path / "file").write_text("")
    async with open_shop() as (octo, shop):
        for folder in (tmp_path / "file", tmp_path / "file" / "below"):
            batch = octo.map(remixes(3), download_to=folder)
            for _ in range(2):
                with pytest.raises(octoremix.ConfigurationError, match=r"can't be used.*nothing"):
                    await anext(batch)
        assert shop.posts == []


async def test_a_folder_that_is_read_only_is_told_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is there and lets nothing in is no folder for videos."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    async with open_shop() as (octo, shop):
        with pytest.raises(octoremix.ConfigurationError, match="can't be written to"):
            await anext(octo.map(remixes(3), download_to=os.fspath(tmp_path)))
        assert shop.posts == []


async def test_only_the_last_video_of_a_chain_is_saved(tmp_path: Path) -> None:
    """A chain is one item, with one file."""
    chain = octoremix.RemixChain(video_id="video_1", prompts=["a", "b"], key="k")
    async with open_shop() as (octo, shop):
        (found,) = await outcomes(octo.map([chain], download_to=tmp_path))
        assert found.path is not None
        assert "task_1" in found.path.name
        assert files(tmp_path) == [found.path.name]
        assert len(shop.posts) == 2


async def test_what_is_stored_needs_no_gateway_but_for_its_file(tmp_path: Path) -> None:
    """A batch that stopped still fetches what was bought before."""
    async with open_shop(journal=tmp_path / "journal") as (octo, shop):
        await outcomes(octo.map(keyed(2)))
        batch = octo.map(keyed(4), download_to=tmp_path / "videos")
        batch.stop()
        found = await outcomes(batch)
        assert errors(found) == ["", "", "NotSubmittedError", "NotSubmittedError"]
        assert len(files(tmp_path / "videos")) == 2
        assert len(shop.posts) == 2


def test_a_saver_shows_its_folder(tmp_path: Path) -> None:
    """The repr names where it saves to."""

    async def never(*_: Any, **__: Any) -> Path:
        raise AssertionError

    saver = saving.Saver(tmp_path, "{id}.mp4", never, None, concurrency=1, overwrite=False)
    assert repr(saver) == f"<Saver to {tmp_path}>"


async def test_a_removed_files_name_is_not_shared_with_another_job(tmp_path: Path) -> None:
    """Whose file was removed gets a new one, also where another job of the run has its name now."""
    folder = tmp_path / "videos"
    shop = Shop(file=lambda request: web.Response(body=FILE + request.path.encode()))
    first, second = keyed(2)
    async with shop.opened():
        for requests in ([first], [second, first]):
            async with session(shop, tmp_path) as octo:
                batch = octo.map(requests, download_to=folder, name="{index}.mp4", concurrency=1)
                found = await outcomes(batch)
            assert errors(found) == [""] * len(found)
            if len(found) == 1:
                (folder / "0.mp4").unlink()
    assert found[0].path != found[1].path
    for outcome in found:
        assert outcome.path is not None
        assert outcome.path.read_bytes() == FILE + f"/files/{outcome.id}.mp4".encode()


async def test_a_file_that_comes_during_the_download_is_left(tmp_path: Path) -> None:
    """What another process puts in a video's place meanwhile stays, and the video goes elsewhere."""
    folder = tmp_path / "videos"

    def give(_: web.BaseRequest) -> web.Response:
        if not (folder / "0.mp4").exists():
            (folder / "0.mp4").write_bytes(b"another's")
        return web.Response(body=FILE)

    shop = Shop(file=give)
    async with shop.opened():
        for _ in range(2):
            async with session(shop, tmp_path) as octo:
                (outcome,) = await outcomes(
                    octo.map(keyed(1), download_to=folder, name="{index}.mp4")
                )
            assert outcome.path is not None
            assert outcome.path.read_bytes() == FILE
    assert len(shop.fetched) == 2
    assert (folder / "0.mp4").read_bytes() == b"another's"
    assert len(files(folder)) == 2


@pytest.mark.parametrize("taken", [True, False])
async def test_a_disk_without_links_is_looked_at(
    taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file can't be given a second name, its place is looked at before it is renamed."""

    def fail(path: Path, _: Path) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    folder = tmp_path / "videos"

    def give(_: web.BaseRequest) -> web.Response:
        if taken:
            (folder / "0.mp4").write_bytes(b"another's")
        return web.Response(body=FILE)

    monkeypatch.setattr(Path, "hardlink_to", fail)
    async with open_shop(Shop(file=give), allow_private_links=True) as (octo, _):
        (outcome,) = await outcomes(octo.map(keyed(1), download_to=folder, name="{index}.mp4"))
    assert outcome.path is not None
    assert outcome.path.read_bytes() == FILE
    assert (outcome.path == folder / "0.mp4") is not taken
    assert len(files(folder)) == 1 + taken


async def test_another_failure_of_a_download_is_told(tmp_path: Path) -> None:
    """A download that fails otherwise than at a file in its place is the outcome's error."""
    async with open_shop(Shop(file=reply("<html>a page</html>")), allow_private_links=True) as (
        octo,
        _,
    ):
        (outcome,) = await outcomes(octo.map(keyed(1), download_to=tmp_path))
    assert isinstance(outcome.error, octoremix.NotAVideoError)
    assert files(tmp_path) == []


async def test_a_place_is_recorded_before_the_file_is_there(tmp_path: Path) -> None:
    """While a video is being fetched the journal has the path that it will have."""
    seen = []

    def watched(request: web.BaseRequest) -> web.StreamResponse:
        with sqlite3.connect(tmp_path / "journal") as connection:
            seen.extend(connection.execute("SELECT path FROM job").fetchall())
        connection.close()
        return web.Response(body=FILE)

    async with open_shop(Shop(file=watched), journal=tmp_path / "journal") as (octo, _):
        (found,) = await outcomes(octo.map(keyed(1), download_to=tmp_path / "videos"))
    assert seen[-1] == (str(found.path),)


async def test_the_name_of_a_lost_file_is_kept_for_it(tmp_path: Path) -> None:
    """Another job with that name but for its case does not get it."""
    folder = tmp_path / "videos"
    items = [
        octoremix.RemixRequest(video_id="video_1", prompt=key, key=key) for key in ("key", "KEY")
    ]
    async with open_shop(journal=tmp_path / "journal") as (octo, _):
        (first,) = await outcomes(octo.map(items[:1], download_to=folder, name="{key}.mp4"))
        assert first.path == folder / "key.mp4"
        first.path.unlink()
        batch = octo.map(items, download_to=folder, name="{key}.mp4", concurrency=1)
        again, other = await outcomes(batch)
        assert again.path == first.path
        assert other.path is not None
        assert other.path.name.startswith("KEY-")
