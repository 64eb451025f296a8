"""The log's file: made whole, recognised or refused, private, append-only, readable by people, and honest when storing fails."""

import asyncio
import os
import resource
import sqlite3
import stat
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import aiosqlite
import pytest

from pairing.log import group, rows
from pairing.log.chain import GENESIS, verify
from pairing.log.errors import HistoryChanged, LogTooNew, LogUnavailable, NotALog
from pairing.log.file import Connection, connect, prepared
from pairing.log.port import Appended, Conflict, Draft, Mark, Slice
from pairing.log.sqlite import SqliteLog

DRAFT = Draft("token.issued", b'{"actor":{"kind":"timer"},"command":"c"}', b'{"kind":"token.issued"}')
PERSON = Draft("token.issued", b"{}", b"{}", b'{"salt":"00","name":"Ada Lovelace"}')


def command(number: int) -> str:
    return str(UUID(int=number + (7 << 76)))


def one(stream: str, expected: int, draft: Draft = DRAFT) -> list[Slice]:
    return [Slice(stream, expected, (draft,))]


async def fill(log: SqliteLog, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        answer = await log.append(one(f"d:{number % 3}", number // 3), command=command(number), now=number)
        assert isinstance(answer, Appended), answer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "log.db"


@pytest.fixture
async def log(path: Path) -> AsyncIterator[SqliteLog]:
    opened = await SqliteLog.open(path)
    yield opened
    await opened.close()


async def test_the_files_belong_to_their_owner_alone(log: SqliteLog, path: Path) -> None:
    """The folder is made 0700 and everything in it 0600, the WAL and the lock too."""
    await fill(log, 1)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    modes = {item.name: stat.S_IMODE(item.stat().st_mode) for item in path.parent.iterdir()}
    assert modes.keys() >= {"log.db", "log.db-wal", "log.db.lock"}
    assert set(modes.values()) == {0o600}


async def test_what_was_stored_is_there_after_a_restart(path: Path) -> None:
    """A log opened again has every row, the same head, the same streams and answers to the same commands."""
    log = await SqliteLog.open(path)
    await fill(log, 10)
    rows, head = await log.scan(), await log.head()
    await log.close()
    again = await SqliteLog.open(path)
    assert (await again.scan(), await again.head()) == (rows, head)
    assert await again.append(one("d:0", 0), command=command(0), now=99) == Appended(rows[:1])
    assert await again.append(one("d:0", 0), command=command(50), now=99) == Conflict("d:0", 0, 4)
    await fill(again, 5, first=10)
    assert verify(await again.scan()) is None
    await again.close()


async def test_a_log_may_be_read_without_writing(log: SqliteLog, path: Path) -> None:
    """Opened for reading only, a log shows what is stored and takes nothing."""
    await fill(log, 3)
    reader = await SqliteLog.open(path, readonly=True)
    assert await reader.scan() == await log.scan()
    with pytest.raises(LogUnavailable, match="reading only"):
        await reader.append(one("d:0", 1), command=command(9), now=1)
    with pytest.raises(LogUnavailable, match="reading only"):
        await reader.forget("d:0")
    await fill(log, 1, first=3)
    assert (await reader.head()).position == 4
    await reader.close()


async def test_reading_makes_no_log(path: Path) -> None:
    """Where no log is, opening for reading says so and leaves nothing behind (A20)."""
    with pytest.raises(NotALog, match="no such file"):
        await SqliteLog.open(path, readonly=True)
    assert not path.parent.exists()


def _other_application(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE events (position)")


def _schema_gone(path: Path) -> None:
    prepared(path, readonly=False).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TRIGGER events_kept")


def _wal_alone(path: Path) -> None:
    Path(f"{path}-wal").write_bytes(b"rows")


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not a database at all, but long enough to look" * 100),
        lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(4080)),
        lambda path: path.mkdir(),
        _other_application,
        _schema_gone,
        _wal_alone,
    ],
    ids=["empty", "text", "header only", "a folder", "another application", "triggers gone", "a WAL without its file"],
)
async def test_what_is_not_a_log_is_refused_and_left_alone(path: Path, make: object, readonly: bool) -> None:
    """A file that is not ours, or not whole, is never taken for an empty log; it is named, and stays as it is (D1)."""
    path.parent.mkdir()
    make(path)  # type: ignore[operator]
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(NotALog, match=r"log\.db is not a pairing log: .*pairing log status"):
        await SqliteLog.open(path, readonly=readonly)
    assert (path.read_bytes() if path.is_file() else None) == before


async def test_a_newer_schema_is_refused(path: Path) -> None:
    """A log that a newer version has changed is not touched; the message names both schemas (D3)."""
    prepared(path, readonly=False).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version=7")
    with pytest.raises(LogTooNew, match=r"schema 7, this version knows up to 1.*Update"):
        await SqliteLog.open(path)


async def test_a_truncated_file_is_refused(path: Path) -> None:
    """A file cut short does not open as a shorter log (D1)."""
    log = await SqliteLog.open(path)
    await fill(log, 200)
    await log.close()
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(LogUnavailable, match="malformed"):
        await SqliteLog.open(path)


async def test_many_open_a_new_log_at_once(path: Path) -> None:
    """Of several that find no file one makes it and all use it (D4)."""
    logs = await asyncio.gather(*(SqliteLog.open(path) for _ in range(5)))
    answers = await asyncio.gather(*(log.append(one("d:1", 0), command=command(n), now=1) for n, log in enumerate(logs)))
    assert sum(isinstance(answer, Appended) for answer in answers) == 1
    assert [len(await log.scan()) for log in logs] == [1] * 5
    for log in logs:
        await log.close()


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM events",
        "UPDATE events SET body = '{}'",
        "UPDATE events SET personal = '{}'",
        "UPDATE events SET personal = NULL, kind = 'x'",
        "UPDATE events SET hash = zeroblob(32)",
        "UPDATE events SET position = position + 100",
        "UPDATE events SET command = zeroblob(16)",
        "INSERT OR REPLACE INTO events SELECT 1, stream, 9, kind, 1, command, meta, body, NULL, NULL, hash FROM events LIMIT 1",
        "INSERT OR REPLACE INTO events SELECT 4, stream, 1, kind, 1, command, meta, body, NULL, NULL, hash FROM events LIMIT 1",
        "INSERT INTO events SELECT 9, stream, 9, kind, 1, command, meta, body, NULL, NULL, hash FROM events LIMIT 1",
        "DELETE FROM streams",
        "UPDATE streams SET name = 'device:other'",
        "INSERT OR REPLACE INTO streams SELECT id, 'device:other' FROM streams LIMIT 1",
        "INSERT OR REPLACE INTO streams SELECT 99, name FROM streams LIMIT 1",
    ],
)
async def test_the_file_itself_refuses_to_rewrite_history(log: SqliteLog, path: Path, sql: str) -> None:
    """UPDATE, DELETE, REPLACE and rows out of order are refused by the file itself; only `personal` may be emptied."""
    await fill(log, 2)
    await log.append(one("p", 0, PERSON), command=command(9), now=9)
    before = await log.scan()
    with closing(sqlite3.connect(path)) as database:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            database.execute(sql)
        database.rollback()
        database.execute("UPDATE events SET personal = NULL")
        database.commit()
    after = await log.scan()
    assert [row.hash for row in after] == [row.hash for row in before]
    assert all(row.personal is None for row in after)
    assert verify(after) is None


