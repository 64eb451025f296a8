"""Damage: found where it is, confined to its stream, kept for inspection, and never taken for less history."""

import asyncio
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from pairing.log.chain import Verifier, verify
from pairing.log.errors import LogError, LogUnavailable, StreamDamaged
from pairing.log.port import Appended, Draft, Slice
from pairing.log.sqlite import SqliteLog

Opened = Callable[[Path], Awaitable[SqliteLog]]
STREAMS = ("d:0", "d:1", "d:2")


def command(number: int) -> str:
    return str(UUID(int=(number << 80) + (7 << 76) + (2 << 62)))


def draft(number: int) -> Draft:
    personal = b'{"salt":"%032d","name":"n%d"}' % (number, number) if number % 2 else None
    return Draft("token.issued", b'{"command":"%d"}' % number, b'{"kind":"token.issued","n":%d}' % number, personal)


async def make(path: Path, count: int = 12) -> None:
    """Write rows 1 to `count`: row n is version (n - 1) // 3 + 1 of stream d:((n - 1) % 3)."""
    log = await SqliteLog.open(path)
    for number in range(count):
        slices = [Slice(STREAMS[number % 3], number // 3, (draft(number),))]
        assert isinstance(await log.append(slices, command=command(number + 1), now=1_000 + number), Appended)
    await log.close()


def tamper(path: Path, sql: str) -> None:
    """Do what no honest program can: without triggers, and put them back."""
    with closing(sqlite3.connect(path)) as database:
        kept = database.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in kept:
            database.execute(f"DROP TRIGGER {name}")
        database.execute(sql)
        for _, text in kept:
            database.execute(text)
        database.commit()


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    """Open logs that are closed when the story ends, however it ends."""
    async with AsyncExitStack() as stack:

        async def opening(path: Path) -> SqliteLog:
            log = await SqliteLog.open(path)
            stack.push_async_callback(log.close)
            return log

        yield opening


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    await make(tmp_path / "home" / "log.db")
    return tmp_path / "home" / "log.db"


@pytest.mark.parametrize(
    ("change", "position"),
    [
        ("body = '{}'", 5),
        ("meta = '{}'", 5),
        ("kind = 'token.revoked'", 5),
        ("kind = CAST(x'ff' AS TEXT)", 5),
        ("recorded_at = 1", 5),
        ("personal = '{}'", 5),
        ("personal_hash = NULL", 6),
        ("personal_hash = zeroblob(32)", 6),
        ("hash = zeroblob(32)", 5),
        ("version = 9", 11),
        ("stream = 1, version = 99", 12),
    ],
)
async def test_a_damaged_row_closes_its_stream_and_no_other(opened: Opened, path: Path, change: str, position: int) -> None:
    """Any column of a row altered: its stream is closed to reading and deciding, the row is kept and found by verification, the
    other streams go on, and it is reported once (D2)."""
    tamper(path, f"UPDATE events SET {change} WHERE position = {position}")
    log = await opened(path)
    named = (await log.scan())[position - 1].stream
    with capture_logs() as said:
        for _ in range(2):
            with pytest.raises(StreamDamaged, match=r"pairing log verify") as caught:
                await log.stream(named)
            assert (caught.value.stream, caught.value.position) == (named, position)
            with pytest.raises(StreamDamaged):
                await log.append([Slice(named, 4, (draft(50),))], command=command(50), now=2_000)
    assert len(said) <= 1
    sound = next(stream for stream in STREAMS if stream != named)
    version = len(await log.stream(sound))
    assert isinstance(await log.append([Slice(sound, version, (draft(60),))], command=command(60), now=2_000), Appended)
    rows = await log.scan()
    assert len(rows) == 13
    fault = verify(rows)
    assert fault is not None
    assert fault.position == position


async def test_a_damaged_hash_closes_its_own_stream_alone(opened: Opened, path: Path) -> None:
    """The row after a damaged hash is checked against the hash worked out anew, so its stream goes on (D2)."""
    tamper(path, "UPDATE events SET hash = zeroblob(32) WHERE position = 5")
    log = await opened(path)
    with pytest.raises(StreamDamaged):
        await log.stream("d:1")
    assert len(await log.stream("d:2")) == 4
    tamper(path, "UPDATE events SET body = '{}' WHERE position = 6")
    with pytest.raises(StreamDamaged):
        await log.stream("d:2")


async def test_one_damaged_stream_does_not_spoil_the_group(opened: Opened, path: Path) -> None:
    """Appends that wait together are judged apart: those on sound streams are stored, the damaged one is told (D2)."""
    tamper(path, "UPDATE events SET body = '{}' WHERE position = 1")
    log = await opened(path)
    asked = [log.append([Slice(stream, 4, (draft(n),))], command=command(50 + n), now=1) for n, stream in enumerate(STREAMS * 2)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer).__name__ for answer in answers] == ["StreamDamaged", "Appended", "Appended", "StreamDamaged"] + [
        "Conflict"
    ] * 2


async def test_a_command_whose_rows_are_damaged_is_not_answered(opened: Opened, path: Path) -> None:
    """The first answer is not given again from a row that is no longer what was written (D1)."""
    tamper(path, "UPDATE events SET body = '{}' WHERE position = 2")
    log = await opened(path)
    with pytest.raises(StreamDamaged):
        await log.command(command(2))
    with pytest.raises(StreamDamaged):
        await log.append([Slice("d:1", 0, (draft(1),))], command=command(2), now=1)
    assert len(await log.command(command(1))) == 1


@pytest.mark.parametrize("position", [1, 6, 12])
async def test_a_missing_row_is_damage_never_less_history(opened: Opened, path: Path, position: int) -> None:
    """A row taken out closes its own stream, and the stream of the row after it, which cannot be checked any more (D1, L5)."""
    tamper(path, f"DELETE FROM events WHERE position = {position}")
    log = await opened(path)
    faults = list(Verifier().faults(await log.scan()))
    if position < 12:
        assert faults[0].position == position + 1
        with pytest.raises(StreamDamaged):
            await log.stream(STREAMS[(position - 1) % 3])
        with pytest.raises(StreamDamaged):
            await log.stream(STREAMS[position % 3])


async def test_an_unreadable_page_closes_only_what_is_on_it(opened: Opened, tmp_path: Path) -> None:
    """Pages that make no sense to SQLite cost the streams on them; appends to others in the same group are stored (D2)."""
    path = tmp_path / "log.db"
    await make(path, 300)
    with closing(sqlite3.connect(path)) as database:
        (leaf,) = database.execute("SELECT pageno FROM dbstat WHERE name = 'events' AND pagetype = 'leaf' LIMIT 1").fetchone()
    with path.open("r+b") as file:
        file.seek((leaf - 1) * 4096)
        file.write(b"\x77" * 100)
    log = await opened(path)
    with pytest.raises(LogUnavailable):
        await log.scan()
    asked = [
        log.append([Slice(stream, 0, (draft(1),))], command=command(900 + n), now=1)
        for n, stream in enumerate(["new:1", "d:0", "new:2"])
    ]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer).__name__ for answer in answers] == ["Appended", "LogUnavailable", "Appended"]
    assert await log.examine() != ()


