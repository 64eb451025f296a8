"""The desk: load, fold, decide, append, and again where another was faster. The only meeting of decisions and log.

States are kept in a bounded cache and are only ever a guess: the log's expected version judges every append, and a refusal is
spoken only on a state that is current. It knows no socket and no clock.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar, cast

import anyio
import structlog
from msgspec import Struct

from .commands import Caller, Command, DeviceCommand, GatewayCommand
from .decide import decide
from .device import INITIAL, Device, evolve, stands
from .events import GATEWAY_STREAM, AnyEvent, DeviceEvent, GatewayEvent, Meta, Unknown, device_stream
from .log.codec import decode, draft
from .log.errors import EventUnreadable
from .log.port import Appended, Conflict, EventLog, Record, Slice
from .policy import EMPTY_HOUSE, House, decide_house, evolve_house
from .refusals import Reason, Refused

S = TypeVar("S")
C = TypeVar("C", bound=Command)
E = TypeVar("E")

ATTEMPTS = 12
log = structlog.get_logger("pairing.desk")


class Handled(Struct, Generic[S, E], frozen=True):
    """What came of a command: its events and their rows, and the state after them. No rows: nothing had to happen.

    `repeated` says that this is the answer to an earlier asking with the same command id.
    """

    events: tuple[E, ...]
    records: tuple[Record, ...]
    state: S
    version: int
    repeated: bool = False

    @property
    def position(self) -> int:
        """The last position written, 0 where nothing had to happen."""
        return self.records[-1].position if self.records else 0


class Folder(Protocol[S]):
    """How one family of streams is folded."""

    initial: S

    def fold(self, state: S, event: AnyEvent | Unknown) -> S:
        """Return the state after an event."""


class _Devices:
    initial = INITIAL

    def fold(self, state: Device, event: AnyEvent | Unknown) -> Device:
        return evolve(state, cast("DeviceEvent | Unknown", event))


class _House:
    initial = EMPTY_HOUSE

    def fold(self, state: House, event: AnyEvent | Unknown) -> House:
        return evolve_house(state, cast("GatewayEvent | Unknown", event))


class Desk:
    """Answers commands against one log. Safe to share between any number of tasks of one event loop."""

    def __init__(self, events: EventLog, *, version: str, cache: int = 20_000) -> None:
        self._log = events
        self._version = version
        self._devices: Streams[Device] = Streams(events, _Devices(), cache)
        self._houses: Streams[House] = Streams(events, _House(), 1)
        self.policy: str | None = None
        self.written = 0

    @property
    def position(self) -> int:
        """The log position up to which states are known to be current."""
        return self._devices.position

    async def device(self, device: str) -> Device:
        """Return a device's state, current across processes. Raises `StreamDamaged`."""
        return (await self.device_at(device))[0]

    async def device_at(self, device: str) -> tuple[Device, int]:
        """Return a device's state and the version of its stream, current across processes."""
        await self._catch_up()
        return await self._devices.get(device_stream(device))

    async def house(self) -> House:
        """Return the state of the gateway's own stream, current across processes."""
        await self._catch_up()
        return (await self._houses.get(GATEWAY_STREAM))[0]

    async def handle(self, command: DeviceCommand) -> Handled[Device, DeviceEvent]:
        """Decide a command about a device and store what follows. Raises `Refused`, `LogUnavailable`, `StreamDamaged`."""
        return await self._handle(self._devices, device_stream(command.device), command, decide)

    async def handle_house(self, command: GatewayCommand) -> Handled[House, GatewayEvent]:
        """Decide a command about the gateway itself and store what follows."""
        return await self._handle(self._houses, GATEWAY_STREAM, command, decide_house)

    async def _handle(
        self,
        streams: "Streams[S]",
        stream: str,
        command: C,
        rule: Callable[[S, C], tuple[E, ...]],
    ) -> Handled[S, E]:
        fresh = False
        for attempt in range(ATTEMPTS):
            if attempt > 1:
                await anyio.sleep(0.001 * attempt)
            state, version = await streams.get(stream)
            try:
                guard = await self._vouched(command.by, stream)
                events = rule(state, command)
            except Refused:
                if not fresh and (earlier := await self._answered(streams, stream, command)):
                    return cast("Handled[S, E]", earlier)
                if fresh or not await self._catch_up():
                    raise
                fresh = True
                continue
            if not events:
                if await self._catch_up():
                    continue
                return Handled((), (), state, version)
            outcome = await self._append(stream, version, events, command, guard)
            if isinstance(outcome, Conflict):
                log.debug("conflict", stream=outcome.stream, expected=outcome.expected, actual=outcome.actual)
                await self._catch_up()
                streams.drop(stream)
                if guard is not None:
                    self._devices.drop(guard.stream)
                continue
            if outcome.records[0].version != version + 1:
                return cast("Handled[S, E]", await self._earlier(streams, stream, outcome.records))
            self.written = max(self.written, outcome.position)
            after = streams.put(stream, version, state, cast("tuple[AnyEvent, ...]", events), outcome.records)
            (self._houses if streams is self._devices else self._devices).wrote(outcome.records)
            return Handled(events, outcome.records, after, version + len(events))
        raise Refused(Reason.BUSY)

    async def _append(
        self, stream: str, version: int, events: Sequence[object], command: Command, guard: Slice | None
    ) -> Appended | Conflict:
        meta = Meta(
            actor=command.by.actor,
            command=command.id,
            authority=tuple(dict.fromkeys((*(command.by.scopes or ()), *command.by.ceiling))),
            origin=command.by.origin,
            cause=command.cause,
            reason=command.reason,
            ticket=command.ticket,
            policy=command.policy or self.policy,
            gateway=self._version,
        )
        drafts = tuple(draft(cast("AnyEvent", event), meta, command.personal) for event in events)
        slices = [Slice(stream, version, drafts)]
        if guard is not None:
            slices.append(guard)
        return await self._log.append(slices, command=command.id, now=command.now)

    async def _vouched(self, caller: Caller, stream: str) -> Slice | None:
        """Return a guard that holds only while the caller's own authority is what it was when this was decided (R8, V1)."""
        if caller.standing is None:
            return None
        own = device_stream(caller.standing.device)
        state, version = await self._devices.get(own)
        if not stands(state, caller.standing):
            raise Refused(Reason.FENCED)
        return None if own == stream else Slice(own, version, ())

    async def _answered(self, streams: "Streams[S]", stream: str, command: Command) -> Handled[S, object] | None:
        """A caller whose answer was lost asks again with the same command id and gets the first answer, not a refusal."""
        records = await self._log.command(command.id)
        return await self._earlier(streams, stream, records) if records else None

    async def _earlier(self, streams: "Streams[S]", stream: str, records: tuple[Record, ...]) -> Handled[S, object]:
        await self._catch_up()
        state, version = await streams.get(stream)
        return Handled(tuple(decode(record) for record in records), records, state, version, repeated=True)

    async def _catch_up(self) -> bool:
        """Take in what any process has written since; say whether there was anything."""
        moved = await self._devices.catch_up()
        return await self._houses.catch_up() or moved


