"""The fold of one device's stream: `evolve(state, event)` gives the state after an event.

Pure and total: it never refuses, decisions are in `decide`. An event that does not fit changes only what it concerns.
"""

from typing import Literal, TypeAlias, TypeVar, assert_never

from msgspec.structs import replace

from .device import REMEMBERED, Barred, Closed, Device, Ending, Grant, Handoff, Pending, Retired, Token, Voided, Vote, same_voice
from .events import (
    DeviceAbandoned,
    DeviceDescribed,
    DeviceEvent,
    DeviceForgotten,
    DeviceImported,
    DeviceLocked,
    DevicePaired,
    DeviceRemoved,
    DeviceRenamed,
    DeviceRestored,
    DeviceUnlocked,
    DeviceUpgraded,
    GlassBroken,
    HandoffClosed,
    RequestApproved,
    RequestEndorsed,
    RequestExpired,
    RequestOpened,
    RequestRefreshed,
    RequestRejected,
    RequestSuperseded,
    RequestUnendorsed,
    RequestWithdrawn,
    TokenAbandoned,
    TokenDue,
    TokenExpired,
    TokenImported,
    TokenIssued,
    TokenNarrowed,
    TokenRevoked,
    TokenRotated,
    TokenWidened,
    Unknown,
)

T = TypeVar("T")
Events: TypeAlias = tuple[DeviceEvent, ...]


def evolve(state: Device, event: DeviceEvent | Unknown) -> Device:
    """Fold one event. Total: an event that does not fit leaves what it does not concern as it was."""
    # The commonest kinds first: a long history is mostly rotations and requests.
    match event:
        case TokenRotated():
            return _rotated(state, event)
        case RequestOpened():
            return replace(state, pending=_opened(event))
        case RequestApproved():
            return _close(state, event.request, "approved", event.at)
        case DevicePaired():
            return replace(state, grant=_paired(event))
        case TokenIssued():
            return _issued(state, event)
        case RequestRefreshed():
            return replace(state, pending=_refreshed(state.pending, event))
        case RequestExpired():
            return _close(state, event.request, "expired", event.at)
        case RequestRejected():
            return _close(state, event.request, "rejected", event.at)
        case RequestSuperseded():
            return _close(state, event.request, "superseded", event.at, event.by)
        case RequestWithdrawn():
            return _close(state, event.request, "withdrawn", event.at)
        case DeviceUpgraded():
            return replace(state, grant=_upgraded(state.grant, event))
        case DeviceDescribed():
            return replace(state, grant=_described(state.grant, event))
        case DeviceRenamed():
            return replace(state, labelled=event.labelled)
        case DeviceRemoved():
            return _ended(state, event.at, "removed")
        case DeviceForgotten():
            # The label itself is gone: it may be given anew.
            return replace(state, labelled=None)
        case DeviceRestored():
            return replace(state, grant=_restored(state.grant, event))
        case DeviceAbandoned():
            return _ended(state, event.at, "abandoned")
        case TokenNarrowed():
            return _narrowed(state, event)
        case TokenAbandoned():
            return _abandoned(state, event)
        case DeviceImported():
            return replace(state, grant=_imported(event), labelled=state.labelled or event.labelled)
        case TokenImported():
            return _vouched_for(state, event)
        case TokenWidened():
            return changed_token(state, event.role, event.issue, scopes=event.scopes, under=event.under)
        case TokenRevoked():
            return changed_token(_alone(state, event), event.role, event.issue, revoked_at=event.at)
        case RequestEndorsed():
            return replace(state, pending=_endorsed(state.pending, event))
        case RequestUnendorsed():
            return _unendorsed(state, event)
        case GlassBroken():
            return state
        case TokenDue():
            return changed_token(state, event.role, event.issue, warned=event.distance)
        case TokenExpired():
            return changed_token(_alone(state, event), event.role, event.issue, expired_at=event.at)
        case DeviceLocked():
            return replace(state, lock=Barred(event.at, event.until, event.message, event.ban))
        case DeviceUnlocked():
            return replace(state, lock=None)
        case HandoffClosed():
            return _handed_over(state, event)
        case Unknown():
            return replace(state, newer=event.kind)
        case _:
            assert_never(event)


def fold(state: Device, events: Events) -> Device:
    """Return the state after some events."""
    for event in events:
        state = evolve(state, event)
    return state


