"""What follows from somebody or something: every device, code and node that got in because of it, with the event that let it.

It reads the index of events by who acted and from where, nearest first, and decides nothing. Each is found once.
"""

import re
from collections import deque
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from .authority import PAIRING
from .entries import Entry
from .events import (
    DeviceImported,
    DevicePaired,
    DeviceRestored,
    DeviceUpgraded,
    EnrolmentIssued,
    EnrolmentRedeemed,
    HookAdded,
    NodeApproved,
    NodeImported,
    NodeRequested,
    NodeRestored,
    RequestOpened,
    device_stream,
    enrolment_stream,
    hook_stream,
    node_stream,
)
from .finding import find
from .listing import Sought
from .log.codec import KINDS, decode
from .log.errors import EventUnreadable
from .log.port import Record
from .refusals import Reason, Refused
from .service import Call, Method, Params
from .shapes import Name
from .watch_methods import Position

Family: TypeAlias = Literal["device", "code", "node", "hook", "address", "actor"]
How: TypeAlias = Literal[
    "root", "asked-from", "paired", "upgraded", "brought", "minted", "redeemed", "allowed", "restored", "added"
]
MOST = 2_000
_PAGE = 500
_CODE = re.compile(r"[0-9a-f]{32}")
_PREFIXES: tuple[tuple[Family, str], ...] = (
    ("device", device_stream("")),
    ("node", node_stream("")),
    ("code", enrolment_stream("")),
    ("hook", hook_stream("")),
)
# What gives somebody or something a way in, and how; whoever does it is answerable for it.
_HOWS: dict[type, How] = {
    DevicePaired: "paired",
    DeviceUpgraded: "upgraded",
    DeviceImported: "brought",
    DeviceRestored: "restored",
    EnrolmentIssued: "minted",
    NodeApproved: "allowed",
    NodeImported: "brought",
    NodeRestored: "restored",
    HookAdded: "added",
}
_FROM_ADDRESS: dict[type, How] = {RequestOpened: "asked-from", NodeRequested: "asked-from"}
_GIVING, _ASKING = (tuple(tag for tag, kind in KINDS.items() if kind in hows) for hows in (_HOWS, _FROM_ADDRESS))


class BlastParams(Params, frozen=True, kw_only=True):
    """`what` is a device (full id, prefix or label), an IP address, a setup code's id, or an actor as `local:1000`.

    Only what happened after position `from` counts, where it is given.
    """

    what: Name
    after: Position = msgspec.field(name="from", default=0)


class Reached(Entry, frozen=True, kw_only=True):
    """Somebody or something that got in. `because` is whom or what it follows from, `position` the event that let it in.

    `standing`: it is still there: a paired device, a code that works, an approved node, a webhook that sends.
    """

    family: Family
    id: str
    how: How
    depth: int
    name: str | None = None
    because: str | None = None
    position: int = 0
    standing: bool = False
    locked: bool = False


class Blast(Entry, frozen=True, kw_only=True):
    """The answer to `blast.find`, true at `position`: what was asked about, first, then what follows from it, nearest first.

    `more`: there is more than was looked through.
    """

    position: int
    reached: tuple[Reached, ...]
    more: bool = False


class _Found(Struct, frozen=True):
    family: Family
    id: str
    how: How
    because: str
    position: int
    depth: int


async def blast(call: Call[BlastParams]) -> Blast:
    """Find what follows from a device, an address, a code or an actor."""
    if call.caller.own is not None:
        raise Refused(Reason.UNKNOWN_DEVICE)
    position = await call.service.views.position()
    family, root = await _root(call, call.params.what.strip())
    seen: dict[tuple[Family, str], _Found] = {(family, root): _Found(family, root, "root", "", 0, 0)}
    queue = deque(seen.values())
    while queue and len(seen) < MOST:
        for found in await _next(call, queue.popleft()):
            if (found.family, found.id) not in seen:
                seen[found.family, found.id] = found
                queue.append(found)
    ordered = sorted(seen.values(), key=lambda one: (one.depth, one.position))[:MOST]
    return Blast(position=position, reached=await _told(call, ordered), more=bool(queue) or len(seen) > MOST)