async def test_people_read_the_history_with_any_sqlite(log: SqliteLog, path: Path) -> None:
    """The view `history` shows names, times and JSON as text, also where a row is damaged."""
    await log.append(one("device:a", 0), command=command(1), now=1_760_000_000_123)
    await log.append(one("device:a", 1, Draft("x", b"no json", b"{}")), command=command(2), now=1_760_000_000_124)
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        first, second = [dict(row) for row in database.execute("SELECT * FROM history")]
    assert (first["time"], first["stream"], first["actor"]) == ("2025-10-09T08:53:20.123Z", "device:a", "timer")
    assert first["body"] == '{"kind":"token.issued"}'
    assert (second["actor"], second["meta"]) == (None, "no json")


async def test_forgotten_bytes_are_gone_from_the_disk(log: SqliteLog, path: Path) -> None:
    """After `forget` no file of the log holds the name any more (L6)."""
    await fill(log, 20)
    await log.append(one("p", 0, PERSON), command=command(99), now=9)
    await fill(log, 20, first=20)
    held = [item.name for item in path.parent.iterdir() if b"Ada Lovelace" in item.read_bytes()]
    assert held
    assert await log.forget("p") == 1
    assert not [item.name for item in path.parent.iterdir() if b"Ada Lovelace" in item.read_bytes()]
    assert verify(await log.scan()) is None


