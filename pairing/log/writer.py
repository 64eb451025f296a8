"""Writing a group of appends in one transaction: each judged by its own expected versions, all made durable by one flush.

Runs in the thread of the writing connection. What it remembers of the file is only what its own transactions have shown;
after any failure it remembers nothing.
"""

import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec

from . import chain, rows
from .errors import LogError, LogUnavailable, StreamDamaged
from .file import corrupt, unavailable
from .port import Appended, Conflict, Mark, Record, Slice
from .slices import place
from .turns import Turn

_TIP = "SELECT position, hash, recorded_at FROM events ORDER BY position DESC LIMIT 1"
_LAST_KEY = "SELECT coalesce(max(id), 0) FROM streams"
_TOUCHED = """SELECT s.name, max(e.version) FROM events AS e JOIN streams AS s ON s.id = e.stream
    WHERE e.position > ? GROUP BY e.stream"""
_FIND = "SELECT name, id FROM streams WHERE name IN (SELECT value FROM json_each(?))"
_FORGET = """UPDATE events SET personal = NULL
    WHERE personal IS NOT NULL AND stream = (SELECT id FROM streams WHERE name = ?1) AND (?2 IS NULL OR position < ?2)"""
_FORGET_AT = """UPDATE events SET personal = NULL
    WHERE personal IS NOT NULL AND position IN (SELECT value FROM json_each(?))"""
_NEWEST = "SELECT coalesce(max(command), x'') FROM events"
_MOST_ROWS = 128
_MOST_AT_ONCE = 8
_MOST_RECENT = 4_096
_CROWD = 200
_MOST_STREAMS = 20_000
_json = msgspec.json.Encoder().encode

Outcome: TypeAlias = Appended | Conflict | LogError
T = TypeVar("T")


class Request(msgspec.Struct, frozen=True, gc=False):
    """An append as it waits: checked, its command id as 16 bytes."""

    slices: tuple[Slice, ...]
    command: bytes
    now: int


