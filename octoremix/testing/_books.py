"""What the emulator saw: plain data that tests assert on."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import Factory, define, frozen

from ._calls import Route


@frozen
class JobRequest:
    """What one accepted submit asked for.

    Attributes:
        index: How many jobs were accepted before this one.
        source_id: The video to remix; None for a video made from nothing.
        prompt: The prompt.
        model: The model.
        body: The whole body, parsed.
    """

    index: int
    source_id: str | None
    prompt: str
    model: str
    body: Mapping[str, Any]


@define(eq=False)
class BookedJob:
    """One job that was accepted.

    Attributes:
        id: The id it was given.
        request: What was asked for.
        accepted_at: When, in seconds of the event loop's clock.
        charged: Whether it was paid for.
    """

    id: str
    request: JobRequest
    accepted_at: float
    charged: bool = True


@define(eq=False)
class Books:
    """What the emulator saw.

    Routes are spelled as in ``"POST /v1/videos/{id}/remix"``; see `Route`. Times are
    seconds of the event loop's clock.

    Attributes:
        jobs: The accepted jobs in their order (only while ``record=True``).
        accepted: How many jobs were accepted.
        charged: How many of them were paid for. A charge is booked before the answer is
            given, as the gateway does it, so that an answer that gets lost is paid too.
        requests: How often each route was asked, refused requests included.
        polls: How often each id was asked for, whatever the answer.
        poll_times: When each id was asked for (only while ``record=True``).
        authorizations: How often each pair of a route and an ``Authorization`` header was
            seen; the header is ``""`` where there was none.
        in_flight: How many requests are being handled now.
        most_in_flight: The greatest number of requests that were handled at once.
        most_in_flight_by_route: The same for each route by itself.
    """

    jobs: list[BookedJob] = Factory(list)
    accepted: int = 0
    charged: int = 0
    requests: Counter[str] = Factory(Counter)
    polls: Counter[str] = Factory(Counter)
    poll_times: dict[str, list[float]] = Factory(dict)
    authorizations: Counter[tuple[str, str]] = Factory(Counter)
    in_flight: int = 0
    most_in_flight: int = 0
    most_in_flight_by_route: dict[str, int] = Factory(dict)

    def __repr__(self) -> str:
        return (
            f"<Books accepted={self.accepted} charged={self.charged} "
            f"requests={self.requests.total()} in_flight={self.in_flight}>"
        )


@define(eq=False)
class Bookkeeper:
    """Writes the books."""

    books: Books
    record: bool
    _in_flight: Counter[str] = Factory(Counter)

    @contextlib.contextmanager
    def request(self, route: Route, authorization: str) -> Iterator[None]:
        """Book one request, in flight for as long as the context is open."""
        books = self.books
        books.requests[route] += 1
        books.authorizations[route, authorization] += 1
        books.in_flight += 1
        self._in_flight[route] += 1
        books.most_in_flight = max(books.most_in_flight, books.in_flight)
        most = books.most_in_flight_by_route.get(route, 0)
        books.most_in_flight_by_route[route] = max(most, self._in_flight[route])
        try:
            yield
        finally:
            books.in_flight -= 1
            self._in_flight[route] -= 1

    def poll(self, video_id: str, now: float) -> None:
        """Book one query for an id."""
        self.books.polls[video_id] += 1
        if self.record:
            self.books.poll_times.setdefault(video_id, []).append(now)

    def accept(self, video_id: str, request: JobRequest, now: float) -> None:
        """Book one job and its charge."""
        self.books.accepted += 1
        self.books.charged += 1
        if self.record:
            self.books.jobs.append(BookedJob(video_id, request, now))
