"""Rendered videos: real ones, changed as the prompt says, longer than their source."""

from __future__ import annotations

import asyncio
import io
import json
import time
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import pytest

av = pytest.importorskip("av", reason="rendering needs PyAV, from the extra octoremix[demo]")

from octoremix.testing import Emulator  # noqa: E402
from octoremix.testing import _canned as canned  # noqa: E402
from octoremix.testing import _render as render  # noqa: E402
from octoremix.testing._effects import EFFECTS  # noqa: E402
from octoremix.testing._render_graph import drain  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SILENT = render.Progress(report=lambda _: None, stopped=lambda: False)


def frames_of(source: Path | bytes) -> list[Any]:
    with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as container:
        return list(container.decode(video=0))


def luma(frame: Any) -> bytes:
    """The brightness of a small version of the picture."""
    return bytes(frame.reformat(width=32, height=18, format="rgb24").planes[0])


def distance(one: Any, other: Any) -> float:
    """How much two pictures differ, from 0 to 255."""
    pairs = list(zip(luma(one), luma(other), strict=True))
    return sum(abs(a - b) for a, b in pairs) / len(pairs)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("scene") / "scene.mp4"
    render.render_scene(path)
    return path


def write_video(
    path: Path, size: tuple[int, int], seconds: float, rate: int = 30, codec: str = "mpeg4"
) -> None:
    """A moving picture of our own, in another format than the emulator's."""
    graph = av.filter.Graph()
    source = graph.add("testsrc2", f"s={size[0]}x{size[1]}:r={rate}:d={seconds}")
    pixels, sink = graph.add("format", "yuv420p"), graph.add("buffersink")
    graph.link_nodes(source, pixels, sink).configure()
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for frame in drain(graph):
            frame.pict_type = 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_the_canned_video_plays() -> None:
    """The canned file is a video to PyAV, bare and padded."""
    base = canned.base_video()
    assert len(base) == canned.BASE_SIZE
    padded = b"".join(canned.canned_chunks(100_000))
    assert len(frames_of(base)) == len(frames_of(padded)) == 8


