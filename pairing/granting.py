"""How access comes to be, for a person's approval and for a silent one alike; and what an approval would give.

The one constructor of grants and of tokens. Pure; whether it may be given, and what follows, is for who calls it.
"""

from typing import Any

from . import aging, quorum
from .authority import belongs, covers, normalise, of_role, tidy
from .commands import Approve, Knock, Rotate
from .device import Device, Grant, Pending, Token
from .events import DeviceEvent, DevicePaired, DeviceUpgraded, Means, RequestApproved, TokenIssued, TokenRotated, TokenWidened
from .evolve import Events

# What requests may ask for once they are merged, and what a device may come to hold without a person.
MOST_SCOPES = 128


def misfit(pending: Pending) -> str | None:
    """Return the first scope that belongs to none of the requested roles (A13)."""
    return next((s for s in normalise(pending.scopes) if not any(belongs(s, role) for role in pending.roles)), None)


def gains(grant: Grant | None, pending: Pending, under: str | None) -> quorum.Access:
    """Return what an approval would give that is not held already, by role, and what was asked for in so many words."""
    return tuple((role, _new_to(grant, pending, role, under)) for role in pending.roles)


def _new_to(grant: Grant | None, pending: Pending, role: str, under: str | None) -> tuple[str, ...]:
    live, asked = grant.live(role, under) if grant else None, normalise(of_role(pending.scopes, role))
    return tuple(
        scope
        for scope in scopes_to_hold(grant, pending, role, under)
        if scope in asked or live is None or not covers(role, live.scopes, (scope,))
    )


def give_access(state: Device, pending: Pending, c: Approve | Knock, means: Means) -> Events:
    """Grant an open request: the one way in which access comes to be, for a person's approval and a silent one alike (A2, T7)."""
    old = state.grant
    roles = tidy((*(old.roles if old else ()), *pending.roles))
    under = c.wanted.under if isinstance(c, Knock) else c.under
    scopes = tidy((*(_kept(old, pending, under) if old else ()), *pending.scopes))
    approved = RequestApproved(
        at=c.now, request=pending.request, digest=pending.digest, means=means, roles=pending.roles, scopes=pending.scopes
    )
    paired = _paired(c, pending, means) if old is None else _upgraded(c, pending, means, roles, scopes)
    news: list[DeviceEvent] = [approved, paired]
    for role in pending.roles:
        live = old.live(role, under) if old else None
        token, next_scopes = old.token(role) if old else None, scopes_to_hold(old, pending, role, under)
        # What the shared secret alone has added must die with it, also on a token that a person had approved (T6).
        secret = None if means in {"owner", "bootstrap"} else live.under if live and live.scopes == next_scopes else under
        news.extend(token_for(token, role, next_scopes, c, under=secret, live=live is not None))
    return tuple(news)


def _paired(c: Approve | Knock, pending: Pending, means: Means) -> DevicePaired:
    return DevicePaired(
        at=c.now,
        device=c.device,
        key=pending.key,
        request=pending.request,
        means=means,
        role=pending.role,
        roles=pending.roles,
        scopes=pending.scopes,
        platform=pending.platform,
        family=pending.family,
        client_id=pending.client_id,
        client_mode=pending.client_mode,
        named=pending.named,
        code=pending.code,
    )


def _upgraded(
    c: Approve | Knock, pending: Pending, means: Means, roles: tuple[str, ...], scopes: tuple[str, ...]
) -> DeviceUpgraded:
    return DeviceUpgraded(
        at=c.now,
        request=pending.request,
        means=means,
        role=pending.role,
        roles=roles,
        scopes=scopes,
        platform=pending.platform,
        family=pending.family,
        client_id=pending.client_id,
        client_mode=pending.client_mode,
        named=pending.named,
        code=pending.code,
    )


def _kept(grant: Grant, pending: Pending, under: str | None) -> tuple[str, ...]:
    """Return what an approval leaves of the baseline: of a role that comes back from the dead, only what its next token holds.

    The rest was shut off with the token; nobody has looked at it now, and nobody was asked whether they hold it (A1, R2, V7).
    """
    back = {role: scopes_to_hold(grant, pending, role, under) for role in pending.roles if grant.live(role, under) is None}
    return tuple(s for s in grant.scopes if all(not belongs(s, role) or covers(role, held, (s,)) for role, held in back.items()))


def scopes_to_hold(grant: Grant | None, pending: Pending, role: str, under: str | None) -> tuple[str, ...]:
    """Return what a role's token will hold: a live token keeps what it has and gains what was asked (A10, A12).

    A dead token, one that an older shared secret alone vouched for included (T6), comes back with what was asked alone; where
    nothing was asked with what it had, and a role that never had one with what the baseline has.
    """
    asked = normalise(of_role(pending.scopes, role))
    if grant is None:
        return asked
    old = grant.token(role)
    if old is None:
        return asked or normalise(of_role(grant.scopes, role))
    if grant.live(role, under):
        return normalise((*old.scopes, *asked))
    return asked or normalise(scope for scope in of_role(old.scopes, role) if covers(role, grant.scopes, (scope,)))


def token_for(
    old: Token | None, role: str, scopes: tuple[str, ...], c: Approve | Knock | Rotate, *, under: str | None, live: bool
) -> Events:
    """Make a token: the first generation, the next one, or the same one covering more (T2, T7)."""
    fresh: dict[str, Any] = {
        "role": role,
        "scopes": normalise(scopes),
        "issue": f"{c.issue}.{role}",
        "key": c.key,
        "under": under,
        "expires_at": aging.end_of_life(c.lifetimes, role, c.now),
    }
    if old is None:
        return (TokenIssued(at=c.now, **fresh),)
    if not live:
        return (TokenRotated(at=c.now, retires=old.issue, **fresh),)
    wide = normalise((*old.scopes, *scopes))
    if wide == old.scopes and under == old.under:
        return ()
    return (TokenWidened(at=c.now, role=role, issue=old.issue, scopes=wide, under=under),)
