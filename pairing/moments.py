"""Moments: a position of the log, or a time, which means the last position recorded by then. Shared by all that looks back.

A moment that the log does not have is refused: an answer for another one would be taken for what was asked.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Struct

from .refusals import Reason, Refused
from .service import Call, Params

Position: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Time: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]

# What a caller's clock may be ahead of this one: as much as a signature's.
_AHEAD_MS = 120_000


class AsOf(Params, frozen=True, kw_only=True):
    """`at` is a position, `atMs` a time; neither means now, and not both."""

    at: Position | None = None
    at_ms: Time | None = None


class Moment(Struct, frozen=True):
    """A position, when it was recorded (ms), and where the log ends. `past`: somebody asked for it; else it is simply now."""

    position: int
    recorded_at: int | None
    head: int
    past: bool

    @property
    def at(self) -> int | None:
        """The position to ask views for; None for now."""
        return self.position if self.past else None


async def moment(call: Call[Any], at: int | None, at_ms: int | None) -> Moment:
    """Return the moment that a position or a time means; now without either. Raises `Refused`."""
    views, head = call.service.views, await call.service.views.position()
    if at is None and at_ms is None:
        return Moment(head, await views.time_at(head), head, False)
    if at is not None and at_ms is not None:
        raise await _none(call, head, "give a position or a time, not both")
    if at is None:
        at = await _by(call, at_ms or 0, head)
    if at > head:
        raise await _none(call, head, f"position {at} has not been recorded")
    return Moment(at, await views.time_at(at), head, True)


async def _by(call: Call[Any], at_ms: int, head: int) -> int:
    if at_ms > call.service.clock() + _AHEAD_MS:
        raise await _none(call, head, f"{said(at_ms)} has not come yet")
    position = await call.service.views.position_at(at_ms)
    if position < 1:
        raise await _none(call, head, f"nothing was recorded by {said(at_ms)}")
    return min(position, head)


async def of(call: Call[Any]) -> Moment:
    """Return the moment that a call's own parameters ask for."""
    return await moment(call, call.params.at, call.params.at_ms)


async def _none(call: Call[Any], head: int, why: str) -> Refused:
    first = await call.service.views.time_at(1)
    since = f" ({said(first)})" if first is not None else ""
    details = {"head": head, **({"firstMs": first} if first is not None else {})}
    return Refused(Reason.NO_SUCH_MOMENT, why=why, since=since, head=head, details=details)


def said(ms: int) -> str:
    """Return a time in words, to the second."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