def _opened(event: RequestOpened) -> Pending:
    return Pending(
        request=event.request,
        key=event.key,
        need=event.need,
        role=event.role,
        roles=event.roles,
        scopes=event.scopes,
        platform=event.platform,
        family=event.family,
        client_id=event.client_id,
        client_mode=event.client_mode,
        silent=event.silent,
        opened_at=event.at,
        expires_at=event.expires_at,
        seen=event.seen,
        named=event.named,
        digest=event.digest,
        code=event.code,
    )


def _refreshed(pending: Pending | None, event: RequestRefreshed) -> Pending | None:
    if pending is None or pending.request != event.request:
        return pending
    return replace(
        pending,
        platform=event.platform,
        family=event.family,
        client_id=event.client_id,
        client_mode=event.client_mode,
        silent=event.silent,
        expires_at=event.expires_at,
        seen=event.seen,
        named=event.named,
        digest=event.digest,
        code=event.code,
        # A vote is for what its voter was shown.
        votes=pending.votes if pending.digest == event.digest else (),
    )


def _endorsed(pending: Pending | None, event: RequestEndorsed) -> Pending | None:
    """One principal, one vote; the same device by another credential is the same principal."""
    if pending is None or (pending.request, pending.digest) != (event.request, event.digest):
        return pending
    vote = Vote(event.voter, event.device, event.issue, event.held, event.lent, event.under, event.at)
    return replace(pending, votes=(*(other for other in pending.votes if not same_voice(other, vote)), vote))


def _unendorsed(state: Device, event: RequestUnendorsed) -> Device:
    pending = state.pending
    if pending is not None and pending.request == event.request:
        pending = replace(pending, votes=tuple(vote for vote in pending.votes if vote.voter not in event.voters))
    gone = tuple(Voided(event.request, voter, event.why, event.at) for voter in event.voters)
    return replace(state, pending=pending, voided=_remembered(state.voided, *gone))


def _close(state: Device, request: str, ending: Ending, at: int, by: str | None = None) -> Device:
    open_still = state.pending if state.pending and state.pending.request != request else None
    return replace(state, pending=open_still, closed=_remembered(state.closed, Closed(request, ending, at, by)))


def _remembered(past: tuple[T, ...], *new: T) -> tuple[T, ...]:
    whole = (*past, *new)
    return whole if len(whole) <= REMEMBERED else whole[-REMEMBERED:]


def _paired(event: DevicePaired) -> Grant:
    return Grant(
        key=event.key,
        means=event.means,
        role=event.role,
        roles=event.roles,
        scopes=event.scopes,
        platform=event.platform,
        family=event.family,
        client_id=event.client_id,
        client_mode=event.client_mode,
        named=event.named,
        created_at=event.at,
        approved_at=event.at,
        code=event.code,
    )


def _imported(event: DeviceImported) -> Grant:
    return Grant(
        key=event.key,
        means="imported",
        role=event.role,
        roles=event.roles,
        scopes=event.scopes,
        platform=event.platform,
        family=event.family,
        client_id=event.client_id,
        client_mode=event.client_mode,
        named=event.named,
        created_at=event.created_at,
        approved_at=event.approved_at,
    )


def _upgraded(grant: Grant | None, event: DeviceUpgraded) -> Grant | None:
    return grant and replace(
        grant,
        means=event.means,
        role=event.role,
        roles=event.roles,
        scopes=event.scopes,
        platform=event.platform,
        family=event.family,
        client_id=event.client_id,
        client_mode=event.client_mode,
        named=event.named,
        approved_at=event.at,
        code=event.code or grant.code,
    )


def _described(grant: Grant | None, event: DeviceDescribed) -> Grant | None:
    return grant and replace(grant, client_id=event.client_id, client_mode=event.client_mode, named=event.named)


def _ended(state: Device, at: int, how: Literal["removed", "abandoned"]) -> Device:
    tokens = state.grant.tokens if state.grant else ()
    ended = [old for token in tokens for old in (*_predecessor(token, at), _retire(token, at, how))]
    return replace(state, grant=None, retired=_remembered(state.retired, *ended), gone_at=at)


def _end_of(token: Token, at: int) -> Literal["revoked", "expired"] | None:
    """Return how a token had died before it was replaced or removed at a time, if it had."""
    if token.revoked_at is not None:
        return "revoked"
    outlived = token.expires_at is not None and at >= token.expires_at
    return "expired" if token.expired_at is not None or outlived else None


