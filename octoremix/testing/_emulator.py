"""The emulator: a server on loopback that behaves like the gateway."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from . import _renderer
from ._books import Bookkeeper, Books, JobRequest
from ._canned import BASE_SIZE, check_size
from ._gateway import Gateway, Rules
from ._jobs import OUTCOMES, Outcome

MAX_REQUEST_BYTES = 128 * 1024 * 1024
"""The largest body that is read; new-api's default ``MAX_REQUEST_BODY_MB``."""

# With the usual 128, a burst of a few hundred connections waits for the kernel to try
# again, a second or more, and clients see time-outs that no gateway caused.
_BACKLOG = 1024

# "Everywhere" is an address to listen on, not one to connect to.
_REACHABLE = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104

# How long requests being handled may go on when the server closes.
_SHUTDOWN_TIMEOUT = 0.1


class Emulator:
    """The OctopusX gateway, emulated on this machine.

    It speaks create, remix, query and content as documented, over real HTTP::

        async with Emulator(duration=30.0) as gateway:
            ...  # gateway.url, gateway.api_key, gateway.books

    or, without ``async with``, `start` and `aclose`. Durations run on the event loop's
    clock, so that a loop with a virtual clock makes them free; the times in answers start
    from the wall clock. After `aclose`, `start` brings the same gateway back on the same
    port, with its jobs and books, as after an outage; only rendered videos are gone.

    Args:
        host: The address to listen on. Anything but loopback lets others in.
        port: The port; 0 takes a free one.
        api_key: The one key that is accepted.
        duration: Seconds from the acceptance of a job to its end, or a function that gives
            them for a request.
        queued_share: The share of that time, from 0 to 1, that a job is ``queued`` before
            it is ``processing``.
        outcome: How jobs end, ``"completed"``, ``"failed"`` or ``"cancelled"``, or a
            function that says so for a request. It is asked after ``duration``, once for
            each accepted job.
        content_size: Bytes of the canned MP4 that is the content of every video, 2,059 or
            from 2,067 up; None for the least. Rendered videos and files have their own size.
        sources: The videos that the account has from before: a mapping of ids to files,
            or just ids; other ids don't exist. None: any id is a finished video.
        render: Make real videos: the source changed as the prompt says, and extended. Needs
            PyAV, ``pip install "octoremix[demo]"``. A source without a file is a generated
            clip; of a file, at most 640 pixels and the first 6 seconds are used. A job is
            ready when its duration has passed and its video is made.
        record: Keep each accepted job and the time of each poll in the books. Without it
            they hold counts only.

    Raises:
        ValueError, TypeError: if an argument makes no sense.
        ImportError: if ``render`` is wanted and PyAV is missing.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str = "sk-emulator",
        duration: float | Callable[[JobRequest], float] = 30.0,
        queued_share: float = 0.1,
        outcome: Outcome | Callable[[JobRequest], Outcome] = "completed",
        content_size: int | None = None,
        sources: Mapping[str, str | PathLike[str]] | Iterable[str] | None = None,
        render: bool = False,
        record: bool = True,
    ) -> None:
        _check(api_key=api_key, duration=duration, queued_share=queued_share, outcome=outcome)
        size = BASE_SIZE if content_size is None else content_size
        check_size(size)
        if render:
            _renderer.load()
        self._host = host
        self._port = port
        self._render = render
        self._books = Books()
        rules = Rules(api_key, duration, queued_share, outcome, size, _sources(sources))
        self._gateway = Gateway(rules, Bookkeeper(self._books, record))
        self._runner: web.AppRunner | None = None
        self._closing = asyncio.Lock()

    def __repr__(self) -> str:
        where = self.url if self._runner else "closed"
        return f"<Emulator {where} {self._books!r}>"

    @property
    def url(self) -> str:
        """Where it listens, as in ``http://127.0.0.1:49152``.

        Raises:
            RuntimeError: if it has not been started.
        """
        if not self._port:
            raise RuntimeError("the emulator has no port yet: use `async with`, or start() it")
        host = _REACHABLE.get(self._host, self._host)
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    @property
    def api_key(self) -> str:
        """The key it accepts."""
        return self._gateway.rules.api_key

    @property
    def books(self) -> Books:
        """What it saw."""
        return self._books

    async def start(self) -> Self:
        """Begin to listen.

        Raises:
            RuntimeError: if it already does.
            OSError: if the address can't be had.
        """
        if self._runner is not None:
            raise RuntimeError("the emulator is already started")
        app = web.Application(
            middlewares=[_answering(self._gateway)], client_max_size=MAX_REQUEST_BYTES
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT)
        self._runner = runner
        try:
            await runner.setup()
            await web.TCPSite(runner, self._host, self._port, backlog=_BACKLOG).start()
        except BaseException:
            await self.aclose()
            raise
        self._port = runner.addresses[0][1]
        if self._render:
            self._gateway.renderer = _renderer.Renderer.open()
        return self

    async def aclose(self) -> None:
        """Stop listening, end what is being rendered and remove it; safe to call twice."""
        async with self._closing:
            runner, self._runner = self._runner, None
            renderer, self._gateway.renderer = self._gateway.renderer, None
            if renderer is not None:
                renderer.stop()
            try:
                if runner is not None:
                    await runner.cleanup()
            finally:
                if renderer is not None:
                    await renderer.aclose()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


def _answering(gateway: Gateway) -> Middleware:
    """A middleware that leaves nothing to the router, which would decode the paths."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        del handler
        return await gateway.handle(request)

    return answer


def _check(*, api_key: str, duration: object, queued_share: float, outcome: object) -> None:
    """Raise ``ValueError`` for a setting that could only fail later."""
    if not api_key.isascii() or not api_key.isprintable() or not api_key or " " in api_key:
        raise ValueError("api_key must be printable ASCII without spaces")
    if isinstance(duration, int | float) and not (duration >= 0 and math.isfinite(duration)):
        raise ValueError(f"duration must be seconds from 0 up, not {duration!r}")
    if not 0 <= queued_share <= 1:
        raise ValueError(f"queued_share must be from 0 to 1, not {queued_share!r}")
    if not callable(outcome) and outcome not in OUTCOMES:
        raise ValueError(f"outcome must be one of {', '.join(OUTCOMES)}, not {outcome!r}")


def _sources(
    sources: Mapping[str, str | PathLike[str]] | Iterable[str] | None,
) -> Mapping[str, Path | None] | None:
    """The account's videos with their files, which must exist."""
    if sources is None:
        return None
    if isinstance(sources, str):
        raise TypeError("sources must hold ids, not be one: write [video_id]")
    if not isinstance(sources, Mapping):
        return dict.fromkeys(sources)
    files = {video_id: Path(file) for video_id, file in sources.items()}
    for video_id, file in files.items():
        if not file.is_file():
            raise ValueError(f"the source {video_id!r} has no file: {file}")
    return files
