"""The clock's hand: records what time alone has ended, in bounded batches, so that sessions end and listeners are told.

It finds by views, which file ends by their time; whether one has come is decided on the device's own stream. Nothing waits for
it: verdicts and decisions look at the time themselves.
"""

from typing import Any, Final

import anyio
import structlog

from pairing import ids
from pairing.commands import Caller, DeviceCommand, Elapse
from pairing.events import Actor
from pairing.refusals import PairingError, Refused
from pairing.service import Service

EVERY_S: Final = 1.0
MOST: Final = 500
TIMER: Final = Caller(actor=Actor("timer"), scopes=None)
log = structlog.get_logger("pairing.gateway")


class Aging:
    """Looks every second at one service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def run(self) -> None:
        """Look, until cancelled."""
        while True:
            await anyio.sleep(EVERY_S)
            try:
                await self.look()
            except PairingError as error:
                log.warning("ends not looked for", error=str(error))

    async def look(self) -> None:
        """Record what has ended by now."""
        now = self._service.clock()
        for device in await self._service.views.locks_over(now, MOST):
            await self._record(Elapse(device=device, **_stamp(now)))

    async def _record(self, command: DeviceCommand) -> None:
        try:
            await self._service.desk.handle(command)
        except (Refused, PairingError) as error:
            # One stream that takes no decisions must not hold up the others' (D2).
            log.warning("end not recorded", device=command.device, error=str(error))


def _stamp(now: int) -> dict[str, Any]:
    return {"id": ids.uuid7(now), "now": now, "by": TIMER}