async def _everything(path: Path) -> Any:
    """Open a file and read all that a log can tell, or return what it said against it."""
    try:
        log = await SqliteLog.open(path, readonly=True)
    except LogError as refused:
        return type(refused).__name__
    try:
        rows = await log.scan()
        if (fault := verify(rows)) is not None:
            return fault.why
        if wrong := await log.examine():
            return wrong[0]
        streams = [await log.stream(stream) for stream in STREAMS]
        commands = [await log.command(command(number)) for number in range(1, 13)]
        return rows, streams, commands, await log.head()
    except LogError as refused:
        return type(refused).__name__
    finally:
        await log.close()


async def test_a_flipped_bit_is_found_or_harmless(opened: Opened, path: Path, tmp_path: Path) -> None:
    """Any bit of the file flipped: it is refused, or found by verification and examination, or nothing reads differently (L5)."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=DELETE")
        database.execute("PRAGMA journal_mode=WAL")
    sound = await _everything(path)
    assert isinstance(sound, tuple)
    data = path.read_bytes()
    chance = random.Random(11)
    found = 0
    for number in range(120):
        flipped = bytearray(data)
        flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        copy = tmp_path / f"{number}" / "log.db"
        copy.parent.mkdir()
        copy.write_bytes(flipped)
        told = await _everything(copy)
        assert told == sound or isinstance(told, str)
        found += told != sound
        shutil.rmtree(copy.parent)
    assert found > 5
