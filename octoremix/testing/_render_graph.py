"""Pieces of FFmpeg filter graphs, put together with PyAV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from av.filter import Graph

from ._effects import Filter, Mirror, Particles, Step

if TYPE_CHECKING:
    from av.filter.context import FilterContext
    from av.video.frame import VideoFrame

FRAME_RATE = 24
"""Frames per second of everything rendered."""

PIXELS = "yuv420p"
"""The pixel format that every player takes."""


def add_step(
    graph: Graph, node: FilterContext, step: Step, size: tuple[int, int], seed: int
) -> FilterContext:
    """Put one step of an effect behind ``node``."""
    match step:
        case Filter(name, options):
            options = options.replace("{size}", f"{size[0]}x{size[1]}")
            return chain_filter(graph, node, name, options)
        case Mirror():
            split = chain_filter(graph, node, "split")
            half = chain_filter(graph, split, "crop", "iw/2:ih:0:0")
            right = graph.add("crop", "iw/2:ih:0:0")
            split.link_to(right, 1)
            both = chain_filter(graph, half, "hstack")
            chain_filter(graph, right, "hflip").link_to(both, 0, 1)
            return both
        case Particles():
            return overlay(graph, node, _particles(graph, step, size, seed), "0", "0")


def _particles(
    graph: Graph, particles: Particles, size: tuple[int, int], seed: int
) -> FilterContext:
    """A transparent picture that scrolls for ever, with specks at places set by ``seed``."""
    unit = size[0] / 320
    columns = max(1, round(size[0] / (particles.width * unit)))
    rows = max(1, round(size[1] / (particles.height * unit)))
    # Seeded anew for each cell, since slices of a picture may be computed in any order; the
    # first numbers of neighbouring seeds are alike.
    alpha = f"st(0,{seed % 100_000}+Y*{columns}+X);random(0);random(0)"
    alpha = f"{alpha};{round(255 * particles.opacity)}*lt(random(0),{particles.density})"
    node = _still(graph, (columns, rows), particles.colour, alpha)
    node = chain_filter(graph, node, "scale", f"{size[0]}:{size[1]}:flags=neighbor")
    if particles.blur:
        node = chain_filter(graph, node, "gblur", f"sigma={particles.blur * unit}:planes=8")
    node = _repeat(graph, node)
    return chain_filter(graph, node, "scroll", f"h={particles.drift}:v={-particles.fall}")


def disc(graph: Graph, diameter: int, colour: str) -> FilterContext:
    """A filled circle on nothing, for ever."""
    alpha = f"255*lt(hypot(X-{diameter / 2 - 0.5},Y-{diameter / 2 - 0.5}),{diameter / 2 - 1})"
    return _repeat(graph, _still(graph, (diameter, diameter), colour, alpha))


def _still(graph: Graph, size: tuple[int, int], colour: str, alpha: str) -> FilterContext:
    """One frame of one colour whose opacity is an expression of X and Y, from 0 to 255."""
    source = f"{colour}:s={size[0]}x{size[1]}:r={FRAME_RATE}:d={1 / FRAME_RATE}"
    node = chain_filter(graph, graph.add("color", source), "format", "yuva420p")
    return chain_filter(graph, node, "geq", f"lum='p(X,Y)':cb='p(X,Y)':cr='p(X,Y)':a='{alpha}'")


def _repeat(graph: Graph, node: FilterContext) -> FilterContext:
    """The one frame of ``node`` for ever."""
    return chain_filter(graph, node, "loop", "-1:1")


def overlay(
    graph: Graph, node: FilterContext, layer: FilterContext, x: str, y: str
) -> FilterContext:
    """``layer`` in front of ``node``, ending with it."""
    result = graph.add("overlay", f"x='{x}':y='{y}':shortest=1")
    node.link_to(result)
    layer.link_to(result, 0, 1)
    return result


def chain_filter(graph: Graph, node: FilterContext, name: str, options: str = "") -> FilterContext:
    """One more filter behind ``node``."""
    behind = graph.add(name, options or None)
    node.link_to(behind)
    return behind


def finish(graph: Graph, node: FilterContext) -> None:
    """Close the graph with a sink of the pixel format that every player takes."""
    chain_filter(graph, chain_filter(graph, node, "format", PIXELS), "buffersink")
    graph.configure()


def through(graph: Graph, frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
    """What the graph makes of the frames, one by one, so that few are held at once."""
    for frame in frames:
        graph.vpush(frame)
        yield from drain(graph)
    graph.vpush(None)
    yield from drain(graph)


def drain(graph: Graph) -> Iterator[VideoFrame]:
    """The frames that are ready now; it ends where the graph wants input or is at its end."""
    while True:
        try:
            yield graph.vpull()
        except (BlockingIOError, EOFError):
            return
