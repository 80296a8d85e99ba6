"""Runs the making of real videos in worker threads, as many at once as processors."""

from __future__ import annotations

import asyncio
import functools
import importlib
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import Factory, define

from ._jobs import Rendering

if TYPE_CHECKING:
    from types import ModuleType


def load() -> ModuleType:
    """The module that needs PyAV, imported when it is first asked for.

    Raises:
        ImportError: if PyAV is missing; the message names the command that installs it.
    """
    try:
        return importlib.import_module("._render", __package__)
    except ModuleNotFoundError as error:
        raise ImportError(
            "rendered videos need PyAV, which is not installed: "
            'pip install "octoremix[demo]", or use Emulator(render=False)'
        ) from error


@define(eq=False)
class Renderer:
    """The worker threads and the folder of their videos, from `open` to `aclose`."""

    _pool: ThreadPoolExecutor
    _folder: tempfile.TemporaryDirectory[str]
    _stopped: threading.Event = Factory(threading.Event)
    _running: set[asyncio.Future[None]] = Factory(set)
    _sources: dict[Path | None, Path] = Factory(dict)
    _sources_lock: threading.Lock = Factory(threading.Lock)
    _count: int = 0

    @classmethod
    def open(cls) -> Renderer:
        """Make the folder; threads start when there is work."""
        pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="octoremix-render")
        return cls(pool, tempfile.TemporaryDirectory(prefix="octoremix-"))

    def start(
        self, prompt: str, *, made: Path | None = None, file: Path | None = None
    ) -> Rendering:
        """Begin to render what ``prompt`` makes of a source.

        Args:
            prompt: What to make of it.
            made: The source, if it was made here.
            file: The source, if it is a file of the user's; without both it is the scene.

        Returns:
            What tells how far it is; its ``ended_at`` is set on the event loop.
        """
        self._count += 1
        rendering = Rendering(Path(self._folder.name) / f"{self._count}.mp4")
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, self._render, rendering, prompt, made, file)
        self._running.add(future)
        future.add_done_callback(functools.partial(self._ended, rendering))
        return rendering

    async def scene(self) -> Path:
        """The generated source clip, made when it is first wanted."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._source, None)

    def _source(self, file: Path | None) -> Path:
        """The clip that stands for a user's file, or the scene; each is made once."""
        with self._sources_lock:
            if file not in self._sources:
                path = Path(self._folder.name) / f"source-{len(self._sources)}.mp4"
                module = load()
                if file is None:
                    module.render_scene(path)
                else:
                    progress = module.Progress(lambda _: None, self._stopped.is_set)
                    module.prepare_source(file, path, progress)
                self._sources[file] = path
            return self._sources[file]

    def _render(
        self, rendering: Rendering, prompt: str, made: Path | None, file: Path | None
    ) -> None:
        """The work of a thread."""

        def report(share: float) -> None:
            rendering.share = share

        module = load()
        progress = module.Progress(report, self._stopped.is_set)
        progress.at(0.0)
        module.render_remix(made or self._source(file), prompt, rendering.path, progress)

    def _ended(self, rendering: Rendering, future: asyncio.Future[None]) -> None:
        self._running.discard(future)
        rendering.ended_at = future.get_loop().time()
        if error := future.exception():
            # An OSError's own text may end in the path; its reason alone says enough.
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            rendering.error = f"rendering failed: {reason}"

    def stop(self) -> None:
        """Let nothing be rendered any more; what runs ends at its next frame."""
        self._stopped.set()

    async def aclose(self) -> None:
        """Stop what runs, wait for it, and remove the videos."""
        self.stop()
        if self._running:
            await asyncio.wait(self._running)
        self._pool.shutdown()
        await asyncio.get_running_loop().run_in_executor(None, self._folder.cleanup)
