"""An event as it is shown outside the log: who, when, what, and where that is recorded. Every list of events is made of these.

What cannot be read is shown as far as it goes, never left out. No event holds a secret, so that nothing is hidden here.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from .entries import Entry
from .events import Meta, device_stream, node_stream
from .listing import Listing
from .log.codec import decode, decode_meta, decode_personal
from .log.errors import EventUnreadable
from .log.port import Record
from .sentences import Naming, sentence

_DEVICE, _NODE = device_stream(""), node_stream("")
# What a device said itself.
_BY_ITSELF = ("request.opened", "request.refreshed", "device.described", "node.requested")


class ActorEntry(Entry, frozen=True, kw_only=True):
    """Who did it."""

    kind: str
    id: str | None = None


class PersonalEntry(Entry, frozen=True, kw_only=True):
    """What points at a person, unless it was forgotten."""

    name: str | None = None
    label: str | None = None
    address: str | None = None
    agent: str | None = None


class RecordedEntry(Entry, frozen=True, kw_only=True):
    """One event. `says` is all of it in a line, `event` what is particular to its kind; `unreadable`: why they are missing.

    `command_id` is shared by all events of one command; `cause` is the position that led to this one.
    """

    position: int
    recorded_at_ms: int
    kind: str
    stream: str
    version: int
    says: str = ""
    device_id: str | None = None
    node_id: str | None = None
    by: ActorEntry | None = None
    authority: tuple[str, ...] = ()
    origin: str | None = None
    command_id: str | None = None
    cause: int | None = None
    reason: str | None = None
    ticket: str | None = None
    policy: str | None = None
    event: dict[str, Any] = msgspec.field(default_factory=dict)
    personal: PersonalEntry | None = None
    unreadable: str | None = None


def recorded(record: Record, naming: Naming, own: str | None = None) -> RecordedEntry:
    """Return a row of the log as it is shown. Total: a row that cannot be read says why.

    A session that is bound to its device `own` is not told from where others acted (A8, N14).
    """
    try:
        event, meta = decode(record), decode_meta(record)
        says = sentence(record.stream, event, meta, naming)
        described = _described(record, meta)
        if own is not None and record.kind not in _BY_ITSELF:
            described["personal"] = None
        return RecordedEntry(**_placed(record), says=says, **described, event=_body(record))
    except EventUnreadable as error:
        return RecordedEntry(**_placed(record), says="what happened cannot be read", unreadable=str(error))


async def naming(views: Listing, records: Iterable[Record], only: str | None = None) -> Naming:
    """Return what the devices that some rows speak of, or were recorded by, are called now; `only` one of them where given."""
    devices = {device for record in records for device in (device_of(record), _acting(record)) if device}
    called = await views.called(devices if only is None else devices & {only})
    return called.get


def device_of(record: Record) -> str | None:
    """Return the device whose stream a row is of, a node's device included; None for other streams."""
    for prefix in (_DEVICE, _NODE):
        if record.stream.startswith(prefix):
            return record.stream.removeprefix(prefix)
    return None


def _acting(record: Record) -> str | None:
    try:
        actor = decode_meta(record).actor
    except EventUnreadable:
        return None
    return actor.id if actor.kind in {"device", "shared-secret"} else None


def _placed(record: Record) -> dict[str, Any]:
    return {
        "position": record.position,
        "recorded_at_ms": record.recorded_at,
        "kind": record.kind,
        "stream": record.stream,
        "version": record.version,
        "device_id": device_of(record),
        "node_id": device_of(record) if record.stream.startswith(_NODE) else None,
    }


def _described(record: Record, meta: Meta) -> dict[str, Any]:
    personal = decode_personal(record)
    return {
        "by": ActorEntry(kind=meta.actor.kind, id=meta.actor.id),
        "authority": meta.authority,
        "origin": meta.origin,
        "command_id": meta.command,
        "cause": meta.cause,
        "reason": meta.reason,
        "ticket": meta.ticket,
        "policy": meta.policy,
        "personal": personal
        and PersonalEntry(name=personal.name, label=personal.label, address=personal.address, agent=personal.agent),
    }


def _body(record: Record) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(record.body)
    return {key: value for key, value in body.items() if key != "kind"}
