"""The methods on locks: keep a key out, let it in again, and who is kept out.

They find the key and shape the answer; what a lock needs and does is decided by `locks`.
"""

import re
from typing import Annotated, Any

from msgspec import Meta

from .authority import PAIRING
from .commands import Ban, Lock, Unlock
from .desk import Handled
from .device import INITIAL, Barred
from .entries import Entry
from .events import DeviceLocked
from .listing import LockRow
from .refusals import Reason, Refused
from .service import Call, Ending, Method, Receipt, Repeatable, receipt
from .shapes import Name

_ID = re.compile(r"[0-9a-f]{64}")
# The year 9999: what calendars of clients can show.
_LAST = 253_402_300_799_000
Message = Annotated[str, Meta(min_length=1, max_length=300)]
Span = Annotated[int, Meta(ge=1, le=_LAST)]


class LockParams(Ending, frozen=True, kw_only=True):
    """A device's full id, paired or not; `for_ms` from now or `until_ms` say when the lock ends, `message` is for who is locked.

    Without an end it stays until it is unlocked.
    """

    device_id: Name
    for_ms: Span | None = None
    until_ms: Span | None = None
    message: Message | None = None


class UnlockParams(Repeatable, frozen=True, kw_only=True):
    """A device's full id."""

    device_id: Name


class BanParams(Ending, frozen=True, kw_only=True):
    """With `ban` the key is locked as well; the other three are as for `device.lock`."""

    ban: bool = False
    for_ms: Span | None = None
    until_ms: Span | None = None
    message: Message | None = None


class Locked(Entry, frozen=True, kw_only=True):
    """The answer to `device.lock`. `banned`: there was no grant behind the key, or it was banned for good."""

    device_id: str
    banned: bool
    locked_until_ms: int | None = None
    message: str | None = None
    recorded: Receipt | None = None


class Unlocked(Entry, frozen=True, kw_only=True):
    """The answer to `device.unlock`."""

    device_id: str
    recorded: Receipt | None = None


class LockEntry(Entry, frozen=True, kw_only=True):
    """A key that is kept out. `reason` is what operators were told, `message` what its holder is; `by` is who locked it."""

    device_id: str
    display_name: str | None = None
    operator_label: str | None = None
    paired: bool
    banned: bool
    locked_at_ms: int
    locked_until_ms: int | None = None
    message: str | None = None
    reason: str | None = None
    by: dict[str, str] | None = None
    position: int


def terms(p: LockParams | BanParams, now: int) -> Ban:
    """Return the terms of a lock. Raises `Refused` where its end is given twice, or its message is not plain text."""
    if p.for_ms is not None and p.until_ms is not None:
        raise Refused(Reason.LOCK_TERMS, problem="give forMs or untilMs, not both")
    message = p.message.strip() if p.message is not None else None
    if message is not None and not (message and message.isprintable()):
        raise Refused(Reason.LOCK_TERMS, problem="message must be printable text on one line")
    until = p.until_ms if p.for_ms is None else min(now + p.for_ms, _LAST)
    return Ban(until, message)


async def device_lock(call: Call[LockParams]) -> Locked:
    """Keep a device's key out, paired or not, and end its sessions at once (protocol §5.10)."""
    desk, p = call.service.desk, call.params
    device = p.device_id.strip()
    stamp = call.stamp("device.lock", device)
    if not _ID.fullmatch(device) and await desk.device(device) == INITIAL:
        raise Refused(Reason.UNKNOWN_DEVICE)
    agreed = terms(p, stamp["now"])
    handled = await desk.handle(Lock(device=device, terms=agreed, break_glass=p.break_glass, **stamp))
    which = locked_at(handled)
    lock = handled.events[which] if handled.events else handled.state.lock
    if not isinstance(lock, DeviceLocked | Barred):
        raise TypeError("a lock gave none")
    return Locked(
        device_id=device,
        banned=lock.ban,
        locked_until_ms=lock.until,
        message=lock.message,
        recorded=receipt(p, handled, which),
    )


def locked_at(handled: Handled[Any, Any]) -> int:
    """Return which of the events of a command is the lock; 0 where none is."""
    return next((index for index, event in enumerate(handled.events) if isinstance(event, DeviceLocked)), 0)


async def device_unlock(call: Call[UnlockParams]) -> Unlocked:
    """End a device's lock: what it had before works again."""
    device = call.params.device_id.strip()
    handled = await call.service.desk.handle(Unlock(device=device, **call.stamp("device.unlock", device)))
    return Unlocked(device_id=device, recorded=receipt(call.params, handled))


def in_force(rows: tuple[LockRow, ...], now: int) -> tuple[LockEntry, ...]:
    """Return the locks that are not over at a time (ms), as they are listed."""
    return tuple(_entry(row) for row in rows if row.until is None or row.until > now)


def _entry(row: LockRow) -> LockEntry:
    by = {"kind": row.actor.kind, **({"id": row.actor.id} if row.actor.id else {})} if row.actor else None
    return LockEntry(
        device_id=row.device,
        display_name=row.name,
        operator_label=row.label,
        paired=row.paired,
        banned=row.ban,
        locked_at_ms=row.locked_at,
        locked_until_ms=row.until,
        message=row.message,
        reason=row.reason,
        by=by,
        position=row.position,
    )


METHODS = (
    Method("device.lock", LockParams, device_lock, PAIRING),
    Method("device.unlock", UnlockParams, device_unlock, PAIRING),
)
