"""What is kept of a connection that was turned away, for the operator alone: who, from where, why, and by which rules.

Of a device that is known here much is kept, of a stranger little: what strangers say of themselves costs them nothing. It decides
nothing, and holds no secret.
"""

from typing import Final

from pairing.authority import ROLES
from pairing.commands import Wanted
from pairing.device import Device, Retired, Token
from pairing.listing import Notes, RefusedContact, Reuse
from pairing.refusals import SAYINGS, Reason
from pairing.verdict import Verdict

from .connect import ConnectParams, given
from .contact import Contact, Facts

# Clients compare the details of these with what they expect; the request itself leads an operator on.
_EXACT: Final = frozenset({"PAIRING_REQUIRED"})


def marks(reason: Reason, details: dict[str, object]) -> bool:
    """Say whether a refusal's details may hold keys that are ours: a reference, and whether trying again is in vain."""
    return details.get("code", SAYINGS[reason].detail) not in _EXACT


def of_device(
    contact: Contact, state: Device, verdict: Verdict, reason: Reason, now: int, *, notes: Notes, wanted: Wanted, position: int
) -> RefusedContact:
    """Return what is kept of a device whose key is proven. One that is not paired, asking or locked is a stranger still."""
    shown = verdict.presented
    known = state.grant is not None or state.pending is not None or state.lock is not None
    # Whoever shows a code of ours that is no good is somebody an operator has sent here.
    known = known or (shown is not None and shown.offered is not None and shown.offered.code is not None)
    return RefusedContact(
        at=now,
        device=contact.device,
        proven=known,
        address=contact.facts.origin.client_ip,
        reason=reason.value,
        code=_code(reason),
        role=contact.role,
        scopes=contact.scopes if known else (),
        trace=verdict.steps,
        reuse=_reuse(contact, state, shown.issue if shown else None, notes),
        presented=shown,
        wanted=wanted,
        position=position,
    )


def of_stranger(facts: Facts, params: ConnectParams, reason: Reason, now: int) -> RefusedContact:
    """Return what is kept of who has proven nothing."""
    device = given(params.device)
    return RefusedContact(
        at=now,
        device=device.id if device else None,
        proven=False,
        address=facts.origin.client_ip,
        reason=reason.value,
        code=_code(reason),
        role=params.role if params.role in ROLES else None,
    )


def _reuse(contact: Contact, state: Device, issue: str | None, notes: Notes) -> Reuse | None:
    """Return the generation that was shown, where it is one that has ended, and who uses the present one (T17)."""
    if issue is None or contact.device is None:
        return None
    token = state.token(contact.role)
    ended = next((old for old in reversed(state.retired) if old.issue == issue), None) or _left(token, issue)
    if ended is None:
        return None
    last = notes.latest_use(contact.device, contact.role)
    mine = last if last is not None and token is not None and last.issue == token.issue != issue else None
    return Reuse(
        issue=issue,
        how=ended.how,
        retired_at=ended.at,
        present_address=mine.address if mine else None,
        present_at=mine.at if mine else None,
    )


def _left(token: Token | None, issue: str) -> Retired | None:
    """Return an ended generation that is still the last of its role, or one whose handoff is over."""
    if token is None:
        return None
    if token.handoff is not None and token.handoff.issue == issue:
        return Retired(token.role, issue, token.handoff.key, token.handoff.until, "rotated")
    if token.issue != issue or not token.dead:
        return None
    at = token.revoked_at if token.revoked_at is not None else token.expired_at
    return Retired(token.role, issue, token.key, at or 0, "expired" if token.revoked_at is None else "revoked")


def _code(reason: Reason) -> str:
    return SAYINGS[reason].detail or SAYINGS[reason].code