async def _root(call: Call[BlastParams], what: str) -> tuple[Family, str]:
    kind = what.partition(":")[0]
    if kind in {"local", "timer", "policy", "shared-secret"}:
        return "actor", what
    try:
        return "address", str(ip_address(what))
    except ValueError:
        pass
    if _CODE.fullmatch(what) and (await call.service.desk.enrolment(what)).code is not None:
        return "code", what
    return "device", await find(call, what)


async def _next(call: Call[BlastParams], one: _Found) -> list[_Found]:
    """Return what follows from one of those found, in the order of the log."""
    match one.family:
        case "device":
            actors: tuple[str, ...] = (device_stream(one.id), f"shared-secret:{one.id}")
            return await _given(call, one, Sought(actors=actors, kinds=_GIVING, after=call.params.after))
        case "actor":
            actors = (one.id,) if ":" in one.id else (one.id, f"{one.id}:*")
            return await _given(call, one, Sought(actors=actors, kinds=_GIVING, after=call.params.after))
        case "address":
            return await _given(call, one, Sought(address=one.id, kinds=(*_GIVING, *_ASKING), after=call.params.after))
        case "code":
            rows = await call.service.desk.log.stream(enrolment_stream(one.id))
            held = [(row.position, event.device) for row in rows if isinstance(event := _read(row), EnrolmentRedeemed)]
            return [_Found("device", device, "redeemed", one.id, position, one.depth + 1) for position, device in held]
        case _:
            return []


async def _given(call: Call[BlastParams], one: _Found, sought: Sought) -> list[_Found]:
    """Return what somebody gave, or what came from an address."""
    found: list[_Found] = []
    while len(found) < MOST:
        page = await call.service.views.events(sought, limit=_PAGE)
        for row in await call.service.desk.log.pick(page.positions):
            how = (_HOWS | _FROM_ADDRESS).get(type(_read(row)))
            family, id = _of(row.stream)
            # A device that let itself in follows from nobody but itself.
            if how is not None and family is not None and not (family == "device" and id == one.id):
                found.append(_Found(family, id, how, one.id, row.position, one.depth + 1))
        if page.next is None:
            break
        sought = replace(sought, below=page.next)
    return sorted(found, key=lambda each: each.position)


def _of(stream: str) -> tuple[Family | None, str]:
    return next(((family, stream.removeprefix(prefix)) for family, prefix in _PREFIXES if stream.startswith(prefix)), (None, ""))


def _read(row: Record) -> object:
    try:
        return decode(row)
    except EventUnreadable:
        return None


async def _told(call: Call[BlastParams], found: Iterable[_Found]) -> tuple[Reached, ...]:
    held = tuple(found)
    names = await call.service.views.called({one.id for one in held if one.family in {"device", "node"}})
    told = []
    for one in held:
        standing, locked = await _standing(call, one)
        told.append(
            Reached(
                family=one.family,
                id=one.id,
                how=one.how,
                depth=one.depth,
                name=names.get(one.id),
                because=one.because or None,
                position=one.position,
                standing=standing,
                locked=locked,
            )
        )
    return tuple(told)


async def _standing(call: Call[BlastParams], one: _Found) -> tuple[bool, bool]:
    desk, now = call.service.desk, call.service.clock()
    match one.family:
        case "device":
            state = await desk.device(one.id)
            return state.grant is not None, state.lock is not None and not state.lock.over(now)
        case "node":
            return (await desk.node(one.id)).approval is not None, False
        case "code":
            code = await desk.enrolment(one.id)
            return code.code is not None and code.revoked_at is None and code.code.expires_at > now, False
        case "hook":
            return (await desk.hook(one.id)).sending is not None, False
        case _:
            return False, False


METHODS: tuple[Method[BlastParams], ...] = (Method("blast.find", BlastParams, blast, PAIRING),)