class Writer:
    """The one writer of a process."""

    def __init__(self, path: Path, connection: sqlite3.Connection, turn: Turn) -> None:
        self._path, self._db, self._turn = path, connection, turn
        self._inode = os.stat(path).st_ino
        self._seen: int | None = None
        self._crowd = 0
        self._last, self._time, self._key = chain.GENESIS, 0, 0
        self._floor, self._recent = b"", set[bytes]()
        self._versions: dict[str, int] = {}
        self._keys: dict[str, int] = {}

    def write(self, group: Sequence[Request]) -> list[Outcome]:
        """Store what can be stored of a group and answer each request, after the commit.

        Where the file fails, every request of the group is answered `LogUnavailable` and nothing of it is kept. Pages that make
        no sense to SQLite concern only the streams on them, so then the requests are tried one at a time.
        """
        try:
            if len(group) == 1 and (answer := self._write_at_once(group[0])) is not None:
                return [answer]
            return self._transaction(lambda: self._write(group))
        except LogUnavailable as error:
            return [LogUnavailable(self._path, error.why) for _ in group]
        except sqlite3.Error as error:
            if corrupt(error) and len(group) > 1:
                return [answer for request in group for answer in self.write([request])]
            return [unavailable(self._path, error) for _ in group]

    def forget(self, stream: str, below: int | None) -> int:
        """Empty the personal column of a stream; return how many rows had one. Raises sqlite3.Error, `LogUnavailable`."""
        return self._transaction(lambda: self._db.execute(_FORGET, (stream, below)).rowcount)

    def forget_at(self, positions: Sequence[int]) -> int:
        """Empty the personal column of some rows; return how many had one. Raises sqlite3.Error, `LogUnavailable`."""
        chosen = _json(positions).decode()
        return self._transaction(lambda: self._db.execute(_FORGET_AT, (chosen,)).rowcount)

    def settle(self) -> None:
        """Copy what a checkpoint beside the writer left over, so that the WAL begins again at its start."""
        self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _write_at_once(self, request: Request) -> Appended | None:
        """Store a lone request as one statement, its own transaction, or return None where that cannot be known to be right.

        Nothing is read first: positions have no gaps and rows stay, so the statement can only succeed while the last row is
        the one remembered. If anybody has written since, it fails and everything is looked at again.
        """
        if self._seen is None or self._crowd or self._may_be_stored(request.command) or not self._in_place():
            return None
        if not all(part.stream in self._keys for part in request.slices):
            return None
        placed = place(request.slices, self._versions, self._last, max(request.now, self._time))
        if isinstance(placed, Conflict) or len(placed) > _MOST_AT_ONCE:
            return None
        values = [value for record in placed for value in self._columns(record, request.command, [])]
        try:
            self._db.execute(_insertion("events", 11, len(placed)), values)
        except sqlite3.Error:
            self._forget_all()
            self._crowd = _CROWD
            return None
        self._keep(placed, request.command)
        return Appended(placed)

    def _transaction(self, work: Callable[[], T]) -> T:
        try:
            self._turn.begin(self._db)
            self._catch_up()
            answer = work()
            self._db.execute("COMMIT")
        except BaseException:
            self._forget_all()
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return answer

    def _forget_all(self) -> None:
        self._seen = None
        self._crowd = 0
        self._versions.clear()
        self._keys.clear()

    def _catch_up(self) -> None:
        """Learn what others have written since; `data_version` says whether anybody has."""
        if not self._in_place():
            raise LogUnavailable(self._path, "the file was moved away or replaced while it was open; start again")
        (seen,) = self._db.execute("PRAGMA data_version").fetchone()
        if seen == self._seen:
            self._crowd = max(0, self._crowd - 1)
            return
        crowd = 0 if self._seen is None else _CROWD
        if self._seen is None or rows.at(self._db, self._last.position) != self._last:
            self._forget_all()
        elif self._versions:
            for name, version in self._db.execute(_TOUCHED, (self._last.position,)).fetchall():
                if (text := name.decode("utf-8", "replace")) in self._keys:
                    self._versions[text] = version
                else:
                    self._versions.pop(text, None)
        tip = self._db.execute(_TIP).fetchone()
        self._last, self._time = (chain.GENESIS, 0) if tip is None else (Mark(tip[0], tip[1]), tip[2])
        (self._key,) = self._db.execute(_LAST_KEY).fetchone()
        (self._floor,) = self._db.execute(_NEWEST).fetchone()
        self._recent.clear()
        self._seen, self._crowd = seen, max(crowd, self._crowd)

    def _in_place(self) -> bool:
        try:
            return os.stat(self._path).st_ino == self._inode
        except OSError:
            return False

    def _write(self, group: Sequence[Request]) -> list[Outcome]:
        repeated = self._stored([request.command for request in group if self._may_be_stored(request.command)])
        damaged = self._learn({part.stream for request in group for part in request.slices})
        done: dict[bytes, Appended] = {}
        fresh: list[tuple[int, str]] = []
        table: list[Any] = []
        answers: list[Outcome] = []
        for request in group:
            answer = done.get(request.command) or self._answered(request.command, repeated)
            if answer is None:
                answer = self._judge(request, damaged)
                if isinstance(answer, Appended):
                    done[request.command] = answer
                    self._keep(answer.records, request.command)
                    for record in answer.records:
                        table += self._columns(record, request.command, fresh)
            answers.append(answer)
        self._insert("streams", 2, [value for row in fresh for value in row])
        self._insert("events", 11, table)
        return answers

    def _may_be_stored(self, command: bytes) -> bool:
        """Tell whether the log has to be asked: ids are ordered by time, and all stored ones above the floor are remembered."""
        return command <= self._floor or command in self._recent

    def _stored(self, commands: Sequence[bytes]) -> set[bytes]:
        """Return which of the commands the log holds already."""
        if not commands:
            return set()
        size = 1 << (len(commands) - 1).bit_length()
        wanted = [*commands, *[commands[0]] * (size - len(commands))]
        sql = f"SELECT command FROM events WHERE command IN ({_marks(size)})"  # noqa: S608
        return {command for (command,) in self._db.execute(sql, wanted).fetchall()}

    def _answered(self, command: bytes, repeated: Collection[bytes]) -> Outcome | None:
        if command not in repeated:
            return None
        try:
            return Appended(rows.command(self._db, command))
        except StreamDamaged as error:
            return error

    def _learn(self, names: set[str]) -> dict[str, StreamDamaged]:
        """Learn the versions of streams not met before, checking each of their rows; return those that are damaged."""
        if len(self._versions) > _MOST_STREAMS:
            self._versions.clear()
            self._keys.clear()
        missing = names - self._versions.keys()
        damaged: dict[str, StreamDamaged] = {}
        if not missing:
            return damaged
        self._versions.update(dict.fromkeys(missing, 0))
        for name, key in self._db.execute(_FIND, (_json(list(missing)).decode(),)).fetchall():
            text = str(name, "utf-8")
            try:
                self._versions[text] = len(rows.stream(self._db, text, 0))
                self._keys[text] = key
            except StreamDamaged as error:
                damaged[text] = error
                del self._versions[text]
        return damaged

    def _judge(self, request: Request, damaged: dict[str, StreamDamaged]) -> Outcome:
        for part in request.slices:
            if part.stream in damaged:
                error = damaged[part.stream]
                return StreamDamaged(error.stream, error.position, error.why)
        placed = place(request.slices, self._versions, self._last, max(request.now, self._time))
        return placed if isinstance(placed, Conflict) else Appended(placed)

    def _keep(self, placed: Sequence[Record], command: bytes) -> None:
        last = placed[-1]
        self._last, self._time = Mark(last.position, last.hash), last.recorded_at
        self._recent.add(command)
        if len(self._recent) > _MOST_RECENT:
            self._floor = max(self._recent)
            self._recent.clear()
        for record in placed:
            self._versions[record.stream] = record.version

    def _columns(self, record: Record, command: bytes, fresh: list[tuple[int, str]]) -> Iterable[Any]:
        key = self._keys.get(record.stream)
        if key is None:
            key = self._key = self._keys[record.stream] = self._key + 1
            fresh.append((key, record.stream))
        personal = record.personal
        return (
            record.position,
            key,
            record.version,
            record.kind,
            record.recorded_at,
            command,
            str(record.meta, "utf-8"),
            str(record.body, "utf-8"),
            None if personal is None else str(personal, "utf-8"),
            record.personal_hash,
            record.hash,
        )

    def _insert(self, table: str, width: int, values: Sequence[Any]) -> None:
        """Insert rows with few and few different statements: as many rows at once as a power of two up to 128."""
        done = 0
        while left := (len(values) - done) // width:
            count = min(_MOST_ROWS, 1 << (left.bit_length() - 1))
            self._db.execute(_insertion(table, width, count), values[done : done + count * width])
            done += count * width


@lru_cache
def _insertion(table: str, width: int, count: int) -> str:
    return f"INSERT INTO {table} VALUES {','.join([f'({_marks(width)})'] * count)}"  # noqa: S608


def _marks(count: int) -> str:
    return ",".join("?" * count)
