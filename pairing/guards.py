"""What must hold beside a command until its commit, kept by guards: slices that write nothing and pin a stream's version.

The caller's own standing (R8), the voters an approval leans on, and somebody else who can approve (A22). What follows from a
command is `decide`'s.
"""

from collections.abc import Sequence
from typing import Protocol, cast

from msgspec.structs import replace

from . import operators, quorum
from .commands import Approve, DeviceBound, Standing
from .device import Device
from .events import DeviceEvent, device_stream
from .log.errors import EventUnreadable, StreamDamaged
from .log.port import Slice
from .refusals import Reason, Refused
from .scribe import Scribe
from .standing import lapsed, stands
from .streams import Streams


class Approvers(Protocol):
    """Finds devices that may be able to approve; whether one is, its own stream says."""

    async def approvers(self, *, besides: str, under: str | None, skip: int = 0) -> tuple[str, ...]:
        """Return some devices besides one whose operator token covers approving; none once all have been returned."""


class Guards:
    """Looks at other devices' states for a command, and holds them to what was seen.

    `under` is the tag of the shared secret in force; without `approvers` nobody keeps the last operator.
    """

    def __init__(self, devices: Streams[Device], scribe: Scribe) -> None:
        self._devices = devices
        self._scribe = scribe
        self.under: str | None = None
        self.approvers: Approvers | None = None

    async def vouched(self, standing: Standing, stream: str, guards: dict[str, Slice], now: int) -> None:
        """Add a guard that holds only while the caller's own authority is what it was when this was decided (R8, V1)."""
        own = device_stream(standing.device)
        state, version = await self._devices.get(own)
        if standing.device in self._scribe.doubted or not stands(state, standing, now):
            raise Refused(Reason.FENCED)
        if own != stream:
            guards[own] = Slice(own, version, ())

    async def beside(self, state: Device, command: Approve, guards: dict[str, Slice]) -> Approve:
        """Return a command that knows what the devices it leans on hold, and hold them to that until the commit (R8)."""
        if not (devices := quorum.leans_on(state, command)):
            return command
        found = []
        for device in devices:
            stream = device_stream(device)
            try:
                holder, version = await self._devices.get(stream)
            except (StreamDamaged, EventUnreadable):
                continue
            if device != command.device:
                guards.setdefault(stream, Slice(stream, version, ()))
            if device not in self._scribe.doubted:
                found.append((device, lapsed(holder, command.now)))
        return replace(command, present=quorum.standings(found, command.under))

    async def kept(
        self, state: Device, events: Sequence[object], command: DeviceBound, guards: dict[str, Slice]
    ) -> Sequence[object]:
        """Return events that leave somebody who can approve, with a guard on one who can; or that say they leave nobody (A22).

        It looks at what follows from a command, not at which one it is: whatever ends access comes through here.
        """
        ending = operators.ends(lapsed(state, command.now), cast("tuple[DeviceEvent, ...]", events), self.under)
        if ending is None or await self._witness(command.device, guards, command.now):
            return events
        return (*events, operators.break_glass(ending, command))

    async def _witness(self, besides: str, guards: dict[str, Slice], now: int) -> bool:
        """Find another device that can approve, and hold it to being so until the commit. Views find, its stream decides."""
        seen = 0
        while self.approvers and (found := await self.approvers.approvers(besides=besides, under=self.under, skip=seen)):
            for device in found:
                stream = device_stream(device)
                try:
                    state, version = await self._devices.get(stream)
                except (StreamDamaged, EventUnreadable):
                    continue
                if device != besides and device not in self._scribe.doubted and operators.able(lapsed(state, now), self.under):
                    guards.setdefault(stream, Slice(stream, version, ()))
                    return True
            seen += len(found)
        return False
