"""`audit.list` and `audit.follow`: what happened, by whom, from where, why, and what it changed; and `device.who`.

They read and decide nothing. A session bound to its device reads of that device alone, and not from where others acted (A8, N14).
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec.structs import replace

from . import contact_methods, following
from .audit_entries import AuditEntry, audited
from .authority import PAIRING
from .contact_methods import ContactEntry
from .events import device_stream, node_stream
from .finding import find
from .listing import RefusedContact, Sought
from .log.codec import decode, decode_meta, decode_personal
from .log.errors import EventUnreadable
from .log.port import Record
from .reasons import fold, reasons
from .recorded import naming, recorded
from .refusals import Reason, Refused
from .service import Call, Method, Params
from .shapes import Name
from .watch_methods import FollowParams, Position

MOST = 500
REFUSED_KIND = "contact.refused"
_ACTORS = ("local", "timer", "policy", "shared-secret")
_RING = 10_000

Many: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MOST)]
Place: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
Ms: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]


class Filter(Params, frozen=True, kw_only=True):
    """Which events: all that is given must fit.

    `device` and `actor` are a full id, a prefix or a label; `actor` may also be `local`, `local:<uid>`, `timer`, `policy` or
    `shared-secret`. `kind`: exact, or a family as `token.*`. `reason`: how access came to be (`owner`, `silent`,
    `scope-upgrade`), or a person's reason or ticket, whole, in any case.
    """

    device: Name | None = None
    actor: Name | None = None
    address: Name | None = None
    kind: tuple[Name, ...] = ()
    reason: Name | None = None
    command_id: Name | None = None


class AuditParams(Filter, frozen=True, kw_only=True):
    """Events after position `from` up to position `to`, recorded from `since_ms` on and before `until_ms`, newest first.

    `cursor` is an answer's `next`. `refusals`: also the contacts that were turned away in that time.
    """

    after: Position = msgspec.field(name="from", default=0)
    to: Position | None = None
    since_ms: Ms | None = None
    until_ms: Ms | None = None
    limit: Many = 50
    cursor: Name | None = None
    refusals: bool = False


class AuditFollowParams(FollowParams, frozen=True, kw_only=True):
    """The same filters, on what comes after the position `from`; absent, after the present end."""

    device: Name | None = None
    actor: Name | None = None
    address: Name | None = None
    kind: tuple[Name, ...] = ()
    reason: Name | None = None
    command_id: Name | None = None


class AuditList(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `audit.list`, true at `position`: newest first. `next` goes on; a page may be empty and still have one."""

    position: int
    events: tuple[AuditEntry, ...]
    refused: tuple[ContactEntry, ...]
    next: str | msgspec.UnsetType = msgspec.UNSET


