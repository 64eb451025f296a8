"""The state of one device: its grant, its tokens, its open request; `evolve` folds the events of its stream.

Pure and total: evolve never refuses, decisions are in `decide`. Names and addresses are not here: no decision depends on them.
"""

import hashlib
from typing import Literal, TypeAlias, TypeVar, assert_never

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from .authority import belongs, covers, normalise
from .commands import Standing, Wanted
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
    Means,
    Need,
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
    Unendorsing,
    Unknown,
)

T = TypeVar("T")

# What a state remembers of the past is bounded; the log remembers all of it.
REMEMBERED = 32

Ending: TypeAlias = Literal["approved", "rejected", "expired", "superseded", "withdrawn"]


class Handoff(Struct, frozen=True, gc=False):
    """The generation before a token's present one, still accepted until `until` (ms), and no wider than both cover."""

    issue: str
    key: str
    scopes: tuple[str, ...]
    until: int
    proof: str | None = None


class Token(Struct, frozen=True, gc=False):
    """The token of one role, by the name of its generation; its value is derived, never held. Times in ms.

    `proof` is set on a token that another gateway made: the keyed hash of its value.
    `expires_at` is when its lifetime ends, `expired_at` when it did or when it died of disuse; `warned` the least distance from
    its end at which somebody was warned.
    """

    role: str
    scopes: tuple[str, ...]
    issue: str
    key: str
    created_at: int
    rotated_at: int | None = None
    revoked_at: int | None = None
    under: str | None = None
    proof: str | None = None
    expires_at: int | None = None
    expired_at: int | None = None
    warned: int | None = None

    @property
    def dead(self) -> bool:
        """Say whether it was revoked or has expired; only a new generation helps."""
        return self.revoked_at is not None or self.expired_at is not None

    handoff: Handoff | None = None

    @property
    def issued_at(self) -> int:
        """When the present generation began, in ms."""
        return self.rotated_at or self.created_at


class Retired(Struct, frozen=True, gc=False):
    """A generation that is no more: replaced (because somebody else may have it, or not), ended, or of a timeline left."""

    role: str
    issue: str
    key: str
    at: int
    how: Literal["rotated", "compromised", "revoked", "removed", "expired", "abandoned"]
    proof: str | None = None


class Grant(Struct, frozen=True, gc=False):
    """What was approved. `scopes` is the baseline as asked; `tokens` is sorted by role; `code` the setup code behind it."""

    key: str
    means: Means
    role: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    platform: str | None
    family: str | None
    client_id: str | None
    client_mode: str | None
    named: str
    created_at: int
    approved_at: int
    tokens: tuple[Token, ...] = ()
    code: str | None = None

    def token(self, role: str) -> Token | None:
        """Return the token of a role, revoked or not."""
        for token in self.tokens:
            if token.role == role:
                return token
        return None

    def live(self, role: str, under: str | None) -> Token | None:
        """Return the token of a role if it can be used at all: it is sound, and its role is approved (A16, A18, T6)."""
        return self.sound(role, under) if role in self.roles else None

    def sound(self, role: str, under: str | None) -> Token | None:
        """Return the token of a role if nothing is wrong with the token itself, whether or not its role is approved.

        It must not be dead, must lie within the approved baseline, and must not rest on an older shared secret alone.
        """
        token = self.token(role)
        if token is None or token.dead:
            return None
        if token.under is not None and token.under != under:
            return None
        return token if covers(role, self.scopes, token.scopes) else None


class Vote(Struct, frozen=True, gc=False):
    """One of several approvals that a request has; the fields are those of `request.endorsed`. `at` in ms."""

    voter: str
    device: str | None
    issue: str | None
    held: tuple[str, ...]
    lent: tuple[str, ...]
    under: str | None
    at: int


class Voided(Struct, frozen=True, gc=False):
    """A vote that counts no longer, for which request, and why. `at` in ms."""

    request: str
    voter: str
    why: Unendorsing
    at: int


class Pending(Struct, frozen=True, gc=False):
    """An open request."""

    request: str
    key: str
    need: Need
    role: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    platform: str | None
    family: str | None
    client_id: str | None
    client_mode: str | None
    silent: bool
    opened_at: int
    expires_at: int
    seen: str
    named: str
    digest: str
    code: str | None = None
    votes: tuple[Vote, ...] = ()

    def expired(self, now: int) -> bool:
        """Say whether nobody may answer it any more."""
        return now > self.expires_at


class Closed(Struct, frozen=True, gc=False):
    """A request that has ended, and how; `by` is the id that superseded it."""

    request: str
    ending: Ending
    at: int
    by: str | None = None


class Barred(Struct, frozen=True, gc=False):
    """A lock: who holds the key is kept out until `until` (ms; None: until it is unlocked), and told `message`."""

    at: int
    until: int | None
    message: str | None
    ban: bool

    def over(self, now: int) -> bool:
        """Say whether its end has come."""
        return self.until is not None and now >= self.until