def test_the_scene_is_a_lively_clip(scene: Path) -> None:
    """The generated source is two seconds of small H.264 in which something moves."""
    with av.open(str(scene)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
    frames = frames_of(scene)
    assert (len(frames), frames[0].width, frames[0].height) == (48, 320, 180)
    assert distance(frames[5], frames[40]) > 1
    data = scene.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.fixture(scope="module")
def pictures(scene: Path) -> dict[str, Any]:
    """A frame of each effect, and of the source itself."""
    result = {"source": frames_of(scene)[20]}
    for effect in EFFECTS:
        word = next(word for word in effect.words if not set(word) & set("[]?"))
        target = scene.with_name(f"{effect.name}.mp4")
        render.render_remix(scene, word, target, SILENT)
        result[effect.name] = frames_of(target)[20]
    return result


@pytest.mark.parametrize("name", [effect.name for effect in EFFECTS])
def test_every_effect_is_seen_and_like_no_other(pictures: dict[str, Any], name: str) -> None:
    """Each effect differs from the source and from every other effect."""
    for other, picture in pictures.items():
        if other != name:
            assert distance(pictures[name], picture) > 4, other


def test_a_remix_is_longer_than_its_source_and_so_is_a_remix_of_it(scene: Path) -> None:
    """Each remix in a chain adds two seconds, and the video goes on without a jump."""
    first, second = scene.with_name("first.mp4"), scene.with_name("second.mp4")
    render.render_remix(scene, "make it snow", first, SILENT)
    render.render_remix(first, "at night", second, SILENT)
    assert len(frames_of(first)) == 96
    assert len(frames_of(second)) == 144
    render.render_remix(scene, "flip", first, SILENT)
    frames = frames_of(first)
    assert distance(frames[47], frames[48]) < 1


def test_the_same_prompt_gives_the_same_pictures(scene: Path) -> None:
    """What is to be seen follows from the prompt alone, whatever the encoder makes of it."""
    one, other = scene.with_name("one.mp4"), scene.with_name("other.mp4")
    render.render_remix(scene, "snow", one, SILENT)
    render.render_remix(scene, "snow", other, SILENT)
    pairs = zip(frames_of(one), frames_of(other), strict=True)
    assert max(distance(*pair) for pair in pairs) < 2


@pytest.mark.parametrize(
    ("name", "size", "seconds", "codec", "wanted", "count"),
    [
        ("wide.avi", (1280, 720), 1.0, "mpeg4", (640, 360), 24),
        ("tall.mov", (360, 1280), 1.0, "mpeg4", (180, 640), 24),
        ("odd.mkv", (100, 75), 1.0, "ffv1", (100, 76), 24),
        ("flat.mkv", (320, 2), 0.5, "ffv1", (320, 16), 12),
        ("long.mp4", (64, 64), 8.0, "mpeg4", (64, 64), 144),
    ],
)
def test_a_users_file_is_brought_into_form(
    tmp_path: Path,
    name: str,
    size: tuple[int, int],
    seconds: float,
    codec: str,
    wanted: tuple[int, int],
    count: int,
) -> None:
    """Any format and size that PyAV reads becomes a small clip that every effect works on."""
    file, target = tmp_path / name, tmp_path / "prepared.mp4"
    write_video(file, size, seconds, codec=codec)
    render.prepare_source(file, target, SILENT)
    frames = frames_of(target)
    assert (frames[0].width, frames[0].height) == wanted
    assert abs(len(frames) - count) <= 1
    render.render_remix(target, "pixelated mirror zoom", tmp_path / "out.mp4", SILENT)
    assert len(frames_of(tmp_path / "out.mp4")) == len(frames) + 48


def test_a_single_picture_becomes_a_video(tmp_path: Path) -> None:
    """A source of one frame is extended by that frame."""
    write_video(tmp_path / "one.avi", (64, 64), 0.04, rate=24)
    render.prepare_source(tmp_path / "one.avi", tmp_path / "source.mp4", SILENT)
    render.render_remix(tmp_path / "source.mp4", "fog", tmp_path / "out.mp4", SILENT)
    assert len(frames_of(tmp_path / "out.mp4")) == 49


def test_a_file_without_a_picture_is_refused(tmp_path: Path) -> None:
    """Sound alone is no source."""
    file = tmp_path / "sound.wav"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame(format="s16", layout="mono", samples=800)
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="no video"):
        render.prepare_source(file, tmp_path / "out.mp4", SILENT)


def test_a_render_that_nobody_wants_stops(scene: Path) -> None:
    """Progress is told frame by frame, and a stop is heard at the next one."""
    shares: list[float] = []
    progress = render.Progress(report=shares.append, stopped=lambda: len(shares) == 10)
    with pytest.raises(render.RenderStoppedError):
        render.render_remix(scene, "rain", scene.with_name("stopped.mp4"), progress)
    assert shares == sorted(shares)
    assert 0 < shares[-1] < 0.2


