"""The watch: looks every second whether the gateway can do what it is for, and remembers what it saw as plain figures.

Reasons why it cannot are named here, once, for `/readyz`; metrics read the same figures. It never decides about access.
"""

from collections.abc import Callable
from typing import Final

import anyio
import structlog
from msgspec import Struct
from msgspec.structs import replace

from pairing.listing import Listing, PendingRow
from pairing.log.port import EventLog
from pairing.machine import LEAST_DESCRIPTORS, LEAST_DISK, Machine
from pairing.refusals import PairingError

LOOK_S: Final = 1.0
PATIENCE_S: Final = 5.0
_PENDING_EVERY: Final = 5
_MACHINE_EVERY: Final = 10
log = structlog.get_logger("pairing.gateway")


class Vitals(Struct, frozen=True, kw_only=True):
    """What was seen at the last look. Positions: `head` of the log (None: it cannot be read), `owed` the head one look before.

    `owed` is what herald and views have had a whole look's time to pass. `pending`: open requests by need, with the time (ms) at
    which the oldest was opened. `differences`: rows of the views that differed when they were last verified here.
    """

    head: int | None = 0
    owed: int = 0
    herald: int = 0
    views: int = 0
    pending: dict[str, tuple[int, int]] = {}
    machine: Machine = Machine()
    differences: int | None = None


def failing(seen: Vitals) -> tuple[str, ...]:
    """Return the names of what keeps the gateway from doing its work, most fundamental first; () where nothing does."""
    machine = seen.machine
    tried = {
        "log-unavailable": seen.head is None or not machine.log_there,
        "herald-behind": seen.herald < seen.owed,
        "views-behind": seen.views < seen.owed,
        "too-few-descriptors": machine.descriptors is not None and machine.descriptors < LEAST_DESCRIPTORS,
        "disk-full-soon": machine.disk is not None and machine.disk < LEAST_DISK,
    }
    return tuple(name for name, fails in tried.items() if fails)


class Watch:
    """Looks at one gateway. `herald` says how far it has come; `machine` what the host has left."""

    def __init__(self, events: EventLog, views: Listing, herald: Callable[[], int], machine: Callable[[], Machine]) -> None:
        self._log, self._views, self._herald, self.machine = events, views, herald, machine
        self._looks = 0
        self.phase: str | None = "starting"
        self.seen = Vitals()

    @property
    def failing(self) -> tuple[str, ...]:
        """Why the gateway is not ready: `starting` or `stopping`, then what the last look found."""
        return (*((self.phase,) if self.phase else ()), *failing(self.seen))

    async def run(self) -> None:
        """Look, until cancelled."""
        while True:
            await self.look()
            await anyio.sleep(LOOK_S)

    async def look(self) -> None:
        """Look once."""
        before, turn = self.seen, self._looks
        self._looks += 1
        head = await self._head()
        owed = before.owed if before.head is None else before.head
        seen = replace(before, head=head, owed=owed)
        if head is not None:
            seen = await self._through_views(seen, pending=turn % _PENDING_EVERY == 0)
        if turn % _MACHINE_EVERY == 0:
            seen = replace(seen, machine=self.machine())
        self.seen = replace(seen, herald=self._herald(), differences=self._views.differences)
        if (now := failing(self.seen)) != failing(before):
            log.log(30 if now else 20, "readiness", failing=now)

    async def _head(self) -> int | None:
        try:
            return (await self._log.head()).position
        except PairingError as error:
            log.warning("log not looked at", error=str(error))
            return None

    async def _through_views(self, seen: Vitals, *, pending: bool) -> Vitals:
        # A rebuild may take minutes; it goes on, and the look ends all the same.
        with anyio.move_on_after(PATIENCE_S):
            try:
                seen = replace(seen, views=await self._views.position())
                if pending:
                    seen = replace(seen, pending=_by_need((await self._views.pending()).rows))
            except PairingError as error:
                log.warning("views not looked at", error=str(error))
        return seen


def _by_need(rows: tuple[PendingRow, ...]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for row in rows:
        count, oldest = found.get(row.need, (0, row.opened_at))
        found[row.need] = (count + 1, min(oldest, row.opened_at))
    return found
