"""A whole file checked part by part: what is found does not depend on where the parts end."""

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pairing.log import sweep as sweeping
from pairing.log.chain import GENESIS, link
from pairing.log.errors import LogUnavailable
from pairing.log.file import create
from pairing.log.merkle import Growing
from pairing.log.port import Draft, Mark
from pairing.log.sweep import Swept, sweep

ROWS = 40
META = '{"command":"00000000-0000-7000-8000-%012d"}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Forty rows of three streams; every fourth has a personal part."""
    path = tmp_path / "log.db"
    create(path)
    mark = GENESIS
    with closing(sqlite3.connect(path)) as database:
        database.executemany("INSERT INTO streams VALUES (?, ?)", [(1, "d:0"), (2, "d:1"), (3, "d:2")])
        for n in range(ROWS):
            personal = b'{"salt":"%d"}' % n if n % 4 == 0 else None
            row = link(
                mark, f"d:{n % 3}", n // 3 + 1, 1_000 + n, Draft("token.issued", (META % n).encode(), b'{"n":%d}' % n, personal)
            )
            command = bytes.fromhex("0000000000007000800" + f"0{n:012d}"[:13])
            values = (
                row.position,
                n % 3 + 1,
                row.version,
                row.kind,
                row.recorded_at,
                command,
                row.meta.decode(),
                row.body.decode(),
            )
            blobs = (None if personal is None else personal.decode(), row.personal_hash, row.hash)
            database.execute("INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?,?,?)", (*values, *blobs))
            mark = Mark(row.position, row.hash)
        database.commit()
    return path


def tamper(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        kept = database.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in kept:
            database.execute(f"DROP TRIGGER {name}")
        for sql in statements:
            database.execute(sql)
        for _, text in kept:
            database.execute(text)
        database.commit()


@pytest.fixture(params=["one part", "parts of eight", "two processes"])
def check(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Swept]:
    """Sweep in one part, in small ones, and in small ones by two processes."""
    if request.param != "one part":
        monkeypatch.setattr(sweeping, "PART", 8)
    if request.param == "two processes":
        monkeypatch.setattr(sweeping, "_ALONE", 0)
        monkeypatch.setattr("os.cpu_count", lambda: 2)
        # The processes are to use the same small parts.
        monkeypatch.setattr(sweeping, "_CHILD", "import pairing.log.sweep as s; s.PART = 8; s.child()")
    return sweep


def found(swept: Swept) -> list[tuple[int, str]]:
    return [(fault.position, fault.why) for fault in swept.faults]


def test_a_sound_file_is_sound_in_any_parts(check: Callable[..., Swept], path: Path) -> None:
    """No fault, the last mark, and at every anchor the root of so many first rows."""
    with closing(sqlite3.connect(path)) as database:
        hashes = [digest for (digest,) in database.execute("SELECT hash FROM events ORDER BY position")]
    for anchor in (None, 1, 7, 8, 9, 39, 40):
        swept = check(path, ROWS, anchor=anchor)
        assert (swept.rows, swept.count, swept.faults, swept.forgotten, swept.unnamed) == (ROWS, 0, [], 0, 0)
        assert swept.mark == Mark(ROWS, hashes[-1])
        assert swept.kinds == {"token.issued": ROWS}
        if anchor is not None:
            growing = Growing()
            growing.add(hashes[:anchor])
            assert swept.anchor == (growing.root(), hashes[anchor - 1])


HASH, PERSONAL = "its hash does not fit", "its personal part does not fit its hash"
COMMAND = "its command column is not the command that its meta names"
BACK = "its time lies before that of the row before it"
FOUND: dict[str, list[tuple[int, str]]] = {
    "UPDATE events SET body = '{}' WHERE position = 8": [(8, HASH)],
    "UPDATE events SET hash = zeroblob(32) WHERE position = 7": [(7, HASH)],
    "UPDATE events SET personal = '{}' WHERE position = 5": [(5, PERSONAL)],
    "UPDATE events SET personal_hash = NULL WHERE position = 5": [(5, HASH), (5, PERSONAL)],
    "UPDATE events SET command = zeroblob(16) WHERE position = 9": [(9, COMMAND)],
    "UPDATE events SET recorded_at = 1 WHERE position = 9": [(9, HASH), (9, BACK)],
    "DELETE FROM events WHERE position = 8": [(9, "it comes right after position 7"), (11, "version 4 follows version 2")],
    "DELETE FROM events WHERE position BETWEEN 7 AND 24": [
        (25, "it comes right after position 6"),
        *((n, f"version {(n - 1) // 3 + 1} follows version 2") for n in (25, 26, 27)),
    ],
    "UPDATE streams SET name = 'd:9' WHERE id = 2": [(n, HASH) for n in range(2, 41, 3)],
}


@pytest.mark.parametrize("sql", FOUND)
def test_what_is_wrong_is_found_where_it_is(check: Callable[..., Swept], path: Path, sql: str) -> None:
    """L5: alteration, deletion and exchange at their positions, once each, also at the border of two parts."""
    tamper(path, sql)
    swept = check(path, ROWS)
    assert found(swept) == FOUND[sql]
    assert swept.count == len(swept.faults)


def test_a_damaged_hash_at_a_border_costs_its_row_and_at_most_the_next(check: Callable[..., Swept], path: Path) -> None:
    """The hash worked out anew is not known in the next part; there the row after it may be named, too, never another."""
    tamper(path, "UPDATE events SET hash = zeroblob(32) WHERE position = 8")
    assert found(check(path, ROWS))[0] == (8, HASH)
    assert {position for position, _ in found(check(path, ROWS))} <= {8, 9}


def test_two_rows_exchanged_are_found_both(check: Callable[..., Swept], path: Path) -> None:
    """L5: a swap keeps all bytes, and breaks the chain at both places."""
    moves = ((1000, 7), (7, 8), (8, 1000))
    tamper(path, *(f"UPDATE events SET position = {to} WHERE position = {at}" for to, at in moves))
    assert {7, 8} <= {position for position, _ in found(check(path, ROWS))}


def test_what_cannot_be_checked_is_counted(check: Callable[..., Swept], path: Path) -> None:
    """L6, L10: an erased personal part is no fault and is told; so is a meta without a command."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE events SET personal = NULL WHERE position = 5")
        database.commit()
    swept = check(path, ROWS)
    assert (swept.faults, swept.forgotten) == ([], 1)
    tamper(path, "UPDATE events SET meta = '{}' WHERE position = 6")
    swept = check(path, ROWS)
    assert (found(swept), swept.unnamed) == ([(6, HASH)], 1)


def test_unreadable_pages_are_an_error_not_less_rows(check: Callable[..., Swept], path: Path) -> None:
    """D1: pages that make no sense are told as such."""
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(4096)
        file.write(b"\x77" * (size - 4096))
    with pytest.raises(LogUnavailable):
        check(path, ROWS)


def test_a_process_that_ends_early_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """L10: half a verification is none."""
    monkeypatch.setattr(sweeping, "_ALONE", 0)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(sweeping, "_CHILD", "")
    with pytest.raises(LogUnavailable, match="a process that was reading it ended"):
        sweep(path, ROWS)
    assert sys.executable
