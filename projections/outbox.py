"""hooks.db: how far each webhook has got. Losing it loses no event: everything since a hook was added is sent once more.

The process that holds the lock on hooks.db.lease delivers; the kernel takes it from one that dies.
"""

import fcntl
import os
import sqlite3
from pathlib import Path

import aiosqlite
import anyio
import msgspec
import structlog

from pairing.outbox import Progress

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
        self._opening = anyio.Lock()
        self._lease: int | None = None

    async def close(self) -> None:
        """Let go of file and lease."""
        self.give_lease()
        if self._db is not None:
            await expendable.close(self._db)

    async def progress(self, hook: str) -> Progress | None:
        """Return how far a hook has got; what cannot be read counts as unknown, and is said."""
        if self._db is None and not self._path.exists():
            return None
        rows = list(await (await self._opened()).execute_fetchall("SELECT progress FROM hooks WHERE hook = ?", (hook,)))
        if not rows:
            return None
        try:
            return _decode(rows[0][0])
        except (msgspec.MsgspecError, TypeError) as error:
            log.warning("progress of a hook cannot be read; it begins anew", hook=hook, error=str(error))
            return None

    async def keep(self, hook: str, progress: Progress) -> None:
        """Keep how far a hook has got. Never cancelled half-way."""
        with anyio.CancelScope(shield=True):
            await (await self._opened()).execute(_PUT, (hook, _encode(progress).decode()))

    async def drop(self, hook: str) -> None:
        """Forget a hook."""
        with anyio.CancelScope(shield=True):
            await (await self._opened()).execute("DELETE FROM hooks WHERE hook = ?", (hook,))

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

    async def _opened(self) -> aiosqlite.Connection:
        async with self._opening:
            if self._db is None:
                try:
                    self._db = await expendable.connect(self._path, SCHEMA, VERSION)
                except (OSError, sqlite3.Error) as error:
                    log.warning(
                        "progress of hooks cannot be written and is kept in memory", path=str(self._path), error=str(error)
                    )
                    self._db = await expendable.connect(None, SCHEMA, VERSION)
        return self._db
