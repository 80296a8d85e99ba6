"""The emulator: a server on loopback that behaves like the gateway."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from . import _renderer
from ._books import Bookkeeper, Books, JobRequest
from ._canned import BASE_SIZE, check_size
from ._cdn import Cdn
from ._desk import Desk, Rules
from ._faults import Fault, Faults
from ._gateway import Gateway
from ._jobs import OUTCOMES, Outcome
from ._money import Key, Ledger
from ._passes import Passes
from ._profiles import profile_named
from ._views import Rhythm

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
        profile: The dialect, one of `PROFILES`.
        refresh: Seconds between two looks of the gateway at its upstream, 15 on the real one;
            0 if each query looks. The profile ``"newapi-gemini"`` is always live.
        refresh_spacing: Seconds between two jobs of one model in such a look, 1 on the real one,
            so that with many of them it takes long and the next one waits; 0 for all at once.
        sweep_after: Seconds after which the gateway gives an unfinished job up, a day on the
            real one; infinity for never.
        quota: What ``api_key`` has to spend, in the gateway's units; None for no limit.
        price: What a job costs, in these units.
        keys: Further keys that are accepted.
        faults: What goes wrong, as `Faults.add` takes it, or ``"mix:rate=0.3"``.
        cdn: Serve results from a second origin, on the same host and a port of its own.

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
        profile: str = "octopus-doc",
        refresh: float = 0.0,
        refresh_spacing: float = 0.0,
        sweep_after: float = 86_400.0,
        quota: int | None = None,
        price: int = 500_000,
        keys: Mapping[str, Key] | None = None,
        faults: Iterable[str | Fault] = (),
        cdn: bool = False,
    ) -> None:
        rhythm = _rhythm(profile, refresh, refresh_spacing, sweep_after)
        _check(duration=duration, queued_share=queued_share, outcome=outcome, price=price)
        files, size = _sources(sources), _size(content_size)
        if render:
            _renderer.load()
        self._host, self._port, self._cdn_port = host, port, 0
        self._api_key, self._render = api_key, render
        ledger = Ledger(_keys(api_key, quota, keys), price, rhythm)
        self._books = Books(count_refunds=lambda: self._count_refunds(ledger), record=record)
        self._faults = Faults.of(faults)
        dialect = profile_named(profile)
        rules = Rules(duration, queued_share, outcome, size, files, dialect, rhythm)
        desk = Desk(rules, Bookkeeper(self._books, record), ledger, self._faults)
        if rhythm.spacing:
            desk.passes = Passes(rhythm.refresh, rhythm.spacing, rhythm.sweep_after)
        self._gateway = Gateway(desk)
        self._cdn = Cdn(self._gateway) if cdn else None
        self._runners: list[web.AppRunner] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Lock()

    def __repr__(self) -> str:
        where = self.url if self._runners else "closed"
        return f"<Emulator {where} {self._books!r}>"

    @property
    def url(self) -> str:
        """Where it listens, as in ``http://127.0.0.1:49152``.

        Raises:
            RuntimeError: if it has not been started.
        """
        if not self._port:
            raise RuntimeError("the emulator has no port yet: use `async with`, or start() it")
        return self._address(self._port)

    @property
    def cdn_url(self) -> str:
        """Where results are served from.

        Raises:
            RuntimeError: if it has not been started, or has no second origin.
        """
        if not self._cdn_port:
            raise RuntimeError("there is no second origin: use Emulator(cdn=True), started")
        return self._address(self._cdn_port)

    @property
    def api_key(self) -> str:
        """The key it accepts."""
        return self._api_key

    @property
    def books(self) -> Books:
        """What it saw."""
        return self._books

    @property
    def faults(self) -> Faults:
        """What goes wrong; it may be changed at any time."""
        return self._faults

    def forget_unfinished(self) -> None:
        """Lose every job that has not ended, as a restart of the real gateway may."""
        self._gateway.desk.forget_unfinished(self._now())

    async def start(self) -> Self:
        """Begin to listen.

        Raises:
            RuntimeError: if it already does.
            OSError: if the address can't be had.
        """
        if self._runners:
            raise RuntimeError("the emulator is already started")
        self._loop = asyncio.get_running_loop()
        try:
            self._port = await self._listen(self._gateway.handle, self._port)
            if self._cdn is not None:
                self._cdn_port = await self._listen(self._cdn.handle, self._cdn_port)
                self._gateway.cdn_url = self.cdn_url
        except BaseException:
            await self.aclose()
            raise
        if self._render:
            self._gateway.desk.renderer = _renderer.Renderer.open()
        return self

    async def _listen(self, answer: Answer, port: int) -> int:
        """Serve with ``answer``; return the port."""
        app = web.Application(middlewares=[_answering(answer)], client_max_size=MAX_REQUEST_BYTES)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT)
        self._runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, self._host, port, backlog=_BACKLOG).start()
        listening: int = runner.addresses[0][1]
        return listening

    async def aclose(self) -> None:
        """Stop listening, end what is being rendered and remove it; safe to call twice."""
        async with self._closing:
            runners, self._runners = self._runners, []
            desk = self._gateway.desk
            renderer, desk.renderer = desk.renderer, None
            if renderer is not None:
                renderer.stop()
            try:
                for runner in runners:
                    await runner.cleanup()
            finally:
                if renderer is not None:
                    await renderer.aclose()

    def _address(self, port: int) -> str:
        host = _REACHABLE.get(self._host, self._host)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def _count_refunds(self, ledger: Ledger) -> int:
        self._gateway.desk.catch_up(self._now())
        return ledger.refunded(self._now())

    def _now(self) -> float:
        return 0.0 if self._loop is None else self._loop.time()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _answering(answer: Answer) -> Middleware:
    """A middleware that leaves nothing to the router, which would decode the paths."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        del handler
        return await answer(request)

    return middleware


