"""Undoing one command: for each of its acts the act that takes it back, on the state as it is now; or why there is none.

What was recorded later stays: an act that a later one has overtaken is not undone. A dead token never comes back (V7).
"""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, assert_never

from msgspec import Struct
from msgspec.structs import replace

from . import ids
from .authority import of_role
from .commands import AskNode, Ban, Knock, Lock, Rename, RenameNode, Unlock, VoidCode, Wanted
from .decide import decide
from .device import Device, Pending
from .events import (
    DeviceAbandoned,
    DeviceImported,
    DeviceLocked,
    DevicePaired,
    DeviceRemoved,
    DeviceRenamed,
    DeviceRestored,
    DeviceUnlocked,
    DeviceUpgraded,
    EnrolmentIssued,
    HookAdded,
    NodeAbandoned,
    NodeApproved,
    NodeImported,
    NodeRejected,
    NodeRemoved,
    NodeRenamed,
    NodeRequested,
    NodeRestored,
    Personal,
    RequestOpened,
    RequestRefreshed,
    RequestRejected,
    TokenAbandoned,
    TokenExpired,
    TokenIssued,
    TokenNarrowed,
    TokenRevoked,
    TokenRotated,
    TokenWidened,
    Unknown,
    device_stream,
    kind_of,
    node_stream,
)
from .history import Happened, read, world_at
from .permits import back_denied
from .refusals import Reason, Refused
from .restores import Line, Planned, device_back, label_at, node_back, stamp
from .service import Call

Aspect: TypeAlias = Literal["lock", "access", "label", "request", "surface", "node-name", "node-request", "code"]
_PAGE = 5_000

# In the order in which they are undone: whoever is locked can ask nothing.
_ASPECTS: dict[Aspect, tuple[type, ...]] = {
    "lock": (DeviceLocked, DeviceUnlocked),
    "access": (
        *(DevicePaired, DeviceUpgraded, DeviceRemoved, DeviceImported, DeviceRestored, DeviceAbandoned),
        *(TokenWidened, TokenNarrowed, TokenAbandoned),
    ),
    "label": (DeviceRenamed,),
    "request": (RequestRejected,),
    "surface": (NodeApproved, NodeRemoved, NodeImported, NodeRestored, NodeAbandoned),
    "node-name": (NodeRenamed,),
    "node-request": (NodeRejected,),
    "code": (EnrolmentIssued,),
}
# Later events of these kinds overtake an act of the aspect, besides those of the aspect itself.
_OVERTAKEN: dict[Aspect, tuple[type, ...]] = {
    # A token's own end overtakes nothing of the approval: it stays ended, whatever is undone around it.
    "access": (TokenIssued, TokenRotated),
    "request": (RequestOpened, DevicePaired),
    "node-request": (NodeRequested, NodeApproved),
}
_DEAD = "a dead token stays dead; give its device a new one: pairing devices rotate {device} --role {role}"


class Left(Struct, frozen=True, rename="camel"):
    """An act that is not undone: its position, its kind, and why, with what can be done instead."""

    position: int
    kind: str
    why: str


async def find(call: Call[Any], position: int | None, command: str | None, *, bulk: bool) -> tuple[Happened, ...]:
    """Return what one command recorded, by the position of one of its rows or by its id. Raises `Refused`."""
    log = call.service.desk.log
    if position is not None:
        rows = await log.pick((position,))
        if not rows:
            head = (await log.head()).position
            raise Refused(Reason.NO_SUCH_MOMENT, why=f"position {position} has not been recorded", since="", head=head)
        command = read(rows)[0].meta.command
    try:
        found = read(await log.command(command or ""))
    except ValueError:
        raise Refused(Reason.UNKNOWN_COMMAND, command=command) from None
    if not found and call.caller.own is None:
        raise Refused(Reason.UNKNOWN_COMMAND, command=command)
    _concern(call, found)
    if bulk:
        found = await _all_of(call, found)
        _concern(call, found)
    return found


def _concern(call: Call[Any], found: Sequence[Happened]) -> None:
    """A session that is bound to its device learns nothing of what happened to others (A8). Raises `Refused`."""
    own = call.caller.own
    if own is not None and not (found and all(one.stream in {device_stream(own), node_stream(own)} for one in found)):
        raise back_denied(Reason.UNDO_DENIED)


