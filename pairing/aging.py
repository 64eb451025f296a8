"""Decisions that time alone brings about: the end of a lock or of a token's lifetime, and the warnings before it.

They record what already holds: a decision or a verdict at the same `now` does not wait for them. Pure; asked for by a timer.
"""

from .commands import Elapse, ExpireIdle, Lifetimes, Remind
from .device import Device, Token
from .events import DeviceEvent, DeviceUnlocked, TokenDue, TokenExpired
from .standing import outlived


def elapse(state: Device, c: Elapse) -> tuple[DeviceEvent, ...]:
    """Record the ends that have come. `state` is the one that was folded, not as time has left it."""
    news: list[DeviceEvent] = []
    if state.lock is not None and state.lock.over(c.now):
        news.append(DeviceUnlocked(at=c.now, how="ended"))
    news += [TokenExpired(at=c.now, role=t.role, issue=t.issue, how="lifetime", since=None) for t in outlived(state, c.now)]
    return tuple(news)


def remind(state: Device, c: Remind) -> tuple[DeviceEvent, ...]:
    """Warn of a token's end; a distance that its whole lifetime does not reach is none of its."""
    token = _present(state, c.role, c.issue)
    if token is None or token.expires_at is None or (token.warned is not None and token.warned <= c.distance):
        return ()
    if not token.issued_at < token.expires_at - c.distance <= c.now:
        return ()
    return (TokenDue(at=c.now, role=c.role, issue=c.issue, distance=c.distance, expires_at=token.expires_at),)


def expire_idle(state: Device, c: ExpireIdle) -> tuple[DeviceEvent, ...]:
    """End a token that nobody uses; one that was issued later than `since` is a later one."""
    token = _present(state, c.role, c.issue)
    if token is None or token.issued_at > c.since:
        return ()
    return (TokenExpired(at=c.now, role=c.role, issue=c.issue, how="idle", since=c.since),)


def unused(since: int, idle: int, now: int) -> bool:
    """Say whether a token that nobody has used since a time (ms) has gone unused for too long."""
    return now >= since + idle


def end_of_life(lifetimes: Lifetimes, role: str, now: int) -> int | None:
    """Return when a token of a role that is issued now will expire, in ms; None where it has no lifetime."""
    return next((now + lifetime for named, lifetime in lifetimes if named == role), None)


def _present(state: Device, role: str, issue: str) -> Token | None:
    token = state.token(role)
    return token if token is not None and token.issue == issue and not token.dead else None
