"""activity.db: when and from where tokens were last used, and the contacts that were refused. Losing it loses no right.

Noting is synchronous and cheap; the file hears of it every few seconds and at the end. No decision is made on it, and it holds no
secret.
"""

import secrets
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

import aiosqlite
import anyio
import msgspec
import structlog

from pairing.listing import RefusedContact, Use

from . import expendable
from .contacts import MOST, Ring

log = structlog.get_logger("pairing.activity")

SCHEMA = """
CREATE TABLE uses (
    device TEXT NOT NULL, role TEXT NOT NULL, issue TEXT NOT NULL, at INTEGER NOT NULL, address TEXT, PRIMARY KEY (device, role)
) STRICT, WITHOUT ROWID;
CREATE TABLE contacts (
    reference TEXT PRIMARY KEY, proven INTEGER NOT NULL, at INTEGER NOT NULL, device TEXT, body TEXT NOT NULL
) STRICT;
CREATE INDEX contacts_age ON contacts (proven, at);
CREATE INDEX contacts_at ON contacts (at);
CREATE INDEX contacts_device ON contacts (device, at)
"""
VERSION = 1
EVERY = 5.0

_USE = """
INSERT INTO uses VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (device, role) DO UPDATE SET issue = excluded.issue, at = excluded.at, address = excluded.address
    WHERE excluded.at >= uses.at"""
_CONTACT = "INSERT OR REPLACE INTO contacts VALUES (?, ?, ?, ?, ?)"
# Several processes write, each with a ring of its own.
_TRIM = "DELETE FROM contacts WHERE reference IN (SELECT reference FROM contacts ORDER BY proven DESC, at DESC LIMIT -1 OFFSET ?)"
# Beside the schema, so that a file of an earlier day keeps its uses. `kept` is when the file was last known to be kept.
_SINCE = """
CREATE TABLE IF NOT EXISTS since (one INTEGER PRIMARY KEY CHECK (one = 0), at INTEGER NOT NULL, kept INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS floors (device TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT"""
_BEGIN = """
INSERT INTO since VALUES (0, :now, :now)
    ON CONFLICT DO UPDATE SET at = CASE WHEN kept < :now - :gap THEN :now ELSE at END, kept = :now"""
GAP_MS = 3_600_000
_LOAD = "SELECT body FROM contacts ORDER BY at, reference"
_LATEST = "SELECT * FROM (SELECT device, role, issue, at, address FROM uses ORDER BY at DESC LIMIT ?) ORDER BY at"
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(RefusedContact).decode