class AuditFollowed(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A page of events, oldest first, and with which `from` and `hash` to ask for the next."""

    position: int
    hash: str
    head: int
    events: tuple[AuditEntry, ...]


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ended: events below a position, and contacts before a time and reference, are still to come."""

    below: Place
    contact: tuple[Place, str]


async def audit_list(call: Call[AuditParams]) -> AuditList:
    """Return the newest events that are looked for, and the contacts refused meanwhile where they are wanted."""
    service, p = call.service, call.params
    cursor = _begin(p)
    sought = await _sought(call, p)
    sought = replace(sought, **await _range(call, p, cursor.below))
    found = await service.views.events(sought, limit=p.limit)
    records = await service.desk.log.pick(found.positions)
    events = tuple(reversed(records))
    contacts = await _contacts(call, sought, cursor.contact) if p.refusals else ()
    if found.next is not None and contacts:
        # What was refused before the events that are still to come belongs to a later page.
        reached = await service.desk.log.pick((found.next,))
        contacts = tuple(contact for contact in contacts if contact.at >= reached[0].recorded_at)
    events, contacts, cut = _page(events, contacts, p.limit)
    after = _Cursor(
        events[-1].position if cut and events else cursor.below if cut else found.next or 0,
        (contacts[-1].at, contacts[-1].reference) if contacts else cursor.contact,
    )
    return AuditList(
        position=found.position,
        events=await _entries(call, events),
        refused=tuple(contact_methods.entry(contact) for contact in contacts),
        next=msgspec.json.encode(after).decode() if cut or found.next is not None else msgspec.UNSET,
    )


async def audit_follow(call: Call[AuditFollowParams]) -> AuditFollowed:
    """Return the next events that are looked for, waiting for the first where asked to."""
    p = call.params
    wanted = _wanted(await _sought(call, p))
    page = await following.follow(call, p.after, seen=p.hash, wait_ms=p.wait_ms, limit=p.limit, wanted=wanted)
    events = await _entries(call, page.records)
    return AuditFollowed(position=page.mark.position, hash=page.mark.hash.hex(), head=page.head, events=events)


async def _entries(call: Call[Any], records: Sequence[Record]) -> tuple[AuditEntry, ...]:
    views, own = call.service.views, call.caller.own
    names = await naming(views, records, only=own)
    changes = await views.changes([record.position for record in records])
    return tuple(audited(recorded(record, names, own), changes.get(record.position, ())) for record in records)


async def _contacts(call: Call[AuditParams], sought: Sought, before: tuple[int, str]) -> tuple[RefusedContact, ...]:
    """Return the refused contacts that fit, latest first. One that is asked for by what only events have fits nothing."""
    notes, p = call.service.notes, call.params
    if notes is None or call.caller.own is not None or sought.actors or sought.positions is not None or p.after or p.to:
        return ()
    if sought.kinds is not None and not _fits(sought.kinds, REFUSED_KIND):
        return ()
    device = sought.streams[0].removeprefix(device_stream("")) if sought.streams else None
    held = sorted(await notes.recent(device, limit=_RING), key=_place, reverse=True)
    return tuple(contact for contact in held if _place(contact) < before and _fits_contact(p, contact))


def _fits_contact(p: AuditParams, contact: RefusedContact) -> bool:
    if (p.since_ms is not None and contact.at < p.since_ms) or (p.until_ms is not None and contact.at >= p.until_ms):
        return False
    if p.address is not None and contact.address != p.address:
        return False
    return p.reason is None or fold(p.reason) in {fold(contact.reason), fold(contact.code)}


def _place(contact: RefusedContact) -> tuple[int, str]:
    return (contact.at, contact.reference)


def _page(
    events: Sequence[Record], contacts: Sequence[RefusedContact], limit: int
) -> tuple[tuple[Record, ...], tuple[RefusedContact, ...], bool]:
    """Return the newest of both, together no more than `limit`, and whether any had to be left for the next page."""
    merged = sorted(
        [*((e.recorded_at, 1, e) for e in events), *((c.at, 0, c) for c in contacts)], key=lambda m: m[:2], reverse=True
    )
    kept = {id(item) for _, _, item in merged[:limit]}
    return (
        tuple(event for event in events if id(event) in kept),
        tuple(contact for contact in contacts if id(contact) in kept),
        len(merged) > limit,
    )


# --- what is looked for ----------------------------------------------------------------------------------------------


def _begin(p: AuditParams) -> _Cursor:
    if p.cursor is None:
        return _Cursor(1 << 62, (1 << 62, ""))
    try:
        return msgspec.json.decode(p.cursor, type=_Cursor)
    except msgspec.DecodeError:
        raise Refused(Reason.INVALID_PARAMS, method="audit.list", problems="at /cursor: is not an answer's next") from None


async def _sought(call: Call[Any], p: Filter | AuditFollowParams) -> Sought:
    device, own = await find(call, p.device) if p.device else call.caller.own, call.caller.own
    if own is not None and device != own:
        raise Refused(Reason.UNKNOWN_DEVICE)
    return Sought(
        streams=(device_stream(device), node_stream(device)) if device else None,
        kinds=p.kind or None,
        actors=await _actors(call, p.actor) if p.actor else None,
        reason=p.reason,
        address=p.address,
        positions=await _command(call, p.command_id) if p.command_id else None,
    )


async def _actors(call: Call[Any], text: str) -> tuple[str, ...]:
    kind, _, id = text.partition(":")
    if kind in _ACTORS:
        return (text,) if id else (kind, f"{kind}:*")
    device = await find(call, text.removeprefix("device:"))
    return (device_stream(device), f"shared-secret:{device}")


async def _command(call: Call[Any], command: str) -> tuple[int, ...]:
    try:
        return tuple(record.position for record in await call.service.desk.log.command(command))
    except ValueError:
        problem = "at /commandId: must be a UUID of version 7"
        raise Refused(Reason.INVALID_PARAMS, method="audit", problems=problem) from None


async def _range(call: Call[AuditParams], p: AuditParams, below: int) -> dict[str, int]:
    """Return between which positions, both left out, the answer lies."""
    views, after = call.service.views, p.after
    if p.since_ms:
        after = max(after, await views.position_at(p.since_ms - 1))
    if p.until_ms is not None:
        below = min(below, (await views.position_at(p.until_ms - 1) if p.until_ms else 0) + 1)
    return {"after": after, "below": below if p.to is None else min(below, p.to + 1)}


def _wanted(sought: Sought) -> Callable[[Record], bool]:
    """Return the same question as the views answer, for one row as it comes."""

    def wanted(record: Record) -> bool:
        if sought.streams is not None and record.stream not in sought.streams:
            return False
        if sought.positions is not None and record.position not in sought.positions:
            return False
        return _fits(sought.kinds, record.kind) and _fits_who(sought, record)

    return wanted


def _fits_who(sought: Sought, record: Record) -> bool:
    if sought.actors is None and sought.address is None and sought.reason is None:
        return True
    try:
        meta, personal = decode_meta(record), decode_personal(record)
        event = decode(record)
    except EventUnreadable:
        return False
    word = meta.actor.kind if meta.actor.id is None else f"{meta.actor.kind}:{meta.actor.id}"
    if not _fits(sought.actors, word):
        return False
    if sought.address is not None and (personal is None or personal.address != sought.address):
        return False
    return sought.reason is None or fold(sought.reason) in reasons(event, meta)


def _fits(words: Sequence[str] | None, word: str) -> bool:
    return words is None or any(word == one or (one.endswith("*") and word.startswith(one[:-1])) for one in words)


METHODS = (
    Method("audit.list", AuditParams, audit_list, PAIRING),
    Method("audit.follow", AuditFollowParams, audit_follow, PAIRING, waits=True),
)
