"""Events to bytes and back: JSON of tagged Structs, the same bytes for the same event on any day.

A kind of the catalogue whose bytes do not decode is an error; only a kind that the catalogue lacks is `Unknown`.
"""

from typing import get_args

import msgspec

from pairing.events import AnyEvent, Meta, Personal, Unknown, kind_of

from .errors import EventUnreadable
from .port import Draft, Line, Record
from .upcasts import UPCASTS, Upcasts, upcast

KINDS: dict[str, type[AnyEvent]] = {str(kind.__struct_config__.tag): kind for kind in get_args(AnyEvent)}


class _Tag(msgspec.Struct, frozen=True):
    kind: str


# What damaged or foreign bytes can raise: no JSON, no UTF-8, another shape; and an upcast that misses what it expects.
_UNREADABLE = (ValueError, TypeError, LookupError)
_encode = msgspec.json.Encoder(order="deterministic").encode
_event = msgspec.json.Decoder(AnyEvent).decode
_tag = msgspec.json.Decoder(_Tag).decode
_meta = msgspec.json.Decoder(Meta).decode
_personal = msgspec.json.Decoder(Personal).decode
_raw = msgspec.json.Decoder(dict).decode


def draft(event: AnyEvent, meta: Meta, personal: Personal | None = None) -> Draft:
    """Encode an event for the log. `personal` goes along only where the event's kind speaks of a person."""
    keep = personal if event.PERSONAL else None
    return Draft(kind_of(event), _encode(meta), _encode(event), None if keep is None else _encode(keep))


def decode(record: Record | Line, upcasts: Upcasts = UPCASTS) -> AnyEvent | Unknown:
    """Return the event of a row. Raises `EventUnreadable` for a known kind that does not decode, or a kind column that lies."""
    known = KINDS.get(record.kind)
    try:
        if known is None or record.kind in upcasts:
            return _other(record, upcasts)
        event = _event(record.body)
    except _UNREADABLE as error:
        raise EventUnreadable(record.position, record.kind, str(error)) from None
    if type(event) is not known:
        raise EventUnreadable(record.position, record.kind, f"its body is a {kind_of(event)}")
    return event


def decode_meta(record: Record) -> Meta:
    """Return who and how. Raises `EventUnreadable`."""
    try:
        return _meta(record.meta)
    except _UNREADABLE as error:
        raise EventUnreadable(record.position, record.kind, f"meta: {error}") from None


def decode_personal(record: Record) -> Personal | None:
    """Return what points at a person, or None where there was nothing or it was forgotten. Raises `EventUnreadable`."""
    if record.personal is None:
        return None
    try:
        return _personal(record.personal)
    except _UNREADABLE as error:
        raise EventUnreadable(record.position, record.kind, f"personal: {type(error).__name__}") from None


def _other(record: Record | Line, upcasts: Upcasts) -> AnyEvent | Unknown:
    kind = _tag(record.body).kind
    if kind != record.kind:
        raise EventUnreadable(record.position, record.kind, f"its body is a {kind}")
    if kind not in upcasts:
        return Unknown(kind=kind, raw=record.body)
    event: AnyEvent = msgspec.convert(upcast(_raw(record.body), upcasts), AnyEvent)
    return event
