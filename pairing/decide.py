"""Decisions: `decide(state, command)` gives the events that follow, or raises `Refused`, and nothing else.

Pure: time, ids and callers come with the command. `()` means that nothing had to happen. Every question of authority goes to
`authority.may`; this file only says which question it is.
"""

from typing import Any, assert_never

from msgspec.structs import replace

from . import aging, authority, handoff, locks, quorum
from .adoption import adopt
from .authority import OPERATOR, Verb, belongs, covers, normalise, of_role, tidy
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
    Silence,
    Terms,
    Unlock,
)
from .device import INITIAL, Closed, Device, Grant, Pending, Token, digest, imprint, same_voice
from .events import (
    DeviceDescribed,
    DeviceEvent,
    DeviceForgotten,
    DevicePaired,
    DeviceRemoved,
    DeviceRenamed,
    DeviceUpgraded,
    Means,
    Need,
    RequestApproved,
    RequestExpired,
    RequestOpened,
    RequestRefreshed,
    RequestRejected,
    RequestSuperseded,
    RequestUnendorsed,
    RequestWithdrawn,
    TokenIssued,
    TokenRevoked,
    TokenRotated,
    TokenWidened,
    Unendorsing,
)
from .evolve import evolve
from .permits import everything, permit
from .refusals import Reason, Refused
from .restoring import restore_device
from .shortfall import covered_by, shortfalls
from .standing import lapsed

Events = tuple[DeviceEvent, ...]

# What requests may ask for once they are merged, and what a device may come to hold without a person.
MOST_SCOPES = 128
HOUR_MS = 3_600_000


def decide(state: Device, command: DeviceCommand) -> Events:
    """Return what follows from a command in a state. Raises `Refused`."""
    if state.newer is not None:
        raise Refused(Reason.NEWER_WRITER, details={"kind": state.newer})
    if isinstance(command, Elapse):
        return aging.elapse(state, command)
    state = lapsed(state, command.now)
    match command:
        case Knock():
            return _knock(state, command)
        case Approve():
            return _approve(state, command)
        case Reject():
            return _reject(state, command)
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


def fold(state: Device, events: Events) -> Device:
    """Return the state after some events."""
    for event in events:
        state = evolve(state, event)
    return state


# --- a device knocks -----------------------------------------------------------------------------------------------


def _knock(state: Device, c: Knock) -> Events:
    if state.lock is not None:
        raise locks.locked_out(state.lock)
    needs = shortfalls(state.grant, c.wanted)
    if not needs:
        return _settle(state, c)
    quiet = _quiet(needs, c)
    asked = _ask(state, c, needs, quiet)
    after = fold(state, asked)
    pending = after.pending
    if pending is not None and quiet and pending.silent and c.silence and _approvable(state.grant, pending, c, c.silence):
        granted = _grant(after, pending, c, c.silence.means)
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
    if quorum.takes_people(c.terms, _news(grant, pending, c.wanted.under)):
        return False
    if _misfit(pending) is not None or len(tidy((*(grant.scopes if grant else ()), *pending.scopes))) > MOST_SCOPES:
        return False
    live = grant is not None and grant.live(OPERATOR, c.wanted.under) is not None
    if live or OPERATOR not in pending.roles:
        return covers(OPERATOR, silence.ceiling, of_role(pending.scopes, OPERATOR))
    return covers(OPERATOR, silence.ceiling, _next_scopes(grant, pending, OPERATOR, c.wanted.under))


def _misfit(pending: Pending) -> str | None:
    """Return the first scope that belongs to none of the requested roles (A13)."""
    return next((s for s in normalise(pending.scopes) if not any(belongs(s, role) for role in pending.roles)), None)


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
    return (*before, opened, *_grant(after, after.pending, asked, "bootstrap"))


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
        news.extend(_token(token, c.wanted.role, c.wanted.scopes, c, under=token.under, live=True))
    return tuple(news)


# --- an operator answers -------------------------------------------------------------------------------------------


def _approve(state: Device, c: Approve) -> Events:
    if state.lock is not None:
        permit("approve", c, (), Reason.APPROVAL_DENIED)
        raise locks.locked_out(state.lock)
    pending = _answerable(state, c, "approve", Reason.APPROVAL_DENIED, "approved")
    if pending is None:
        return ()
    if c.seen is not None and c.seen != pending.digest:
        truth = {"requestId": pending.request, "seen": c.seen, "now": pending.digest}
        raise Refused(Reason.REQUEST_CHANGED, request=pending.request, details=truth)
    if scope := _misfit(pending):
        raise Refused(Reason.INVALID_SCOPE, scope=scope)
    access = tuple((role, _next_scopes(state.grant, pending, role, c.under)) for role in pending.roles)
    permit("approve", c, access, Reason.APPROVAL_DENIED)
    news = _news(state.grant, pending, c.under)
    if quorum.wants_reason(c.terms, news) and not (c.reason or "").strip():
        raise Refused(Reason.REASON_REQUIRED)
    if (most := quorum.needed(c.terms, news)) > 1:
        return _endorse(state, pending, c, access, most)
    return _grant(state, pending, c, "owner")


