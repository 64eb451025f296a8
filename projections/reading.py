"""Rows of the log, read as far as they can be: what a reader of today makes of each.

A row that cannot be read is not an error here: it carries what is wrong with it, and following goes on (D2).
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec import Struct

from pairing.events import (
    AnyEvent,
    DeviceDescribed,
    DeviceRenamed,
    Meta,
    Personal,
    RequestOpened,
    RequestRefreshed,
    Unknown,
)
from pairing.log.codec import decode, decode_meta, decode_personal
from pairing.log.errors import EventUnreadable
from pairing.log.port import Record

T = TypeVar("T")

# On other kinds the personal part speaks of the actor, and no view shows it.
_SPEAKS_OF_DEVICE = frozenset((RequestOpened, RequestRefreshed, DeviceDescribed, DeviceRenamed))


class Read(Struct, frozen=True):
    """A row and what it says. `damage` tells why any of the three is missing although the row has it."""

    record: Record
    event: AnyEvent | Unknown | None
    meta: Meta | None
    personal: Personal | None = None
    damage: str | None = None


def read_all(records: Sequence[Record]) -> list[Read]:
    """Read rows; those of one command have the same meta, which is read once."""
    reads: list[Read] = []
    raw, meta = b"", None
    for record in records:
        if meta is None or record.meta != raw:
            raw, meta = record.meta, None
        try:
            meta = meta or decode_meta(record)
            event = decode(record)
            about = record.personal is not None and type(event) in _SPEAKS_OF_DEVICE
            reads.append(Read(record, event, meta, decode_personal(record) if about else None))
        except EventUnreadable as error:
            reads.append(_salvage(record, error))
    return reads


def _salvage(record: Record, error: EventUnreadable) -> Read:
    return Read(record, _try(decode, record), _try(decode_meta, record), _try(decode_personal, record), error.why)


def _try(part: Callable[[Record], T], record: Record) -> T | None:
    try:
        return part(record)
    except EventUnreadable:
        return None
