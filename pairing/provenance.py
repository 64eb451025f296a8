"""Who let a device be what it is: for each right, the event by which it came, and the request as its reviewer saw it.

A fold of the device's own stream. It decides nothing; a right that was lost and given again came with the later gift.
"""

from collections.abc import Sequence
from typing import cast

from msgspec import Struct

from .authority import PAIRING, belongs, covers
from .device import INITIAL, Device
from .entries import Entry
from .events import DeviceEvent, RequestApproved, RequestOpened, RequestRefreshed, Unknown, device_stream
from .evolve import evolve
from .finding import find
from .log.codec import decode, decode_personal
from .log.port import Record
from .recorded import PersonalEntry, RecordedEntry, naming, recorded
from .refusals import Reason, Refused
from .service import Call, Method, Params
from .shapes import Name

Right = tuple[str, str | None]


class WhoParams(Params, frozen=True, kw_only=True):
    """`device` is a full id, a prefix of 4 characters or more, or a label."""

    device: Name


class SeenEntry(Entry, frozen=True, kw_only=True):
    """A request as its reviewer saw it: what `digest` stands for. Names and addresses are absent once they were forgotten."""

    request_id: str
    digest: str
    position: int
    asked_at_ms: int
    need: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    platform: str | None = None
    device_family: str | None = None
    client_id: str | None = None
    client_mode: str | None = None
    personal: PersonalEntry | None = None


class OriginEntry(Entry, frozen=True, kw_only=True):
    """Rights that came with one event: by whom, when, by what means and authority; `seen` is what was approved, where one did.

    `token` are those of the scopes that a live token covers now.
    """

    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    token: tuple[str, ...]
    means: str | None = None
    event: RecordedEntry
    seen: SeenEntry | None = None


class WhoEntry(Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `device.who`: what a device holds, by where it came from, the oldest first. Not paired: nothing."""

    device_id: str
    paired: bool
    origins: tuple[OriginEntry, ...]


class _Seen(Struct, frozen=True):
    """A request as it stood: the event that opened it, and the row that last changed what is shown."""

    opened: RequestOpened
    record: Record
    shown: RequestOpened | RequestRefreshed


class _Origin(Struct, frozen=True):
    record: Record
    means: str | None
    seen: _Seen | None


async def device_who(call: Call[WhoParams]) -> WhoEntry:
    """Say by whom and when each right of a device came to be. Raises `Refused`, `StreamDamaged`."""
    device = await find(call, call.params.device)
    if call.caller.own not in {None, device}:
        raise Refused(Reason.UNKNOWN_DEVICE)
    records = await call.service.desk.log.stream(device_stream(device))
    state, origins = trace(records)
    names = await naming(call.service.views, [origin.record for origin in origins.values()], only=call.caller.own)
    rights: dict[int, list[Right]] = {}
    for right, origin in origins.items():
        rights.setdefault(origin.record.position, []).append(right)
    own, under = call.caller.own, call.service.under
    return WhoEntry(
        device_id=device,
        paired=state.grant is not None,
        origins=tuple(
            _entry(state, under, held, origins[held[0]], recorded(origins[held[0]].record, names, own))
            for _, held in sorted(rights.items())
        ),
    )


def trace(records: Sequence[Record]) -> tuple[Device, dict[Right, _Origin]]:
    """Fold a device's stream; return its state and where each right that it holds came from. Raises `EventUnreadable`."""
    state, origins = INITIAL, dict[Right, _Origin]()
    requests, seen, approval = dict[str, _Seen](), dict[str, _Seen](), dict[str, tuple[Record, RequestApproved]]()
    for record in records:
        event = cast("DeviceEvent | Unknown", decode(record))
        match event:
            case RequestOpened():
                requests[event.request] = seen[event.digest] = _Seen(event, record, event)
            case RequestRefreshed() if event.request in requests:
                seen[event.digest] = _Seen(requests[event.request].opened, record, event)
            case RequestApproved():
                approval[event.request] = (record, event)
            case _:
                pass
        before, state = _rights(state), evolve(state, event)
        after = _rights(state)
        for right in after - before:
            origins[right] = _origin(record, event, approval, seen)
        for right in before - after:
            del origins[right]
    return state, origins


def _rights(state: Device) -> frozenset[Right]:
    grant = state.grant
    return frozenset() if grant is None else frozenset([(role, None) for role in grant.roles] + [("", s) for s in grant.scopes])


def _origin(
    record: Record,
    event: DeviceEvent | Unknown,
    approval: dict[str, tuple[Record, RequestApproved]],
    seen: dict[str, _Seen],
) -> _Origin:
    """Rights that an approval gave came with the approval: it names the approver, and what was approved."""
    means, answered = getattr(event, "means", None), approval.get(getattr(event, "request", ""))
    if answered is None:
        return _Origin(record, means, None)
    return _Origin(answered[0], means, seen.get(answered[1].digest))


def _entry(state: Device, under: str | None, held: list[Right], origin: _Origin, event: RecordedEntry) -> OriginEntry:
    scopes = tuple(sorted(scope for _, scope in held if scope is not None))
    return OriginEntry(
        roles=tuple(sorted(role for role, scope in held if scope is None)),
        scopes=scopes,
        token=tuple(scope for scope in scopes if _covered(state, under, scope)),
        means=origin.means,
        event=event,
        seen=_shown(origin.seen) if origin.seen else None,
    )


def _covered(state: Device, under: str | None, scope: str) -> bool:
    grant = state.grant
    live = [(role, grant.live(role, under)) for role in grant.roles if belongs(scope, role)] if grant else []
    return any(token is not None and covers(role, token.scopes, (scope,)) for role, token in live)


def _shown(seen: _Seen) -> SeenEntry:
    opened, shown = seen.opened, seen.shown
    return SeenEntry(
        request_id=opened.request,
        digest=shown.digest,
        position=seen.record.position,
        asked_at_ms=opened.at,
        need=opened.need,
        roles=opened.roles,
        scopes=opened.scopes,
        platform=shown.platform,
        device_family=shown.family,
        client_id=shown.client_id,
        client_mode=shown.client_mode,
        personal=_personal(seen.record),
    )


def _personal(record: Record) -> PersonalEntry | None:
    found = decode_personal(record)
    return None if found is None else PersonalEntry(name=found.name, address=found.address, agent=found.agent)


METHODS = (Method("device.who", WhoParams, device_who, PAIRING),)