async def test_readers_never_wait_for_a_writer(log: SqliteLog, path: Path) -> None:
    """While another process is in the middle of a write, every reading verb answers at once (D7)."""
    await fill(log, 6)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(log.append(one("d:9", 0), command=command(90), now=1))
        async with asyncio.timeout(2):
            assert len(await log.scan()) == 6
            assert len(await log.stream("d:0")) == 2
            assert (await log.head()).position == 6
            assert len(await log.command(command(3))) == 1
        assert not waiting.done()
        other.execute("ROLLBACK")
        assert isinstance(await waiting, Appended)


async def test_another_writer_is_noticed(log: SqliteLog, path: Path) -> None:
    """Nothing is judged on what was true before another process wrote: versions, head and commands are current (D4, R8)."""
    await fill(log, 6)
    other = await SqliteLog.open(path)
    for turn in range(5):
        here, there = (log, other) if turn % 2 else (other, log)
        assert isinstance(await here.append(one("d:0", 2 + turn), command=command(100 + turn), now=1), Appended)
        assert await there.append(one("d:0", 2 + turn), command=command(200 + turn), now=1) == Conflict("d:0", 2 + turn, 3 + turn)
        first = await there.append(one("d:0", 0), command=command(100 + turn), now=1)
        assert isinstance(first, Appended)
        assert await there.head() == Mark(first.position, first.records[-1].hash)
    for turn in range(4):
        here = log if turn % 2 else other
        asked = (here.append(one(f"g:{n}", turn), command=command(400 + turn * 10 + n), now=1) for n in range(4))
        assert all(isinstance(answer, Appended) for answer in await asyncio.gather(*asked))
    async with asyncio.timeout(5):
        following = aiter(log.follow(after=await log.head()))
        next_row = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0.05)
        await other.append(one("new", 0), command=command(300), now=1)
        assert (await next_row).stream == "new"
    await other.close()
    assert verify(await log.scan()) is None


async def test_a_rewritten_past_is_noticed_by_followers(log: SqliteLog, path: Path) -> None:
    """A follower in the middle of its work stops where the row it stands on has become another (D10)."""
    await fill(log, 4)
    async with asyncio.timeout(5):
        following = aiter(log.follow(after=GENESIS))
        for _ in range(4):
            await anext(following)
        with closing(sqlite3.connect(path)) as database:
            database.execute("DROP TRIGGER events_unchanged")
            database.execute("UPDATE events SET hash = zeroblob(32) WHERE position = 4")
            database.commit()
        with pytest.raises(HistoryChanged):
            await anext(following)


async def test_a_log_taken_away_takes_nothing_more(log: SqliteLog, path: Path) -> None:
    """Where the file has been moved or replaced under the service, appends fail: no answer without a row to find (D1, L1)."""
    await fill(log, 3)
    aside = path.rename(path.with_name("aside.db"))
    for replaced in (False, True):
        if replaced:
            path.write_bytes(aside.read_bytes())
        answers = await asyncio.gather(
            *(log.append(one(f"n:{n}", 0), command=command(50 + n), now=1) for n in range(3)), return_exceptions=True
        )
        assert all(isinstance(answer, LogUnavailable) and "moved away or replaced" in str(answer) for answer in answers)
    path.unlink()
    aside.rename(path)
    await fill(log, 3, first=3)


async def test_an_answer_leaves_only_after_a_flush(log: SqliteLog) -> None:
    """The writing connection flushes the WAL with every commit (D6)."""
    assert log._group is not None
    asked = ("PRAGMA synchronous", "PRAGMA journal_mode")
    told = [await log._group._writing.run(lambda database, sql=sql: database.execute(sql).fetchone()) for sql in asked]  # type: ignore[misc]
    assert told == [(2,), (b"wal",)]


