"""hooks.db: how far each webhook has got. Losing it loses no event: everything since a hook was added is sent once more.

The process that holds the lock on hooks.db.lease delivers; the kernel takes it from one that dies.
"""

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Any

import aiosqlite
import anyio
import msgspec
import structlog

from pairing.outbox import OutboxUnavailable, Progress

from . import expendable

log = structlog.get_logger("pairing.hooks")

SCHEMA = "CREATE TABLE hooks (hook TEXT PRIMARY KEY, progress TEXT NOT NULL) STRICT, WITHOUT ROWID"
VERSION = 1
_PUT = "INSERT INTO hooks VALUES (?, ?) ON CONFLICT (hook) DO UPDATE SET progress = excluded.progress"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Progress).decode


class FileOutbox:
    """An `Outbox` in a file, opened when first used: where there are no hooks there is no file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: aiosqlite.Connection | None = None
        self._turn = anyio.Lock()
        self._lease: int | None = None

    async def close(self) -> None:
        """Let go of file and lease."""
        self.give_lease()
        if self._db is not None:
            await expendable.close(self._db)

    async def progress(self, hook: str) -> Progress | None:
        """Return how far a hook has got; a row that cannot be read counts as unknown, and is said. Raises `OutboxUnavailable`."""
        if self._db is None and not self._path.exists():
            return None
        rows = await self._run("SELECT progress FROM hooks WHERE hook = ?", (hook,))
        if not rows:
            return None
        try:
            return _decode(rows[0][0])
        except (msgspec.MsgspecError, TypeError) as error:
            log.warning("progress of a hook cannot be read; it begins anew", hook=hook, error=str(error))
            return None

    async def keep(self, hook: str, progress: Progress) -> None:
        """Keep how far a hook has got. Never cancelled half-way. Raises `OutboxUnavailable`."""
        await self._run(_PUT, (hook, _encode(progress).decode()))

    async def drop(self, hook: str) -> None:
        """Forget a hook. Raises `OutboxUnavailable`."""
        if self._db is not None or self._path.exists():
            await self._run("DELETE FROM hooks WHERE hook = ?", (hook,))

    def take_lease(self) -> bool:
        """Try to become the one process that delivers."""
        if self._lease is not None:
            return True
        lease = os.open(f"{self._path}.lease", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lease)
            return False
        self._lease = lease
        return True

    def give_lease(self) -> None:
        """Let another process deliver."""
        if self._lease is not None:
            os.close(self._lease)
            self._lease = None

    async def _run(self, sql: str, parameters: tuple[str, ...]) -> list[Any]:
        rows: list[Any] = []
        with anyio.CancelScope(shield=True):
            async with self._turn:
                try:
                    rows = await self._tried(sql, parameters)
                except (OSError, sqlite3.Error) as error:
                    raise OutboxUnavailable(self._path, error) from error
        return rows

    async def _tried(self, sql: str, parameters: tuple[str, ...]) -> list[Any]:
        if self._db is None:
            self._db = await expendable.connect(self._path, SCHEMA, VERSION)
        try:
            return list(await self._db.execute_fetchall(sql, parameters))
        except sqlite3.Error as error:
            if not expendable.damaged(error):
                raise
            log.warning("progress of hooks is damaged; they begin anew", path=str(self._path), error=str(error))
            await expendable.close(self._db)
            self._db = await expendable.connect(self._path, SCHEMA, VERSION, expendable.inode(self._path))
            return list(await self._db.execute_fetchall(sql, parameters))
