"""The session: what users hold. It wires the rest together and holds no logic of its own.

=========  ===================================================================
`core`     what all of it shares: the parts, the event loop, beginning and end
`jobs`     one job at a time
`results`  the videos themselves
`batches`  many jobs
`record`   what the journal knows
=========  ===================================================================
"""

from __future__ import annotations

from .batches import Batches
from .jobs import Jobs
from .record import Record

__all__ = ["Session"]


class Session(Jobs, Batches, Record):
    """Submits remixes and follows them, all with one poller.

    It is made without an event loop and without I/O, and belongs to the loop of its first use.
    Leave it by ``async with`` or `aclose`. It can't be copied or pickled.

    Args:
        api_key: The key, or a callable that returns it (plain or awaitable), asked before each
            call. Default: ``OCTOPUSX_API_KEY``.
        base_url: The gateway, with or without ``/v1``. Default: ``OCTOPUSX_BASE_URL``, else
            ``https://octopusx.ai``.
        poll: How tasks are followed.
        retry: When a submit, `retrieve` or `download` is tried again.
        request_timeout: Seconds that a query may take, and each silence in a download.
        submit_timeout: Seconds that the answer to a submit may take. It is longer than the 100 s
            after which an edge in front of the gateway gives up, to get an answer where there
            is one.
        submit_concurrency: The most submits in flight.
        journal: A file, or a `SQLiteJournal`, that keeps what is paid for over the end of this
            process. It is opened by ``async with`` or the first submit.
        rate_limit: The most requests to the gateway that start in a second, submits before polls;
            ``None`` for no limit. Downloads from elsewhere don't count.
        http: Your own `aiohttp.ClientSession`, used and never closed. Its default headers, cookies,
            time-outs and ``raise_for_status`` change nothing here, and its middlewares are not
            run: one that repeats a request could pay twice.
        proxy: The address of an HTTP proxy; ``None`` for that of ``HTTP_PROXY``, ``HTTPS_PROXY``
            and ``NO_PROXY``; ``False`` for none.
        ssl: An `ssl.SSLContext`, or ``False`` to verify nothing. Default: the system's
            certificates, or those of ``SSL_CERT_FILE``.
        headers: Further headers for the calls to the gateway.
        max_tasks: The most tasks that are followed at once.
        on_event: Called with every `Event`, in the event loop; it must not block.
        allow_private_links: Whether a result may be fetched from an address that is not public.
            Otherwise only the gateway's own host may be at one.

    Raises:
        ConfigurationError: A setting is missing or malformed; the message names the fix.
    """
