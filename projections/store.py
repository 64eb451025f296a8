"""views.db: the file with all views and the mark up to which they have followed the log. It can be deleted at any time.

Rows and mark are written in one transaction. Any number of processes share the file: each takes the write lock first and reads
the mark behind it, so that no event is applied twice. It decides nothing about what the rows say.
"""

import sqlite3
import zlib
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiosqlite

from pairing.log.chain import GENESIS
from pairing.log.codec import KINDS
from pairing.log.port import Mark
from pairing.log.upcasts import UPCASTS

from . import audit, devices, enrolments, expendable, locks, nodes, requests, tokens

SCHEMA = f"""
CREATE TABLE mark (
    one INTEGER PRIMARY KEY CHECK (one = 0), position INTEGER NOT NULL, hash BLOB NOT NULL, pending INTEGER NOT NULL
) STRICT;
INSERT INTO mark VALUES (0, {GENESIS.position}, x'{GENESIS.hash.hex()}', 0);
{audit.SCHEMA}{requests.SCHEMA}{devices.SCHEMA}{tokens.SCHEMA}{locks.SCHEMA}{nodes.SCHEMA}{enrolments.SCHEMA}
"""  # noqa: S608
# To be raised when events come to mean other rows. A change of the tables, or of the kinds that are known, counts by itself.
_FOLD = 1
VERSION = zlib.crc32(repr((_FOLD, SCHEMA, sorted(KINDS), sorted(UPCASTS))).encode()) >> 1 | 1
_CACHE_KIB = 65_536
_MARK = "SELECT position, hash, (SELECT user_version FROM pragma_user_version) FROM mark"


class Store:
    """One connection to the views, on a file or in memory."""

    def __init__(self, db: aiosqlite.Connection, path: Path | None) -> None:
        self._db = db
        self._inode = expendable.inode(path)
        self.path = path

    @classmethod
    async def open(cls, path: Path | None, instead_of: "Store | None" = None) -> "Store":
        """Open the views: empty where there were none, where another schema was, or where the file is damaged.

        `instead_of` is a store whose file has shown damage. Raises OSError or `sqlite3.Error` where the file cannot be written.
        """
        db = await expendable.connect(path, SCHEMA, VERSION, instead_of._inode if instead_of else None)
        await db.execute_fetchall(f"PRAGMA cache_size = -{_CACHE_KIB}")
        return cls(db, path)

    async def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of one statement, all of one snapshot."""
        return list(await self._db.execute_fetchall(sql, parameters or {}))  # type: ignore[arg-type]

    async def mark(self) -> Mark:
        """Return the place in the log up to which the views have followed. Raises `sqlite3.Error` for another schema."""
        ((position, digest, version),) = await self.rows(_MARK)
        if version != VERSION:
            raise sqlite3.DatabaseError("another process gave the views another schema")
        return Mark(position, digest)

    def writing(self) -> AbstractAsyncContextManager[None]:
        """Hold the write lock of the file; commit at the end, or write nothing. Never cancelled half-way."""
        return expendable.writing(self._db)

    async def write(self, statements: Iterable[tuple[str, list[tuple[object, ...]]]]) -> None:
        """Write rows. Call it while `writing`."""
        for sql, rows in statements:
            await self._db.executemany(sql, rows)

    async def set_mark(self, mark: Mark, opened: int) -> None:
        """Write the mark that the rows have led to, and how many more requests are open. Call it while `writing`, after them."""
        await self._db.execute(
            "UPDATE mark SET position = ?, hash = ?, pending = pending + ?", (mark.position, mark.hash, opened)
        )

    async def reset(self) -> None:
        """Empty the views. Call it while `writing`."""
        await expendable.reset(self._db, SCHEMA, VERSION)

    async def settle(self) -> bool:
        """Bring what was written into the file itself and cut its WAL to nothing; False where a reader stood in the way."""
        return await expendable.settle(self._db)

    def replaced(self) -> bool:
        """Say whether the path leads to another file now than the one that is open."""
        return expendable.inode(self.path) != self._inode

    async def close(self) -> None:
        """Let go of the file."""
        await expendable.close(self._db)
