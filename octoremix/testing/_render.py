"""Real videos from prompts: PyAV decodes a source, changes, extends and encodes it.

Everything here is called in a worker thread. This module and ``_render_graph`` are the only
ones that import PyAV, and they are imported when the first video is to be rendered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import chain, cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
from attrs import frozen
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import PictureType

from ._effects import choose_effects, seed_of
from ._render_graph import (
    FRAME_RATE,
    PIXELS,
    add_step,
    chain_filter,
    disc,
    drain,
    finish,
    overlay,
    through,
)

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

EXTENSION = 2.0
"""Seconds by which a result is longer than its source."""

SOURCE_LIMIT = 6.0
"""Seconds that are used of a user's own file."""

MAX_SIDE = 640
"""Sources that are wider or higher are scaled down to this many pixels."""

_TIME_BASE = Fraction(1, FRAME_RATE)
_SCENE_SIZE = (320, 180)
_SCENE_SECONDS = 2
# Houses on the horizon: left edge, width and height in pixels, colour.
_SCENE_BOXES = (
    (24, 34, 46, "0x8a4b3a"),
    (66, 26, 70, "0xd9c7a0"),
    (98, 40, 34, "0x5a5f78"),
    (232, 52, 24, "0xb5654a"),
)


class RenderStoppedError(Exception):
    """The emulator closed while this was being rendered."""


@frozen
class Progress:
    """How a render tells what share of it is done, and hears that it should stop."""

    report: Callable[[float], None]
    stopped: Callable[[], bool]

    def at(self, share: float) -> None:
        """Report ``share``, from 0 to 1; raise ``RenderStoppedError`` if nobody wants the rest."""
        if self.stopped():
            raise RenderStoppedError
        self.report(share)


_UNWATCHED = Progress(report=lambda _: None, stopped=lambda: False)


def render_scene(target: Path) -> None:
    """Write the source clip used where the user has none: 320x180, 2 s, H.264.

    Nothing in it is symmetric, so that a turned or mirrored picture shows.
    """
    width, height = _SCENE_SIZE
    graph = Graph()
    sky = ":c0=0x2f6fd8:c1=0x8fd0ff:c2=0xffe2b0:n=3:x0=40:y0=0:x1=280:y1=130"
    timing = f"r={FRAME_RATE}:d={_SCENE_SECONDS}:speed=0.02:seed=7"
    node = graph.add("gradients", f"s={width}x{height}:{timing}{sky}")
    node = overlay(graph, node, disc(graph, 44, "0xffe040"), "20+n*1.6", "24+18*sin(n/12)")
    for x, box_width, box_height, colour in _SCENE_BOXES:
        box = f"{x}:{150 - box_height}:{box_width}:{box_height}:{colour}:fill"
        node = chain_filter(graph, node, "drawbox", box)
    node = chain_filter(graph, node, "drawbox", f"0:150:{width}:30:0x3f9a4a:fill")
    ball = disc(graph, 30, "0xe0342c")
    node = overlay(graph, node, ball, "n*5.6-10", "128-78*abs(sin(n/7.6))")
    finish(graph, node)
    _encode(target, drain(graph), _SCENE_SIZE, FRAME_RATE * _SCENE_SECONDS, _UNWATCHED)


def prepare_source(file: Path, target: Path, progress: Progress) -> None:
    """Write the beginning of a user's file in the form that everything made here has.

    Done once for each file, since it costs more than a remix does.

    Args:
        file: Anything that PyAV can decode. Its sound is left out.
        target: Where the H.264 MP4 goes: at most ``SOURCE_LIMIT`` seconds, no side over
            ``MAX_SIDE`` pixels.
        progress: Told the share that is done.

    Raises:
        RenderStoppedError: if the progress says so.
        ValueError: if the file holds no picture.
        av.error.FFmpegError: if it can't be read.
    """
    with av.open(str(file)) as container:
        if not container.streams.video:
            raise ValueError("the source holds no video stream")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        decoded = container.decode(stream)
        first = next(decoded, None)
        if first is None:
            raise ValueError("the source holds no picture")
        size = _fit(first)
        most = round(SOURCE_LIMIT * FRAME_RATE)
        frames = islice(_prepared(chain([first], decoded), stream, size), most)
        _encode(target, frames, size, most, progress)