def _keys(api_key: str, quota: int | None, others: Mapping[str, Key] | None) -> dict[str, Key]:
    """All the keys, which can be sent in a header."""
    keys = {api_key: Key(quota=quota), **(others or {})}
    for key in keys:
        if not key.isascii() or not key.isprintable() or not key or " " in key:
            raise ValueError("api_key must be printable ASCII without spaces")
    return keys


def _size(content_size: int | None) -> int:
    """The size of a canned video, which can be made."""
    size = BASE_SIZE if content_size is None else content_size
    check_size(size)
    return size


def _check(*, duration: object, queued_share: float, outcome: object, price: int) -> None:
    """Raise ``ValueError`` for a setting that could only fail later."""
    if isinstance(duration, int | float) and not (duration >= 0 and math.isfinite(duration)):
        raise ValueError(f"duration must be seconds from 0 up, not {duration!r}")
    if not 0 <= queued_share <= 1:
        raise ValueError(f"queued_share must be from 0 to 1, not {queued_share!r}")
    if not callable(outcome) and outcome not in OUTCOMES:
        raise ValueError(f"outcome must be one of {', '.join(OUTCOMES)}, not {outcome!r}")
    if price < 0:
        raise ValueError(f"price must be 0 or more, not {price!r}")


def _rhythm(profile: str, refresh: float, spacing: float, sweep_after: float) -> Rhythm:
    """When the gateway looks at its upstream."""
    if not (spacing >= 0 and math.isfinite(spacing)):
        raise ValueError(f"refresh_spacing must be seconds from 0 up, not {spacing!r}")
    if spacing and not refresh:
        raise ValueError("refresh_spacing needs refresh: it is a part of each look")
    if not (refresh >= 0 and math.isfinite(refresh)):
        raise ValueError(f"refresh must be seconds from 0 up, not {refresh!r}")
    if not sweep_after > 0:
        raise ValueError(f"sweep_after must be seconds above 0, not {sweep_after!r}")
    if profile_named(profile).live:
        refresh = spacing = 0.0
    return Rhythm(refresh, sweep_after, spacing)


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
