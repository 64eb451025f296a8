"""merkle.db: the roots of whole tiles of the tree over the log, 256 rows each, 256 of those, and so on. It can be deleted.

It follows the log when somebody asks, checks each row as it takes it in, and reads the rest from the log. It signs nothing.
"""

import sqlite3
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import aiosqlite
import anyio
import structlog

from pairing.log.chain import GENESIS, Verifier
from pairing.log.errors import RowsChanged, StreamDamaged
from pairing.log.merkle import Nodes, complete, leaf
from pairing.log.port import EventLog, Mark, Record

from . import expendable
from .follow import Progress

WIDTH = 256
_HEIGHT = 8
_SCHEMA = f"""
CREATE TABLE mark (one INTEGER PRIMARY KEY CHECK (one = 0), position INTEGER NOT NULL, hash BLOB NOT NULL) STRICT;
INSERT INTO mark VALUES (0, {GENESIS.position}, x'{GENESIS.hash.hex()}');
CREATE TABLE tiles (level INTEGER, number INTEGER, root BLOB NOT NULL, PRIMARY KEY (level, number)) STRICT, WITHOUT ROWID
"""  # noqa: S608
_VERSION = zlib.crc32(_SCHEMA.encode()) >> 1 | 1
# Rows between two turns of the event loop, and between two commits.
_STEP = 2 * WIDTH
_TURN = 128 * WIDTH
# Waits for another process's lock, and new beginnings, before memory has to do.
_PATIENCE = 40
_REPAIRS = 3

T = TypeVar("T")
log = structlog.get_logger("pairing.views")


