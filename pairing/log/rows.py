"""Rows of the file as records, in one thread and without waiting for anybody.

Reading by stream or command judges every row on its own, against the hash of the row before. Scans do not judge.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import cache
from importlib.resources import files
from typing import Any
from uuid import UUID

import msgspec

from . import chain
from .errors import StreamDamaged
from .file import corrupt
from .port import Line, Mark, Record

_COLUMNS = """e.position, s.name, e.version, e.kind, e.recorded_at, e.meta, e.body, e.personal, e.personal_hash, e.hash"""
_SCAN = f"""SELECT {_COLUMNS} FROM events AS e LEFT JOIN streams AS s ON s.id = e.stream
    WHERE e.position > ? ORDER BY e.position LIMIT ?"""  # noqa: S608
_REPLAY = """SELECT e.position, s.name, e.version, e.kind, e.body FROM events AS e LEFT JOIN streams AS s ON s.id = e.stream
    WHERE e.position > ? ORDER BY e.position LIMIT ?"""
_STREAM = f"""SELECT {_COLUMNS}, p.hash FROM streams AS s JOIN events AS e ON e.stream = s.id
    LEFT JOIN events AS p ON p.position = e.position - 1 WHERE s.name = ? AND e.version > ? ORDER BY e.version"""  # noqa: S608
_COMMAND = f"""SELECT {_COLUMNS}, p.hash FROM events AS e LEFT JOIN streams AS s ON s.id = e.stream
    LEFT JOIN events AS p ON p.position = e.position - 1 WHERE e.command = ? ORDER BY e.position"""  # noqa: S608
_LAST = f"""SELECT {_COLUMNS}, p.hash FROM events AS e LEFT JOIN streams AS s ON s.id = e.stream
    LEFT JOIN events AS p ON p.position = e.position - 1 ORDER BY e.position DESC LIMIT 1"""  # noqa: S608
_PICK = f"""SELECT {_COLUMNS} FROM events AS e LEFT JOIN streams AS s ON s.id = e.stream
    WHERE e.position IN (SELECT value FROM json_each(?)) ORDER BY e.position"""  # noqa: S608
_PARTS = """SELECT CAST(type || ' ' || name AS BLOB), CAST(tbl_name AS BLOB), CAST(sql AS BLOB),
    CAST(typeof(type) || typeof(name) || typeof(tbl_name) || typeof(sql) AS BLOB) FROM sqlite_schema"""
_MARK = "SELECT hash FROM events WHERE position = ?"
_HEAD = "SELECT position, hash FROM events ORDER BY position DESC LIMIT 1"


class _Words(dict[bytes, str]):
    """Kinds as shared strings. Bytes that are not text stay tellable apart, for the hash to condemn."""

    def __missing__(self, key: bytes) -> str:
        word = key.decode("utf-8", "surrogateescape") if isinstance(key, bytes) else repr(key)
        if len(self) < 1000:
            self[key] = word
        return word


_kinds = _Words()


def stream(connection: sqlite3.Connection, name: str, after: int) -> tuple[Record, ...]:
    """Return the rows of a stream with versions from `after` + 1, each checked. Raises `StreamDamaged`."""
    rows = connection.execute(_STREAM, (name, after)).fetchall()
    records = _judged(connection, rows)
    last = 0
    for version, record in enumerate(records, after + 1):
        if record.version != version or record.position <= last:
            raise StreamDamaged(name, record.position, f"version {record.version} stands where version {version} belongs")
        last = record.position
    return records


def command(connection: sqlite3.Connection, key: bytes) -> tuple[Record, ...]:
    """Return the rows of a command, each checked. Raises `StreamDamaged`.

    The column and its index stand outside the chain: what they find must be what the rows' own meta says, and all of it.
    """
    records = _judged(connection, connection.execute(_COMMAND, (key,)).fetchall())
    if not records:
        return records
    first, last = records[0].position, records[-1].position
    whole = [record.position for record in records] == list(range(first, last + 1))
    if not whole or any(_command(record) not in {key, None} for record in records):
        raise StreamDamaged(records[0].stream, first, "its command is not the one that was asked for, or not whole")
    for position in (first - 1, last + 1):
        beside = scan(connection, position - 1, 1)
        if beside and beside[0].position == position and _command(beside[0]) == key:
            raise StreamDamaged(beside[0].stream, position, "its command column is not the command that its meta names")
    return records


def _command(record: Record) -> bytes | None:
    """Return the command that a row's meta names, None where that is no UUID."""
    try:
        return UUID(msgspec.json.decode(record.meta, type=_Named).command).bytes
    except (msgspec.MsgspecError, ValueError, TypeError):
        return None


class _Named(msgspec.Struct, frozen=True):
    command: str


def scan(connection: sqlite3.Connection, after: int, limit: int) -> tuple[Record, ...]:
    """Return up to `limit` rows above a position, as they are."""
    return tuple(_records(_ordered(connection.execute(_SCAN, (after, limit)).fetchall(), after)))


def pick(connection: sqlite3.Connection, positions: Sequence[int]) -> tuple[Record, ...]:
    """Return the rows at some positions, as they are."""
    return tuple(_records(connection.execute(_PICK, (json.dumps(list(positions)),)).fetchall()))


