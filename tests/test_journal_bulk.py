"""Records that come together are written by one statement, and in no other order than alone."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

import octoremix
from octoremix._journal.bulk import MOST_ROWS, Bulk, outcomes_of, padded
from octoremix._journal.jobs import Claim, Job
from octoremix._journal.states import State
from octoremix._journal.store import Store

from .journals import path, session, states, store_of
from .scripted import ScriptedGateway, task

__all__ = ["path"]

NOWHERE = cast("Store", None)


def claim(key: str, prompt: str = "snow", *, again: bool = False) -> Claim:
    return Claim(octoremix.RemixRequest(video_id="video_1", prompt=prompt), key, lambda _: again)


def jobs(outcomes: Sequence[Job | octoremix.JournalError]) -> list[Job]:
    assert all(isinstance(each, Job) for each in outcomes)
    return cast("list[Job]", outcomes)


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    found = Store(path, "https://gateway.test", store_prompts=True, busy_timeout=1)
    yield found
    found.close()


def statements(store: Store) -> list[str]:
    """Return what the store asks of SQLite from now on: the first word of each statement."""
    asked: list[str] = []
    connection: sqlite3.Connection = store._connection
    connection.set_trace_callback(lambda text: asked.append(text.split()[0]))
    return asked


class Doer:
    """Notes what is done together, and what of it is an error."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.bad: set[str] = set()

    def bulk(self, kind: str) -> Callable[[str], Bulk[str, str]]:
        def do(_: Store, payloads: Sequence[str]) -> list[str | octoremix.JournalError]:
            self.calls.append(f"{kind} {' '.join(payloads)}")
            return [
                octoremix.JournalError(each) if each in self.bad else f"{kind} {each}"
                for each in payloads
            ]

        return lambda key: Bulk(do, key, key)

    def plain(self, name: str) -> Callable[[Store], str]:
        def work(_: Store) -> str:
            self.calls.append(name)
            if name in self.bad:
                raise octoremix.JournalError(name)
            return name

        return work


def test_work_on_different_jobs_is_done_together() -> None:
    """However it is interleaved, and each gets what came of its own."""
    doer = Doer()
    doer.bad = {"b"}
    buy, end = doer.bulk("buy"), doer.bulk("end")
    outcomes = outcomes_of([buy("a"), end("x"), buy("b"), end("y"), buy("c")], NOWHERE)
    assert doer.calls == ["buy a b c", "end x y"]
    assert [str(each) for each in outcomes] == ["buy a", "end x", "b", "end y", "buy c"]
    assert isinstance(outcomes[2], octoremix.JournalError)


def test_work_on_one_job_keeps_its_order() -> None:
    """What is about a job comes after what was asked for it before, of whatever kind."""
    doer = Doer()
    buy, end = doer.bulk("buy"), doer.bulk("end")
    work = [buy("a"), buy("b"), end("a"), buy("c"), buy("a"), buy("a")]
    outcomes = outcomes_of(work, NOWHERE)
    assert doer.calls == ["buy a b", "end a", "buy c", "buy a", "buy a"]
    assert outcomes == ["buy a", "buy b", "end a", "buy c", "buy a", "buy a"]


def test_other_work_is_done_in_its_turn() -> None:
    """Work that is no bulk may be about any job: nothing is moved over it."""
    doer = Doer()
    doer.bad = {"bad"}
    buy = doer.bulk("buy")
    outcomes = outcomes_of(
        [buy("a"), buy("b"), doer.plain("look"), doer.plain("bad"), buy("c"), buy("d")], NOWHERE
    )
    assert doer.calls == ["buy a b", "look", "bad", "buy c d"]
    assert [str(each) for each in outcomes] == ["buy a", "buy b", "look", "bad", "buy c", "buy d"]
    assert isinstance(outcomes[3], octoremix.JournalError)
    assert outcomes_of([], NOWHERE) == []


def test_alone_its_error_is_raised() -> None:
    """Bulk work that is done for one job is work like any other."""
    doer = Doer()
    doer.bad = {"b"}
    buy = doer.bulk("buy")
    assert buy("a")(NOWHERE) == "buy a"
    with pytest.raises(octoremix.JournalError, match="b"):
        buy("b")(NOWHERE)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 63, 64, 65, 200])
