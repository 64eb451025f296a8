"""The keeping of one log file: how far it goes, whether it is whole, signed words about it, and copies of it.

What is long runs beside the event loop. Who may ask is for `methods` to say; it reads and copies, and never appends.
"""

import secrets
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread
from msgspec import Struct

from .log import copies, export, rows
from .log.chain import Verifier
from .log.copies import Copied
from .log.errors import StreamDamaged
from .log.file import opened, unavailable
from .log.note import NoteUnusable
from .log.port import EventLog
from .notary import Notary
from .verification import Progress, Verification, verify

# Bytes of rows in one answer: far below what a frame may hold, escaped once more.
_PAGE = 200_000
_MOST = 500


class Status(Struct, frozen=True, rename="camel", kw_only=True):
    """How far a log goes. `origin` and `verifiers` are its name in checkpoints and the keys that sign them, newest first."""

    path: str
    position: int
    streams: int
    bytes: int
    hash: str
    last_recorded_at_ms: int | None
    origin: str | None
    verifiers: tuple[str, ...]


class Page(Struct, frozen=True, rename="camel"):
    """Rows as an export holds them, each a line without its end, and the hash of the row before them, in hex.

    `next` is the position to go on after, null at the end.
    """

    previous: str
    rows: tuple[str, ...]
    last: int
    next: int | None


@dataclass(frozen=True)
class Custody:
    """One log at a path. `notary` is None where there is no gateway key to sign with."""

    path: Path
    events: EventLog
    notary: Notary | None = None

    async def status(self) -> Status:
        """Say how far it goes. Raises `LogUnavailable`."""
        head = await self.events.head()
        streams, last = await anyio.to_thread.run_sync(_figures, self.path)
        origin: str | None = None
        verifiers: tuple[str, ...] = ()
        if self.notary is not None and head.position:
            origin = await self.notary.origin()
            verifiers = tuple(str(one) for one in await self.notary.verifiers())
        return Status(
            path=str(self.path),
            position=head.position,
            streams=streams,
            bytes=sum(file.stat().st_size for file in (self.path, Path(f"{self.path}-wal")) if file.exists()),
            hash=head.hash.hex(),
            last_recorded_at_ms=last,
            origin=origin,
            verifiers=verifiers,
        )

    async def verify(self, checkpoint: str | None = None, progress: Progress | None = None) -> Verification:
        """Check everything; `checkpoint` is one of this gateway's. Raises `NoteUnusable`, `LogUnavailable`."""
        anchor = None
        if checkpoint is not None:
            if self.notary is None:
                raise NoteUnusable("there is no gateway key here to recognise a checkpoint with")
            anchor = await self.notary.read(checkpoint)
        return await verify(self.path, self.events, anchor, progress)

    async def page(self, after: int, limit: int) -> Page:
        """Return rows above a position as lines of an export. Raises `StreamDamaged`, `LogUnavailable`."""
        head = await self.events.head()
        return await anyio.to_thread.run_sync(
            _page, self.path, after, min(head.position, after + min(limit, _MOST)), head.position
        )

    async def back_up(self) -> Copied:
        """Make a backup in the folder `backups` beside the log. Raises `CopyDamaged`, `LogError`, OSError."""
        folder = self.path.parent / "backups"
        folder.mkdir(mode=0o700, exist_ok=True)
        head = await self.events.head()
        target = folder / f"log-{head.position}-{secrets.token_hex(4)}.db"
        return await anyio.to_thread.run_sync(copies.back_up, self.path, target)


def _figures(path: Path) -> tuple[int, int | None]:
    try:
        with closing(opened(path, readonly=True)) as database:
            return rows.figures(database)
    except sqlite3.Error as error:
        raise unavailable(path, error) from error


def _page(path: Path, after: int, last: int, head: int) -> Page:
    lines: list[str] = []
    size, end = 0, after
    try:
        with closing(opened(path, readonly=True)) as database:
            start = rows.at(database, after)
            if start is None:
                return Page("", (), head, None)
            verifier = Verifier(start)
            for record, command in export.pairs(database, after + 1, last):
                for fault in verifier.faults((record,)):
                    raise StreamDamaged(fault.stream, fault.position, fault.why)
                line = export.line(record, command)
                size += len(line)
                if lines and size > _PAGE:
                    break
                lines.append(line.decode())
                end = record.position
    except sqlite3.Error as error:
        raise unavailable(path, error) from error
    return Page(start.hash.hex(), tuple(lines), head, end if end < head else None)
