"""Rows of the log, read as far as they can be: what a reader of today makes of each.

A row that cannot be read is not an error here: it carries what is wrong with it, and following goes on (D2).
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from pairing.events import (
    Actor,
    AnyEvent,
    DeviceDescribed,
    DeviceImported,
    DeviceRenamed,
    EnrolmentIssued,
    Meta,
    NodeImported,
    NodeRenamed,
    NodeRequested,
    Personal,
    RequestOpened,
    RequestRefreshed,
    Unknown,
)
from pairing.log.codec import decode, decode_meta, decode_personal
from pairing.log.errors import EventUnreadable
from pairing.log.port import Record

T = TypeVar("T")

# On other kinds the personal part speaks of the actor alone; on a setup code's it speaks of the code.
SPEAKS_OF_DEVICE: frozenset[type[Struct]] = frozenset(
    (
        RequestOpened,
        RequestRefreshed,
        DeviceDescribed,
        DeviceRenamed,
        DeviceImported,
        NodeRequested,
        NodeRenamed,
        NodeImported,
        EnrolmentIssued,
    )
)


class Read(Struct, frozen=True, gc=False):
    """A row and what it says; `actor` in one word. `damage` tells why any of it is missing although the row has it."""

    record: Record
    event: AnyEvent | Unknown | None
    meta: Meta | None
    actor: str | None
    personal: Personal | None = None
    damage: str | None = None


def read_all(records: Sequence[Record]) -> list[Read]:
    """Read rows; those of one command have the same meta, which is read once."""
    reads: list[Read] = []
    raw, meta, actor = b"", None, ""
    for record in records:
        if not (record.stream.isascii() and record.kind.isascii()):
            record = _legible(record)
        try:
            if meta is None or record.meta != raw:
                raw, meta = record.meta, decode_meta(record)
                actor = actor_word(meta.actor)
            event = decode(record)
            reads.append(Read(record, event, meta, actor, None if record.personal is None else decode_personal(record)))
        except EventUnreadable as error:
            reads.append(_salvage(record, error))
    return reads


def actor_word(actor: Actor) -> str:
    """Return an actor as one word, such as `local:1000`, `timer`, or `device:<id>`, which is also its stream's name."""
    return actor.kind if actor.id is None else f"{actor.kind}:{actor.id}"


def _legible(record: Record) -> Record:
    """Spell out bytes of a damaged name that are not text, so that it can be stored and shown."""
    stream, kind = (name.encode("utf-8", "backslashreplace").decode() for name in (record.stream, record.kind))
    return replace(record, stream=stream, kind=kind)


def _salvage(record: Record, error: EventUnreadable) -> Read:
    meta = _try(decode_meta, record)
    actor = actor_word(meta.actor) if meta else None
    return Read(record, _try(decode, record), meta, actor, _try(decode_personal, record), error.why)


def _try(part: Callable[[Record], T], record: Record) -> T | None:
    try:
        return part(record)
    except EventUnreadable:
        return None
