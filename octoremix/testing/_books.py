"""What the emulator saw: plain data that tests assert on."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import Factory, define, field, frozen

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
        outcome: What queries tell in the end: ``"completed"``, ``"failed"``, ``"cancelled"``,
            ``"lost"`` if the gateway doesn't know it, ``"stuck"`` if its end is never told.
        key: The key that paid.
        created_at: When it was accepted, as a Unix time.
    """

    id: str
    request: JobRequest
    accepted_at: float
    charged: bool = True
    outcome: str = "completed"
    key: str = ""
    created_at: float = 0.0


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
        cdn_requests: How often the second origin was asked for a video.
        cdn_keys: The ``Authorization`` headers that it saw, and how often: there should be none.
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
    cdn_requests: int = 0
    cdn_keys: Counter[str] = Factory(Counter)
    _count_refunds: Callable[[], int] = field(default=lambda: 0, repr=False)
    _record: bool = True

    @property
    def refunded(self) -> int:
        """How many jobs have been given back by now, because the gateway saw that they failed."""
        return self._count_refunds()

    @property
    def duplicates(self) -> dict[str, list[BookedJob]]:
        """The requests that were accepted more than once, each with all of its jobs."""
        jobs: dict[str, list[BookedJob]] = {}
        for job in self._recorded():
            jobs.setdefault(_fingerprint(job.request), []).append(job)
        return {request: same for request, same in jobs.items() if len(same) > 1}

    def assert_charged_once(self, jobs: int | None = None) -> None:
        """Fail unless something was bought, and nothing twice.

        Two jobs are the same if source, prompt and everything else in their bodies are; a test
        that means to buy one twice gives them different prompts.

        Args:
            jobs: How many were to be bought; None for any number but none.

        Raises:
            AssertionError: with what was bought twice.
        """
        lines = [
            f"bought {len(same)} times: {request}\n    as "
            + ", ".join(f"{job.id} at {job.accepted_at:.1f} s" for job in same)
            for request, same in self.duplicates.items()
        ]
        wanted = "at least 1" if jobs is None else str(jobs)
        if self.charged != jobs and (jobs is not None or not self.charged):
            lines.insert(0, f"{self.charged} jobs were charged, not {wanted}")
        if lines:
            raise AssertionError("\n".join(lines))

    def polls_per_minute(self, video_id: str) -> list[int]:
        """How often an id was asked for in each minute since it first was."""
        self._recorded()
        times = self.poll_times.get(video_id, [])
        counts = Counter(int((time - times[0]) // 60) for time in times)
        return [counts[minute] for minute in range(max(counts, default=-1) + 1)]

    def _recorded(self) -> list[BookedJob]:
        if not self._record:
            raise RuntimeError("the books hold counts only: use Emulator(record=True)")
        return self.jobs

    def __repr__(self) -> str:
        return (
            f"<Books accepted={self.accepted} charged={self.charged} refunded={self.refunded} "
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

    def accept(self, job: BookedJob) -> None:
        """Book one job and its charge."""
        self.books.accepted += 1
        self.books.charged += 1
        if self.record:
            self.books.jobs.append(job)

    def lose(self, index: int) -> None:
        """Book that the gateway has forgotten a job."""
        if self.record:
            self.books.jobs[index].outcome = "lost"

    def cdn(self, authorization: str) -> None:
        """Book one request to the second origin."""
        self.books.cdn_requests += 1
        if authorization:
            self.books.cdn_keys[authorization] += 1


def _fingerprint(request: JobRequest) -> str:
    """The request as a text that is the same for the same request."""
    return json.dumps(
        {"source": request.source_id, **request.body}, ensure_ascii=False, sort_keys=True
    )