def test_statements_are_of_few_sizes(count: int) -> None:
    """All rows in their order, in few pieces whose sizes are powers of two."""
    rows = range(count)
    pieces = list(padded(rows))
    assert list(dict.fromkeys(row for piece in pieces for row in piece)) == list(rows)
    assert {len(piece) for piece in pieces} <= {1, 2, 4, 8, 16, 32, MOST_ROWS}
    assert len(pieces) == -(-count // MOST_ROWS)


def test_a_hundred_jobs_take_a_few_statements(store: Store, path: Path) -> None:
    """One for each sixty-four, and each job is in its own row."""
    keys = [f"key {number}" for number in range(100)]
    asked = statements(store)
    with store.transaction():
        claimed = jobs(store.claims([claim(key, f"snow {key}") for key in keys]))
        accepted = [(job, f"task of {job.key}") for job in claimed]
        assert store.submitted(accepted) == [None] * 100
    assert asked == ["BEGIN", "INSERT", "INSERT", "UPDATE", "UPDATE", "COMMIT"]
    assert all(job.fresh and job.state is State.INTENT for job in claimed)
    rows = store._connection.execute("SELECT number, key, prompt, task_id FROM job").fetchall()
    assert [tuple(row) for row in rows] == [
        (number, key, f"snow {key}", f"task of {key}") for number, key in enumerate(keys, 1)
    ]
    assert states(path) == dict.fromkeys(keys, "submitted")


def test_known_and_new_keys_come_together(store: Store, path: Path) -> None:
    """Of what is claimed at once, each key has its own answer, and only the new are bought."""
    with store.transaction():
        bought, refused, running = jobs(store.claims([claim(key) for key in "abc"]))
        store.submitted([(bought, "task_a")])
        store.refused(refused, "no", None)
    with store.transaction():
        outcomes = store.claims(
            [
                claim("new"),
                claim("a"),
                claim("a2"),
                claim("b", again=True),
                claim("c"),
                claim("c2", "rain"),
            ]
        )
        reused, last = store.claims([claim("a", "rain"), claim("last")])
    new, a, a2, b, c, c2 = jobs(outcomes)
    assert [job.key for job in (new, a, a2, b, c, c2)] == ["new", "a", "a2", "b", "c", "c2"]
    assert (a.task_id, a.fresh, c.state, c.fresh) == ("task_a", False, State.INTENT, False)
    assert (b.fresh, b.attempt) == (True, 2)
    assert isinstance(reused, octoremix.KeyReusedError)
    assert isinstance(last, Job)
    assert last.fresh
    assert states(path) == {
        "a": "submitted",
        "b": "intent 2",
        "c": "intent",
        **dict.fromkeys(["new", "a2", "c2", "last"], "intent"),
    }
    assert running.intent_at == c.intent_at < new.intent_at


def test_an_id_goes_to_its_own_attempt_only(store: Store, path: Path) -> None:
    """One job that was settled meanwhile is told, and the others of its commit are written."""
    with store.transaction():
        good, old, doubted, gone = jobs(store.claims([claim(key) for key in "abcd"]))
        store.in_doubt(doubted, "no answer", 1.0, None)
        store.refused(old, "no", None)
        store.claims([claim("b", again=True)])
        store._connection.execute("DELETE FROM job WHERE key = 'd'")
    with store.transaction():
        outcomes = store.submitted([(good, "t1"), (old, "t2"), (doubted, "t3"), (gone, "t4")])
        assert outcomes[0] is outcomes[2] is None
        assert "the job 'b' was settled otherwise meanwhile: it is intent" in str(outcomes[1])
        assert "the job 'd' was settled otherwise meanwhile: it is gone" in str(outcomes[3])
    assert states(path) == {"a": "submitted", "b": "intent 2", "c": "submitted"}
    with store.transaction():  # as where a commit came through though it failed
        assert store.submitted([(good, "t1"), (doubted, "t3")]) == [None, None]


async def test_submits_that_come_together_share_statements(path: Path) -> None:
    """A session's submits reach the store as bulk work, and each of them is bought once."""
    answers = [task("queued", f"task_{number}") for number in range(1, 60)]
    async with (
        ScriptedGateway(submits=answers) as gateway,
        session(gateway, path, submit_concurrency=60) as octo,
    ):
        await octo.history()
        asked = statements(store_of(octo))
        futures = await asyncio.gather(
            *(octo.submit("video_1", prompt=f"snow {number}") for number in range(50))
        )
        kept = [*asked]
        assert len({future.id for future in futures}) == len(gateway.posts) == 50
    assert kept.count("INSERT") < 10
    assert sorted(states(path).values()) == ["submitted"] * 50
    by_prompt: dict[Any, Any] = {post.json["prompt"]: post for post in gateway.posts}
    assert len(by_prompt) == 50