def render_remix(source: Path, prompt: str, target: Path, progress: Progress) -> None:
    """Write the video that ``prompt`` makes of ``source``.

    The whole source, changed as the prompt says, then its last seconds played backwards
    as the continuation.

    Args:
        source: A video made here.
        prompt: The same text always gives the same change.
        target: Where the H.264 MP4 goes.
        progress: Told the share that is done.

    Raises:
        RenderStoppedError: if the progress says so.
    """
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        size = stream.width, stream.height
        extension = round(EXTENSION * FRAME_RATE)
        frames = _extended(container.decode(stream), extension)
        total = stream.frames + extension
        _encode(target, _changed(frames, prompt, size), size, total, progress)


def _fit(frame: VideoFrame) -> tuple[int, int]:
    """The size of the result: no side over ``MAX_SIDE``, both even as H.264 wants them."""
    width, height = frame.width, frame.height
    if frame.rotation in (90, -90):
        width, height = height, width
    scale = min(1.0, MAX_SIDE / width, MAX_SIDE / height)
    # Below 16 pixels some filters have nothing to work on.
    return max(16, round(width * scale / 2) * 2), max(16, round(height * scale / 2) * 2)


def _prepared(
    frames: Iterator[VideoFrame], stream: VideoStream, size: tuple[int, int]
) -> Iterator[VideoFrame]:
    """The frames at our rate, size and pixel format, the right way up."""
    first = next(frames)
    graph = Graph()
    node = graph.add_buffer(
        width=first.width, height=first.height, format=first.format, time_base=stream.time_base
    )
    node = chain_filter(graph, node, "fps", str(FRAME_RATE))
    for name, options in _UPRIGHT.get(first.rotation, ()):
        node = chain_filter(graph, node, name, options)
    finish(graph, chain_filter(graph, node, "scale", f"{size[0]}:{size[1]}"))
    yield from through(graph, chain([first], frames))


# How to undo what a camera held sideways wrote into the file, in degrees anticlockwise.
_UPRIGHT: dict[int, tuple[tuple[str, str], ...]] = {
    90: (("transpose", "cclock"),),
    -90: (("transpose", "clock"),),
    180: (("hflip", ""), ("vflip", "")),
    -180: (("hflip", ""), ("vflip", "")),
}


def _extended(frames: Iterable[VideoFrame], extension: int) -> Iterator[VideoFrame]:
    """The frames, then ``extension`` more: the last ones backwards and forwards again."""
    tail: deque[VideoFrame] = deque(maxlen=extension)
    for frame in frames:
        tail.append(frame)
        yield frame
    backwards = list(reversed(tail))
    yield from islice(cycle(backwards + backwards[::-1]), extension)


def _changed(
    frames: Iterable[VideoFrame], prompt: str, size: tuple[int, int]
) -> Iterator[VideoFrame]:
    """The frames with the effects of the prompt."""
    graph = Graph()
    node = graph.add_buffer(
        width=size[0], height=size[1], format=VideoFormat(PIXELS), time_base=_TIME_BASE
    )
    seed = seed_of(prompt)
    for effect in choose_effects(prompt):
        for step in effect.steps:
            seed += 1
            node = add_step(graph, node, step, size, seed)
    finish(graph, node)
    yield from through(graph, _numbered(frames))


def _numbered(frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
    """The frames with the times that follow from their places."""
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base = number, _TIME_BASE
        yield frame


def _encode(
    target: Path,
    frames: Iterable[VideoFrame],
    size: tuple[int, int],
    total: int,
    progress: Progress,
) -> None:
    """Write the frames as an H.264 MP4 whose index comes first, so that it plays while it loads.

    Args:
        target: The file.
        frames: In their order; their times are set here.
        size: Width and height in pixels.
        total: About how many there are, for the progress.
        progress: Told after each frame.
    """
    codec = "libx264" if "libx264" in av.codecs_available else "h264"
    with av.open(str(target), "w", format="mp4", options={"movflags": "faststart"}) as container:
        options = {"preset": "veryfast", "crf": "24"}
        stream = cast("VideoStream", container.add_stream(codec, FRAME_RATE, options))
        stream.width, stream.height = size
        stream.pix_fmt = PIXELS
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(_numbered(frames), start=1):
            # Else the encoder makes every frame of the kind that the source's encoder chose.
            frame.pict_type = PictureType.NONE
            container.mux(stream.encode(frame))
            progress.at(min(1.0, number / total))
        container.mux(stream.encode(None))