class Streams(Generic[S]):
    """A bounded cache of folded streams, kept current by reading the log's new rows."""

    def __init__(self, events: EventLog, folder: Folder[S], size: int) -> None:
        self._log = events
        self._folder = folder
        self._size = size
        self._cached: OrderedDict[str, tuple[S, int]] = OrderedDict()
        self._position: int | None = None
        self._lock = anyio.Lock()
        self._ours: dict[int, int] = {}
        self._loading: set[str] = set()
        self._touched: set[str] = set()

    @property
    def position(self) -> int:
        """The position up to which the log has been taken in."""
        return self._position or 0

    async def get(self, stream: str) -> tuple[S, int]:
        """Return a stream's state and version: from the cache, or folded from its rows."""
        hit = self._cached.get(stream)
        if hit is not None:
            self._cached.move_to_end(stream)
            return hit
        found = await self._load(stream)
        # Another task may have put a later version meanwhile.
        later = self._cached.get(stream)
        return later if later is not None and later[1] > found[1] else self._keep(stream, found)

    async def _load(self, stream: str) -> tuple[S, int]:
        while True:
            self._loading.add(stream)
            self._touched.discard(stream)
            rows = await self._log.stream(stream)
            if stream in self._touched:
                continue
            self._loading.discard(stream)
            state = self._folder.initial
            for row in rows:
                state = self._folder.fold(state, decode(row))
            return state, rows[-1].version if rows else 0

    def put(self, stream: str, version: int, state: S, events: Sequence[AnyEvent], records: Sequence[Record]) -> S:
        """Take in events that this process appended after `version`."""
        for event in events:
            state = self._folder.fold(state, event)
        self.wrote(records)
        hit = self._cached.get(stream)
        if hit is None or hit[1] <= version:
            self._keep(stream, (state, version + len(events)))
        return state

    def wrote(self, records: Sequence[Record]) -> None:
        """Note rows that need not be read again, so that following costs nothing where nobody else writes."""
        if self._position is None:
            return
        self._ours[records[0].position] = records[-1].position
        while last := self._ours.pop(self._position + 1, None):
            self._position = last

    def drop(self, stream: str) -> None:
        """Forget a stream's state; the next reader folds it anew."""
        self._cached.pop(stream, None)

    async def catch_up(self) -> bool:
        """Fold the rows above the last known position into what is cached. Say whether any cached state moved."""
        head = await self._log.head()
        if self._position is not None and head.position <= self._position:
            return False
        async with self._lock:
            if self._position is None:
                # States folded before the first look are already as new as the log was when they were read.
                self._cached.clear()
                self._position = (await self._log.head()).position
                return True
            return await self._take_in()

    async def _take_in(self) -> bool:
        moved = False
        while rows := await self._log.scan(after=self._position or 0, limit=5000):
            for row in rows:
                if row.stream in self._loading:
                    self._touched.add(row.stream)
                hit = self._cached.get(row.stream)
                if hit is None or row.version <= hit[1]:
                    continue
                moved = True
                self._advance(row, hit)
            self._position = rows[-1].position
            self._ours = {first: last for first, last in self._ours.items() if first > self._position}
        return moved

    def _advance(self, row: Record, hit: tuple[S, int]) -> None:
        try:
            self._cached[row.stream] = (self._folder.fold(hit[0], decode(row)), row.version)
        except EventUnreadable as error:
            # One unreadable row closes its own stream, for whoever asks for it next; the others go on (D2).
            log.error("event unreadable", position=error.position, stream=row.stream)
            self.drop(row.stream)
        if row.version != hit[1] + 1:
            self.drop(row.stream)

    def _keep(self, stream: str, found: tuple[S, int]) -> tuple[S, int]:
        self._cached[stream] = found
        self._cached.move_to_end(stream)
        while len(self._cached) > self._size:
            self._cached.popitem(last=False)
        return found
