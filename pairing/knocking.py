"""Decisions when a device comes to the door: what it lacks is asked for, and given at once where silence goes that far.

Pure; `decide` and `redemption` call it.
"""

from msgspec.structs import replace

from . import authority, locks, quorum
from .authority import OPERATOR, covers, of_role, tidy
from .commands import Knock, Silence
from .device import Device, Grant, Pending, digest
from .events import (
    DeviceDescribed,
    DeviceEvent,
    Need,
    RequestExpired,
    RequestOpened,
    RequestRefreshed,
    RequestSuperseded,
    RequestUnendorsed,
    Unendorsing,
)
from .evolve import Events, fold
from .granting import MOST_SCOPES, gains, give_access, misfit, scopes_to_hold, token_for
from .permits import permit
from .refusals import Reason, Refused
from .shortfall import covered_by, shortfalls

HOUR_MS = 3_600_000


def knock(state: Device, c: Knock) -> Events:
    """Let a proven device in with what it wants, or note what it asks for. Raises `Refused`."""
    if c.anew:
        permit("undo", c, (), Reason.UNDO_DENIED)
    if state.lock is not None:
        raise locks.locked_out(state.lock)
    needs = shortfalls(state.grant, c.wanted)
    if not needs:
        # Nobody's token is widened by who only asks on its behalf (A1).
        return () if c.anew else _settle(state, c)
    quiet = _quiet(needs, c)
    asked = _ask(state, c, needs, quiet)
    after = fold(state, asked)
    pending = after.pending
    if pending is not None and quiet and pending.silent and c.silence and _approvable(state.grant, pending, c, c.silence):
        granted = give_access(after, pending, c, c.silence.means)
        inside = fold(after, granted)
        # Merged with an earlier ask, an approval can leave this one outside all the same: then it is a person's to decide.
        if not shortfalls(inside.grant, c.wanted):
            return (*asked, *granted, *_settle(inside, c))
    if c.full and pending is not None and state.pending is None:
        raise Refused(Reason.TOO_MANY_PENDING)
    if c.most is not None and any(isinstance(event, RequestOpened) for event in asked) and _in_vain(state, c.now) >= c.most:
        raise Refused(Reason.TOO_MANY_REQUESTS)
    return asked


def _in_vain(state: Device, now: int) -> int:
    """Count a device's requests that came to nothing of late: a storm of them would fill a log that is kept for ever (R10)."""
    return sum(closed.ending != "approved" and now - closed.at < HOUR_MS for closed in state.closed)


def _quiet(needs: tuple[Need, ...], c: Knock) -> bool:
    """Silence is for the needs that the policy names, and up to its ceiling; the rest is a person's to decide (A19, N7)."""
    if c.silence is None or not set(needs) <= set(c.silence.needs):
        return False
    return authority.missing(OPERATOR, c.silence.ceiling, of_role(c.wanted.scopes, OPERATOR)) is None


def blocking(needs: tuple[Need, ...], silence: Silence | None) -> Need:
    """Return the need that a person must answer: the first that silence does not cover, or the first of all."""
    return next((need for need in needs if silence is None or need not in silence.needs), needs[0])


def _approvable(grant: Grant | None, pending: Pending, c: Knock, silence: Silence) -> bool:
    """What a dead token would come back with is granted anew, so the ceiling holds for it too (N7)."""
    if quorum.takes_people(c.terms, gains(grant, pending, c.wanted.under)):
        return False
    if misfit(pending) is not None or len(tidy((*(grant.scopes if grant else ()), *pending.scopes))) > MOST_SCOPES:
        return False
    live = grant is not None and grant.live(OPERATOR, c.wanted.under) is not None
    if live or OPERATOR not in pending.roles:
        return covers(OPERATOR, silence.ceiling, of_role(pending.scopes, OPERATOR))
    return covers(OPERATOR, silence.ceiling, scopes_to_hold(grant, pending, OPERATOR, c.wanted.under))


def _ask(state: Device, c: Knock, needs: tuple[Need, ...], quiet: bool) -> Events:
    old = state.pending
    if old is None:
        return (_open(state, c, needs, quiet, None),)
    if old.expired(c.now):
        return (RequestExpired(at=c.now, request=old.request), _open(state, c, needs, quiet, None))
    if covered_by(old, c.wanted):
        return _refresh(old, c, quiet)
    gone = _unendorsed(old, c, "superseded")
    return (*gone, RequestSuperseded(at=c.now, request=old.request, by=c.request), _open(state, c, needs, quiet, old))