class Activity:
    """What the gateway notes in passing."""

    def __init__(self, db: aiosqlite.Connection, path: Path | None, ring: Ring, since: int) -> None:
        self.since = since
        self._kept = since
        self._db = db
        self._path = path
        self._ring = ring
        self._uses: dict[tuple[str, str], Use] = {}
        self._latest: OrderedDict[tuple[str, str], Use] = OrderedDict()
        self._dropped: set[str] = set()
        self._lock = anyio.Lock()

    @classmethod
    async def open(cls, path: Path | None) -> "Activity":
        """Open the file, or one in memory where it cannot be written."""
        try:
            db = await expendable.connect(path, SCHEMA, VERSION)
        except (OSError, sqlite3.Error) as error:
            log.warning("activity cannot be written and is kept in memory", path=str(path), error=str(error))
            path, db = None, await expendable.connect(None, SCHEMA, VERSION)
        since = await _begin(db, time.time_ns() // 1_000_000)
        ring = Ring()
        for (body,) in await db.execute_fetchall(_LOAD):
            ring.restore(_decode(body))
        activity = cls(db, path, ring, since)
        for device, role, issue, at, address in await db.execute_fetchall(_LATEST, (MOST,)):
            activity._latest[device, role] = Use(issue, at, address)
        return activity

    def note_use(self, device: str, role: str, issue: str, now: int, address: str | None) -> None:
        """Note that a device used the token of a role."""
        self._uses[device, role] = self._latest[device, role] = Use(issue, now, address)
        self._latest.move_to_end((device, role))
        if len(self._latest) > MOST:
            self._latest.popitem(last=False)

    def latest_use(self, device: str, role: str) -> Use | None:
        """Return the last use of a role's token, of the latest ten thousand that were used."""
        return self._latest.get((device, role))

    def refuse(self, contact: RefusedContact) -> str:
        """Note that a contact was refused, and return the reference to tell it: 8 characters that name this refusal alone."""
        reference = _reference()
        while reference in self._ring:
            reference = _reference()
        return self._ring.add(contact, reference)

    async def keep(self, every: float = EVERY) -> None:
        """Write what was noted every so many seconds, for ever."""
        while True:
            await anyio.sleep(every)
            await self.flush()

    async def flush(self) -> None:
        """Write what was noted. What cannot be written stays noted, and is reported."""
        async with self._lock:
            uses, self._uses = self._uses, {}
            dropped, self._dropped = self._dropped, set()
            changed, gone = self._ring.changes()
            now = time.time_ns() // 1_000_000
            if not (uses or changed or gone or dropped or now - self._kept > GAP_MS // 4):
                return
            try:
                await self._write(uses, changed, gone, dropped)
                await self._db.execute("UPDATE since SET kept = ?", (now,))
                self._kept = now
            except sqlite3.Error as error:
                self._uses = uses | self._uses
                self._dropped |= dropped
                self._ring.unwritten(changed, gone)
                log.warning("activity could not be written", path=str(self._path), error=str(error))

    async def uses(self, device: str | None = None) -> dict[str, dict[str, Use]]:
        """Return the last uses by device and role, of one device or of all."""
        where, parameters = ("", ()) if device is None else (" WHERE device = ?", (device,))
        rows = await self._db.execute_fetchall(f"SELECT device, role, issue, at, address FROM uses{where}", parameters)  # noqa: S608
        found: dict[str, dict[str, Use]] = {}
        for owner, role, issue, at, address in rows:
            found.setdefault(owner, {})[role] = Use(issue, at, address)
        for (owner, role), use in self._uses.items():
            if device is None or owner == device:
                found.setdefault(owner, {})[role] = use
        return found

    async def last_use(self, device: str, role: str) -> int | None:
        """Return when a device last came by the token of a role, or without one, in ms; None where that is not known.

        One that was forgotten counts as used then: nobody loses a token because what was known of it was erased.
        """
        mine = (await self.uses(device)).get(device, {})
        rows = await self._db.execute_fetchall("SELECT at FROM floors WHERE device = ?", (device,))
        return max((*(mine[by].at for by in (role, "") if by in mine), *(at for (at,) in rows)), default=None)

    async def find(self, reference: str) -> RefusedContact | None:
        """Return the refused contact of a reference (in either case, with O, I and L read as digits), unless it is long gone."""
        await self.flush()
        plain = reference.strip().upper().replace("-", "").translate(_LOOK_ALIKE)
        return next(iter(await self._contacts("WHERE reference = ?", (plain,))), None)

    async def recent(self, device: str | None = None, limit: int = 100) -> tuple[RefusedContact, ...]:
        """Return refused contacts, the latest first: of one device, or of all."""
        await self.flush()
        if device is None:
            return await self._contacts("ORDER BY at DESC LIMIT ?", (limit,))
        return await self._contacts("WHERE device = ? ORDER BY at DESC LIMIT ?", (device, limit))

    def drop(self, device: str) -> None:
        """Let go of all that is known of a device; the file hears of it with the next flush."""
        for notes in (self._uses, self._latest):
            for owner, role in list(notes):
                if owner == device:
                    del notes[owner, role]
        self._ring.forget(device)
        self._dropped.add(device)

    async def forget(self, device: str) -> bool:
        """Drop all that is known of a device; False where bytes of it may still be in the `-wal` file."""
        self.drop(device)
        await self.flush()
        return await expendable.settle(self._db)

    async def close(self) -> None:
        """Write what was noted, and let go of the file."""
        with anyio.CancelScope(shield=True):
            await self.flush()
            await expendable.close(self._db)

    async def _write(
        self, uses: dict[tuple[str, str], Use], changed: list[RefusedContact], gone: list[str], dropped: set[str]
    ) -> None:
        devices = [(device,) for device in dropped]
        async with expendable.writing(self._db):
            await self._db.executemany("DELETE FROM uses WHERE device = ?", devices)
            await self._db.executemany("DELETE FROM contacts WHERE device = ?", devices)
            floors = [(device, time.time_ns() // 1_000_000) for device in dropped]
            await self._db.executemany("INSERT OR REPLACE INTO floors VALUES (?, ?)", floors)
            await self._db.executemany(_USE, [(*key, use.issue, use.at, use.address) for key, use in uses.items()])
            await self._db.executemany("DELETE FROM contacts WHERE reference = ?", [(reference,) for reference in gone])
            await self._db.executemany(_CONTACT, [_stored(contact) for contact in changed])
            await self._db.execute(_TRIM, (MOST,))

    async def _contacts(self, where: str, parameters: Iterable[object]) -> tuple[RefusedContact, ...]:
        rows = await self._db.execute_fetchall(f"SELECT body FROM contacts {where}", tuple(parameters))  # noqa: S608
        return tuple(_decode(body) for (body,) in rows)


async def _begin(db: aiosqlite.Connection, now: int) -> int:
    """Return from when on uses are known: anew after a long absence, or where an old copy was put back. Nothing is guessed."""
    for statement in _SINCE.split(";"):
        await db.execute(statement)
    async with expendable.writing(db):
        await db.execute(_BEGIN, {"now": now, "gap": GAP_MS})
    ((at,),) = await db.execute_fetchall("SELECT at FROM since")
    return int(at)


def _stored(contact: RefusedContact) -> tuple[object, ...]:
    return (contact.reference, contact.proven, contact.at, contact.device, _encode(contact).decode())


def _reference() -> str:
    bits = secrets.randbits(40)
    return "".join(_CROCKFORD[bits >> shift & 31] for shift in range(35, -1, -5))


_LOOK_ALIKE = str.maketrans("OIL", "011")