class Gateway:
    """An emulator that renders, and a client of it."""

    def __init__(self, **options: Any) -> None:
        self.emulator = Emulator(render=True, **options)
        self.http: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        await self.emulator.start()
        headers = {"Authorization": f"Bearer {self.emulator.api_key}"}
        self.http = aiohttp.ClientSession(self.emulator.url, headers=headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.close()
        await self.emulator.aclose()

    async def submit(self, path: str, prompt: str) -> str:
        body = {"prompt": prompt, "model": "m"}
        async with self.http.post(f"/v1/videos{path}", json=body) as response:
            assert response.status == 200, await response.text()
            return str((await response.json())["id"])

    async def ended(self, video_id: str) -> dict[str, Any]:
        while True:
            async with self.http.get(f"/v1/videos/{video_id}") as response:
                video: dict[str, Any] = await response.json()
            if video["status"] in {"completed", "failed"}:
                return video
            assert video["progress"] < 100
            await asyncio.sleep(0.05)

    async def content(self, video_id: str) -> tuple[int, bytes]:
        async with self.http.get(f"/v1/videos/{video_id}/content") as response:
            return response.status, await response.read()


@pytest.fixture
def leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files, which is empty again after the test."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())


async def test_the_gateway_renders_chains(leftovers: Path) -> None:
    """A source from nothing, its remix and the remix of that are all real videos."""
    async with Gateway(duration=1.0) as gateway:
        made = await gateway.submit("", "a cow")
        assert (await gateway.ended(made))["status"] == "completed"
        ids = [made]
        for prompt in ("snow", "night"):
            ids.append(await gateway.submit(f"/{ids[-1]}/remix", prompt))
            assert (await gateway.ended(ids[-1]))["status"] == "completed"
        _, any_source = await gateway.content("video_123")
        contents = [await gateway.content(video_id) for video_id in ids]
        assert [status for status, _ in contents] == [200] * 3
        assert [len(frames_of(body)) for _, body in contents] == [96, 144, 192]
        assert len(frames_of(any_source)) == 48
        assert list(leftovers.iterdir())


async def test_a_source_can_be_the_users_own_file(tmp_path: Path, leftovers: Path) -> None:
    """The file itself is the source's content, and its beginning that of the remixes."""
    file = tmp_path / "cow.avi"
    write_video(file, (160, 120), 1.0)
    async with Gateway(duration=1.0, sources={"cow": file}) as gateway:
        assert await gateway.content("cow") == (200, file.read_bytes())
        ids = [await gateway.submit("/cow/remix", prompt) for prompt in ("sepia", "rain")]
        videos = [await gateway.ended(video_id) for video_id in ids]
        assert [video["status"] for video in videos] == ["completed"] * 2
        contents = [await gateway.content(video_id) for video_id in ids]
    assert [len(frames_of(body)) for _, body in contents] == [72, 72]


async def test_a_source_that_is_no_video_fails_its_jobs(tmp_path: Path, leftovers: Path) -> None:
    """The job ends as failed and says why, without the path of the file."""
    file = tmp_path / "notes.mp4"
    file.write_text("no video")
    async with Gateway(duration=1.0, sources={"notes": file}) as gateway:
        video = await gateway.ended(await gateway.submit("/notes/remix", "snow"))
    assert video["status"] == "failed"
    assert video["error"]["code"] == "render_failed"
    assert "Invalid data" in video["error"]["message"]
    assert str(tmp_path) not in json.dumps(video)


async def test_jobs_that_are_to_fail_are_not_rendered(leftovers: Path) -> None:
    """The outcome that was asked for is had without the work."""
    async with Gateway(duration=0, outcome="failed") as gateway:
        video = await gateway.ended(await gateway.submit("/v/remix", "snow"))
        (folder,) = leftovers.iterdir()
        assert not list(folder.iterdir())
    assert video["error"]["code"] == "generation_failed"


@pytest.mark.asyncio(loop_factories=["real"])
async def test_closing_ends_what_is_being_rendered(leftovers: Path) -> None:
    """A close with much to do waits for what runs and for nothing else."""
    async with Gateway() as gateway:
        for _ in range(100):
            await gateway.submit("/v/remix", "snow, rain and neon")
        await asyncio.sleep(0.01)
        start = time.perf_counter()
    assert time.perf_counter() - start < 5


async def test_after_a_restart_the_rendered_videos_are_gone(leftovers: Path) -> None:
    """A started again gateway knows its jobs, but their files were removed."""
    gateway = Gateway(duration=0)
    async with gateway:
        video_id = await gateway.submit("/v/remix", "snow")
        await gateway.ended(video_id)
    async with gateway:
        status, _ = await gateway.content(video_id)
    assert status == 502


@pytest.mark.asyncio(loop_factories=["real"])
async def test_the_loop_stays_free_and_twelve_jobs_are_quick(leftovers: Path) -> None:
    """While a demo's worth of videos is made the loop answers promptly."""
    prompts = ["snow", "rain", "night", "sepia", "fire", "fog", "neon", "sketch"]
    prompts += ["underwater", "rainbow", "spin", "snow and rain at night"]
    loop = asyncio.get_running_loop()
    worst = 0.0

    async def watch() -> None:
        nonlocal worst
        while True:
            before = loop.time()
            await asyncio.sleep(0.01)
            worst = max(worst, loop.time() - before - 0.01)

    async with Gateway(duration=0) as gateway:
        watcher = asyncio.create_task(watch())
        start = loop.time()
        ids = [await gateway.submit("/v/remix", prompt) for prompt in prompts]
        videos = await asyncio.gather(*map(gateway.ended, ids))
        took = loop.time() - start
        watcher.cancel()
    assert {video["status"] for video in videos} == {"completed"}
    assert took < 15
    assert worst < 0.5
