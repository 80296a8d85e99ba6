"""What is in the files of a journal, and what is not."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

import octoremix

from .journals import entry, path, query, session, states
from .scripted import ScriptedGateway, cut, reply, task

__all__ = ["path"]

SECRETS = (b"sk-secret", b"Bearer")
PRIVATE = "a wedding in Reykjavik"
QUOTING = f"the prompt '{PRIVATE}' is not allowed"


def content(path: Path) -> bytes:
    """Return the bytes of all the files of a journal."""
    files = [each for each in path.parent.iterdir() if each.name.startswith(path.name)]
    assert len(files) >= 2
    return b"".join(each.read_bytes() for each in files)


def quoting(status: str, **fields: Any) -> Any:
    """Answer with a task that repeats the prompt in every place that is known."""
    return task(
        status,
        prompt=PRIVATE,
        input={"prompt": PRIVATE},
        params=f'{{"p": "{PRIVATE}"}}',
        data={"input": PRIVATE},
        model="veo_3_1-extend",
        created_at=1_790_000_000,
        **fields,
    )


async def use(path: Path, *, store_prompts: bool) -> bytes:
    """Let each kind of outcome be recorded, and return all that is on the disk."""
    refusal = {"code": "invalid_request", "message": QUOTING, "data": None}
    submits = [
        reply(refusal, status=400),
        reply({"error": {"message": QUOTING, "type": "new_api_panic"}}, status=500),
        cut,
        quoting("queued", task_id="task_1"),
        quoting("queued", task_id="task_2"),
    ]
    polls = [
        quoting("completed", task_id="task_1", url="https://cdn.example/1.mp4?sig=x"),
        quoting("failed", task_id="task_2", error={"code": "moderated", "message": QUOTING}),
    ]
    journal = octoremix.SQLiteJournal(path, store_prompts=store_prompts)
    async with ScriptedGateway(submits=submits, polls=polls) as gateway:
        async with session(gateway, journal) as octo:
            for key in "abcde":
                with contextlib.suppress(octoremix.OctoremixError):
                    await octo.remix("video_1", prompt=PRIVATE, extra={"note": PRIVATE}, key=key)
            await octo.history()
            found = content(path)
        return found + content(path)


async def test_the_key_is_in_no_file(path: Path) -> None:
    """Whatever happens, the API key is not written; prompts and links are."""
    found = await use(path, store_prompts=True)
    assert not any(secret in found for secret in SECRETS)
    assert PRIVATE.encode() in found
    assert b"sig=x" in found
    assert list(states(path).values()) == [
        "refused", "in_doubt", "in_doubt", "completed", "failed",
    ]  # fmt: skip
    assert "is not allowed" in (await entry(path, "a")).reason


async def test_without_prompts_there_is_none_in_any_file(path: Path) -> None:
    """With `store_prompts=False` neither request nor answer leaves a prompt, in log and database."""
    found = await use(path, store_prompts=False)
    for word in (b"wedding", b"Reykjavik", b"note", *SECRETS):
        assert word not in found
    a, b, c, d, e = [await entry(path, key) for key in "abcde"]
    assert [each.request for each in (a, b, c, d, e)] == [None] * 5
    assert a.reason == "BadRequestError (400)"
    assert b.reason == c.reason == "SubmitOutcomeUnknownError"
    assert d.video is not None
    assert (d.video.status, d.url) == ("completed", "https://cdn.example/1.mp4")
    assert d.video.model == "veo_3_1-extend"
    assert d.video.created_at is not None
    assert d.video.created_at.timestamp() == 1_790_000_000
    assert e.video is not None
    assert e.video.error is not None
    assert (e.video.status, e.video.error.code) == ("failed", "moderated")


async def test_a_failure_without_a_code_is_kept_without_prompts(path: Path) -> None:
    """A failure of which only a text is known is still a failure in a journal without prompts."""
    journal = octoremix.SQLiteJournal(path, store_prompts=False)
    async with ScriptedGateway(polls=[task("failed", error=QUOTING)]) as gateway:
        for _ in range(2):
            async with session(gateway, journal) as octo:
                with pytest.raises(octoremix.RemixFailedError):
                    await octo.remix("video_1", prompt="snow", key="a")
        assert len(gateway.posts) == 1


async def test_without_prompts_a_key_still_stands_for_its_request(path: Path) -> None:
    """The digest finds a reused key out, and lets the same request in."""
    journal = octoremix.SQLiteJournal(path, store_prompts=False)
    async with ScriptedGateway(polls=[task("processing")]) as gateway:
        async with session(gateway, journal) as octo:
            await octo.submit("video_1", prompt=PRIVATE, key="a")
        async with session(gateway, journal) as octo:
            (resumed,) = await octo.resume()
            assert resumed.request is None
            with pytest.raises(octoremix.KeyReusedError):
                await octo.submit("video_1", prompt="rain", key="a")
            assert await octo.submit("video_1", prompt=PRIVATE, key="a") is resumed
        assert len(gateway.posts) == 1


async def test_without_prompts_a_doubt_cannot_be_sent_again_from_the_journal(path: Path) -> None:
    """`resubmit` needs what was asked for; abandoned, the key buys it again when it is told."""
    journal = octoremix.SQLiteJournal(path, store_prompts=False)
    async with ScriptedGateway(submits=[cut, task("queued")]) as gateway:
        async with session(gateway, journal) as octo:
            with pytest.raises(octoremix.SubmitOutcomeUnknownError):
                await octo.submit("video_1", prompt=PRIVATE, key="a")
            (doubt,) = await octo.in_doubt()
            assert doubt.request is None
            with pytest.raises(octoremix.JournalError, match="retry_failed=True"):
                await octo.resubmit(doubt)
            await octo.abandon(doubt)
            await octo.submit("video_1", prompt=PRIVATE, key="a", retry_failed=True)
        assert len(gateway.posts) == 2


async def test_what_is_pruned_is_overwritten(path: Path) -> None:
    """After `prune` no byte of an erased prompt or link is in the files."""
    polls = [task("completed", url="https://cdn.example/1.mp4?sig=x")]
    journal = octoremix.SQLiteJournal(path)
    async with ScriptedGateway(polls=polls) as gateway, session(gateway, path) as octo:
        await octo.remix("video_1", prompt=PRIVATE, key="a")
        await octo.history()
        assert PRIVATE.encode() in content(path)
        assert await journal.prune(older_than=0) == 1
        assert query(path, "SELECT count(*) FROM job") == [(0,)]
        found = content(path)
        assert PRIVATE.encode() not in found
        assert b"sig=x" not in found
