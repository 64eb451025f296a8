"""Approvals that take several: which requests do, whose votes count, and which counted once but do no longer.

Pure. A vote stands for one digest and one principal. Whether a voter still holds what they vote for is asked of `authority`, on
what the desk has found of their device in the step that commits.
"""

from collections.abc import Iterable
from typing import TypeAlias

from . import authority
from .authority import OPERATOR, Target, covers, tidy
from .commands import EVERYTHING, Approve, Caller, DeviceCommand, Present, Terms
from .device import Device, Pending, Vote
from .events import Actor, RequestEndorsed
from .refusals import Reason, Refused

Access: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]


def needed(terms: Terms, news: Access) -> int:
    """Return how many must approve what would be granted anew, by role: the most that any of the rules asks."""
    return max((rule.approvers for rule in terms.quorums if _concerns(rule.what, news)), default=1)


def wants_reason(terms: Terms, news: Access) -> bool:
    """Say whether an approval of this must say why."""
    return any(_concerns(what, news) for what in terms.reasoned)


def takes_people(terms: Terms, news: Access) -> bool:
    """Say whether people must approve this themselves, for one is not enough or must say why: no policy and no code may."""
    return needed(terms, news) > 1 or wants_reason(terms, news)


def _concerns(what: str, news: Access) -> bool:
    """A rule names everything, a role, or a scope; operator.admin gives every operator scope, so rules for those hold for it."""
    return any(
        what in {EVERYTHING, role} or (authority.belongs(what, role) and covers(role, held, (what,))) for role, held in news
    )


def leans_on(state: Device, command: DeviceCommand) -> tuple[str, ...]:
    """Return the devices whose present standing a decision takes: those of earlier voters, and the caller's own."""
    if not isinstance(command, Approve) or not command.terms.quorums:
        return ()
    voters = state.pending.votes if state.pending else ()
    mine = (command.by.standing.device,) if command.by.standing else ()
    return tuple(dict.fromkeys((*(vote.device for vote in voters if vote.device and vote.issue), *mine)))


def still_counts(vote: Vote, c: Approve, access: Access) -> bool:
    """Say whether an earlier vote may be counted now: its voter has not ended or changed since, and holds what would be granted.

    A vote by the shared secret ends with that secret; one by a device with the generation of its operator token.
    """
    if vote.under is not None and vote.under != c.under:
        return False
    scopes = vote.held
    if vote.issue is not None:
        found = next((present for present in c.present if present.device == vote.device), None)
        if found is None or found.issue != vote.issue:
            return False
        scopes = tuple(scope for scope in vote.held if covers(OPERATOR, found.scopes, (scope,)))
    voter = Caller(actor=Actor("policy"), scopes=scopes, ceiling=vote.lent)
    return authority.may("approve", voter, Target(c.device, access)).allowed


def vote_of(pending: Pending, c: Approve) -> RequestEndorsed:
    """Return the caller's vote. Raises `Refused` for the requester itself, and for who has no standing to be counted by."""
    by, device = c.by, _device(c.by)
    if device == c.device:
        raise Refused(Reason.OWN_VOTE)
    found = next((present for present in c.present if by.standing and present.device == by.standing.device), None)
    if by.standing is not None and (found is None or found.issue is None):
        raise Refused(Reason.FENCED)
    return RequestEndorsed(
        at=c.now,
        request=pending.request,
        digest=pending.digest,
        voter=_voter(by),
        device=device,
        issue=found.issue if found else None,
        held=tidy(by.scopes or ()),
        lent=tidy(by.ceiling),
        under=c.under if by.actor.kind == "shared-secret" else None,
    )


def standings(found: Iterable[tuple[str, Device]], under: str | None) -> tuple[Present, ...]:
    """Return what devices hold, as time has left them: the generation and scopes of the operator token, where one lives."""
    return tuple(_present(device, state, under) for device, state in found)


def _present(device: str, state: Device, under: str | None) -> Present:
    token = state.grant.live(OPERATOR, under) if state.grant and state.newer is None and state.lock is None else None
    return Present(device, token.issue, token.scopes) if token else Present(device)


def _voter(by: Caller) -> str:
    return by.actor.kind if by.actor.kind == "shared-secret" else f"{by.actor.kind}:{by.actor.id}"


def _device(by: Caller) -> str | None:
    if by.standing is not None:
        return by.standing.device
    return None if by.actor.kind == "local" else by.actor.id
