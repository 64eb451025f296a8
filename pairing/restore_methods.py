"""The methods that go back: a restore to a position, planned or done, and the undoing of one act.

They shape parameters and answers; what going back comes to is in `restores` and `undoing`.
"""

import anyio
from msgspec import Struct

from . import moments, restores, undoing
from .authority import PAIRING
from .entries import Entry
from .moments import Position, Time
from .refusals import Reason, Refused
from .restores import Line
from .service import Call, Method, Reasoned
from .shapes import Name

# Lines in one answer; their counts are always whole.
_MOST = 5_000


class RestoreParams(Reasoned, frozen=True, kw_only=True):
    """A position, or a time (ms), to go back to; of one device, or of all. `apply` does it, else it is only planned."""

    to: Position | None = None
    to_ms: Time | None = None
    device_id: Name | None = None
    apply: bool = False
    break_glass: bool = False


class UndoParams(Reasoned, frozen=True, kw_only=True):
    """A position, whose whole command is meant, or a command's id. `bulk`: and everything else that had the same cause."""

    position: Position | None = None
    command_id: Name | None = None
    bulk: bool = False
    apply: bool = False
    break_glass: bool = False


class Counts(Struct, frozen=True, rename="camel", kw_only=True):
    """How many of each outcome."""

    returns: int = 0
    goes: int = 0
    changes: int = 0
    stays_out: int = 0
    refused: int = 0


class Restored(Entry, frozen=True, kw_only=True):
    """A plan, or what came of it. `epoch` and `position` are of the event that began the new timeline, once it is done."""

    to: int
    to_ms: int | None = None
    head: int
    applied: bool
    epoch: int
    position: int = 0
    counts: Counts
    collects: int
    lines: tuple[Line, ...]


class Undone(Entry, frozen=True, kw_only=True):
    """A plan, or what came of it. `left` says what cannot be undone, and why."""

    positions: tuple[int, ...]
    command_id: str | None
    applied: bool
    lines: tuple[Line, ...]
    left: tuple[undoing.Left, ...]


async def restore(call: Call[RestoreParams]) -> Restored:
    """Plan going back, or go back under a new timeline. Nothing that was retired since comes to life."""
    p = call.params
    if p.to is None and p.to_ms is None:
        raise Refused(Reason.INVALID_PARAMS, method="history.restore", problems="give to or toMs")
    then = await moments.moment(call, p.to, p.to_ms)
    device = p.device_id.strip() if p.device_id else None
    epoch, began = await restores.foresee(call, then.position, device), 0
    planned = [one async for one in restores.plan(call, then.position, device, epoch=epoch)]
    lines = [one.line for one in planned]
    if p.apply and any(line.outcome != "stays-out" for line in lines):
        # Begun, it is carried through: a caller who goes away must not leave it half done.
        with anyio.CancelScope(shield=True):
            epoch, began = await restores.begin(call, then.position, device)
            again = restores.plan(call, then.position, device, epoch=epoch, cause=began)
            lines = [one.line if one.line.outcome == "stays-out" else await restores.carry_out(call, one) async for one in again]
    return Restored(
        to=then.position,
        to_ms=then.recorded_at,
        head=then.head,
        applied=bool(began),
        epoch=epoch,
        position=began,
        counts=_counts(lines),
        collects=sum(bool(line.collects) for line in lines),
        lines=tuple(lines[:_MOST]),
    )


def _counts(lines: list[Line]) -> Counts:
    found: dict[str, int] = {}
    for line in lines:
        name = line.outcome.replace("-", "_")
        found[name] = found.get(name, 0) + 1
    return Counts(**found)


async def undo(call: Call[UndoParams]) -> Undone:
    """Plan what takes one command back, or do it; what came later stays."""
    p = call.params
    if (p.position is None) is (p.command_id is None):
        raise Refused(Reason.INVALID_PARAMS, method="history.undo", problems="give position or commandId")
    found = await undoing.find(call, p.position, p.command_id, bulk=p.bulk)
    planned, left = await undoing.plan(call, found)
    lines = [one.line for one in planned]
    if p.apply:
        with anyio.CancelScope(shield=True):
            lines = [await restores.carry_out(call, one) for one in planned]
    return Undone(
        positions=tuple(one.position for one in found),
        command_id=found[0].meta.command if found else None,
        applied=p.apply and bool(planned),
        lines=tuple(lines),
        left=left,
    )


METHODS: tuple[Method[RestoreParams] | Method[UndoParams], ...] = (
    Method("history.restore", RestoreParams, restore, PAIRING, waits=True),
    Method("history.undo", UndoParams, undo, PAIRING, waits=True),
)