async def _ask(log: SqliteLog, first: int, count: int = 5) -> list[object]:
    asked = (log.append(one(f"n:{n}", 0), command=command(n), now=1) for n in range(first, first + count))
    return list(await asyncio.gather(*asked, return_exceptions=True))


async def test_a_full_disk_fails_everybody_who_waits_and_nothing_is_half_done(log: SqliteLog, path: Path) -> None:
    """When the disk is full each waiting caller is told and no row is kept; with room again they are stored (L1, D9)."""
    await fill(log, 30)
    before = await log.scan()
    room = Path(f"{path}-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for count in (1, 6):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            answers = await _ask(log, 100, count)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert all(isinstance(answer, LogUnavailable) for answer in answers)
        assert await log.scan() == before
    assert all(isinstance(answer, Appended) for answer in await _ask(log, 100, 6))
    assert verify(await log.scan()) is None
    assert await log.examine() == ()


async def test_a_commit_that_fails_leaves_nothing(log: SqliteLog) -> None:
    """Where the commit fails, the group is rolled back, all its callers are told, and the next starts from the file (D9)."""
    await fill(log, 6)
    before = await log.scan()
    assert log._group is not None

    def deny(action: int, first: str | None, *_: object) -> int:
        return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_TRANSACTION and first == "COMMIT" else sqlite3.SQLITE_OK

    await log._group._writing.run(lambda database: database.set_authorizer(deny))
    assert all(isinstance(answer, LogUnavailable) for answer in await _ask(log, 100))
    assert await log.scan() == before
    await log._group._writing.run(lambda database: database.set_authorizer(None))
    assert all(isinstance(answer, Appended) for answer in await _ask(log, 100))
    assert verify(await log.scan()) is None


async def test_who_holds_the_file_too_long_is_not_waited_for_for_ever(log: SqliteLog, path: Path) -> None:
    """A process that stops in the middle of a write costs the others an error, not their lives (D7)."""
    await fill(log, 3)
    assert log._group is not None
    log._group._writer._turn._patience_s = 0.2
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert all(isinstance(answer, LogUnavailable) and "locked" in str(answer) for answer in await _ask(log, 100))
    assert all(isinstance(answer, Appended) for answer in await _ask(log, 100))


async def test_the_wal_is_copied_beside_the_writer_and_begins_again(
    log: SqliteLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under writers that never pause the WAL stays bounded: it is checkpointed in the background and begun again (§14)."""
    monkeypatch.setattr(group, "_CHECKPOINT_PAGES", 100)

    async def caller(number: int) -> None:
        for turn in range(150):
            await log.append(one(f"c:{number}", turn), command=command(number * 1000 + turn), now=1)

    await asyncio.gather(*(caller(number) for number in range(8)))
    assert Path(f"{path}-wal").stat().st_size < 3_000_000
    assert path.stat().st_size > 100_000
    rows = await log.scan(limit=2_000)
    assert len(rows) == 1_200
    assert verify(rows) is None


async def test_what_is_used_of_aiosqlite_is_there() -> None:
    """The one protected method that is relied on runs a function in the connection's thread, and to its end."""
    assert issubclass(Connection, aiosqlite.Connection)
    connection = await connect(lambda: sqlite3.connect(":memory:", check_same_thread=False))
    done: list[int] = []

    def slowly(_: sqlite3.Connection) -> None:
        time.sleep(0.05)
        done.append(1)

    slow = asyncio.create_task(connection.run(slowly))
    await asyncio.sleep(0.01)
    slow.cancel()
    assert await connection.run(lambda database: database.execute("SELECT 7").fetchone()) == (7,)
    assert done == [1]
    with pytest.raises(sqlite3.OperationalError):
        await connection.run(lambda database: database.execute("no sql"))
    await connection.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        await connection.run(lambda _: None)


async def test_a_glance_costs_no_row_when_nobody_has_written(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """`head` asks for the last row only after somebody has written."""
    await fill(log, 2)
    asked: list[int] = []
    real = rows.head

    def counted(database: sqlite3.Connection) -> Mark:
        asked.append(1)
        return real(database)

    monkeypatch.setattr(rows, "head", counted)
    heads = [await log.head() for _ in range(5)]
    assert len(asked) == 1
    await fill(log, 1, first=2)
    assert (await log.head()).position == heads[0].position + 1
    assert len(asked) == 2
