"""The method table: every operation once, with its wire name, its parameters, the scope it needs and what it does.

Two doors lead here: the gateway with frames, and the command line on the log itself. Neither can do what the other cannot.
No method decides: they find the stream, build the command, hand it to the desk, and shape the answer (protocol §6).
"""

from collections.abc import Awaitable
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from . import (
    audit_methods,
    blast,
    contact_methods,
    due_methods,
    enrol_methods,
    entries,
    explain_methods,
    forgetting,
    history,
    history_methods,
    hook_methods,
    ids,
    lock_methods,
    log_methods,
    moments,
    node_entries,
    node_methods,
    provenance,
    prune_methods,
    rehearse_methods,
    restore_methods,
    view_methods,
    vote_methods,
    watch_methods,
)
from .answering import unknown_request
from .authority import ADMIN, NODE, OPERATOR, PAIRING, READ, WRITE, normalise
from .commands import (
    Approve,
    Caller,
    Reject,
    Remove,
    Rename,
    Revoke,
    Rotate,
)
from .desk import Handled
from .device import Device
from .entries import PairedEntry, PendingEntry, Presence
from .events import DeviceEvent, DeviceRemoved, Personal, TokenIssued, TokenRevoked, TokenRotated, device_stream, kind_of
from .finding import find
from .listing import Fate
from .moments import AsOf
from .refusals import Reason, Refused
from .service import AnyParams, Call, Ending, Method, Nobody, Reasoned, Receipt, Repeatable, Service, receipt
from .shapes import BadParams, Name, NoParams, decode_params


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


class RotateParams(Ending, frozen=True, kw_only=True):
    """`scopes` absent keeps the token's present ones. `handoff_ms` leaves the present one so long, or until the next is used.

    `compromised`: somebody else may have the present one; it is left no time.
    """

    device_id: Name
    role: Name
    scopes: tuple[Name, ...] | UnsetType = UNSET
    handoff_ms: Annotated[int, Meta(ge=0)] = 0
    compromised: bool = False


class RevokeParams(Ending, frozen=True, kw_only=True):
    """The token of one role of one device."""

    device_id: Name
    role: Name


class ListParams(AsOf, frozen=True, kw_only=True):
    """`device` is a full id, a prefix of 4 characters or more, or a label it bore then."""

    device: Name | None = None


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


