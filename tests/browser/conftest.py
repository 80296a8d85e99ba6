"""The page in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from attrs import define, field
from playwright.sync_api import Browser, Page, sync_playwright

from octoremix.cli._report import write_report

from ..programs import find_program
from ..report_folders import event, job_done, write_record

# As root, as in CI, Chromium can't build its sandbox; it opens nothing here but pages of our own.
ARGUMENTS = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_program("chromium"), args=ARGUMENTS
        )
        yield browser
        browser.close()


@define(eq=False)
class Watched:
    """A page, with all that it complained of and asked for."""

    page: Page
    complaints: list[str] = field(factory=list)
    requests: list[str] = field(factory=list)


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page's file. In the end it must have complained of nothing, and asked no host."""
    with contextlib.ExitStack() as stack:
        opened: list[Watched] = []

        def open_page(file: Path, fragment: str = "", **settings: Any) -> Page:
            context = stack.enter_context(browser.new_context(**settings))
            watched = Watched(context.new_page())
            opened.append(watched)
            watched.page.on("console", lambda message: watched.complaints.append(message.text))
            watched.page.on("pageerror", lambda error: watched.complaints.append(str(error)))
            watched.page.on("request", lambda request: watched.requests.append(request.url))
            watched.page.goto(file.as_uri() + fragment)
            return watched.page

        yield open_page
        for watched in opened:
            assert watched.complaints == []
            assert all(url.startswith(("file://", "data:")) for url in watched.requests)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two small videos of two seconds, a green one and a red one."""
    folder = tmp_path_factory.mktemp("clips")
    return tuple(
        make_clip(folder / f"{name}.mp4", colour)
        for name, colour in (("green", (40, 160, 60)), ("red", (200, 40, 40)))
    )


def make_clip(target: Path, colour: tuple[int, int, int]) -> Path:
    """Write an H.264 MP4 of one colour, 64x36, 24 frames a second."""
    with av.open(str(target), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", 24)
        stream.width, stream.height, stream.pix_fmt = 64, 36, "yuv420p"
        for number in range(48):
            frame = av.VideoFrame(64, 36, "rgb24")
            plane = frame.planes[0]
            plane.update(bytes(colour) * (plane.buffer_size // 3))
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return target


@pytest.fixture
def report(tmp_path: Path, clips: tuple[Path, Path]) -> Path:
    """The page of forty jobs of all kinds, the first of which have their videos."""
    folder = tmp_path / "spring & autumn"
    (folder / "sources").mkdir(parents=True)
    source, remix = clips
    (folder / "sources" / "video_1.mp4").symlink_to(folder / "source.mp4")
    (folder / "source.mp4").write_bytes(source.read_bytes())
    lines = []
    for number in range(36):
        key = f"spot-{number:02}"
        file = f"100% #{number} ü?.mp4"
        (folder / file).write_bytes(remix.read_bytes())
        lines += job_done(
            key, accepted=number, took=40 + number, line=number, file=file, prompt=f"snow {number}"
        )
    because = {"type": "RemixFailedError", "message": "no capacity </script>"}
    lines += [
        event("submitted", "bad", line=90),
        event("failed", "bad", at=30, line=90, error=because, prompt="rain <b>of</b> frogs"),
        event("in_doubt", "doubt", line=91, error={"message": "the answer was lost"}),
        event("submitted", "on", line=92),
        event("not_submitted", "off", line=93),
    ]
    page, _ = write_report(write_record(folder, *lines))
    return page
