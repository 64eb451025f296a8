"""What still stands at a time: the state as time has left it, and whether a session may go on in it.

Pure: time is an argument. Whatever decides or judges begins with `lapsed`.
"""

from msgspec.structs import replace

from .commands import Standing
from .device import Device, Token
from .evolve import changed_token


def lapsed(state: Device, now: int) -> Device:
    """Return the state as time has left it at `now` (ms), recorded or not: a lock that is over, tokens past their lifetime.

    Whatever decides or judges begins here, so that an advertised end is the enforced one (R12).
    """
    if state.lock is not None and state.lock.over(now):
        state = replace(state, lock=None)
    for token in outlived(state, now):
        state = changed_token(state, token.role, token.issue, expired_at=token.expires_at)
    return state


def outlived(state: Device, now: int) -> tuple[Token, ...]:
    """Return the tokens whose lifetime is over although they have not been ended."""
    if state.grant is None:
        return ()
    return tuple([t for t in state.grant.tokens if t.expires_at is not None and now >= t.expires_at and not t.dead])


def stands(state: Device, standing: Standing, now: int) -> bool:
    """Say whether a session may go on (V1, V2).

    Its device is paired and not locked, its role's token lives, and the one it came by is still accepted.
    """
    state = lapsed(state, now)
    if state.grant is None or state.lock is not None:
        return False
    token = state.grant.token(standing.role)
    if token is None or token.dead:
        return False
    return standing.issue in {None, token.issue} or handed_over(token, standing.issue, now)


def handed_over(token: Token, issue: str | None, now: int) -> bool:
    """Say whether a generation is the one before a token's present one, and at this time still accepted (T1)."""
    past = token.handoff
    return past is not None and past.issue == issue and now <= past.until
