"""The methods `device.pair.*`: listing, approving, rejecting, removing, renaming (protocol §6).

No method decides: they find the stream, build the command, hand it to the desk, and shape the answer.
"""

from collections.abc import Awaitable
from typing import Any

from msgspec import Struct

from . import entries, ids, lock_methods, vote_methods
from .answering import unknown_request
from .authority import PAIRING
from .commands import Approve, Reject, Remove, Rename
from .desk import Handled
from .device import Device
from .entries import PairedEntry, PendingEntry
from .events import DeviceEvent, DeviceRemoved, Personal
from .listing import Fate
from .refusals import Reason, Refused
from .service import Call, Ending, Method, Reasoned, Receipt, Repeatable, receipt
from .shapes import Name, NoParams


class ApproveParams(Repeatable, frozen=True, kw_only=True):
    """`seen` is the digest of what the approver was shown."""

    request_id: Name
    seen: Name | None = None


class RejectParams(lock_methods.BanParams, frozen=True, kw_only=True):
    """One request by its id; with `ban` its device is locked in the same step."""

    request_id: Name


class RemoveParams(Ending, frozen=True, kw_only=True):
    """One device by its id; blanks around it do not matter."""

    device_id: Name


class RenameParams(Reasoned, frozen=True, kw_only=True):
    """A label of 1 to 64 characters after trimming; null takes the label away."""

    device_id: Name
    label: str | None


class Approved(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The answer to `device.pair.approve`."""

    request_id: str
    device: PairedEntry | None = None
    recorded: Receipt | None = None


class Rejected(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The answer to `device.pair.reject`."""

    request_id: str
    device_id: str
    banned: bool = False
    locked_until_ms: int | None = None
    recorded: Receipt | None = None


class Removed(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The answer to `device.pair.remove`."""

    device_id: str
    recorded: Receipt | None = None


class Renamed(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The answer to `device.pair.rename`; no label: it was taken away."""

    device_id: str
    label: str | None = None
    recorded: Receipt | None = None


class PairList(Struct, frozen=True):
    """The answer to `device.pair.list`: exactly the protocol's two keys."""

    pending: tuple[PendingEntry, ...]
    paired: tuple[PairedEntry, ...]


async def pair_list(call: Call[NoParams]) -> PairList:
    """List open requests and paired devices; a session bound to its device sees its own."""
    service, own = call.service, call.caller.own
    pending = await service.views.pending(device=own)
    paired = await service.views.paired(device=own)
    connected = service.sessions.connected
    return PairList(
        tuple(entries.pending(row) for row in pending.rows),
        tuple(entries.paired(row, connected(row.device)) for row in paired.rows),
    )


async def approve(call: Call[ApproveParams]) -> Approved:
    """Grant exactly one request (protocol §6.4)."""
    service, p = call.service, call.params
    fate = await _fate(call, p.request_id, Reason.APPROVAL_DENIED)
    command = Approve(
        device=fate.device,
        request=p.request_id,
        issue=ids.issue_id(),
        key=service.keyring.current.id,
        seen=p.seen,
        under=service.under,
        terms=service.terms,
        lifetimes=service.lifetimes,
        **call.stamp("device.pair.approve", p.request_id),
    )
    handled = await _truthful(call, fate, service.desk.handle(command))
    if handled.state.pending is not None and handled.state.pending.request == p.request_id:
        raise vote_methods.waiting(call, handled)
    rows = (await service.views.paired(device=fate.device)).rows
    device = entries.paired(rows[0], service.sessions.connected(fate.device)) if rows else None
    return Approved(request_id=p.request_id, device=device, recorded=await _answered(call, handled, p.request_id))


async def reject(call: Call[RejectParams]) -> Rejected:
    """Say no to exactly one request (protocol §6.5)."""
    fate = await _fate(call, call.params.request_id, Reason.REJECTION_DENIED)
    p = call.params
    stamp = call.stamp("device.pair.reject", p.request_id)
    ban = lock_methods.terms(p, stamp["now"]) if p.ban else None
    command = Reject(device=fate.device, request=p.request_id, ban=ban, break_glass=p.break_glass, **stamp)
    handled = await _truthful(call, fate, call.service.desk.handle_rejection(command))
    recorded = await _answered(call, handled, call.params.request_id)
    until = ban.until if ban else None
    return Rejected(
        request_id=p.request_id, device_id=fate.device, banned=ban is not None, locked_until_ms=until, recorded=recorded
    )


async def remove(call: Call[RemoveParams]) -> Removed:
    """End a device's grant, tokens and open request (protocol §6.5)."""
    device = call.params.device_id.strip()
    command = Remove(device=device, break_glass=call.params.break_glass, **call.stamp("device.pair.remove", device))
    handled = await call.service.desk.handle(command)
    removed = next(index for index, event in enumerate(handled.events) if isinstance(event, DeviceRemoved))
    return Removed(device_id=device, recorded=receipt(call.params, handled, removed))


async def rename(call: Call[RenameParams]) -> Renamed:
    """Label a device (protocol §6.1)."""
    device, label = call.params.device_id.strip(), call.params.label
    if label is not None:
        label = label.strip()
        if not 1 <= len(label) <= 64:
            raise Refused(Reason.LABEL_REQUIRED)
    stamp = call.stamp()
    address = call.caller.address
    stamp["personal"] = Personal(salt=ids.salt(), label=label, address=address) if label or address else None
    labelled = None if label is None else call.service.keyring.current.tag("label", label)
    handled = await call.service.desk.handle(Rename(device=device, labelled=labelled, **stamp))
    return Renamed(device_id=device, label=label, recorded=receipt(call.params, handled))


async def _fate(call: Call[Any], request: str, denied: Reason) -> Fate:
    """Find whose request an id is. A session bound to its device learns nothing of others (A8)."""
    fate = await call.service.views.request(request)
    own = call.caller.own
    if own is not None and (fate is None or fate.device != own):
        raise Refused(denied, rule="foreign")
    if fate is None:
        raise unknown_request(None)
    return fate


async def _truthful(call: Call[Any], fate: Fate, work: Awaitable[Handled[Device, DeviceEvent]]) -> Handled[Device, DeviceEvent]:
    """Add to a refusal what became of the request: who answered it, when, where that is recorded, and what replaced it."""
    try:
        return await work
    except Refused as refused:
        if refused.reason is Reason.UNKNOWN_REQUEST:
            latest = await call.service.views.request(fate.request) or fate
            # What ran out a moment ago is still open in the views: the decision knew better.
            truth = entries.ran_out(refused.details) if latest.outcome == "pending" else entries.fate(latest)
            raise Refused(refused.reason, details=truth, fate=refused.fields.get("fate", "")) from None
        raise


async def _answered(call: Call[Any], handled: Handled[Device, DeviceEvent], request: str) -> Receipt | None:
    """Return the receipt of an answer; where somebody was faster, theirs (R6, D11)."""
    if handled.records or not call.params.receipt:
        return receipt(call.params, handled)
    first = await call.service.views.request(request)
    return Receipt(first.position if first else 0, f"request.{first.outcome}" if first else "", changed=False)


METHODS: tuple[Method[Any], ...] = (
    Method("device.pair.list", NoParams, pair_list, PAIRING),
    Method("device.pair.approve", ApproveParams, approve, PAIRING),
    Method("device.pair.reject", RejectParams, reject, PAIRING),
    Method("device.pair.remove", RemoveParams, remove, PAIRING),
    Method("device.pair.rename", RenameParams, rename, PAIRING),
)
