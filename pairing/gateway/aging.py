"""The clock's hand: records what time alone has ended, in bounded batches, so that sessions end and listeners are told.

It finds by views, which file ends by their time; whether one has come is decided on the device's own stream. Nothing waits for
it: verdicts and decisions look at the time themselves. Only disuse ends a token when it says so, and never on a guess.
"""

from typing import Any, Final

import anyio
import structlog

from pairing import ids
from pairing.aging import unused
from pairing.commands import Caller, DeviceCommand, Elapse, ExpireIdle, Remind
from pairing.events import Actor
from pairing.listing import DueRow, Notes
from pairing.refusals import PairingError, Reason, Refused
from pairing.service import Service

from .session import Registry

EVERY_S: Final = 1.0
MOST: Final = 500
STRETCH: Final = 2_000
"""Positions of the log that one look for unused tokens goes over."""
PAUSE_MS: Final = 60_000
"""Between two walks over all tokens."""
SETTLING_MS: Final = 3_600_000
"""After a start: whoever could not come while nothing served has this time to."""
TIMER: Final = Caller(actor=Actor("timer"), scopes=None)
log = structlog.get_logger("pairing.gateway")


class Aging:
    """Looks every second at one service. `distances` (ms): how long before its end a token is warned of, the nearest first."""

    def __init__(self, service: Service, registry: Registry, notes: Notes, distances: tuple[int, ...]) -> None:
        self._service, self._registry, self._notes = service, registry, notes
        self._distances = sorted(int(distance) for distance in distances)
        self._warned = dict.fromkeys(self._distances, 0)
        self._walked = dict.fromkeys((role for role, _ in service.idle), 0)
        self._rested = 0

    async def run(self) -> None:
        """Look, until cancelled."""
        while True:
            await anyio.sleep(EVERY_S)
            try:
                await self.look()
            except PairingError as error:
                log.warning("ends not looked for", error=str(error))

    async def look(self) -> None:
        """Record what has ended, or is about to, by now."""
        now, views = self._service.clock(), self._service.views
        over = await views.locks_over(now, MOST)
        dead = (await views.due(after=0, until=now, most=MOST)).rows
        for device in dict.fromkeys((*over, *(row.device for row in dead))):
            await self._record(Elapse(device=device, **_stamp(now)))
        for distance in self._distances:
            await self._warn(distance, now)
        if self._service.idle:
            await self._look_for_unused(now)

    async def _warn(self, distance: int, now: int) -> None:
        """Warn of the ends that have come within a distance since the last look; at a start, of all within it."""
        after, until = max(now, self._warned[distance]), now + distance
        rows = (await self._service.views.due(after=after, until=until, most=MOST)).rows
        for row in rows:
            if row.warned is None or row.warned > distance:
                command = Remind(device=row.device, role=row.role, issue=row.issue, distance=distance, **_stamp(now))
                await self._record(command)
        # Tokens that end in one millisecond are not parted by a full batch: the last ones are looked at again.
        full = len(rows) == MOST and (rows[-1].expires_at or until) - 1 > after
        self._warned[distance] = (rows[-1].expires_at or until) - 1 if full else until

    async def _look_for_unused(self, now: int) -> None:
        """Go on with the walk over the tokens that may go unused for so long and no longer."""
        if now < self._rested:
            return
        head, walking = await self._service.views.position(), False
        for role, idle in self._service.idle:
            after = self._walked[role]
            if after > head or now < self._service.started_at + min(idle, SETTLING_MS):
                continue
            walking = True
            self._walked[role] = after + STRETCH
            rows = await self._service.views.aged(role, now - idle, after=after, until=after + STRETCH)
            for row in rows.rows:
                await self._judge(row, idle, now)
        if not walking:
            self._walked, self._rested = dict.fromkeys(self._walked, 0), now + PAUSE_MS
            self._note_live(now)

    async def _judge(self, row: DueRow, idle: int, now: int) -> None:
        """What is not known to be unused is in use: before the notes begin, everything was (T13)."""
        if self._service.sessions.connected(row.device):
            return
        last = await self._notes.last_use(row.device, row.role)
        since = max(row.issued_at, self._notes.since, last or 0)
        if unused(since, idle, now):
            await self._record(ExpireIdle(device=row.device, role=row.role, issue=row.issue, since=since, **_stamp(now)))

    def _note_live(self, now: int) -> None:
        """A session that stays is use, also if this process is killed before it ends."""
        for device in self._registry.devices():
            for session in self._registry.of_device(device):
                standing = session.caller.standing
                used = (session.role, standing.issue) if standing is not None and standing.issue else ("", "")
                if standing is not None:
                    self._notes.note_use(device, *used, now, session.caller.address)

    async def _record(self, command: DeviceCommand) -> None:
        try:
            await self._service.desk.handle(command)
        except (Refused, PairingError) as error:
            # One stream that takes no decisions must not hold up the others' (D2). The last operator stays, unused or not (A22).
            kept = isinstance(error, Refused) and error.reason is Reason.LAST_OPERATOR
            log.log(10 if kept else 30, "end not recorded", device=command.device, error=str(error))


def _stamp(now: int) -> dict[str, Any]:
    return {"id": ids.uuid7(now), "now": now, "by": TIMER}
