"""Decisions: `decide(state, command)` gives the events that follow, or raises `Refused`, and nothing else.

Pure: time, ids and callers come with the command. `()` means that nothing had to happen. Every question of authority goes to
`authority.may`; the deciding modules only say which question it is.
"""

from typing import assert_never

from . import aging, handoff, locks
from .adoption import adopt
from .answering import approve, reject
from .authority import covers, normalise, of_role
from .commands import (
    Approve,
    CloseHandoff,
    DeviceCommand,
    Elapse,
    Expire,
    ExpireIdle,
    Forget,
    ImportDevice,
    Knock,
    Lock,
    Reject,
    Remind,
    Remove,
    Rename,
    RestoreDevice,
    Revoke,
    Rotate,
    Unlock,
)
from .device import INITIAL, Device, imprint
from .events import DeviceForgotten, DeviceRemoved, DeviceRenamed, RequestExpired, RequestWithdrawn, TokenRevoked
from .evolve import Events
from .granting import token_for
from .knocking import knock
from .permits import everything, permit
from .refusals import Reason, Refused
from .restoring import restore_device
from .standing import lapsed


def decide(state: Device, command: DeviceCommand) -> Events:
    """Return what follows from a command in a state. Raises `Refused`."""
    if state.newer is not None:
        raise Refused(Reason.NEWER_WRITER, details={"kind": state.newer})
    if isinstance(command, Elapse):
        return aging.elapse(state, command)
    state = lapsed(state, command.now)
    match command:
        case Knock():
            return knock(state, command)
        case Approve():
            return approve(state, command)
        case Reject():
            return reject(state, command)
        case Expire():
            return _expire(state, command)
        case Remove():
            return _remove(state, command)
        case Rename():
            return _rename(state, command)
        case Rotate():
            return _rotate(state, command)
        case CloseHandoff():
            return handoff.close(state, command)
        case Revoke():
            return _revoke(state, command)
        case Forget():
            return _forget(state, command)
        case RestoreDevice():
            return restore_device(state, command)
        case ImportDevice():
            return adopt(state, command)
        case Lock():
            return locks.lock(state, command)
        case Unlock():
            return locks.unlock(state, command)
        case Remind():
            return aging.remind(state, command)
        case ExpireIdle():
            return aging.expire_idle(state, command)
        case _:
            assert_never(command)


def _expire(state: Device, c: Expire) -> Events:
    pending = state.pending
    if pending is None or pending.request != c.request or not pending.expired(c.now):
        return ()
    return (RequestExpired(at=c.now, request=pending.request),)


def _remove(state: Device, c: Remove) -> Events:
    permit("read", c, (), Reason.REMOVAL_DENIED)
    grant = state.grant
    if grant is None:
        raise Refused(Reason.UNKNOWN_DEVICE)
    permit("remove", c, everything(grant), Reason.REMOVAL_DENIED)
    if c.seen is not None and c.seen != imprint(state):
        raise Refused(Reason.DEVICE_CHANGED)
    removed = DeviceRemoved(at=c.now, roles=grant.roles, issues=tuple(token.issue for token in grant.tokens))
    if state.pending is None:
        return (removed,)
    return (RequestWithdrawn(at=c.now, request=state.pending.request), removed)


def _rename(state: Device, c: Rename) -> Events:
    permit("rename", c, (), Reason.RENAME_DENIED)
    if state.grant is None and state.lock is None:
        raise Refused(Reason.UNKNOWN_DEVICE)
    return () if state.labelled == c.labelled else (DeviceRenamed(at=c.now, labelled=c.labelled),)


def _rotate(state: Device, c: Rotate) -> Events:
    grant = state.grant
    if grant is None or c.role not in grant.roles:
        raise Refused(Reason.ROTATION_DENIED)
    old = grant.token(c.role)
    kept = old.scopes if old else of_role(grant.scopes, c.role)
    scopes = normalise(kept if c.scopes is None else c.scopes)
    if not covers(c.role, grant.scopes, scopes):
        raise Refused(Reason.ROTATION_DENIED)
    # A dead token that comes back makes the whole baseline of its role reachable again (A3, A6).
    ends = old.scopes if old and not old.dead else of_role(grant.scopes, c.role)
    permit("rotate", c, ((c.role, (*scopes, *ends)),), Reason.ROTATION_DENIED)
    return handoff.leave(grant, old, c, token_for(old, c.role, scopes, c, under=old.under if old else None, live=False))


def _revoke(state: Device, c: Revoke) -> Events:
    token = state.token(c.role)
    if token is None:
        raise Refused(Reason.REVOCATION_DENIED)
    permit("revoke", c, ((c.role, token.scopes),), Reason.REVOCATION_DENIED)
    return (TokenRevoked(at=c.now, role=c.role, issue=token.issue),)


def _forget(state: Device, c: Forget) -> Events:
    """A device that is long removed can be forgotten too; where nothing is left to forget, nothing happens."""
    permit("forget", c, everything(state.grant), Reason.FORGETTING_DENIED)
    if state == INITIAL:
        raise Refused(Reason.UNKNOWN_DEVICE)
    return (DeviceForgotten(at=c.now, rows=c.rows),) if c.rows else ()
