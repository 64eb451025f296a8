"""The method `device.list`: devices and requests, all or one, as they are or as they were."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from . import entries, history, lock_methods, moments, vote_methods
from .authority import PAIRING
from .device import Device
from .entries import PairedEntry
from .events import device_stream
from .finding import find
from .moments import AsOf
from .service import Call, Method, Nobody
from .shapes import Name


class ListParams(AsOf, frozen=True, kw_only=True):
    """`device` is a full id, a prefix of 4 characters or more, or a label it bore then."""

    device: Name | None = None


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


METHODS: tuple[Method[Any], ...] = (Method("device.list", ListParams, device_list, PAIRING),)
