"""What can happen to one submit: POSTs sent, jobs charged, what its caller and the journal know.

The faults are those by which other clients were measured, which pay two to ten times for some.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from attrs import frozen

from octoremix import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    BadRequestError,
    OctoremixError,
    PermissionDeniedError,
    QuotaExceededError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    Session,
    SubmitOutcomeUnknownError,
    UnexpectedRedirectError,
)
from octoremix.testing import Emulator

from .scripted import ScriptedGateway, reply

POST = "POST /v1/videos/{id}/remix"

Unknown = SubmitOutcomeUnknownError


@frozen
class Row:
    """One line of the matrix.

    Attributes:
        faults: What the emulator does wrong.
        posts: POSTs that arrived.
        charged: Jobs that were paid for.
        error: What the caller gets; None for a future.
        safe: `safe_to_resubmit`, of an `APIError`.
        state: How the job stands in the journal.
    """

    faults: str
    posts: int
    charged: int
    error: type[OctoremixError] | None
    safe: bool | None
    state: str


# Posts, charged, what the caller gets, whether it is safe to send again, and the journal's state.
MATRIX: dict[str, Row] = {
    "none": Row("", 1, 1, None, None, "submitted"),
    "late answer": Row("slow:on=remix,seconds=90", 1, 1, None, None, "submitted"),
    "502 page, accepted, once": Row(
        "html_502:on=remix,accepted=1,next=1", 1, 1, Unknown, None, "in_doubt"
    ),
    "502 page, accepted, for ever": Row(
        "html_502:on=remix,accepted=1", 1, 1, Unknown, None, "in_doubt"
    ),
    "502 page, not accepted": Row("html_502:on=remix", 1, 0, Unknown, None, "in_doubt"),
    "503 page": Row("html_503:on=remix,accepted=1", 1, 1, Unknown, None, "in_doubt"),
    "504 page": Row("html_504:on=remix,accepted=1", 1, 1, Unknown, None, "in_doubt"),
    "524 page": Row("html_524:on=remix,accepted=1", 1, 1, Unknown, None, "in_doubt"),
    "cut, accepted, once": Row("cut:on=remix,accepted=1,next=1", 1, 1, Unknown, None, "in_doubt"),
    "cut, accepted, for ever": Row("lost_answer", 1, 1, Unknown, None, "in_doubt"),
    "cut, not accepted": Row("cut:on=remix", 1, 0, Unknown, None, "in_doubt"),
    "answer cut in its middle": Row(
        "wrong_length:on=remix,accepted=1", 1, 1, Unknown, None, "in_doubt"
    ),
    "half of the JSON": Row("truncated:on=remix,accepted=1", 1, 1, Unknown, None, "in_doubt"),
    "no answer in time": Row("hung_submit:seconds=600", 1, 0, Unknown, None, "in_doubt"),
    "200 with a page": Row("html:on=remix,accepted=1", 1, 1, Unknown, None, "in_doubt"),
    "200 with nothing": Row("empty:on=remix,accepted=1", 1, 1, Unknown, None, "in_doubt"),
    "202 with an error": Row("error_in_202", 1, 0, APIError, True, "refused"),
    "500, the gateway broke": Row("panic:on=remix,accepted=1", 1, 1, Unknown, None, "in_doubt"),
    "500, its database": Row("database_error:on=remix", 1, 0, ServerError, True, "refused"),
    "500, its upstream": Row("upstream_error:on=remix", 1, 0, ServerError, True, "refused"),
    "429 once": Row("rate_limited:on=remix,next=1", 2, 1, None, None, "submitted"),
    "429 for ever": Row("rate_limited:on=remix", 5, 0, RateLimitError, True, "refused"),
    "429 of the edge": Row("rate_limited_edge:on=remix", 5, 0, RateLimitError, True, "refused"),
    "429 without a body": Row("rate_limited_empty:on=remix", 5, 0, RateLimitError, True, "refused"),
    "429, then lost": Row(
        "rate_limited:on=remix,call=1 lost_answer:call=2", 2, 1, Unknown, None, "in_doubt"
    ),
    "401": Row("key_exhausted:on=remix", 1, 0, AuthenticationError, True, "refused"),
    "403": Row("model_limited_key:on=remix", 1, 0, PermissionDeniedError, True, "refused"),
    "403, no quota": Row("quota_exceeded:on=remix", 1, 0, QuotaExceededError, True, "refused"),
    "400, no channel": Row("source_channel_disabled", 1, 0, BadRequestError, True, "refused"),
    "400, unfinished source": Row("source_unfinished", 1, 0, BadRequestError, True, "refused"),
    "the source's own id": Row("id_echo", 1, 1, None, None, "submitted"),
    "an id that never exists": Row("insert_lost", 1, 1, None, None, "submitted"),
}


async def bought(session: Session) -> OctoremixError | None:
    """Submit the one job and return its error."""
    try:
        await session.submit("video_1", prompt="make it snow", key="order-17")
    except OctoremixError as error:
        return error
    return None


@pytest.mark.parametrize("name", MATRIX)
async def test_a_fault_costs_at_most_one_job(name: str, tmp_path: Path) -> None:
    """Whatever happens to a submit it is paid at most once, and what is not known is said."""
    row = MATRIX[name]
    journal = tmp_path / "journal.db"
    async with Emulator(duration=3600, faults=row.faults.split()) as gateway:
        async with Session(gateway.api_key, base_url=gateway.url, journal=journal) as session:
            error = await bought(session)
            [entry] = await session.history()
            posts, charged = gateway.books.requests[POST], gateway.books.charged
            gateway.faults.clear()
            again = await bought(session)
            [after] = await session.history()
    assert (posts, charged) == (row.posts, row.charged)
    assert type(error) is (row.error or type(None))
    assert getattr(error, "safe_to_resubmit", None) is row.safe
    assert entry.status == row.state
    # The key tells what may be done: after a refusal it buys, and otherwise it never does.
    refused = row.state == "refused"
    assert gateway.books.requests[POST] == posts + refused
    assert isinstance(again, SubmitOutcomeUnknownError) is (row.state == "in_doubt")
    assert after.status == ("submitted" if refused else row.state)


@pytest.mark.parametrize("elsewhere", [True, False], ids=["elsewhere", "at the gateway"])
@pytest.mark.parametrize(
    ("status", "state"),
    [
        (301, "in_doubt"),
        (302, "in_doubt"),
        (303, "in_doubt"),
        (307, "refused"),
        (308, "refused"),
    ],
)
async def test_a_redirected_submit_is_sent_once(
    status: int, state: str, elsewhere: bool, tmp_path: Path
) -> None:
    """No redirect is followed; one that is also how servers say «done, look there» is a doubt."""
    async with Emulator(duration=3600) as target, ScriptedGateway() as gateway:
        base = target.url if elsewhere else gateway.url
        location = {"Location": f"{base}/v1/videos/video_1/remix"}
        gateway.submits = [reply(b"", status=status, headers=location)]
        async with Session("sk-emulator", base_url=gateway.url, journal=tmp_path / "j") as session:
            error = await bought(session)
            [entry] = await session.history()
            assert (len(gateway.posts), len(gateway.gets)) == (1, 0)
            again = await bought(session)
        assert (target.books.requests.total(), target.books.charged) == (0, 0)
        assert len(gateway.posts) == (2 if state == "refused" else 1)
    assert isinstance(error, UnexpectedRedirectError)
    assert error.location == location["Location"]
    assert error.safe_to_resubmit is (state == "refused")
    assert entry.status == state
    assert type(again) is (type(error) if state == "refused" else SubmitOutcomeUnknownError)


@pytest.mark.parametrize("status", [504, 524])
async def test_an_upstreams_time_out_leaves_a_doubt(status: int, tmp_path: Path) -> None:
    """The gateway's own word that its upstream was late is an error and, to the key, a doubt."""
    envelope = {"code": "do_request_failed", "message": "upstream timed out", "data": None}
    async with ScriptedGateway(submits=[reply(envelope, status=status)]) as gateway:
        async with Session("sk-emulator", base_url=gateway.url, journal=tmp_path / "j") as session:
            error, again = await bought(session), await bought(session)
            [entry] = await session.history()
        assert len(gateway.posts) == 1
    assert isinstance(error, ServerError)
    assert not error.safe_to_resubmit
    assert type(again) is SubmitOutcomeUnknownError
    assert entry.status == "in_doubt"


@pytest.mark.parametrize("status", [408, 409, 499])
async def test_a_page_with_an_odd_status_leaves_a_doubt(status: int, tmp_path: Path) -> None:
    """A 4xx that does not come from the gateway itself says nothing of what the gateway did."""
    async with ScriptedGateway(submits=[reply("<html>no</html>", status=status)]) as gateway:
        async with Session("sk-emulator", base_url=gateway.url, journal=tmp_path / "j") as session:
            error = await bought(session)
            [entry] = await session.history()
        assert len(gateway.posts) == 1
    assert type(error) is SubmitOutcomeUnknownError
    assert entry.status == "in_doubt"


@pytest.mark.asyncio(loop_factories=["virtual"])
async def test_what_was_never_sent_is_free(tmp_path: Path) -> None:
    """Where nobody listens nothing is bought in any attempt, and the key may be used again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with Session("sk-emulator", base_url=nobody, journal=tmp_path / "j") as session:
        error = await bought(session)
        [entry] = await session.history()
    assert type(error) is APIConnectionError
    assert (entry.status, entry.attempt) == ("refused", RetryPolicy().attempts)
    assert not isinstance(error, APIError)