async def _all_of(call: Call[Any], found: tuple[Happened, ...]) -> tuple[Happened, ...]:
    """A bulk is everything with one cause: the first act of it, or what it was begun with, and all that this led to."""
    cause = found[0].meta.cause or found[0].position
    log, held, after = call.service.desk.log, list(found), cause
    named = b'"cause":%d' % cause
    if found[0].position != cause:
        began = read(await log.pick((cause,)))
        if not began:
            return found
        held = list(read(await log.command(began[0].meta.command)))
    while rows := await log.scan(after=after, limit=_PAGE):
        after = rows[-1].position
        # Most rows have another cause or none: only those that may have this one are decoded.
        rows = tuple(row for row in rows if named in row.meta)
        held += [one for one in read(rows) if one.meta.cause == cause and one.meta.command != held[0].meta.command]
    return tuple(sorted(held, key=lambda one: one.position))


async def plan(call: Call[Any], found: Sequence[Happened]) -> tuple[list[Planned], tuple[Left, ...]]:
    """Return what takes these acts back, and what cannot be. Raises `Refused` where the caller may not."""
    planned: list[Planned] = []
    left: list[Left] = []
    streams: dict[str, list[Happened]] = {}
    for one in found:
        streams.setdefault(one.stream, []).append(one)
    cause = found[0].position
    for stream, acts in streams.items():
        past = read(await call.service.desk.log.stream(stream))
        for aspect, done in _by_aspect(acts, left):
            overtaken = _overtaken(aspect, acts, past)
            if overtaken is not None:
                left.append(Left(done.position, kind_of(done.event), _said_overtaken(overtaken)))
                continue
            planned += [one for one in _undo(call, aspect, done, acts, past, cause) if one]
    return planned, tuple(left)


def _by_aspect(acts: Sequence[Happened], left: list[Left]) -> list[tuple[Aspect, Happened]]:
    """Return the first act of each aspect; what has no aspect and followed from none of them goes to `left`."""
    found: dict[Aspect, Happened] = {}
    for one in acts:
        aspect = next((name for name, kinds in _ASPECTS.items() if isinstance(one.event, kinds)), None)
        if aspect is not None:
            found.setdefault(aspect, one)
    if not found:
        left += [Left(one.position, kind_of(one.event), why) for one in acts if (why := _why_not(one))]
    return [(name, found[name]) for name in _ASPECTS if name in found]


def _why_not(one: Happened) -> str:
    """Say why an act that stands for itself cannot be undone."""
    device = one.stream.partition(":")[2][:12]
    match one.event:
        case TokenRevoked() | TokenRotated() | TokenExpired():
            return _DEAD.format(device=device, role=one.event.role)
        case HookAdded():
            return f"end it by its own command: pairing hooks remove {device}"
        case Unknown():
            return "a newer version recorded it"
        case _:
            return "it gave and took nothing that can be given back"


def _overtaken(aspect: Aspect, acts: Sequence[Happened], past: Sequence[Happened]) -> Happened | None:
    kinds = (*_ASPECTS[aspect], *_OVERTAKEN.get(aspect, ()))
    last = max(one.position for one in acts)
    return next((one for one in past if one.position > last and isinstance(one.event, kinds)), None)


def _said_overtaken(later: Happened) -> str:
    return f"{kind_of(later.event)} at position {later.position} came after it; undo that first, or go back: pairing restore"


def _undo(
    call: Call[Any], aspect: Aspect, done: Happened, acts: Sequence[Happened], past: tuple[Happened, ...], cause: int
) -> Sequence[Planned | None]:
    name, to = done.stream.partition(":")[2], acts[0].position - 1
    before, now = world_at(past, to), world_at(past)
    match aspect:
        case "access":
            return [device_back(call, name, past, to, None, cause)]
        case "label":
            return [_label(call, name, before.device, now.device, past, to, cause)]
        case "lock":
            return [_lock(call, name, before.device, cause)]
        case "request":
            return _reopen(call, name, before.device, past, cause, done)
        case "surface":
            return [node_back(call, name, past, to, None, cause)]
        case "node-name":
            return [_node_name(call, name, past, to, cause)]
        case "node-request":
            return [_ask_again(call, name, past, cause, done)]
        case "code":
            line = Line(family="code", id=name, outcome="goes")
            return [Planned(VoidCode(**stamp(call, cause), code=name), line)]
        case _:
            assert_never(aspect)