def _endorse(state: Device, pending: Pending, c: Approve, access: quorum.Access, most: int) -> Events:
    """Count a vote; with the last that is needed the request is approved, if all the others still may (A1, R8)."""
    mine = quorum.vote_of(pending, c)
    kept = [vote for vote in pending.votes if quorum.still_counts(vote, c, access)]
    lapsed = tuple(vote.voter for vote in pending.votes if vote not in kept)
    events: Events = ()
    if lapsed:
        events = (RequestUnendorsed(at=c.now, request=pending.request, voters=lapsed, why="lapsed"),)
    if not any(same_voice(mine, vote) for vote in kept):
        events = (*events, mine)
    after = fold(state, events)
    if after.pending is None or len(after.pending.votes) < most:
        return events
    return (*events, *_grant(after, after.pending, c, "owner"))


def approvers_needed(state: Device, terms: Terms, under: str | None) -> int:
    """Return how many must approve the open request; 1 where none is open."""
    return quorum.needed(terms, _news(state.grant, state.pending, under)) if state.pending else 1


def _news(grant: Grant | None, pending: Pending, under: str | None) -> quorum.Access:
    """Return what an approval would give that is not held already, by role, and what was asked for in so many words."""
    return tuple((role, _new_to(grant, pending, role, under)) for role in pending.roles)


def _new_to(grant: Grant | None, pending: Pending, role: str, under: str | None) -> tuple[str, ...]:
    live, asked = grant.live(role, under) if grant else None, normalise(of_role(pending.scopes, role))
    return tuple(
        scope
        for scope in _next_scopes(grant, pending, role, under)
        if scope in asked or live is None or not covers(role, live.scopes, (scope,))
    )


def _grant(state: Device, pending: Pending, c: Approve | Knock, means: Means) -> Events:
    """The one way in which access comes to be, for a person's approval and a silent one alike (A2, T7)."""
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
        token, next_scopes = old.token(role) if old else None, _next_scopes(old, pending, role, under)
        # What the shared secret alone has added must die with it, also on a token that a person had approved (T6).
        secret = None if means in {"owner", "bootstrap"} else live.under if live and live.scopes == next_scopes else under
        news.extend(_token(token, role, next_scopes, c, under=secret, live=live is not None))
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
    back = {role: _next_scopes(grant, pending, role, under) for role in pending.roles if grant.live(role, under) is None}
    return tuple(s for s in grant.scopes if all(not belongs(s, role) or covers(role, held, (s,)) for role, held in back.items()))


def _next_scopes(grant: Grant | None, pending: Pending, role: str, under: str | None) -> tuple[str, ...]:
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


def _token(
    old: Token | None, role: str, scopes: tuple[str, ...], c: Approve | Knock | Rotate, *, under: str | None, live: bool
) -> Events:
    """The one constructor of tokens: the first generation, the next one, or the same one covering more (T2, T7)."""
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


def _reject(state: Device, c: Reject) -> Events:
    pending = _answerable(state, c, "reject", Reason.REJECTION_DENIED, "rejected")
    if pending is not None and pending.code != c.code:
        # It has come with another code since: whoever asks must look again, so that the right one becomes void.
        raise Refused(Reason.BUSY)
    rejected = (RequestRejected(at=c.now, request=pending.request, digest=pending.digest),) if pending else ()
    return rejected if c.ban is None else (*rejected, *locks.ban(fold(state, rejected), c, c.ban))


def _answerable(state: Device, c: Approve | Reject, verb: Verb, denied: Reason, same: str) -> Pending | None:
    """Return the open request, or None where the same answer was given before: the second caller learns of the first (R6)."""
    permit(verb, c, (), denied)
    pending = state.pending
    if pending is not None and pending.request == c.request and not pending.expired(c.now):
        return pending
    ended = state.ended(c.request)
    if ended is not None and (ended.ending == same or (same == "rejected" and ended.ending == "withdrawn")):
        return None
    if pending is not None and pending.request == c.request:
        ended = Closed(c.request, "expired", pending.expires_at)
    raise unknown_request(ended)


def unknown_request(ended: Closed | None) -> Refused:
    """Build the refusal for a request that cannot be answered any more: the wire's words, and what became of it."""
    if ended is None:
        return Refused(Reason.UNKNOWN_REQUEST, fate="See what is open: pairing devices list")
    details = {"outcome": ended.ending, "at": ended.at, **({"supersededBy": ended.by} if ended.by else {})}
    fate = f"It was {ended.ending}" + (f" by {ended.by}" if ended.by else "") + ". See what is open: pairing devices list"
    return Refused(Reason.UNKNOWN_REQUEST, fate=fate, details=details)


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
    return handoff.leave(grant, old, c, _token(old, c.role, scopes, c, under=old.under if old else None, live=False))


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
