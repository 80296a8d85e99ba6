"""Where a journal may lie, who may read it, and what is told of a file that is none."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import warnings
from pathlib import Path
from typing import Any

import pytest

import octoremix
from octoremix._journal import files, owners, schema
from octoremix._journal.owners import OwnerLocks

from .journals import path, query, session, states, store_of
from .scripted import ScriptedGateway

__all__ = ["path"]


async def refused_by(journal: Any) -> octoremix.JournalError:
    """Return the error of a session with that journal, before which nothing is sent."""
    async with ScriptedGateway() as gateway:
        octo = session(gateway, journal)
        with pytest.raises(octoremix.JournalError) as caught:
            await octo.submit("video_1", prompt="snow")
        await octo.aclose()
        with pytest.raises(octoremix.JournalError):
            async with session(gateway, journal):
                raise AssertionError("it was opened")
        assert not gateway.calls
    assert caught.value.id is None
    return caught.value


def in_child(work: Any) -> str:
    """Do some work in a forked child, and return what it raised."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if not child:
        told = "nothing"
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # told to the parent
            told = f"{type(error).__name__}: {error}"
        finally:
            os.write(writer, told.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return told


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("journal", [":memory:", "", "  ", "file:x.db", "a\0b", 7, b"", True])
def test_what_is_no_file_is_refused(journal: Any) -> None:
    """A journal is the path of a file; anything else is named before any I/O."""
    with pytest.raises(octoremix.ConfigurationError, match=r"path of a file|must be a path"):
        octoremix.Session("key", journal=journal)
    with pytest.raises(octoremix.ConfigurationError, match=r"path of a file|must be a path"):
        octoremix.SQLiteJournal(journal)


@pytest.mark.parametrize("seconds", [-1, float("nan"), "1"])
def test_a_malformed_busy_timeout_is_refused(path: Path, seconds: Any) -> None:
    """`busy_timeout` is a number of seconds."""
    with pytest.raises(octoremix.ConfigurationError, match="busy_timeout"):
        octoremix.SQLiteJournal(path, busy_timeout=seconds)


async def test_a_path_is_meant_from_where_the_session_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path does not change its meaning with the working directory."""
    monkeypatch.chdir(tmp_path)
    async with ScriptedGateway() as gateway:
        octo = session(gateway, "jobs.db")
        monkeypatch.chdir("/")
        async with octo:
            await octo.submit("video_1", prompt="snow", key="a")
    assert states(tmp_path / "jobs.db") == {"a": "submitted"}


async def test_files_are_their_users_alone(tmp_path: Path) -> None:
    """The folder that is made is 0700, and every file of a journal 0600."""
    folder = tmp_path / "new" / "journal"
    path = folder / "jobs.db"
    async with ScriptedGateway() as gateway, session(gateway, path) as octo:
        await octo.submit("video_1", prompt="snow")
        assert mode(folder) == 0o700
        found = {each.name: mode(each) for each in folder.iterdir()}
    names = ("jobs.db", "jobs.db-wal", "jobs.db-shm", "jobs.db-owners")
    assert found == dict.fromkeys(names, 0o600)


async def test_files_that_others_may_read_are_tightened(path: Path) -> None:
    """Files that are there already, also those left by a crash, are taken from others."""
    async with ScriptedGateway() as gateway:
        async with session(gateway, path) as octo:
            await octo.submit("video_1", prompt="snow")
            left = [each for each in path.parent.iterdir() if each.name.startswith("jobs.db")]
            for each in left:
                each.chmod(0o644)
            async with session(gateway, path):
                assert [mode(each) for each in left] == [0o600] * 4
            assert mode(path.parent) == mode(path.parent)


async def test_a_folder_is_no_journal(tmp_path: Path) -> None:
    """A path that is a folder, or lies below a file, is refused before anything is sent."""
    assert "no regular file" in str(await refused_by(tmp_path))
    (tmp_path / "file").touch()
    assert "can't be written" in str(await refused_by(tmp_path / "file" / "jobs.db"))


async def test_what_may_not_be_written_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file without permission to write it is refused before anything is sent."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "no permission" in str(await refused_by(path))


async def test_a_database_that_can_only_be_read_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that SQLite can't write to is told as such, with what to check."""
    path.touch()
    real: Any = sqlite3.connect

    def read_only(file: Any, **settings: Any) -> Any:
        return real(f"file:{file}?mode=ro", uri=True, **settings)

    monkeypatch.setattr(sqlite3, "connect", read_only)
    assert "check its permissions" in str(await refused_by(path))


async def test_a_database_that_cannot_be_opened_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that SQLite can't open is told as such."""

    def closed(*_: Any, **__: Any) -> sqlite3.Connection:
        error = sqlite3.OperationalError("unable to open database file")
        error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
        raise error

    monkeypatch.setattr(sqlite3, "connect", closed)
    assert "folder's permissions" in str(await refused_by(path))


@pytest.mark.parametrize("content", [b"x" * 5000, b"prompts:\n- snow\n"])
async def test_a_file_of_another_kind_is_refused_and_kept(path: Path, content: bytes) -> None:
    """What is no database is named as such and stays as it was."""
    path.write_bytes(content)
    assert "no journal of octoremix" in str(await refused_by(path))
    assert path.read_bytes() == content


@pytest.mark.parametrize("statement", ["CREATE TABLE job (x)", "PRAGMA application_id = 77"])
async def test_another_programs_database_is_refused_and_kept(path: Path, statement: str) -> None:
    """A database of another program is not written to."""
    query(path, statement)
    before = path.read_bytes()
    assert "another program's database" in str(await refused_by(path))
    assert path.read_bytes() == before


class _Overtaken:
    """A connection to a journal that another process makes after the first look at it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._looking = sqlite3.connect(path)
        self._looked = False

    def execute(self, statement: str) -> Any:
        row = self._looking.execute(statement).fetchone()
        if not self._looked:
            self._looked = True
            schema.connect(self._path, 1.0).close()
        return self._looking.execute("VALUES (?)", row)

    def close(self) -> None:
        self._looking.close()


def test_a_journal_that_is_just_being_made_is_no_foreign_file(path: Path) -> None:
    """Two processes that open a new journal at once both take it for what it is."""
    files.prepare(path)
    connection: Any = _Overtaken(path)
    schema._is_fresh(connection, path)  # whatever it says: it is looked at again before it is made
    assert not schema._is_fresh(connection, path)
    connection.close()


async def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    """A file that was made in advance is used."""
    path.touch(0o644)
    async with ScriptedGateway() as gateway, session(gateway, path) as octo:
        await octo.submit("video_1", prompt="snow", key="a")
    assert states(path) == {"a": "submitted"}
    assert mode(path) == 0o600


async def test_a_newer_version_is_refused(path: Path) -> None:
    """A journal of a later octoremix is left as it is, and the error says to upgrade."""
    async with ScriptedGateway() as gateway, session(gateway, path):
        pass
    query(path, "PRAGMA user_version = 99")
    assert "upgrade octoremix" in str(await refused_by(path))


async def test_a_damaged_journal_is_refused(path: Path) -> None:
    """A journal with damaged pages is told as such, before anything is spent."""
    async with ScriptedGateway() as gateway, session(gateway, path):
        pass
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xee" * (len(content) - 4096)
    path.write_bytes(content)
    assert "damaged" in str(await refused_by(path))


async def test_a_journal_that_others_hold_is_busy(path: Path) -> None:
    """Held for longer than `busy_timeout`, a journal is a `JournalBusyError`; nothing was sent."""
    impatient = octoremix.SQLiteJournal(path, busy_timeout=0.01)
    async with ScriptedGateway() as gateway, session(gateway, impatient) as octo:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(octoremix.JournalBusyError, match="busy_timeout"):
            await octo.submit("video_1", prompt="snow", key="a")
        with pytest.raises(octoremix.JournalBusyError):
            async with session(gateway, impatient):
                raise AssertionError("it was opened")
        other.execute("ROLLBACK")
        other.close()
        assert not gateway.posts
        await octo.submit("video_1", prompt="snow", key="a")
    assert states(path) == {"a": "submitted"}


def test_the_write_ahead_log_is_waited_for(path: Path) -> None:
    """Where others switch the file's mode at the same time it is tried again, and not for ever."""

    class Busy:
        def __init__(self, times: float) -> None:
            self.times = times

        def execute(self, _: str) -> Any:
            self.times -= 1
            if self.times >= 0:
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                raise error
            return memory.execute("SELECT 'wal'")

    memory = sqlite3.connect(":memory:")
    busy: Any = Busy(1)
    schema._use_write_ahead_log(busy, path, 60)
    assert busy.times == -1
    memory.close()
    endless: Any = Busy(float("inf"))
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        schema._use_write_ahead_log(endless, path, 0)


async def test_a_disk_without_shared_memory_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where SQLite keeps no write-ahead log, several processes could not share the file."""

    class Old(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            return super().execute(statement.replace("= WAL", "= DELETE"), *values)

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **s: real(*a, factory=Old, **s))
    assert "share memory" in str(await refused_by(path))


def test_two_that_make_the_tables_at_once(path: Path) -> None:
    """Of two processes that find an empty file one makes the tables, and the other uses them."""
    schema.connect(path, 1).close()
    late = sqlite3.connect(path, isolation_level=None)
    schema._make_tables(late, path)
    late.close()
    assert states(path) == {}


MOUNTS = (
    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    "40 22 0:35 / {} rw,relatime shared:9 - {} server:/export rw,vers=4.2\n"
)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
async def test_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Where locks lie, no journal is made, and the error names the file system."""
    table, folder = tmp_path / "mountinfo", tmp_path / "far away"
    folder.mkdir()
    table.write_text(MOUNTS.format(str(folder).replace(" ", "\\040"), kind))
    monkeypatch.setattr(files, "_MOUNTS", table)
    assert f"network file system ({kind})" in str(await refused_by(folder / "jobs.db"))
    assert list(folder.iterdir()) == []


async def test_a_disk_below_a_network_file_system_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mount that is nearest to the file decides, and the last of equal ones."""
    table = tmp_path / "mountinfo"
    lines = MOUNTS.format("/", "nfs") + MOUNTS.format(tmp_path, "nfs")
    table.write_text(lines + f"41 40 8:2 / {tmp_path} rw - xfs /dev/sdb rw\n")
    monkeypatch.setattr(files, "_MOUNTS", table)
    assert files._file_system(tmp_path) is None


def test_elsewhere_than_on_linux_the_file_system_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a table of mounts only the shares of Windows are told by their names."""
    monkeypatch.setattr(files, "_MOUNTS", tmp_path / "missing")
    assert files._file_system(tmp_path) is None

    class Share:
        drive = "\\\\server\\share"

        def resolve(self) -> Share:
            return self

    share: Any = Share()
    assert files._file_system(share) == "a Windows share"


def test_room_that_nobody_knows(tmp_path: Path) -> None:
    """Where a disk's room can't be told, it is not taken for full."""
    assert files.free_bytes(tmp_path / "missing") is None


def test_an_owner_lives_while_its_lock_is_held(tmp_path: Path) -> None:
    """Two that share a process are two owners, and one that lets go is dead."""
    one, two = OwnerLocks(tmp_path / "locks"), OwnerLocks(tmp_path / "locks")
    one.hold(1)
    two.hold(2)
    assert [two.is_alive(owner) for owner in (1, 2, 3)] == [True, True, False]
    assert repr(one) == "<OwnerLocks of 1 owners>"
    one.close()
    assert [two.is_alive(owner) for owner in (1, 2)] == [False, True]
    two.close()
    assert not owners._files


def test_a_lock_of_another_process_is_seen(tmp_path: Path) -> None:
    """A child has none of its parent's locks, sees them held, and the kernel frees its own."""
    parent = OwnerLocks(tmp_path / "locks")
    parent.hold(1)

    def look() -> None:
        found = OwnerLocks(tmp_path / "locks")
        found.hold(2)
        with pytest.raises(OSError, match=r"unavailable|denied"):
            found.hold(1)
        assert found.is_alive(1)
        assert not found.is_alive(3)

    assert in_child(look) == "nothing"
    assert not parent.is_alive(2)
    parent.close()


@pytest.mark.parametrize("where", ["open", "lock", "busy"])
async def test_a_disk_without_locks_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Where owners can't be locked, nobody could tell who lives."""

    def fail(*_: Any) -> None:
        raise OSError(13 if where == "busy" else 38, "Function not implemented")

    if where == "open":
        owners.owners_path(path).mkdir()
        assert "can't be opened" in str(await refused_by(path))
    else:
        monkeypatch.setattr(owners, "_lock", fail)
        assert "can't be locked" in str(await refused_by(path))


async def test_a_lock_that_cannot_be_tried_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody can tell whether a job's owner lives, nothing is done about the job."""

    def fail(*_: Any) -> None:
        raise OSError(37, "No locks available")

    async with ScriptedGateway() as gateway:
        async with session(gateway, path) as octo:
            await octo.submit("video_1", prompt="snow", key="a")
        async with session(gateway, path) as octo:
            monkeypatch.setattr(owners, "_lock", fail)
            with pytest.raises(octoremix.JournalError, match="No locks available"):
                await octo.submit("video_1", prompt="snow", key="a")
            monkeypatch.undo()
            await octo.submit("video_1", prompt="snow", key="a")
        assert len(gateway.posts) == 1


def test_a_forked_session_refuses(path: Path) -> None:
    """A child can't use a session that was open before the fork, nor end what its parent has."""
    gateway = ScriptedGateway()

    async def start() -> octoremix.Session:
        await gateway.__aenter__()
        octo = await session(gateway, path).__aenter__()
        await buy(octo, "a")
        return octo

    async def stop() -> None:
        await octo.aclose()
        await gateway.__aexit__()

    async def buy(octo: octoremix.Session, key: str) -> None:
        await octo.submit("video_1", prompt="snow", key=key)

    with asyncio.Runner() as runner:
        octo = runner.run(start())
        ledger = octo._ledger
        assert ledger is not None
        told = in_child(lambda: runner.run(buy(octo, "a")))
        assert told.startswith("JournalError: the journal was opened before this process was fork")
        assert in_child(lambda: runner.run(ledger.aclose())) == "nothing"
        assert "another event loop" in in_child(lambda: asyncio.run(buy(octo, "a")))
        assert store_of(octo)._locks.is_alive(store_of(octo)._owner)
        runner.run(buy(octo, "b"))
        runner.run(stop())
    assert states(path) == {"a": "submitted", "b": "submitted"}


def test_a_session_that_is_used_after_a_fork_only_serves(path: Path) -> None:
    """A session that was made before a fork, and not used, is as good as a new one."""
    gateway = ScriptedGateway()

    async def use() -> None:
        async with gateway, session(gateway, journal) as octo:
            await octo.submit("video_1", prompt="snow", key="a")

    journal = octoremix.SQLiteJournal(path)
    octo = octoremix.Session("key", base_url="http://127.0.0.1:9", journal=journal)

    async def open_and_close() -> None:
        async with octo:
            pass

    assert in_child(lambda: asyncio.run(open_and_close())) == "nothing"
    asyncio.run(use())
    assert states(path) == {"a": "submitted"}


async def test_a_journal_that_was_open_over_a_fork_is_refused_in_the_child(path: Path) -> None:
    """SQLite asks for no locks in such a child, whose records could be lost: it may not write."""
    async with ScriptedGateway() as gateway, session(gateway, path):
        told = in_child(lambda: schema.connect(path, 1))
        assert "JournalError" in told
        assert "was open when this process was forked" in told
    # What was closed before the fork is no hindrance.
    assert in_child(lambda: schema.connect(path, 1).close()) == "nothing"
    assert not owners.is_inherited(path.with_name("missing"))


async def test_another_process_is_known_by_its_number(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a process has open is closed to every process that it becomes by a fork."""
    async with ScriptedGateway() as gateway, session(gateway, path) as octo:
        ledger = octo._ledger
        assert ledger is not None
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 1)
            with pytest.raises(octoremix.JournalError, match="before this process was forked"):
                await ledger.open()
            with pytest.raises(octoremix.JournalError, match="open when this process was forked"):
                schema.connect(path, 1)
            await ledger.aclose()
        await ledger.open()


async def test_an_owner_that_another_process_locks_lives(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that can't be had is held by a living owner, whose task is not taken over."""

    def held(*_: Any) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    async with ScriptedGateway() as gateway:
        async with session(gateway, path) as octo:
            await octo.submit("video_1", prompt="snow", key="a")
        async with session(gateway, path) as octo:
            monkeypatch.setattr(owners, "_lock", held)
            assert await octo.resume() == []
            monkeypatch.undo()
            assert len(await octo.resume()) == 1


async def test_another_name_of_the_file_is_the_same_journal(path: Path, tmp_path: Path) -> None:
    """A link to a journal shares its owners: what one session follows is alive to the other."""
    async with ScriptedGateway() as gateway, session(gateway, path) as octo:
        await octo.submit("video_1", prompt="snow", key="a")
        link = tmp_path / "elsewhere" / "link.db"
        link.parent.mkdir()
        link.symlink_to(path)
        async with session(gateway, link) as other:
            assert await other.resume() == []
            await other.submit("video_1", prompt="snow", key="a")
        assert len(gateway.posts) == 1
        assert [each.name for each in link.parent.iterdir()] == ["link.db"]


async def test_a_journal_that_was_deleted_while_in_use_begins_anew(path: Path) -> None:
    """A new file does not take an owner of the old one, which lives on, for one of its own."""
    async with ScriptedGateway() as gateway, session(gateway, path) as old:
        for each in list(path.parent.glob("jobs.db*")):
            if not each.name.endswith("-owners"):
                each.unlink()
        async with session(gateway, path) as octo:
            await octo.submit("video_1", prompt="snow", key="a")
            assert store_of(octo)._owner != store_of(old)._owner
            async with session(gateway, path) as other:
                assert await other.resume() == []
    assert states(path) == {"a": "submitted"}


async def test_history_and_prune_need_a_file(path: Path) -> None:
    """Reading a journal that is not there does not make one."""
    journal = octoremix.SQLiteJournal(path)
    with pytest.raises(octoremix.JournalError, match="there is no journal"):
        await journal.history()
    with pytest.raises(octoremix.JournalError, match="there is no journal"):
        await journal.prune(older_than=1)
    assert not path.exists()


async def test_a_session_that_was_never_used_makes_no_file(path: Path) -> None:
    """Making a session is no I/O, and neither is closing it."""
    async with ScriptedGateway() as gateway:
        octo = session(gateway, path)
        await octo.aclose()
        octo = session(gateway, path)
        octo.track("task_1").detach()
        await octo.aclose()
    assert not path.exists()
    await asyncio.sleep(0)
