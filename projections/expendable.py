"""SQLite files that may be deleted at any time: opening them, and telling what an error of theirs calls for.

A file that is damaged, or that another schema made, is begun anew, one process at a time. What is in it is for others to know.
"""

import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite
import anyio
import anyio.to_thread
import structlog

log = structlog.get_logger("pairing.views")

BUSY_MS = 500
_TRIES, _AGAIN_S = 3, 0.05
_DAMAGE = frozenset(
    (
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_SCHEMA,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
    )
)
_TABLES = "SELECT type, name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"


async def connect(path: Path | None, schema: str, version: int, unlike: int | None = None) -> aiosqlite.Connection:
    """Open a file, or memory, with a schema: statements without `;` inside, known by a number that is not 0.

    `unlike` is the inode of a file that has shown damage: it is deleted, unless another process has done so already.
    Raises OSError or `sqlite3.Error` where the file cannot be written.
    """
    if path is None:
        return await _prepared(None, schema, version)
    async with _turnstile(path):
        if unlike is not None and inode(path) == unlike:
            _delete(path)
        try:
            return await _prepared(path, schema, version)
        except sqlite3.Error as error:
            if not damaged(error):
                raise
            log.warning("file is damaged and is begun anew", path=str(path), error=str(error))
            _delete(path)
            return await _prepared(path, schema, version)


async def reset(db: aiosqlite.Connection, schema: str, version: int) -> None:
    """Drop all there is and create the schema, in the transaction of the caller: other processes see the old rows or none."""
    for kind, name in await db.execute_fetchall(_TABLES):
        await db.execute(f'DROP {kind} "{name}"')
    for statement in schema.split(";"):
        await db.execute(statement)
    await db.execute(f"PRAGMA user_version = {version}")


async def settle(db: aiosqlite.Connection) -> bool:
    """Bring the WAL into the file and cut it to nothing, old bytes and all; False where other connections would not let go."""
    for _ in range(_TRIES):
        ((blocked, *_),) = await db.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        if not blocked:
            return True
        await anyio.sleep(_AGAIN_S)
    return False


@asynccontextmanager
async def writing(db: aiosqlite.Connection) -> AsyncIterator[None]:
    """Hold the write lock; commit at the end, or write nothing. Never cancelled half-way."""
    with anyio.CancelScope(shield=True):
        await db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            await db.rollback()
            raise
        await db.commit()


async def close(db: aiosqlite.Connection) -> None:
    """Let go of a file, also when cancelled."""
    with anyio.CancelScope(shield=True):
        await db.close()


def damaged(error: sqlite3.Error) -> bool:
    """Say whether an error means that a file is not what this version writes; other errors mean the disk, or a lock."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _DAMAGE


def busy(error: sqlite3.Error) -> bool:
    """Say whether an error means that another process holds the lock."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def inode(path: Path | None) -> int | None:
    """Return which file a path leads to now."""
    try:
        return None if path is None else path.stat().st_ino
    except FileNotFoundError:
        return None


async def _prepared(path: Path | None, schema: str, version: int) -> aiosqlite.Connection:
    if path is not None:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    db = await aiosqlite.connect(path or ":memory:", isolation_level=None, cached_statements=256)
    try:
        for pragma in (
            f"busy_timeout = {BUSY_MS}",
            "journal_mode = WAL",
            "synchronous = NORMAL",
            "temp_store = MEMORY",
            "secure_delete = ON",
        ):
            await db.execute_fetchall(f"PRAGMA {pragma}")
        await _settle(db, path, schema, version)
    except BaseException:
        await close(db)
        raise
    return db


async def _settle(db: aiosqlite.Connection, path: Path | None, schema: str, version: int) -> None:
    ((found,),) = await db.execute_fetchall("PRAGMA user_version")
    if found == version:
        return
    if found:
        log.warning("file has another schema and is begun anew", path=str(path), found=found, expected=version)
    async with writing(db):
        ((found,),) = await db.execute_fetchall("PRAGMA user_version")
        if found != version:
            await reset(db, schema, version)


def _delete(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)


@asynccontextmanager
async def _turnstile(path: Path) -> AsyncIterator[None]:
    """Let one process at a time open or delete the file, since SQLite finds its companions by name."""
    handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        await anyio.to_thread.run_sync(fcntl.flock, handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
