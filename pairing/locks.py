"""Decisions about locks: who holds a locked key is kept out, paired or not, until the lock ends.

A lock is no part of the grant: neither removal nor pairing anew touches it. Pure; `decide` is the only caller.
"""

from . import handoff
from .commands import Ban, Lock, Reject, Unlock
from .device import Barred, Device
from .events import DeviceEvent, DeviceLocked, DeviceUnlocked, RequestWithdrawn
from .permits import everything, permit
from .refusals import Reason, Refused
from .sentences import moment


def lock(state: Device, c: Lock) -> tuple[DeviceEvent, ...]:
    """Keep a key out. Ending access needs the access itself, as for a removal (A6)."""
    permit("lock", c, everything(state.grant), Reason.LOCK_DENIED)
    return bar(state, c.terms, c.now, ban=False)


def ban(state: Device, c: Reject, terms: Ban) -> tuple[DeviceEvent, ...]:
    """Keep out whoever asked what is being rejected."""
    permit("lock", c, everything(state.grant), Reason.LOCK_DENIED)
    return bar(state, terms, c.now, ban=True)


def unlock(state: Device, c: Unlock) -> tuple[DeviceEvent, ...]:
    """End a lock. It gives back all the access there is, and so needs it (A1)."""
    permit("unlock", c, everything(state.grant), Reason.UNLOCK_DENIED)
    return () if state.lock is None else (DeviceUnlocked(at=c.now, how="unlocked"),)


def bar(state: Device, terms: Ban, now: int, *, ban: bool) -> tuple[DeviceEvent, ...]:
    """Return what locks a key; an open request of it can never be approved, so it ends at once (R9)."""
    if terms.until is not None and terms.until <= now:
        raise Refused(Reason.LOCK_PAST)
    locked = DeviceLocked(at=now, until=terms.until, message=terms.message, ban=ban or state.grant is None)
    old, withdrawn = state.lock, state.pending
    if old is not None and (old.until, old.message, old.ban) == (locked.until, locked.message, locked.ban):
        return ()
    ended = (RequestWithdrawn(at=now, request=withdrawn.request),) if withdrawn else ()
    return (*ended, locked, *handoff.locked(state, now))


def locked_out(lock: Barred, reference: str | None = None) -> Refused:
    """Build the refusal that a locked key gets: until when, and what its holder is to read."""
    told: dict[str, object] = {"banned": lock.ban}
    until = ""
    if lock.until is not None:
        told["lockedUntilMs"] = lock.until
        until = f" until {moment(lock.until)}"
    if lock.message is not None:
        told["message"] = lock.message
    if reference is not None:
        told["reference"] = reference
    return Refused(Reason.DEVICE_LOCKED, until=until, told=f": {lock.message}" if lock.message else "", details=told)
