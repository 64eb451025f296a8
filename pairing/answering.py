"""Decisions when an operator answers a request: an approval, which may be one vote of several, or a rejection.

Pure; `decide` calls it.
"""

from . import locks, quorum
from .authority import Verb
from .commands import Approve, Reject, Terms
from .device import Closed, Device, Pending, same_voice
from .events import RequestRejected, RequestUnendorsed
from .evolve import Events, fold
from .granting import gains, give_access, misfit, scopes_to_hold
from .permits import permit
from .refusals import Reason, Refused


def approve(state: Device, c: Approve) -> Events:
    """Grant exactly one request, or count a vote for it where it takes several. Raises `Refused`."""
    if state.lock is not None:
        permit("approve", c, (), Reason.APPROVAL_DENIED)
        raise locks.locked_out(state.lock)
    pending = _answerable(state, c, "approve", Reason.APPROVAL_DENIED, "approved")
    if pending is None:
        return ()
    if c.seen is not None and c.seen != pending.digest:
        truth = {"requestId": pending.request, "seen": c.seen, "now": pending.digest}
        raise Refused(Reason.REQUEST_CHANGED, request=pending.request, details=truth)
    if scope := misfit(pending):
        raise Refused(Reason.INVALID_SCOPE, scope=scope)
    access = tuple((role, scopes_to_hold(state.grant, pending, role, c.under)) for role in pending.roles)
    permit("approve", c, access, Reason.APPROVAL_DENIED)
    news = gains(state.grant, pending, c.under)
    if quorum.wants_reason(c.terms, news) and not (c.reason or "").strip():
        raise Refused(Reason.REASON_REQUIRED)
    if (most := quorum.needed(c.terms, news)) > 1:
        return _endorse(state, pending, c, access, most)
    return give_access(state, pending, c, "owner")


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
    return (*events, *give_access(after, after.pending, c, "owner"))


def approvers_needed(state: Device, terms: Terms, under: str | None) -> int:
    """Return how many must approve the open request; 1 where none is open."""
    return quorum.needed(terms, gains(state.grant, state.pending, under)) if state.pending else 1


def wants_reason(state: Device, terms: Terms, under: str | None) -> bool:
    """Say whether an approval of the open request must say why."""
    return state.pending is not None and quorum.wants_reason(terms, gains(state.grant, state.pending, under))


def reject(state: Device, c: Reject) -> Events:
    """Say no to exactly one request and, where a ban is asked for, keep its device out. Raises `Refused`."""
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
