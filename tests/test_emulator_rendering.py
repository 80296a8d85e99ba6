"""Jobs whose videos are really made: their times, their sources and what a prompt does."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octoremix.testing import Emulator, _renderer
from octoremix.testing._effects import EFFECTS, MAX_EFFECTS, choose_effects
from octoremix.testing._jobs import Job, Phase, Rendering, read

from .emulator_client import BODY, Client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(
    ("ended_at", "share", "now", "phase", "progress"),
    [
        (None, 0.5, 0.0, Phase.QUEUED, 0),
        (None, 0.5, 2.0, Phase.PROCESSING, 20),
        (None, 0.5, 99.0, Phase.PROCESSING, 50),
        (None, 1.0, 99.0, Phase.PROCESSING, 99),
        (5.0, 1.0, 9.0, Phase.PROCESSING, 90),
        (5.0, 1.0, 10.0, Phase.COMPLETED, 100),
        (50.0, 1.0, 49.0, Phase.PROCESSING, 99),
        (50.0, 1.0, 50.0, Phase.COMPLETED, 100),
    ],
)
def test_a_rendered_job_is_ready_when_time_and_rendering_are(
    tmp_path: Path,
    ended_at: float | None,
    share: float,
    now: float,
    phase: Phase,
    progress: int,
) -> None:
    """The later of the two decides, and progress is that of the slower."""
    rendering = Rendering(tmp_path, share, ended_at)
    job = Job("v", "", "m", "8", "", 0.0, 1000.0, 10.0, queued=1.0, rendering=rendering)
    reading = read(job, now)
    assert (reading.phase, reading.progress) == (phase, progress)


def test_a_rendering_that_failed_fails_its_job(tmp_path: Path) -> None:
    """The reason of a failed rendering is the job's error."""
    rendering = Rendering(tmp_path, 0.1, 20.0, "no picture")
    job = Job("v", "", "m", "8", "", 0.0, 1000.0, 10.0, rendering=rendering)
    reading = read(job, 30.0)
    assert (reading.phase, reading.message) == (Phase.FAILED, "no picture")
    assert reading.ended_at == 1020.0


def test_a_job_without_a_duration_waits_for_its_rendering(tmp_path: Path) -> None:
    """Where no time has to pass the progress is that of the rendering alone."""
    job = Job("v", "", "m", "8", "", 0.0, 0.0, 0.0, rendering=Rendering(tmp_path, 0.25))
    assert read(job, 0.0).progress == 25


