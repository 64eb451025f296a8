"""Decisions about a token that is handed over: how long a rotation leaves the one before, and what ends that time early.

Of a role at most one generation is left beside its present one, and a dead one never. Pure; `decide` and `locks` call it.
"""

from typing import Literal

from msgspec.structs import replace

from .authority import covers
from .commands import CloseHandoff, Rotate
from .device import Device, Grant, Token
from .events import DeviceEvent, HandoffClosed, TokenRotated
from .refusals import Reason, Refused


def leave(grant: Grant, old: Token | None, c: Rotate, news: tuple[DeviceEvent, ...]) -> tuple[DeviceEvent, ...]:
    """Return the events of a rotation with what becomes of the retired generation. Raises `Refused` for too long a handoff."""
    if too_long(c.handoff, c.longest):
        raise Refused(Reason.HANDOFF_TOO_LONG, longest=c.longest, details={"longestMs": c.longest})
    until = _end(grant, old, c)
    return tuple(
        replace(event, handoff_until=until, compromised=c.compromised) if isinstance(event, TokenRotated) else event
        for event in news
    )


def too_long(handoff: int, longest: int) -> bool:
    """Say whether a handoff (ms) is longer than the policy allows."""
    return handoff > longest


def _end(grant: Grant, old: Token | None, c: Rotate) -> int | None:
    """A token that is dead gets no time, or rotating would bring it back; nor does one outlive its own lifetime (T1, V7)."""
    if not c.handoff or c.compromised or old is None or old.dead or not covers(c.role, grant.scopes, old.scopes):
        return None
    # Its own end comes first: a lifetime that was told is kept.
    until = min(c.now + c.handoff, old.expires_at) if old.expires_at is not None else c.now + c.handoff
    return until if old.expires_at is None else min(until, old.expires_at - 1)


def close(state: Device, c: CloseHandoff) -> tuple[DeviceEvent, ...]:
    """Record an end that a rotation has declared. Nobody asks for it: it may only come sooner than was said."""
    token = state.token(c.role)
    if token is None or token.handoff is None or token.issue != c.issue:
        return ()
    if not c.used and c.now <= token.handoff.until:
        return ()
    return (_closed(token, c.now, "used" if c.used else "expired"),)


def locked(state: Device, now: int) -> tuple[DeviceEvent, ...]:
    """Return the ends that a lock brings: what is left a while does not wait for its key to be let in again (T1)."""
    tokens = state.grant.tokens if state.grant else ()
    return tuple(_closed(token, now, "locked") for token in tokens if token.handoff is not None)


def _closed(token: Token, now: int, how: Literal["used", "expired", "locked"]) -> HandoffClosed:
    before = token.handoff.issue if token.handoff else ""
    return HandoffClosed(at=now, role=token.role, retires=before, issue=token.issue, how=how)