class Device(Struct, frozen=True, gc=False):
    """One device's stream, folded. `newer` is set once an event of an unknown kind was met: no decision may follow it."""

    grant: Grant | None = None
    pending: Pending | None = None
    retired: tuple[Retired, ...] = ()
    closed: tuple[Closed, ...] = ()
    labelled: str | None = None
    newer: str | None = None
    lock: Barred | None = None
    voided: tuple[Voided, ...] = ()

    def token(self, role: str) -> Token | None:
        """Return the token of a role, revoked or not."""
        return self.grant.token(role) if self.grant else None

    def ended(self, request: str) -> Closed | None:
        """Return how a request ended, where this state still remembers it."""
        return next((closed for closed in reversed(self.closed) if closed.request == request), None)


INITIAL = Device()


def digest(*, request: str, key: str, roles: tuple[str, ...], scopes: tuple[str, ...], seen: str) -> str:
    """Return what stands for a request as a reviewer saw it: 32 hex characters of SHA-256 over all of it."""
    canonical = msgspec.json.encode(("pairing request v1", request, key, roles, scopes, seen))
    return hashlib.sha256(canonical).hexdigest()[:32]


def imprint(state: Device) -> str:
    """Return what stands for all that is known of a device: 32 hex characters of SHA-256. Of another version's state another."""
    return hashlib.sha256(msgspec.json.encode(("pairing device v1", state))).hexdigest()[:32]


_ALIASES = {"darwin": "macos", "win32": "windows"}


def fold_case(text: str | None) -> str:
    """Trim, then map A-Z alone to a-z, as signatures do (protocol §3.2); absent gives the empty string."""
    return (text or "").strip().translate(_ASCII_LOWER)


_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def same_platform(one: str | None, other: str | None) -> bool:
    """Compare platform names as people mean them: `darwin` is `macos`, `win32` is `windows`."""
    a, b = fold_case(one), fold_case(other)
    return _ALIASES.get(a, a) == _ALIASES.get(b, b)


def shortfalls(grant: Grant | None, wanted: Wanted) -> tuple[Need, ...]:
    """Return what stands between a proven device and what it wants, in the order of protocol §5.1; nothing where it may in."""
    if grant is None or grant.key != wanted.key:
        return ("not-paired",)
    needs: list[Need] = []
    if _changed(grant, wanted):
        needs.append("metadata-upgrade")
    if grant.live(wanted.role, wanted.under) is None:
        needs.append("role-upgrade")
    if wanted.scopes and not covers(wanted.role, grant.scopes, wanted.scopes):
        needs.append("scope-upgrade")
    return tuple(needs)


def _changed(grant: Grant, wanted: Wanted) -> bool:
    """A stored value that differs or is now missing counts; one that was never stored does not (N5)."""
    platform = bool(fold_case(grant.platform)) and not same_platform(grant.platform, wanted.platform)
    family = bool(fold_case(grant.family)) and fold_case(grant.family) != fold_case(wanted.family)
    return platform or family


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
            return _changed_token(state, event.role, event.issue, scopes=event.scopes, under=event.under)
        case TokenRevoked():
            return _changed_token(_alone(state, event), event.role, event.issue, revoked_at=event.at)
        case RequestEndorsed():
            return replace(state, pending=_endorsed(state.pending, event))
        case RequestUnendorsed():
            return _unendorsed(state, event)
        case GlassBroken():
            return state
        case TokenDue():
            return _changed_token(state, event.role, event.issue, warned=event.distance)
        case TokenExpired():
            return _changed_token(_alone(state, event), event.role, event.issue, expired_at=event.at)
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


def same_voice(one: Vote | RequestEndorsed, other: Vote | RequestEndorsed) -> bool:
    """Say whether two votes are one principal's: the same actor, or one device that came in by two credentials."""
    return one.voter == other.voter or (one.device is not None and one.device == other.device)


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
    return replace(state, grant=None, retired=_remembered(state.retired, *ended))


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


def _changed_token(state: Device, role: str, issue: str, **changes: object) -> Device:
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


def lapsed(state: Device, now: int) -> Device:
    """Return the state as time has left it at `now` (ms), recorded or not: a lock that is over, tokens past their lifetime.

    Whatever decides or judges begins here, so that an advertised end is the enforced one (R12).
    """
    if state.lock is not None and state.lock.over(now):
        state = replace(state, lock=None)
    for token in outlived(state, now):
        state = _changed_token(state, token.role, token.issue, expired_at=token.expires_at)
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


def covered_by(pending: Pending, wanted: Wanted) -> bool:
    """Say whether an open request already asks for all of this: the same, a narrower, or one of several merged roles (R3)."""
    if pending.key != wanted.key or wanted.role not in pending.roles:
        return False
    asked = normalise(pending.scopes)
    return all(
        scope in asked or (belongs(scope, wanted.role) and covers(wanted.role, asked, (scope,)))
        for scope in normalise(wanted.scopes)
    )