class StubRender:
    """Stands in for the module that needs PyAV: its videos are the names of their makers."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.hold = threading.Event()
        self.hold.set()

    class Progress:
        def __init__(self, report: Callable[[float], None], stopped: Callable[[], bool]) -> None:
            self.report = report
            self.stopped = stopped

        def at(self, share: float) -> None:
            if self.stopped():
                raise RuntimeError
            self.report(share)

    def render_scene(self, target: Path) -> None:
        self.calls.append("scene")
        target.write_text("scene")

    def prepare_source(self, file: Path, target: Path, progress: Progress) -> None:
        self.calls.append("prepare")
        progress.at(0.5)
        target.write_text(file.read_text())

    def render_remix(self, source: Path, prompt: str, target: Path, progress: Progress) -> None:
        progress.at(0.5)
        self.hold.wait(10)
        progress.at(1.0)
        if prompt == "break":
            raise OSError(5, "the codec gave up", str(source))
        target.write_text(f"{source.read_text()} {prompt}")


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> StubRender:
    module = StubRender()
    monkeypatch.setattr(_renderer, "load", lambda: module)
    return module


async def test_rendered_jobs_build_on_each_other(stub: StubRender, tmp_path: Path) -> None:
    """A remix is made of its source: a file, a video made here or else the generated scene."""
    file = tmp_path / "cow.mp4"
    file.write_text("cow")
    async with (
        Emulator(duration=1, render=True, sources={"cow": file, "cow too": file}) as gateway,
        Client(gateway) as client,
    ):
        _, made = await client.json("POST", "/v1/videos", json=BODY | {"prompt": "nothing"})
        ids = [made["id"], (await client.remix("cow"))["id"], (await client.remix("cow too"))["id"]]
        await asyncio.sleep(30)
        ids.append((await client.remix(ids[1], prompt="at night"))["id"])
        await asyncio.sleep(30)
        contents = [(await client.call("GET", f"/v1/videos/{i}/content"))[2] for i in ids]
    assert contents == [
        b"scene nothing",
        b"cow make it snow",
        b"cow make it snow",
        b"cow make it snow at night",
    ]
    assert sorted(stub.calls) == ["prepare", "scene"]


async def test_a_job_waits_for_its_rendering_and_takes_its_failure(stub: StubRender) -> None:
    """Past its duration a job is still processing while its video is made, and may yet fail."""
    stub.hold.clear()
    async with Emulator(duration=0, render=True) as gateway, Client(gateway) as client:
        ids = [(await client.remix(prompt=prompt))["id"] for prompt in ("fine", "break")]
        while (await client.query(ids[0]))["progress"] != 50:
            await asyncio.sleep(0)
        status, _, _ = await client.call("GET", f"/v1/videos/{ids[0]}/content")
        assert status == 400
        stub.hold.set()
        await asyncio.sleep(30)
        fine, broken = [await client.query(video_id) for video_id in ids]
        _, _, source = await client.call("GET", "/v1/videos/video_123/content")
    assert (fine["status"], fine["progress"]) == ("completed", 100)
    assert broken["status"] == "failed"
    error = {"code": "render_failed", "message": "rendering failed: the codec gave up"}
    assert broken["error"] == error
    assert source == b"scene"


async def test_a_job_that_is_to_fail_is_not_rendered(stub: StubRender) -> None:
    """The outcome that was asked for is had without the work."""
    async with (
        Emulator(duration=0, outcome="failed", render=True) as gateway,
        Client(gateway) as client,
    ):
        video = await client.query((await client.remix())["id"])
    assert video["error"]["code"] == "generation_failed"
    assert not stub.calls


async def test_closing_stops_what_is_being_rendered(stub: StubRender) -> None:
    """Work that has not begun is dropped, and work that has ends at its next step."""
    async with Emulator(render=True) as gateway, Client(gateway) as client:
        stub.hold.clear()
        for number in range(20):
            await client.remix(prompt=str(number))
        # The thread is let go only when the gateway waits for it.
        threading.Timer(0.2, stub.hold.set).start()
    assert stub.calls == ["scene"]


def _names(prompt: str) -> list[str]:
    return [effect.name for effect in choose_effects(prompt)]


@pytest.mark.parametrize(
    ("prompt", "names"),
    [
        ("Make it SNOW!", ["snow"]),
        ("a rainy night", ["night", "rain"]),
        ("a train in Niceland", None),
        ("牛飞到海里去了", ["underwater"]),
        ("turn it into an old film", ["old film"]),
        ("a film of 1920, in colour", ["old film"]),
        ("the cows are dancing", ["spin"]),
        ("black and white, upside down", ["monochrome", "upside down"]),
    ],
)
def test_the_words_of_a_prompt_choose_what_happens(prompt: str, names: list[str] | None) -> None:
    """Whole words count, in any case and with their endings; a part of a word doesn't."""
    if names is None:
        assert _names(prompt)[0] == "tint"
    else:
        assert _names(prompt) == names


@given(st.text())
def test_any_prompt_does_something_and_always_the_same(prompt: str) -> None:
    """Every text has between one effect and the most that are combined."""
    assert 1 <= len(choose_effects(prompt)) <= MAX_EFFECTS
    assert choose_effects(prompt) == choose_effects(prompt)


def test_prompts_without_known_words_differ() -> None:
    """Different texts are turned and shaped differently, also where no word is known."""
    prompts = [hashlib.sha256(bytes([i])).hexdigest() for i in range(50)]
    assert len({str(choose_effects(prompt)) for prompt in prompts}) > 15


def test_every_effect_is_asked_for_by_its_words() -> None:
    """Each word of the table that is no pattern itself finds its own effect."""
    for effect in EFFECTS:
        for word in effect.words:
            if not set(word) & set("[]?"):
                assert effect in choose_effects(word), word


def test_without_pyav_rendering_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra is missing the error says how to get it, and all else works."""
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "octoremix.testing._render", raising=False)
    monkeypatch.delitem(sys.modules, "octoremix.testing._render_graph", raising=False)
    with pytest.raises(ImportError, match=r'pip install "octoremix\[demo\]"'):
        Emulator(render=True)
    Emulator(render=False)


def test_loading_the_emulator_leaves_pyav_alone() -> None:
    """PyAV is loaded when something is to be rendered, and not before."""
    code = "import sys, octoremix.testing; sys.exit('av' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
