"""What methods say of approvals that take several: who has approved so far, how many must, and whose approval counts no longer.

It decides nothing: see `pairing.quorum`.
"""

from typing import Any

from .answering import approvers_needed
from .desk import Handled
from .device import Device
from .entries import PendingView, VoidedEntry, VoteEntry
from .events import DeviceEvent, RequestEndorsed
from .refusals import Reason, Refused
from .service import Call, Service


def waiting(call: Call[Any], handled: Handled[Device, DeviceEvent]) -> Refused:
    """Return what an approver is told whose approval was recorded and is not the last one needed.

    The wire knows an approval and a refusal: what is not approved yet is refused, in words that a person understands.
    """
    service, pending = call.service, handled.state.pending
    given, request = (len(pending.votes), pending.request) if pending else (0, "")
    needed = approvers_needed(handled.state, service.terms, service.under)
    cast = any(isinstance(event, RequestEndorsed) for event in handled.events)
    details: dict[str, Any] = {"requestId": request, "approvals": given, "needed": needed, "changed": cast}
    if cast:
        details["recorded"] = {"position": handled.position, "kind": "request.endorsed"}
    said = "approval recorded" if cast else "already approved by you"
    return Refused(Reason.MORE_APPROVALS, said=said, given=given, needed=needed, request=request, details=details)


async def with_votes(service: Service, view: PendingView, state: Device | None, past: bool) -> PendingView:
    """Add to an open request how many must approve it and who has, from its device's `state` or the present one.

    Nothing where no rule asks for several, and in lists of the past, which rest on the views alone.
    """
    if not service.terms.quorums or (past and state is None):
        return view
    state = state or await service.desk.device(view.device_id)
    if state.pending is None or state.pending.request != view.request_id:
        return view
    votes = tuple(VoteEntry(voter=vote.voter, at_ms=vote.at) for vote in state.pending.votes)
    return view.voted(approvers_needed(state, service.terms, service.under), votes)


def voided(state: Device) -> tuple[VoidedEntry, ...]:
    """Return the approvals of a device's requests that count no longer, latest first."""
    return tuple(
        VoidedEntry(request_id=gone.request, voter=gone.voter, why=gone.why, at_ms=gone.at) for gone in reversed(state.voided)
    )