class Rotated(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The answer to `device.token.rotate`; `token` goes to the device itself alone (T4).

    `handoff_until_ms`: until then, or until the next token is used, the one before is accepted too.
    """

    device_id: str
    role: str
    scopes: tuple[str, ...]
    rotated_at_ms: int
    token: str | None = None
    token_delivery: str | None = None
    handoff_until_ms: int | None = None
    recorded: Receipt | None = None


class Revoked(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The answer to `device.token.revoke`."""

    device_id: str
    role: str
    revoked_at_ms: int
    recorded: Receipt | None = None


class PairList(Struct, frozen=True):
    """The answer to `device.pair.list`: exactly the protocol's two keys."""

    pending: tuple[PendingEntry, ...]
    paired: tuple[PairedEntry, ...]


class DeviceList(Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `device.list`: the same lists with what the protocol's own method leaves out, true at `position`.

    `recorded_at_ms` is when that position was recorded. Who was connected and who was turned away is only told of now.
    `device_id` is the device that was asked for, if one was; `closed` its requests that have ended, `voided` approvals
    of them that count no longer, and `refused` its contacts that were turned away, latest first.
    """

    position: int
    recorded_at_ms: int | None = None
    device_id: str | UnsetType = UNSET
    pending: tuple[entries.PendingView, ...]
    paired: tuple[PairedEntry, ...]
    closed: tuple[entries.ClosedEntry, ...] = ()
    voided: tuple[entries.VoidedEntry, ...] = ()
    refused: tuple[entries.RefusedEntry, ...] = ()
    locked: tuple[lock_methods.LockEntry, ...] = ()


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


async def device_list(call: Call[ListParams]) -> DeviceList:
    """List devices and requests, all or one, at a position."""
    service, when = call.service, await moments.of(call)
    device = await find(call, call.params.device, when.at) if call.params.device else call.caller.own
    pending = await service.views.pending(device=device, at=when.at)
    paired = await service.views.paired(device=device, at=when.at)
    connected = Nobody().connected if when.past else service.sessions.connected
    state = await _state(call, device, when.at) if device else None
    return DeviceList(
        position=paired.position,
        recorded_at_ms=await service.views.time_at(paired.position),
        device_id=device or UNSET,
        pending=tuple(
            [await vote_methods.with_votes(service, entries.pending_view(row), state, when.past) for row in pending.rows]
        ),
        paired=tuple(entries.paired(row, connected(row.device)) for row in paired.rows),
        closed=entries.closed(state) if state else (),
        voided=vote_methods.voided(state) if state else (),
        refused=await _refused(call, device) if device and not when.past else (),
        locked=lock_methods.in_force((await service.views.locks(device=device, at=when.at)).rows, _then(call, when)),
    )


def _then(call: Call[Any], when: moments.Moment) -> int:
    """Return the time at which what is listed is so, in ms."""
    return when.recorded_at if when.past and when.recorded_at is not None else call.service.clock()


async def _state(call: Call[Any], device: str, at: int | None) -> Device:
    desk = call.service.desk
    return await desk.device(device) if at is None else history.state_at(await desk.past(device_stream(device)), at)


async def _refused(call: Call[Any], device: str) -> tuple[entries.RefusedEntry, ...]:
    """The evidence behind a refusal is the operator's, not the device's (L8)."""
    notes = call.service.notes
    if notes is None or call.caller.own is not None:
        return ()
    return tuple(entries.refused(contact) for contact in await notes.recent(device, limit=20))


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


async def rotate(call: Call[RotateParams]) -> Rotated:
    """Retire a token and issue the next (protocol §6.6)."""
    service, p = call.service, call.params
    device, role = p.device_id.strip(), p.role.strip()
    if p.compromised and p.handoff_ms:
        problems = "at /handoffMs: must be absent where the token is compromised"
        raise Refused(Reason.INVALID_PARAMS, method="device.token.rotate", problems=problems)
    command = Rotate(
        device=device,
        role=role,
        scopes=None if p.scopes is UNSET else p.scopes,
        issue=ids.issue_id(),
        key=service.keyring.current.id,
        break_glass=p.break_glass,
        handoff=p.handoff_ms,
        longest=service.longest_handoff,
        compromised=p.compromised,
        lifetimes=service.lifetimes,
        **call.stamp("device.token.rotate", device, role),
    )
    handled = await service.desk.handle(command)
    event = handled.events[0]
    if not isinstance(event, TokenIssued | TokenRotated):
        raise TypeError(f"a rotation gave {kind_of(event)}")
    if handled.repeated and not _as_asked(command, event):
        raise Refused(Reason.KEY_REUSED, details={"position": handled.position})
    standing = call.caller.standing
    mine = call.caller.method == "device-token" and standing is not None and standing.device == device
    # An answer that is given again may be about a generation that has been replaced since: its token is nobody's any more.
    token = handled.state.token(role)
    value = service.keyring.token_of(handled.state, device, role) if mine and token and token.issue == event.issue else None
    return Rotated(
        device_id=p.device_id,
        role=event.role,
        scopes=event.scopes,
        rotated_at_ms=event.at,
        token=value,
        token_delivery="in-band" if value else "superseded" if mine else "withheld-cross-device",
        handoff_until_ms=event.handoff_until if isinstance(event, TokenRotated) else None,
        recorded=receipt(p, handled),
    )


def _as_asked(command: Rotate, event: TokenIssued | TokenRotated) -> bool:
    """Say whether what an earlier call with the same key has done is what is asked for now."""
    if command.scopes is not None and normalise(command.scopes) != event.scopes:
        return False
    if not isinstance(event, TokenRotated):
        return True
    left = 0 if event.handoff_until is None else event.handoff_until - event.at
    # A token's own end may have come before that of the time it was to be left.
    return left <= command.handoff and event.compromised == command.compromised


async def revoke(call: Call[RevokeParams]) -> Revoked:
    """Kill a token (protocol §6.6)."""
    device, role = call.params.device_id.strip(), call.params.role.strip()
    stamp = call.stamp("device.token.revoke", device, role)
    command = Revoke(device=device, role=role, break_glass=call.params.break_glass, **stamp)
    handled = await call.service.desk.handle(command)
    event = handled.events[0]
    at = event.at if isinstance(event, TokenRevoked) else 0
    return Revoked(device_id=device, role=role, revoked_at_ms=at, recorded=receipt(call.params, handled))


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


async def health(call: Call[AnyParams]) -> entries.Health:
    """Say that the gateway lives; needs neither role nor scope."""
    return entries.Health(ts=call.service.clock())


async def status(call: Call[AnyParams]) -> entries.Status:
    """Count what there is."""
    service = call.service
    pending, paired = await service.views.pending(), await service.views.paired()
    now = service.clock()
    return entries.Status(
        ts=now,
        runtime_version=service.version,
        uptime_ms=max(0, now - service.started_at) if service.started_at else 0,
        position=paired.position,
        pending=len(pending.rows),
        paired=len(paired.rows),
        sessions_live=len(service.sessions.presence()),
    )


async def presence(call: Call[AnyParams]) -> list[Presence]:
    """List this gateway and its live sessions."""
    service = call.service
    return [entries.self_entry(service.clock(), service.host, service.version), *service.sessions.presence()]


async def node_list(call: Call[AnyParams]) -> entries.NodeList:
    """List the nodes: those paired, and whether each is connected."""
    rows = (await call.service.views.paired()).rows
    live = call.service.sessions.nodes()
    approved = {row.node: row for row in (await call.service.views.nodes()).rows}
    nodes = []
    for row in rows:
        if NODE in row.roles:
            shown, mine = entries.node(row, live.get(row.device)), approved.pop(row.device, None)
            nodes.append(node_entries.merged(shown, mine, live.get(row.device)) if mine else shown)
    nodes += [node_entries.alone(row) for row in approved.values()]
    return entries.NodeList(ts=call.service.clock(), nodes=nodes)


async def config_get(call: Call[AnyParams]) -> entries.Config:
    """Show the settings that may be shown; a secret never is."""
    service = call.service
    shown = dict(service.config)
    return entries.Config(path=service.config_path, config=shown, hash=entries.config_hash(shown), exists=bool(shown))


async def skills_bins(call: Call[AnyParams]) -> dict[str, list[str]]:
    """Answer a node host's question for helper programs: there are none here."""
    return {"bins": []}


async def node_event(call: Call[AnyParams]) -> dict[str, bool]:
    """Take a node's own event; nothing here listens for it."""
    return {"ok": True}


_TABLE: tuple[Method[Any], ...] = (
    Method("health", AnyParams, health, None, (OPERATOR, NODE)),
    Method("status", AnyParams, status, READ),
    Method("system-presence", AnyParams, presence, READ),
    Method("node.list", AnyParams, node_list, READ),
    Method("config.get", AnyParams, config_get, READ),
    Method("device.pair.list", NoParams, pair_list, PAIRING),
    Method("device.pair.approve", ApproveParams, approve, PAIRING),
    Method("device.pair.reject", RejectParams, reject, PAIRING),
    Method("device.pair.remove", RemoveParams, remove, PAIRING),
    Method("device.pair.rename", RenameParams, rename, PAIRING),
    Method("device.token.rotate", RotateParams, rotate, PAIRING),
    Method("device.token.revoke", RevokeParams, revoke, PAIRING),
    Method("device.list", ListParams, device_list, PAIRING),
    Method("device.pair.find", watch_methods.FindParams, watch_methods.device_pair_find, PAIRING),
    Method("device.watch", watch_methods.WatchParams, watch_methods.device_watch, PAIRING, waits=True),
    Method("node.pair.request", node_methods.NodeAskParams, node_methods.node_pair_request, PAIRING),
    Method("node.pair.list", AsOf, node_methods.node_pair_list, PAIRING),
    Method("node.pair.approve", node_methods.NodeAnswerParams, node_methods.node_pair_approve, PAIRING),
    Method("node.pair.reject", node_methods.NodeAnswerParams, node_methods.node_pair_reject, PAIRING),
    Method("node.pair.remove", node_methods.NodeRemoveParams, node_methods.node_pair_remove, PAIRING),
    Method("node.pair.verify", node_methods.NodeVerifyParams, node_methods.node_pair_verify, PAIRING),
    Method("node.rename", node_methods.NodeRenameParams, node_methods.node_rename, PAIRING),
    *contact_methods.METHODS,
    *lock_methods.METHODS,
    *due_methods.METHODS,
    *history_methods.METHODS,
    *explain_methods.METHODS,
    *prune_methods.METHODS,
    *forgetting.METHODS,
    *log_methods.METHODS,
    *enrol_methods.METHODS,
    *hook_methods.METHODS,
    *audit_methods.METHODS,
    *restore_methods.METHODS,
    *provenance.METHODS,
    *blast.METHODS,
    *view_methods.METHODS,
    *rehearse_methods.METHODS,
    Method("skills.bins", AnyParams, skills_bins, None, (NODE,)),
    Method("node.event", AnyParams, node_event, None, (NODE,)),
)
METHODS: dict[str, Method[Any]] = {method.name: method for method in _TABLE}


def permit(caller: Caller, name: str) -> Method[Any]:
    """Return the method if this session may call it: role, then scope, then whether it exists (protocol §1.5, §7.5).

    A method that nobody classified needs operator.admin. Raises `Refused`.
    """
    method = METHODS.get(name)
    if name == "health" and method is not None:
        return method
    if caller.role not in (method.roles if method else (OPERATOR,)):
        raise Refused(Reason.ROLE_NOT_ALLOWED, role=caller.role)
    held = caller.scopes or ()
    needed = method.scope if method else ADMIN
    if needed is not None and needed not in held and ADMIN not in held and not (needed == READ and WRITE in held):
        raise Refused(Reason.MISSING_SCOPE, scope=needed)
    if name == "connect":
        raise Refused(Reason.CONNECT_TWICE)
    if method is None:
        raise Refused(Reason.UNKNOWN_METHOD, method=name)
    return method


async def call(service: Service, caller: Caller, name: str, params: Raw | None) -> Any:
    """Run one method for one caller and return its result Struct. Raises `Refused`, `PairingError`."""
    method = permit(caller, name)
    try:
        decoded = decode_params(name, method.params, params)
    except BadParams as bad:
        raise Refused(Reason.INVALID_PARAMS, method=name, problems=bad.problems) from None
    return await method.run(Call(service, caller, decoded))


def encode(result: Any) -> Raw:
    """Return a result as JSON."""
    return Raw(msgspec.json.encode(result))
