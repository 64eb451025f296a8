"""What takes a device back to how it stood: the events that make up the difference, and no dead secret among them.

Pure, like `decide`, which calls it. The past is not rewritten, and nothing that was retired comes back: a role that returns gets
a fresh token, a token that lives stays or covers less.
"""

from collections.abc import Iterable
from typing import TypeAlias

from . import aging, authority, quorum
from .authority import belongs, covers, normalise, of_role, tidy
from .commands import FormerGrant, FormerToken, RestoreDevice
from .device import Device, Grant, Token
from .events import (
    DeviceAbandoned,
    DeviceEvent,
    DeviceRenamed,
    DeviceRestored,
    RequestWithdrawn,
    TokenAbandoned,
    TokenExpired,
    TokenIssued,
    TokenNarrowed,
    TokenRevoked,
    TokenRotated,
)
from .evolve import evolve
from .locks import bar
from .permits import going_back, permit

Events: TypeAlias = tuple[DeviceEvent, ...]


def former(grant: Grant, ran_out: tuple[str, ...] = ()) -> FormerGrant:
    """Return what a restore has to know of a grant as it once was: everything but the names of its tokens.

    A token that was dead then is none, nor is that of a role in `ran_out`: it has expired since, and its device asks anew.
    """
    tokens = [FormerToken(t.role, t.scopes, t.under) for t in grant.tokens if not t.dead and t.role not in ran_out]
    return FormerGrant(
        key=grant.key,
        role=grant.role,
        roles=grant.roles,
        scopes=grant.scopes,
        platform=grant.platform,
        family=grant.family,
        client_id=grant.client_id,
        client_mode=grant.client_mode,
        named=grant.named,
        created_at=grant.created_at,
        tokens=tuple(tokens),
    )


def ended_on_purpose(after: Iterable[object]) -> tuple[str, ...]:
    """Return the roles whose token somebody revoked in these events of a device, and did not give back: a restore leaves them."""
    return _ended_by(TokenRevoked, after)


def expired_since(after: Iterable[object]) -> tuple[str, ...]:
    """Return the roles whose token expired in these events of a device, and was not replaced."""
    return _ended_by(TokenExpired, after)


def _ended_by(end: type[TokenRevoked | TokenExpired], after: Iterable[object]) -> tuple[str, ...]:
    ended: dict[str, None] = {}
    for event in after:
        match event:
            case TokenRevoked() | TokenExpired() if isinstance(event, end):
                ended[event.role] = None
            case TokenRotated() | TokenIssued():
                ended.pop(event.role, None)
            case _:
                pass
    return tuple(ended)


def restore_device(state: Device, c: RestoreDevice) -> Events:
    """Return what makes a device again what it was; `()` where nothing differs, or nothing may return. Raises `Refused`."""
    access = _access(state.grant, c.former)
    if c.epoch is None and quorum.takes_people(c.terms, _regained(state.grant, c.former)):
        # One operator undoes no more than one could have approved, but for an administrator.
        access = (*access, (authority.OPERATOR, (authority.ADMIN,)))
    verb, denied = going_back(c.epoch)
    permit(verb, c, access, denied)
    news = _back(state, c) if c.former else _away(state, c)
    if c.relabel and c.labelled != state.labelled:
        news = (*news, DeviceRenamed(at=c.now, labelled=c.labelled))
    if c.lock is None or state.lock is not None or (c.lock.until is not None and c.lock.until <= c.now):
        return news
    for event in news:
        state = evolve(state, event)
    return (*news, *bar(state, c.lock, c.now, ban=False))


def _regained(now: Grant | None, then: FormerGrant | None) -> quorum.Access:
    """What a device would have again that it does not have now, by role."""
    if then is None:
        return ()
    held = now.scopes if now else ()
    news = [(role, tuple(s for s in of_role(then.scopes, role) if s not in held)) for role in then.roles]
    return tuple((role, scopes) for role, scopes in news if scopes or now is None or role not in now.roles)


def _access(now: Grant | None, then: FormerGrant | None) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Everything that may return or end, by role."""
    access: dict[str, tuple[str, ...]] = {}
    for grant in (now, then):
        if grant is None:
            continue
        for role in grant.roles:
            access[role] = tidy((*access.get(role, ()), *of_role(grant.scopes, role)))
        for token in grant.tokens:
            access[token.role] = tidy((*access.get(token.role, ()), *token.scopes))
    return tuple(access.items())


def _away(state: Device, c: RestoreDevice) -> Events:
    grant = state.grant
    if grant is None:
        return ()
    issues = tuple(token.issue for token in grant.tokens)
    left = DeviceAbandoned(at=c.now, to=c.to, epoch=c.epoch, roles=grant.roles, issues=issues)
    # An upgrade that waits was asked of a grant that is no more.
    return (left,) if state.pending is None else (RequestWithdrawn(at=c.now, request=state.pending.request), left)


def _back(state: Device, c: RestoreDevice) -> Events:
    then, now = c.former, state.grant
    assert then is not None
    # What was revoked on purpose returns with nobody; where the device is here, its revoked token is too.
    out = [role for role in then.roles if role in c.ended and not (now and role in now.roles)]
    roles = tuple(role for role in then.roles if role not in out)
    if not roles:
        return _away(state, c)
    scopes = tuple(s for s in then.scopes if not any(belongs(s, role) for role in out))
    news: list[DeviceEvent] = []
    if now is None or set(now.roles) != set(roles) or set(now.scopes) != set(scopes):
        news.append(_restored(then, now, roles, scopes, c))
    for token in now.tokens if now else ():
        news += _fitted(token, roles, scopes, c)
    held = {token.role for token in now.tokens} if now else set()
    news += [
        TokenIssued(
            at=c.now,
            role=token.role,
            scopes=normalise(s for s in token.scopes if covers(token.role, scopes, (s,))),
            issue=f"{c.issue}.{token.role}",
            key=c.key,
            under=token.under,
            expires_at=aging.end_of_life(c.lifetimes, token.role, c.now),
        )
        for token in then.tokens
        if token.role in roles and token.role not in held and token.role not in c.ended
    ]
    return tuple(news)


def _restored(
    then: FormerGrant, now: Grant | None, roles: tuple[str, ...], scopes: tuple[str, ...], c: RestoreDevice
) -> DeviceRestored:
    # What a device that is here says of itself is true now, whatever it said then.
    said = now or then
    return DeviceRestored(
        at=c.now,
        to=c.to,
        epoch=c.epoch,
        key=then.key,
        role=then.role if then.role in roles else roles[0],
        roles=roles,
        scopes=scopes,
        platform=said.platform,
        family=said.family,
        client_id=said.client_id,
        client_mode=said.client_mode,
        named=said.named,
        created_at=said.created_at,
    )


def _fitted(token: Token, roles: tuple[str, ...], scopes: tuple[str, ...], c: RestoreDevice) -> Events:
    """End a token whose role goes, and narrow one that would reach beyond the approved scopes; a revoked one stays as it is."""
    if token.role not in roles:
        return (TokenAbandoned(at=c.now, to=c.to, epoch=c.epoch, role=token.role, issue=token.issue),)
    kept = tuple(s for s in token.scopes if covers(token.role, scopes, (s,)))
    if token.revoked_at is not None or kept == token.scopes:
        return ()
    return (TokenNarrowed(at=c.now, role=token.role, issue=token.issue, scopes=kept),)
