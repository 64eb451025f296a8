"""The file of a log: making it whole or not at all, recognising it, connecting to it.

A missing file may become a new log. Whatever exists is either ours, of a schema we know, or refused as it is.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import TypeVar, cast

import aiosqlite

from .errors import LogError, LogTooNew, LogUnavailable, NotALog
from .turns import Turn, code

APPLICATION = 0x50414952
SCHEMA = 1
_PARTS = {
    "streams",
    "events",
    "events_command",
    "events_in_order",
    "events_kept",
    "events_unchanged",
    "streams_new",
    "streams_kept",
    "streams_unchanged",
}
_BUSY_S = 5.0
_CACHE_KIB = 16_384

T = TypeVar("T")


class Connection(aiosqlite.Connection):
    """An aiosqlite connection that runs a whole function in its thread: one hop for a transaction."""

    _end: "asyncio.Future[None] | None" = None

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on the connection in its thread. It runs to its end even when the caller is cancelled."""
        if self._connection is None or not self._running:
            raise sqlite3.ProgrammingError("it is closed")
        return cast(T, await self._execute(work, self._conn))  # type: ignore[no-untyped-call]

    def stop(self) -> "asyncio.Future[None] | None":
        """End the thread after what is queued, and remember when it has ended."""
        self._end = super().stop()
        return self._end


async def connect(opening: Callable[[], sqlite3.Connection]) -> Connection:
    """Open a connection in a thread of its own. Whatever goes wrong, the thread has ended before it is raised."""
    connection = Connection(opening, 64)
    try:
        await connection
    except BaseException:
        if connection._end is not None:
            await asyncio.shield(connection._end)
        raise
    return connection


def create(path: Path) -> None:
    """Make a new, empty log, complete under its name or not there at all. The caller holds the lock file."""
    for left in (f"{path}-wal", f"{path}-journal"):
        if os.path.exists(left):
            raise NotALog(path, f"the file is gone but {left} is still there")
    fresh = path.with_name(path.name + ".new")
    for rest in (fresh, Path(f"{fresh}-wal"), Path(f"{fresh}-shm")):
        rest.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    connection = sqlite3.connect(fresh, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(
            f"BEGIN;{files(__package__).joinpath('schema.sql').read_text('utf-8')}"
            f"PRAGMA application_id={APPLICATION};PRAGMA user_version={SCHEMA};COMMIT;"
        )
    finally:
        connection.close()
    flush(fresh)
    os.link(fresh, path)  # fails where a rename would take the place of a log
    fresh.unlink()
    flush(path.parent)


def prepared(path: Path, *, readonly: bool) -> sqlite3.Connection:
    """Open the log, made new where nothing is. Raises `NotALog`, `LogTooNew`, `LogUnavailable`, `OSError`."""
    if not readonly:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with closing(Turn(path)) as turn, turn.held():
            if not path.exists():
                create(path)
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    recognise(path)
    return opened(path, readonly=readonly)


def recognise(path: Path) -> None:
    """Return for a log of a schema we know. Raises `NotALog`, `LogTooNew`, `LogUnavailable`."""
    if not path.is_file():
        raise NotALog(path, "there is no such file") if not path.exists() else NotALog(path, "it is not a regular file")
    connection: sqlite3.Connection | None = None
    try:
        connection = opened(path, readonly=True)
        application, schema = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if application != APPLICATION:
            raise NotALog(path, "it is empty or was made by another application")
        if schema > SCHEMA:
            raise LogTooNew(path, schema, SCHEMA)
        names = {name.decode("utf-8", "replace") for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        if schema < 1 or not names >= _PARTS:
            raise NotALog(path, f"its schema lacks {', '.join(sorted(_PARTS - names)) or 'a version'}")
    except sqlite3.Error as error:
        raise unavailable(path, error) from error
    except UnicodeDecodeError:
        # Python cannot even read SQLite's complaint where it quotes the damaged text.
        raise NotALog(path, "its schema cannot be read") from None
    finally:
        if connection is not None:
            connection.close()


def opened(path: Path, *, readonly: bool) -> sqlite3.Connection:
    """Open a connection that never creates the file. Text comes back as bytes, so that damaged text can be read at all."""
    uri = f"{path.absolute().as_uri()}?mode={'ro' if readonly else 'rw'}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_S, check_same_thread=False)
    connection.text_factory = bytes
    connection.execute("PRAGMA query_only=ON" if readonly else "PRAGMA synchronous=FULL")
    return connection


def writable(path: Path) -> sqlite3.Connection:
    """Open the connection that appends: every commit flushed, no checkpoint inside a commit, erased bytes overwritten."""
    connection = opened(path, readonly=False)
    connection.execute("PRAGMA busy_timeout=0")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA fullfsync=ON")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    return connection


def unavailable(path: Path, error: Exception) -> LogError:
    """Return what an error of SQLite or of the system means for the log."""
    if code(error) == sqlite3.SQLITE_NOTADB:
        return NotALog(path, "it is not an SQLite database")
    return LogUnavailable(path, str(error) or type(error).__name__)


def corrupt(error: Exception) -> bool:
    """Tell whether SQLite found pages that make no sense."""
    return code(error) == sqlite3.SQLITE_CORRUPT


def flush(path: Path) -> None:
    """Make a file, or the names in a folder, outlive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