def _label(
    call: Call[Any], device: str, before: Device, now: Device, past: tuple[Happened, ...], to: int, cause: int
) -> Planned | None:
    text = label_at(past, to)
    stamped = stamp(call, cause)
    if text is not None or before.labelled is None:
        stamped["personal"] = Personal(salt=ids.salt(), label=text, address=call.caller.address)
    command = Rename(**stamped, device=device, labelled=before.labelled if text is not None else None)
    if not decide(now, command):
        return None
    return Planned(command, Line(family="device", id=device, outcome="changes", why="its label goes back"))


def _lock(call: Call[Any], device: str, before: Device, cause: int) -> Planned | None:
    """A lock that began is lifted; one that was lifted begins again, for as long as it was to last."""
    stamped = stamp(call, cause)
    if before.lock is None:
        line = Line(family="device", id=device, outcome="changes", why="it is unlocked")
        return Planned(Unlock(**stamped, device=device), line)
    if before.lock.over(stamped["now"]):
        return None
    terms = Ban(before.lock.until, before.lock.message)
    line = Line(family="device", id=device, outcome="changes", why="it is locked again")
    return Planned(Lock(**stamped, device=device, terms=terms, break_glass=call.params.break_glass), line)


def _reopen(call: Call[Any], device: str, before: Device, past: Sequence[Happened], cause: int, done: Happened) -> list[Planned]:
    """A request ends once: what was rejected is asked anew, under a new id, for an operator to answer."""
    asked = before.pending
    if asked is None:
        return []
    said = (one.personal for one in reversed(past) if one.position < done.position and isinstance(one.event, _ASKED))
    person = next(said, None)
    stamped = stamp(call, cause)
    if person is not None:
        stamped["personal"] = replace(person, salt=ids.salt())
    line = Line(family="device", id=device, outcome="changes", why="what it asked waits for an answer again")
    return [Planned(_knock(call, stamped, device, asked, role), line) for role in asked.roles]


_ASKED = (RequestOpened, RequestRefreshed)


def _knock(call: Call[Any], stamped: dict[str, Any], device: str, asked: Pending, role: str) -> Knock:
    return Knock(
        **{**stamped, "id": ids.uuid7(stamped["now"])},
        device=device,
        wanted=Wanted(
            key=asked.key,
            role=role,
            scopes=asked.scopes if len(asked.roles) == 1 else of_role(asked.scopes, role),
            platform=asked.platform,
            family=asked.family,
            under=call.service.under,
        ),
        client_id=asked.client_id,
        client_mode=asked.client_mode,
        request=ids.request_id(),
        issue=ids.issue_id(),
        key=call.service.keyring.current.id,
        seen=asked.seen,
        named=asked.named,
        ttl=asked.expires_at - asked.opened_at,
        anew=True,
    )


def _node_name(call: Call[Any], node: str, past: Sequence[Happened], to: int, cause: int) -> Planned | None:
    name = label_at(past, to)
    if name is None:
        return None
    stamped = stamp(call, cause)
    stamped["personal"] = Personal(salt=ids.salt(), label=name, address=call.caller.address)
    command = RenameNode(**stamped, node=node, labelled=call.service.keyring.current.tag("label", name))
    return Planned(command, Line(family="node", id=node, outcome="changes", why="its name goes back"))


def _ask_again(call: Call[Any], node: str, past: Sequence[Happened], cause: int, done: Happened) -> Planned | None:
    asked = next((o for o in reversed(past) if o.position < done.position and isinstance(o.event, NodeRequested)), None)
    if asked is None or not isinstance(asked.event, NodeRequested):
        return None
    e, stamped = asked.event, stamp(call, cause)
    if asked.personal is not None:
        stamped["personal"] = replace(asked.personal, salt=ids.salt())
    command = AskNode(
        **stamped,
        node=node,
        request=ids.request_id(),
        caps=e.caps,
        commands=e.commands,
        platform=e.platform,
        family=e.family,
        model=e.model,
        version=e.version,
        core_version=e.core_version,
        ui_version=e.ui_version,
        silent=e.silent,
        named=e.named,
    )
    line = Line(family="node", id=node, outcome="changes", why="what it asked waits for an answer again")
    return Planned(command, line)