class MerkleTree:
    """The tree over one log. Opens its file when it is first asked; where none can be written, it keeps to memory."""

    def __init__(self, source: EventLog, path: Path | None, progress: Progress | None = None) -> None:
        self._log, self._path, self._progress = source, path, progress
        self._db: aiosqlite.Connection | None = None
        self._lock = anyio.Lock()

    async def prove(self, size: int, work: Callable[[Nodes], T]) -> T:
        """Return what `work` makes of the tree of the first `size` rows. Raises `StreamDamaged`, `RowsChanged`, `LogError`."""
        waits = repairs = 0
        async with self._lock:
            while True:
                try:
                    return await self._prove(await self._opened(), size, work)
                except sqlite3.Error as error:
                    if self._path is None:
                        raise
                    if expendable.busy(error) and waits < _PATIENCE:
                        waits += 1
                        continue
                    repairs += 1
                    await self._mend(error, anew=expendable.damaged(error) and repairs <= _REPAIRS)

    async def close(self) -> None:
        """Let go of the file."""
        if self._db is not None:
            await expendable.close(self._db)
            self._db = None

    async def _opened(self) -> aiosqlite.Connection:
        if self._db is None:
            try:
                self._db = await expendable.connect(self._path, _SCHEMA, _VERSION)
            except (OSError, sqlite3.Error) as error:
                log.warning("the tree over the log is kept in memory", path=str(self._path), error=str(error))
                self._path = None
                self._db = await expendable.connect(None, _SCHEMA, _VERSION)
        return self._db

    async def _mend(self, error: sqlite3.Error, *, anew: bool) -> None:
        """Begin a damaged file anew, or go on in memory."""
        says = "is begun anew" if anew else "is kept in memory"
        log.warning(f"the tree over the log {says}", path=str(self._path), error=str(error))
        unlike = expendable.inode(self._path)
        await self.close()
        if anew:
            self._db = await expendable.connect(self._path, _SCHEMA, _VERSION, unlike)
        else:
            self._path = None

    # --- following ---

    async def _follow(self, db: aiosqlite.Connection, size: int) -> Mark:
        """Take in whole tiles up to `size` rows, and return the mark behind the last of them."""
        mark = await self._mark(db)
        if mark != GENESIS and await self._log.mark(mark.position) != mark:
            log.warning("the log has another history and the tree over it is built anew", position=mark.position)
            async with expendable.writing(db):
                await expendable.reset(db, _SCHEMA, _VERSION)
            mark = await self._mark(db)
        while mark.position + WIDTH <= size:
            async with expendable.writing(db):
                mark = await self._turn(db, await self._mark(db), size)
            if self._progress is not None:
                self._progress(mark.position, max(size, mark.position))
        return mark

    async def _turn(self, db: aiosqlite.Connection, mark: Mark, size: int) -> Mark:
        end = min(size, mark.position + _TURN) // WIDTH * WIDTH
        while mark.position < end:
            records = await self._rows(mark, min(_STEP, end - mark.position))
            for at in range(0, len(records), WIDTH):
                tile = records[at : at + WIDTH]
                await self._keep(db, 1, (tile[-1].position - 1) // WIDTH, complete([leaf(row.hash) for row in tile]))
            mark = Mark(records[-1].position, records[-1].hash)
        await db.execute("UPDATE mark SET position = ?, hash = ?", (mark.position, mark.hash))
        return mark

    async def _keep(self, db: aiosqlite.Connection, level: int, number: int, root: bytes) -> None:
        await db.execute("INSERT OR REPLACE INTO tiles VALUES (?, ?, ?)", (level, number, root))
        if (number + 1) % WIDTH == 0:
            first = number + 1 - WIDTH
            await self._keep(db, level + 1, number // WIDTH, complete(await _roots(db, level, first, WIDTH)))

    async def _rows(self, mark: Mark, count: int) -> Sequence[Record]:
        """Return the next rows, each checked against the one before. Raises `StreamDamaged`."""
        records = await self._log.scan(after=mark.position, limit=count)
        for fault in Verifier(mark).faults(records):
            raise StreamDamaged(fault.stream, fault.position, fault.why)
        if len(records) < count:
            raise RowsChanged(mark.position + 1, mark.position + count)
        return records

    async def _mark(self, db: aiosqlite.Connection) -> Mark:
        ((position, digest),) = await db.execute_fetchall("SELECT position, hash FROM mark")
        return Mark(position, digest)

    # --- asking ---

    async def _prove(self, db: aiosqlite.Connection, size: int, work: Callable[[Nodes], T]) -> T:
        mark = await self._follow(db, size)
        asked: dict[tuple[int, int], None] = {}

        def note(level: int, index: int) -> bytes:
            asked[level, index] = None
            return bytes(32)

        work(note)
        loose = [] if mark.position >= size else [leaf(row.hash) for row in await self._rows(mark, size - mark.position)]
        found = {key: await self._node(db, mark, loose, *key) for key in asked}
        return work(lambda level, index: found[level, index])

    async def _node(self, db: aiosqlite.Connection, mark: Mark, loose: list[bytes], level: int, index: int) -> bytes:
        if level >= _HEIGHT:
            kept = level // _HEIGHT
            count = 1 << (level - kept * _HEIGHT)
            return complete(await _roots(db, kept, index * count, count))
        first, count = index << level, 1 << level
        if first >= mark.position:
            return complete(loose[first - mark.position : first - mark.position + count])
        begin = first // WIDTH * WIDTH
        leaves = [leaf(row.hash) for row in await self._log.scan(after=begin, limit=WIDTH)]
        if len(leaves) != WIDTH or [complete(leaves)] != await _roots(db, 1, begin // WIDTH, 1):
            raise RowsChanged(begin + 1, begin + WIDTH)
        return complete(leaves[first - begin : first - begin + count])


async def _roots(db: aiosqlite.Connection, level: int, first: int, count: int) -> list[bytes]:
    sql = "SELECT root FROM tiles WHERE level = ? AND number BETWEEN ? AND ? ORDER BY number"
    rows = await db.execute_fetchall(sql, (level, first, first + count - 1))
    roots = [root for (root,) in rows]
    if len(roots) != count:
        raise sqlite3.DatabaseError(f"tiles are missing at level {level}, {first}")
    return roots