def _predecessor(token: Token, at: int) -> tuple[Retired, ...]:
    """Return the generation that was still accepted beside a token, as one that is no more."""
    past = token.handoff
    return () if past is None else (Retired(token.role, past.issue, past.key, at, "rotated", past.proof),)


def _restored(before: Grant | None, event: DeviceRestored) -> Grant:
    return Grant(
        key=event.key,
        means="restored",
        role=event.role,
        roles=event.roles,
        scopes=event.scopes,
        platform=event.platform,
        family=event.family,
        client_id=event.client_id,
        client_mode=event.client_mode,
        named=event.named,
        created_at=event.created_at,
        approved_at=event.at,
        tokens=before.tokens if before else (),
    )


def _with(grant: Grant, token: Token) -> Grant:
    others = [other for other in grant.tokens if other.role != token.role]
    tokens = tuple(sorted((*others, token), key=lambda t: t.role)) if others else (token,)
    return replace(grant, tokens=tokens)


def _issued(state: Device, event: TokenIssued) -> Device:
    if state.grant is None:
        return state
    token = Token(event.role, event.scopes, event.issue, event.key, event.at, under=event.under, expires_at=event.expires_at)
    return replace(state, grant=_with(state.grant, token))


def _rotated(state: Device, event: TokenRotated) -> Device:
    grant, old = state.grant, state.token(event.role)
    if grant is None or old is None:
        return state
    token = Token(
        event.role, event.scopes, event.issue, event.key, old.created_at, event.at, None, event.under, expires_at=event.expires_at
    )
    ended = _predecessor(old, event.at)
    if event.handoff_until is not None and _end_of(old, event.at) is None:
        # Of all that came before, only this one may still be accepted: what was handed over before ends here (T1, T2).
        token = replace(token, handoff=Handoff(old.issue, old.key, old.scopes, event.handoff_until, old.proof))
    else:
        ended += (_retire(old, event.at, "compromised" if event.compromised else "rotated"),)
    return replace(state, grant=_with(grant, token), retired=_remembered(state.retired, *ended))


def _handed_over(state: Device, event: HandoffClosed) -> Device:
    token = state.token(event.role)
    fits = token is not None and token.handoff is not None and token.handoff.issue == event.retires
    return _alone(state, event) if fits else state


def _alone(state: Device, event: HandoffClosed | TokenRevoked | TokenExpired) -> Device:
    """Return the state in which nothing is accepted beside the present token that an event names."""
    token = state.token(event.role)
    if state.grant is None or token is None or token.handoff is None or token.issue != event.issue:
        return state
    alone = _with(state.grant, replace(token, handoff=None))
    return replace(state, grant=alone, retired=_remembered(state.retired, *_predecessor(token, event.at)))


def _vouched_for(state: Device, event: TokenImported) -> Device:
    if state.grant is None:
        return state
    e = event
    token = Token(e.role, e.scopes, e.issue, e.key, e.created_at, e.rotated_at, e.revoked_at, proof=e.proof)
    return replace(state, grant=_with(state.grant, token))


def _retire(old: Token, at: int, how: Literal["rotated", "compromised", "removed", "abandoned"]) -> Retired:
    return Retired(old.role, old.issue, old.key, at, _end_of(old, at) or how, old.proof)


def changed_token(state: Device, role: str, issue: str, **changes: object) -> Device:
    old = state.token(role)
    if state.grant is None or old is None or old.issue != issue:
        return state
    return replace(state, grant=_with(state.grant, replace(old, **changes)))


def _narrowed(state: Device, event: TokenNarrowed) -> Device:
    old = state.token(event.role)
    if state.grant is None or old is None or old.issue != event.issue:
        return state
    return replace(state, grant=_with(state.grant, replace(old, scopes=event.scopes)))


def _abandoned(state: Device, event: TokenAbandoned) -> Device:
    old = state.token(event.role)
    if state.grant is None or old is None or old.issue != event.issue:
        return state
    tokens = tuple(token for token in state.grant.tokens if token is not old)
    retired = _remembered(state.retired, *_predecessor(old, event.at), _retire(old, event.at, "abandoned"))
    return replace(state, grant=replace(state.grant, tokens=tokens), retired=retired)
