"""`device.watch`: what happens to devices, as it happens, by asking again and again from the last position seen.

An answer waits for the first event where there is none yet. It needs pairing rights; a session bound to its device hears of that
device alone (N14).
"""

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Struct

from . import following
from .answering import unknown_request
from .authority import PAIRING
from .entries import fate
from .following import LONGEST_WAIT_MS, MOST
from .log.port import Record
from .recorded import RecordedEntry, device_of, naming, recorded
from .service import Call, Method, Params
from .shapes import Name

Position: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Wait: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=LONGEST_WAIT_MS)]
Many: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MOST)]
Hash: TypeAlias = Annotated[str, msgspec.Meta(min_length=64, max_length=64)]


class FollowParams(Params, frozen=True, kw_only=True):
    """Where to go on: after the position `from` (absent: the present end), whose row had this `hash` when it was seen.

    `wait_ms`: how long the answer may be held back for want of an event; `limit`: the most events it may hold.
    """

    after: Position | None = msgspec.field(name="from", default=None)
    hash: Hash | None = None
    wait_ms: Wait = 0
    limit: Many = 200


class WatchParams(FollowParams, frozen=True, kw_only=True):
    """`device`: events of this device alone, by its full id."""

    device: Name | None = None


class Followed(Struct, frozen=True, rename="camel", kw_only=True):
    """A page of events, and with which `from` and `hash` to ask for the next. `head` is the log's last position.

    A page without events goes on all the same: what does not concern its reader has been passed over.
    """

    position: int
    hash: str
    head: int
    events: tuple[RecordedEntry, ...]


class FindParams(Params, frozen=True, kw_only=True):
    """One request by its full id."""

    request_id: Name


async def device_pair_find(call: Call[FindParams]) -> dict[str, Any]:
    """Return whose a request is and what became of it: `pending`, or how it ended, by whom, when, and where that is recorded."""
    found = await call.service.views.request(call.params.request_id)
    if found is None or call.caller.own not in {None, found.device}:
        raise unknown_request(None)
    return {"requestId": found.request, "deviceId": found.device, **fate(found)}


_CONCERNS = ("device:", "node:", "enrolment:")


async def device_watch(call: Call[WatchParams]) -> Followed:
    """Return the next events that concern devices, waiting for the first where asked to."""
    wanted = _wanted(call.caller.own, call.params.device)
    return await page(call, call.params, wanted)


async def page(call: Call[Any], params: FollowParams, wanted: Callable[[Record], bool]) -> Followed:
    """Follow the log for the caller of a method and return a page of what is wanted. Raises `Refused`."""
    found = await following.follow(
        call, params.after, seen=params.hash, wait_ms=params.wait_ms, limit=params.limit, wanted=wanted
    )
    names = await naming(call.service.views, found.records, only=call.caller.own)
    events = tuple(recorded(record, names, call.caller.own) for record in found.records)
    return Followed(position=found.mark.position, hash=found.mark.hash.hex(), head=found.head, events=events)


def _wanted(own: str | None, device: str | None) -> Callable[[Record], bool]:
    if own is not None:
        return lambda record: device_of(record) == own and device in {None, own}
    if device is not None:
        return lambda record: device_of(record) == device
    return lambda record: record.stream.startswith(_CONCERNS)


METHODS: tuple[Method[Any], ...] = (
    Method("device.pair.find", FindParams, device_pair_find, PAIRING),
    Method("device.watch", WatchParams, device_watch, PAIRING, waits=True),
)