def admit(state: Device, c: Knock, roles: tuple[str, ...], scopes: tuple[str, ...]) -> Events:
    """Pair a device without a grant as exactly what its setup code says (B3); what it had asked for before gives way."""
    asked = replace(c, wanted=replace(c.wanted, scopes=scopes), silence=Silence("bootstrap", ("not-paired",), scopes))
    opened = _open(state, asked, ("not-paired",), True, None, roles)
    before: Events = ()
    if (old := state.pending) is not None:
        opened = replace(opened, replaces=None if old.expired(c.now) else old.request)
        gone = RequestExpired(at=c.now, request=old.request)
        before = (gone if old.expired(c.now) else RequestSuperseded(at=c.now, request=old.request, by=c.request),)
    after = fold(state, (*before, opened))
    if after.pending is None:
        raise TypeError("an opened request is pending")
    return (*before, opened, *give_access(after, after.pending, asked, "bootstrap"))


def _open(
    state: Device, c: Knock, needs: tuple[Need, ...], quiet: bool, old: Pending | None, more: tuple[str, ...] = ()
) -> RequestOpened:
    wanted = c.wanted
    roles = tidy((*(old.roles if old else ()), wanted.role, *more))
    scopes = tidy((*(old.scopes if old else ()), *wanted.scopes))
    if len(scopes) > MOST_SCOPES:
        # One who asks for something else each time would grow a request that nobody can review, or even list.
        scopes = tidy(wanted.scopes)
    return RequestOpened(
        at=c.now,
        request=c.request,
        device=c.device,
        key=wanted.key,
        need=blocking(needs, c.silence),
        role=wanted.role,
        roles=roles,
        scopes=scopes,
        platform=wanted.platform,
        family=wanted.family,
        client_id=c.client_id,
        client_mode=c.client_mode,
        silent=quiet and (old is None or old.silent),
        repair=state.grant is not None,
        replaces=old.request if old else None,
        expires_at=c.now + c.ttl,
        seen=c.seen,
        named=c.named,
        digest=digest(request=c.request, key=wanted.key, roles=roles, scopes=scopes, seen=c.seen),
        code=c.code or (old.code if old else None),
    )


def _refresh(old: Pending, c: Knock, quiet: bool) -> Events:
    """A retry keeps the request's id and place, and its life counts anew.

    It is an event only when a reviewer would see something else, or when a quarter of the advertised life has gone: so the
    enforced expiry is always the advertised one (R4, R12), and a device that hammers does not flood the log.
    """
    fresh = RequestRefreshed(
        at=c.now,
        request=old.request,
        platform=c.wanted.platform or old.platform,
        family=c.wanted.family or old.family,
        client_id=c.client_id or old.client_id,
        client_mode=c.client_mode or old.client_mode,
        silent=quiet and old.silent,
        expires_at=c.now + c.ttl,
        seen=c.seen,
        named=c.named,
        digest=digest(request=old.request, key=old.key, roles=old.roles, scopes=old.scopes, seen=c.seen),
        code=c.code or old.code,
    )
    before = (old.platform, old.family, old.client_id, old.client_mode, old.silent, old.seen, old.code)
    after = (fresh.platform, fresh.family, fresh.client_id, fresh.client_mode, fresh.silent, fresh.seen, fresh.code)
    worn = (old.expires_at - c.now) * 4 <= c.ttl * 3
    if not worn and before == after:
        return ()
    return (*(_unendorsed(old, c, "changed") if fresh.digest != old.digest else ()), fresh)


def _unendorsed(pending: Pending, c: Knock, why: Unendorsing) -> Events:
    """Say that votes for what a request was are none for what it is now."""
    voters = tuple(vote.voter for vote in pending.votes)
    return (RequestUnendorsed(at=c.now, request=pending.request, voters=voters, why=why),) if voters else ()


def _settle(state: Device, c: Knock) -> Events:
    """The device may in: note what it is called now, and let its token cover what it asks within the baseline."""
    grant = state.grant
    if grant is None:
        return ()
    described = (grant.client_id, grant.client_mode, grant.named) != (c.client_id, c.client_mode, c.named)
    news: list[DeviceEvent] = []
    if described:
        news.append(DeviceDescribed(at=c.now, client_id=c.client_id, client_mode=c.client_mode, named=c.named))
    token = grant.live(c.wanted.role, c.wanted.under)
    if token is not None and not covers(c.wanted.role, token.scopes, c.wanted.scopes):
        news.extend(token_for(token, c.wanted.role, c.wanted.scopes, c, under=token.under, live=True))
    return tuple(news)
