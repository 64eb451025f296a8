"""The log in one SQLite file: the port over a writing connection, two reading ones and a glance from the event loop.

Readers have connections of their own and never wait for a writer; long scans do not hold up short reads.
"""

import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import structlog

from . import rows
from .errors import HistoryChanged, LogError, LogUnavailable, StreamDamaged
from .file import Connection, connect, opened, prepared, unavailable, writable
from .group import GroupCommit
from .port import Appended, Conflict, Line, Mark, Record, Slice
from .slices import check, command_key
from .turns import Turn
from .writer import Request, Writer

_GLANCE_S = 0.025
_BATCH = 500

T = TypeVar("T")
_say = structlog.get_logger(__name__)


class Glance:
    """A connection used in the event loop itself, for questions that cost less than a change of threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = opened(path, readonly=True)
        self._seen = -1
        self._head = Mark(-1, b"")

    def head(self) -> Mark:
        """Return the last mark: one PRAGMA where nobody has written since. Raises sqlite3.Error."""
        (seen,) = self._db.execute("PRAGMA data_version").fetchone()
        if seen != self._seen:
            self._head, self._seen = rows.head(self._db), seen
        return self._head

    def close(self) -> None:
        self._db.close()


class SqliteLog:
    """An `EventLog` in a file. Made by `open`; belongs to the event loop in which it was opened."""

    def __init__(self, path: Path, bulk: Connection, reading: Connection, glance: Glance) -> None:
        self._path, self._bulk, self._reading, self._glance = path, bulk, reading, glance
        self._group: GroupCommit | None = None
        self._news = anyio.Event()
        self._closed = False
        self.timed: Callable[[float, bool], None] | None = None
        """Told of every append how many seconds it took, and whether it is known to be stored or in conflict."""
        self._reported: set[str] = set()
        self._open = AsyncExitStack()

    @classmethod
    async def open(cls, path: Path, *, readonly: bool = False) -> "SqliteLog":
        """Open the log at `path`; where nothing is, make a new one. Raises `NotALog`, `LogTooNew`, `LogUnavailable`."""
        async with AsyncExitStack() as stack:
            try:
                bulk = await connect(partial(prepared, path, readonly=readonly))
                stack.push_async_callback(bulk.close)
                reading = await connect(partial(opened, path, readonly=True))
                stack.push_async_callback(reading.close)
                glance = Glance(path)
                stack.callback(glance.close)
                log = cls(path, bulk, reading, glance)
                if not readonly:
                    turn = Turn(path)
                    stack.callback(turn.close)
                    writing = await connect(partial(writable, path))
                    stack.push_async_callback(writing.close)
                    writer = await writing.run(lambda db: Writer(path, db, turn))
                    log._group = GroupCommit(path, writing, bulk, writer, log._tell)
                await reading.run(rows.judge_last)
            except StreamDamaged as damaged:
                log._report(damaged)
            except (sqlite3.Error, OSError) as error:
                raise unavailable(path, error) from error
            log._open = stack.pop_all()
        return log

    async def append(self, slices: Sequence[Slice], *, command: str, now: int) -> Appended | Conflict:
        """Append all slices or none; see the port. Raises `StreamDamaged`, `LogUnavailable`, ValueError."""
        check(slices, now)
        began = time.perf_counter()
        answer = await self._writable().append(Request(tuple(slices), command_key(command), now))
        if self.timed is not None:
            self.timed(time.perf_counter() - began, not isinstance(answer, LogUnavailable))
        if isinstance(answer, LogError):
            raise self._report(answer)
        return answer

    async def stream(self, name: str, *, after: int = 0) -> tuple[Record, ...]:
        """Return the rows of one stream with a version above `after`. Raises `StreamDamaged`, `LogUnavailable`."""
        return await self._read(self._reading, lambda db: rows.stream(db, name, after))

    async def scan(self, *, after: int = 0, limit: int = 1000) -> tuple[Record, ...]:
        """Return up to `limit` rows with a position above `after`, as they are. Raises `LogUnavailable`."""
        return await self._read(self._bulk, lambda db: rows.scan(db, after, limit))

    async def replay(self, *, after: int = 0, limit: int = 1000) -> tuple[Line, ...]:
        """Return up to `limit` rows with a position above `after` as lines. Raises `LogUnavailable`."""
        return await self._read(self._bulk, lambda db: rows.replay(db, after, limit))

    async def command(self, command: str) -> tuple[Record, ...]:
        """Return the rows that one command stored, or none. Raises `StreamDamaged`, `LogUnavailable`."""
        key = command_key(command)
        return await self._read(self._reading, lambda db: rows.command(db, key))

    async def head(self) -> Mark:
        """Return the mark of the last row that any process has stored. Raises `LogUnavailable`."""
        return self._look()

    async def mark(self, position: int) -> Mark | None:
        """Return the mark at a position, or None where the log is shorter. Raises `LogUnavailable`."""
        return await self._read(self._reading, lambda db: rows.at(db, position))

    async def follow(self, *, after: Mark) -> AsyncGenerator[Record, None]:
        """Yield every row above the mark, for ever. Raises `HistoryChanged`, and `LogUnavailable` when the log is closed."""
        mark = after
        while True:
            news = self._news
            held, batch = await self._read(self._bulk, partial(rows.following, mark=mark, limit=_BATCH))
            if not held:
                raise HistoryChanged(mark.position)
            for record in batch:
                mark = Mark(record.position, record.hash)
                yield record
            while len(batch) < _BATCH and self._look() == mark:
                with anyio.move_on_after(_GLANCE_S):
                    await news.wait()

    async def examine(self) -> tuple[str, ...]:
        """Return what SQLite finds wrong with its pages and indexes, or nothing; reads everything. Raises `LogUnavailable`."""
        return await self._read(self._bulk, rows.examine)

    async def pick(self, positions: Sequence[int]) -> tuple[Record, ...]:
        """Return the rows at these positions that there are, as they are. Raises `LogUnavailable`."""
        return await self._read(self._reading, lambda db: rows.pick(db, positions))

    async def forget(self, stream: str, *, below: int | None = None) -> int:
        """Empty the personal column of a stream, overwriting the bytes; return how many rows had one. Raises `LogUnavailable`."""
        return await self._forget(lambda writer: writer.forget(stream, below))

    async def forget_at(self, positions: Sequence[int]) -> int:
        """Empty the personal column of rows, overwriting the bytes; return how many had one. Raises `LogUnavailable`."""
        done = 0
        for first in range(0, len(positions), _BATCH):
            done += await self._forget(partial(Writer.forget_at, positions=positions[first : first + _BATCH]))
        return done

    async def _forget(self, work: Callable[[Writer], int]) -> int:
        try:
            done, clean = await self._writable().forget(work)
        except sqlite3.Error as error:
            raise unavailable(self._path, error) from error
        if not clean:
            raise LogUnavailable(
                self._path, "what was forgotten is still in its -wal file, which another process reads; ask again"
            )
        return done

    async def close(self) -> None:
        """Finish what is being written and let go of the files; may be called twice."""
        if self._closed:
            return
        self._closed = True
        self._tell()
        with anyio.CancelScope(shield=True):
            if self._group is not None:
                await self._group.finish()
            await self._open.aclose()

    async def _read(self, connection: Connection, work: Callable[[sqlite3.Connection], T]) -> T:
        self._check_open()
        try:
            return await connection.run(work)
        except StreamDamaged as damaged:
            raise self._report(damaged) from None
        except sqlite3.Error as error:
            raise unavailable(self._path, error) from error

    def _look(self) -> Mark:
        self._check_open()
        try:
            return self._glance.head()
        except sqlite3.Error as error:
            raise unavailable(self._path, error) from error

    def _writable(self) -> GroupCommit:
        self._check_open()
        if self._group is None:
            raise LogUnavailable(self._path, "it was opened for reading only")
        return self._group

    def _check_open(self) -> None:
        if self._closed:
            raise LogUnavailable(self._path, "it is closed")

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    def _report(self, error: LogError) -> LogError:
        """Say once for each stream that it is damaged, then hand the error on."""
        if isinstance(error, StreamDamaged) and error.stream not in self._reported:
            self._reported.add(error.stream)
            _say.error("log.stream_damaged", stream=error.stream, position=error.position, why=error.why, path=str(self._path))
        return error
