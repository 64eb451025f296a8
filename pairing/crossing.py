"""One command over several streams: decided on the states of all, stored in all of them or in none.

The same round as the desk's on one stream: load, fold, decide, append, and again where another was faster.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import anyio
import structlog
from msgspec import Struct

from .commands import Command, DeviceBound
from .events import AnyEvent, device_stream
from .families import Families, Place
from .guards import Guards
from .log.codec import decode
from .log.port import Conflict, EventLog, Record, Slice
from .refusals import Reason, Refused
from .scribe import Scribe
from .turns import ATTEMPTS, Turns

log = structlog.get_logger("pairing.desk")


class Crossed(Struct, frozen=True):
    """What came of a command over several streams: for each, in the order given, its events and the state after them.

    `records` are the rows of all of them. No rows: nothing had to happen.
    """

    events: tuple[tuple[AnyEvent, ...], ...]
    states: tuple[Any, ...]
    records: tuple[Record, ...]

    @property
    def position(self) -> int:
        """The last position written, 0 where nothing had to happen."""
        return self.records[-1].position if self.records else 0


class Crossing:
    """Settles commands over several streams of one log."""

    def __init__(self, events: EventLog, families: Families, turns: Turns, guards: Guards, scribe: Scribe) -> None:
        self._log = events
        self._families = families
        self._turns = turns
        self._guards = guards
        self._scribe = scribe

    async def settle(
        self, places: tuple[Place, ...], command: Command, rule: Callable[..., tuple[tuple[AnyEvent, ...], ...]]
    ) -> Crossed:
        """Decide one command over several streams and store all that follows, or none of it. Raises as `handle` does.

        `rule` takes their states and gives their events, in the order of `places`. A stream that gets no event is held to its
        version all the same: what was decided on it is so at commit.
        """
        taken: list[str] = []
        try:
            # In one order everywhere, so that no two commands wait for each other.
            for stream in sorted(stream for _, stream in places):
                await self._turns.take(stream)
                taken.append(stream)
            return await self._settle(places, command, rule)
        finally:
            for stream in taken:
                self._turns.pass_on(stream)

    async def _settle(
        self, places: tuple[Place, ...], command: Command, rule: Callable[..., tuple[tuple[AnyEvent, ...], ...]]
    ) -> Crossed:
        fresh = False
        for attempt in range(ATTEMPTS):
            if attempt > 1:
                await anyio.sleep(0.001 * attempt)
            found = [await family.get(stream) for family, stream in places]
            states = tuple(state for state, _ in found)
            refused, guards = None, dict[str, Slice]()
            events: tuple[tuple[AnyEvent, ...], ...] = tuple(() for _ in places)
            try:
                if command.by.standing is not None:
                    await self._guards.vouched(command.by.standing, "", guards, command.now)
                ruled = rule(*states)
                if isinstance(command, DeviceBound) and self._guards.approvers is not None:
                    ruled = await self._kept(places, states, ruled, command, guards)
                events = ruled
            except Refused as no:
                refused = no
            if not any(events):
                if not fresh:
                    await self._families.catch_up(*(family for family, _ in places))
                    fresh = True
                    continue
                if records := await self._log.command(command.id):
                    return await self._earlier(places, records)
                if refused is not None:
                    raise refused
                return Crossed(events, states, ())
            slices = [
                Slice(stream, version, self._scribe.drafts(news, command))
                for (_, stream), (_, version), news in zip(places, found, events, strict=True)
            ]
            held = {stream for _, stream in places}
            slices += [guard for stream, guard in guards.items() if stream not in held]
            outcome = await self._scribe.append(slices, command)
            if isinstance(outcome, Conflict):
                log.debug("conflict", stream=outcome.stream, expected=outcome.expected, actual=outcome.actual)
                await self._families.catch_up(*(family for family, _ in places))
                fresh = True
                for family, stream in places:
                    family.drop(stream)
                for stream in guards:
                    self._families.devices.drop(stream)
                continue
            if not _stored(outcome.records, slices):
                return await self._earlier(places, outcome.records)
            self._scribe.wrote(outcome.position)
            for known in self._families.all:
                known.wrote(outcome.records)
            after = tuple(
                family.took(stream, version, state, news)
                for (family, stream), (state, version), news in zip(places, found, events, strict=True)
            )
            return Crossed(events, after, outcome.records)
        raise Refused(Reason.BUSY)

    async def _earlier(self, places: tuple[Place, ...], records: tuple[Record, ...]) -> Crossed:
        await self._families.catch_up(*(family for family, _ in places))
        states = tuple([(await family.get(stream))[0] for family, stream in places])
        events = [tuple(decode(row) for row in records if row.stream == stream) for _, stream in places]
        return Crossed(cast("tuple[tuple[AnyEvent, ...], ...]", tuple(events)), states, records)

    async def _kept(
        self,
        places: tuple[Place, ...],
        states: tuple[Any, ...],
        events: tuple[tuple[AnyEvent, ...], ...],
        command: DeviceBound,
        guards: dict[str, Slice],
    ) -> tuple[tuple[AnyEvent, ...], ...]:
        """Return the same of what follows over several streams, for that of the command's device."""
        index = [stream for _, stream in places].index(device_stream(command.device))
        kept = await self._guards.kept(states[index], events[index], command, guards)
        return (*events[:index], cast("tuple[AnyEvent, ...]", tuple(kept)), *events[index + 1 :])


def _stored(records: Sequence[Record], slices: Sequence[Slice]) -> bool:
    """Say whether the rows are these slices, and not what an earlier asking with the same id has stored."""
    wanted = [(cut.stream, cut.expected + 1 + n, d.body) for cut in slices for n, d in enumerate(cut.drafts)]
    return [(record.stream, record.version, record.body) for record in records] == wanted
