"""Asking `authority` in the step that decides, and the refusal where it says no.

It adds no rule of its own: which question a command is, its decision says; the answer is `authority.may`'s.
"""

from . import authority
from .authority import ADMIN, Ruling, Target, Verb, of_role, tidy
from .commands import DeviceBound
from .device import Grant
from .refusals import Reason, Refused

Access = tuple[tuple[str, tuple[str, ...]], ...]


def permit(verb: Verb, c: DeviceBound, access: Access, denied: Reason) -> None:
    """Raise `Refused` unless the caller may do this to the command's device, with the access that is granted or ended."""
    ruling = authority.may(verb, c.by, Target(c.device, access))
    if not ruling.allowed:
        raise denial(ruling, denied)


def denial(ruling: Ruling, denied: Reason) -> Refused:
    """An approval names the scope that is missing; the other verbs say no more than no (protocol §6.4, §6.6)."""
    if denied is Reason.APPROVAL_DENIED and ruling.rule in {"scope", "no-pairing"}:
        return Refused(Reason.MISSING_SCOPE, scope=ruling.scope)
    if denied in {Reason.UNDO_DENIED, Reason.RESTORE_DENIED}:
        return back_denied(denied, ruling.scope)
    return Refused(denied, rule=ruling.rule)


def back_denied(denied: Reason, scope: str | None = None) -> Refused:
    """Build the refusal to take something back, with the scope that is missing, if that is why."""
    return Refused(denied, scope=scope or ADMIN, details={"missingScope": scope or ADMIN})


def going_back(epoch: int | None) -> tuple[Verb, Reason]:
    """Return what taking something back is asked for as, and refused as: without an epoch it undoes a single act."""
    return ("undo", Reason.UNDO_DENIED) if epoch is None else ("restore", Reason.RESTORE_DENIED)


def everything(grant: Grant | None) -> Access:
    """Return all access of a device, by role: the approved baseline, and what its tokens hold."""
    return tuple((role, held(grant, role)) for role in grant.roles) if grant else ()


def held(grant: Grant, role: str) -> tuple[str, ...]:
    """Return what a device has in a role: of the baseline and of the role's token."""
    token = grant.token(role)
    return tidy((*of_role(grant.scopes, role), *(token.scopes if token else ())))