def replay(connection: sqlite3.Connection, after: int, limit: int) -> tuple[Line, ...]:
    """Return up to `limit` rows above a position as lines."""
    kinds = _kinds
    rows = _ordered(connection.execute(_REPLAY, (after, limit)).fetchall(), after)
    return tuple([Line(position, _name(name), version, kinds[kind], body) for position, name, version, kind, body in rows])


def following(connection: sqlite3.Connection, *, mark: Mark, limit: int) -> tuple[bool, tuple[Record, ...]]:
    """Return whether a mark still holds, and if so up to `limit` rows above it, from one snapshot of the file."""
    connection.execute("BEGIN")
    try:
        held = mark == at(connection, mark.position)
        return held, scan(connection, mark.position, limit) if held else ()
    finally:
        connection.execute("ROLLBACK")


def judge_last(connection: sqlite3.Connection) -> None:
    """Check the last row. Raises `StreamDamaged`."""
    _judged(connection, connection.execute(_LAST).fetchall())


def at(connection: sqlite3.Connection, position: int) -> Mark | None:
    """Return the mark at a position, or None."""
    if position == 0:
        return chain.GENESIS
    row = connection.execute(_MARK, (position,)).fetchone()
    return None if row is None else Mark(position, row[0])


def head(connection: sqlite3.Connection) -> Mark:
    """Return the mark of the last row."""
    row = connection.execute(_HEAD).fetchone()
    return chain.GENESIS if row is None else Mark(row[0], row[1])


def figures(connection: sqlite3.Connection) -> tuple[int, int | None]:
    """Return how many streams there are, and when the last row was recorded."""
    (streams,) = connection.execute("SELECT count(*) FROM streams").fetchone()
    last = connection.execute("SELECT recorded_at FROM events ORDER BY position DESC LIMIT 1").fetchone()
    return streams, None if last is None else last[0]


def examine(connection: sqlite3.Connection) -> tuple[str, ...]:
    """Return what SQLite finds wrong with its own pages and indexes, or nothing."""
    try:
        told = [line.decode("utf-8", "replace") for (line,) in connection.execute("PRAGMA integrity_check").fetchall()]
    except sqlite3.DatabaseError as error:
        if not corrupt(error):
            raise
        return (str(error),)
    return (*(() if told == ["ok"] else told), *_schema_flaws(connection))


def _schema_flaws(connection: sqlite3.Connection) -> list[str]:
    """Say which tables, indexes and triggers are not as this schema makes them: those are what keeps the rows as they are."""
    expected = _schema()
    there = _parts(connection)
    # Tables of statistics are SQLite's own.
    odd = {name for name in there.keys() ^ expected.keys() if "sqlite_stat" not in name}
    odd |= {name for name in there.keys() & expected.keys() if there[name] != expected[name]}
    return [f"the {name} is not what this schema has" for name in sorted(odd)]


def _parts(connection: sqlite3.Connection) -> dict[str, tuple[bytes | None, ...]]:
    parts = connection.execute(_PARTS)
    return {name.decode("utf-8", "replace"): tuple(rest) for name, *rest in parts}


@cache
def _schema() -> dict[str, tuple[bytes | None, ...]]:
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(files(__package__).joinpath("schema.sql").read_text("utf-8"))
        return _parts(fresh)


def _ordered(rows: list[Any], after: int) -> list[Any]:
    """Return the rows, provided that whoever goes on after the last of them gets anywhere. Raises sqlite3.DatabaseError."""
    if rows and rows[-1][0] <= after:
        raise sqlite3.DatabaseError(f"position {rows[-1][0]} stands after position {after}")
    return rows


def _records(rows: Iterable[Sequence[Any]]) -> list[Record]:
    kinds = _kinds
    return [
        Record(position, _name(stream), version, kinds[kind], recorded_at, meta, body, personal, personal_hash, digest)
        for position, stream, version, kind, recorded_at, meta, body, personal, personal_hash, digest in rows
    ]


def _name(stream: Any) -> str:
    # Damage can turn it into a number.
    return str(stream, "utf-8", "surrogateescape") if isinstance(stream, bytes) else "(a stream without a name)"


def _judged(connection: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> tuple[Record, ...]:
    records = tuple(_records(row[:10] for row in rows))
    for record, row in zip(records, rows, strict=True):
        why = _flaw(connection, record, row[10])
        if why is not None:
            raise StreamDamaged(record.stream, record.position, why)
    return records


def _flaw(connection: sqlite3.Connection, record: Record, previous: bytes | None) -> str | None:
    if record.position == 1:
        previous = chain.GENESIS.hash
    if previous is None:
        return "the row before it is missing"
    why = chain.flaw(record, previous)
    if why is None:
        return None
    # The stored hash of the row before may be what is damaged; then this row fits the one worked out anew.
    before = scan(connection, record.position - 2, 1)
    base = at(connection, record.position - 2)
    if not before or base is None or before[0].position != record.position - 1:
        return why
    anew = chain.digest(before[0], base.hash)
    return why if anew is None else chain.flaw(record, anew)
