"""The desk: load, fold, decide, append, and again where another was faster. The only meeting of decisions and log.

States are kept in a bounded cache and are only ever a guess: the log's expected version judges every append, and a refusal is
spoken only on a state that is current. It knows no socket and no clock.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Generic, Protocol, TypeVar, cast

import anyio
import structlog
from msgspec import Struct

from . import operators
from .commands import (
    Command,
    DeviceBound,
    DeviceCommand,
    GatewayCommand,
    HookCommand,
    NodeCommand,
    Remove,
    Revoke,
    Rotate,
    Standing,
)
from .decide import decide
from .device import INITIAL, Device, evolve, stands
from .events import (
    GATEWAY_STREAM,
    AnyEvent,
    DeviceEvent,
    GatewayEvent,
    HookEvent,
    Meta,
    NodeEvent,
    Unknown,
    device_stream,
    hook_stream,
    node_stream,
)
from .hooks import NO_HOOK, HookState, decide_hook, evolve_hook
from .log.chain import flaw
from .log.codec import decode, draft
from .log.errors import EventUnreadable, LogUnavailable, StreamDamaged
from .log.port import Appended, Conflict, Draft, EventLog, Mark, Record, Slice
from .nodes import EMPTY_NODE, NodeState, decide_node, evolve_node
from .policy import EMPTY_HOUSE, House, decide_house, evolve_house
from .refusals import Reason, Refused

S = TypeVar("S")
C = TypeVar("C", bound=Command)
E = TypeVar("E")

ATTEMPTS = 12
BATCH = 5_000
MOST_OURS = 4_096
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


class Approvers(Protocol):
    """Finds devices that may be able to approve; whether one is, its own stream says."""

    async def approvers(self, *, besides: str, under: str | None, skip: int = 0) -> tuple[str, ...]:
        """Return some devices besides one whose operator token covers approving; none once all have been returned."""


class _Devices:
    initial = INITIAL

    def fold(self, state: Device, event: AnyEvent | Unknown) -> Device:
        return evolve(state, cast("DeviceEvent | Unknown", event))


class _House:
    initial = EMPTY_HOUSE

    def fold(self, state: House, event: AnyEvent | Unknown) -> House:
        return evolve_house(state, cast("GatewayEvent | Unknown", event))


class _Nodes:
    initial = EMPTY_NODE

    def fold(self, state: NodeState, event: AnyEvent | Unknown) -> NodeState:
        return evolve_node(state, cast("NodeEvent | Unknown", event))


class _Hooks:
    initial = NO_HOOK

    def fold(self, state: HookState, event: AnyEvent | Unknown) -> HookState:
        return evolve_hook(state, cast("HookEvent | Unknown", event))


class Desk:
    """Answers commands against one log. Safe to share between any number of tasks of one event loop."""

    def __init__(self, events: EventLog, *, version: str, cache: int = 20_000) -> None:
        self._log = events
        self._version = version
        self._devices: Streams[Device] = Streams(events, _Devices(), cache)
        self._houses: Streams[House] = Streams(events, _House(), 1)
        self._nodes: Streams[NodeState] = Streams(events, _Nodes(), cache)
        self._hooks: Streams[HookState] = Streams(events, _Hooks(), 64)
        self._turns: dict[str, deque[anyio.Event]] = {}
        self.policy: str | None = None
        self.under: str | None = None
        self.approvers: Approvers | None = None
        self.written = 0
        self.doubted: set[str] = set()

    @property
    def position(self) -> int:
        """The log position up to which states are known to be current."""
        return self._devices.position

    async def device(self, device: str) -> Device:
        """Return a device's state, current across processes. Raises `StreamDamaged`."""
        return (await self.device_at(device))[0]

    async def device_at(self, device: str) -> tuple[Device, int]:
        """Return a device's state and the version of its stream, current across processes."""
        await self._devices.catch_up()
        return await self._devices.get(device_stream(device))

    async def house(self) -> House:
        """Return the state of the gateway's own stream, current across processes."""
        await self._houses.catch_up()
        return (await self._houses.get(GATEWAY_STREAM))[0]

    async def node(self, node: str) -> NodeState:
        """Return the state of a node's surface, current across processes. Raises `StreamDamaged`."""
        await self._nodes.catch_up()
        return (await self._nodes.get(node_stream(node)))[0]

    async def hook(self, hook: str) -> HookState:
        """Return the state of a webhook, current across processes. Raises `StreamDamaged`."""
        await self._hooks.catch_up()
        return (await self._hooks.get(hook_stream(hook)))[0]

    async def handle(self, command: DeviceCommand) -> Handled[Device, DeviceEvent]:
        """Decide a command about a device and store what follows. Raises `Refused`, `LogUnavailable`, `StreamDamaged`."""
        return await self._handle(self._devices, device_stream(command.device), command, decide)

    async def handle_house(self, command: GatewayCommand) -> Handled[House, GatewayEvent]:
        """Decide a command about the gateway itself and store what follows."""
        return await self._handle(self._houses, GATEWAY_STREAM, command, decide_house)

    async def handle_node(self, command: NodeCommand) -> Handled[NodeState, NodeEvent]:
        """Decide a command about a node's surface and store what follows."""
        return await self._handle(self._nodes, node_stream(command.node), command, decide_node)

    async def handle_hook(self, command: HookCommand) -> Handled[HookState, HookEvent]:
        """Decide a command about a webhook and store what follows."""
        return await self._handle(self._hooks, hook_stream(command.hook), command, decide_hook)

    async def vouch(self, standing: Standing) -> None:
        """Return where what a session rests on still stands, as far as any process has written. Raises `Refused`."""
        await self._devices.catch_up()
        await self._vouched(standing, "", {})

    async def _handle(
        self,
        streams: "Streams[S]",
        stream: str,
        command: C,
        rule: Callable[[S, C], tuple[E, ...]],
    ) -> Handled[S, E]:
        await self._turn(stream)
        try:
            return await self._settle(streams, stream, command, rule)
        finally:
            self._pass_on(stream)

    async def _turn(self, stream: str) -> None:
        """Let this process's commands on one stream go one after another: side by side all but one would be in conflict."""
        waiting = self._turns.get(stream)
        if waiting is None:
            self._turns[stream] = deque()
            return
        mine = anyio.Event()
        waiting.append(mine)
        try:
            await mine.wait()
        except BaseException:
            if mine.is_set():
                self._pass_on(stream)
            else:
                waiting.remove(mine)
            raise

    def _pass_on(self, stream: str) -> None:
        waiting = self._turns[stream]
        if waiting:
            waiting.popleft().set()
        else:
            del self._turns[stream]

    async def _settle(
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
            state, version = streams.cached(stream) or await streams.get(stream)
            refused, guards = None, dict[str, Slice]()
            events: tuple[E, ...] = ()
            try:
                if command.by.standing is not None:
                    await self._vouched(command.by.standing, stream, guards)
                ruled = rule(state, command)
                if isinstance(command, DeviceBound) and self.approvers is not None:
                    ruled = cast("tuple[E, ...]", await self._kept(cast("Device", state), ruled, command, guards))
                events = ruled
            except Refused as no:
                refused = no
            if not events:
                # Neither a refusal nor "nothing to do" is said on a guess, whoever else has caught up meanwhile.
                if not fresh:
                    await self._catch_up(streams)
                    fresh = True
                    continue
                if earlier := await self._answered(streams, stream, command):
                    return cast("Handled[S, E]", earlier)
                if refused is not None:
                    raise refused
                return Handled((), (), state, version)
            drafts = self._drafts(events, command)
            outcome = await self._append([Slice(stream, version, drafts), *guards.values()], command)
            if isinstance(outcome, Conflict):
                log.debug("conflict", stream=outcome.stream, expected=outcome.expected, actual=outcome.actual)
                await self._catch_up(streams)
                fresh = True
                streams.drop(stream)
                for guard in guards:
                    self._devices.drop(guard)
                continue
            if not _stored_as(outcome.records, stream, version, drafts):
                return cast("Handled[S, E]", await self._earlier(streams, stream, outcome.records))
            self.written = max(self.written, outcome.position)
            after = streams.put(stream, version, state, cast("tuple[AnyEvent, ...]", events), outcome.records)
            for family in (self._devices, self._houses, self._nodes, self._hooks):
                if family is not streams:
                    family.wrote(outcome.records)
            return Handled(events, outcome.records, after, version + len(events))
        raise Refused(Reason.BUSY)

    async def _append(self, slices: Sequence[Slice], command: Command) -> Appended | Conflict:
        """Append; where an end of access could not be stored, its device is refused until one is, or until a restart (V6)."""
        ends = command.device if isinstance(command, Revoke | Remove | Rotate) else None
        try:
            outcome = await self._log.append(slices, command=command.id, now=command.now)
        except LogUnavailable:
            if ends is not None:
                self.doubted.add(ends)
            raise
        if ends is not None and not isinstance(outcome, Conflict):
            self.doubted.discard(ends)
        return outcome

    def _drafts(self, events: Sequence[object], command: Command) -> tuple[Draft, ...]:
        meta = Meta(
            actor=command.by.actor,
            command=command.id,
            authority=_united(command.by.scopes or (), command.by.ceiling),
            origin=command.by.origin,
            cause=command.cause,
            reason=command.reason,
            ticket=command.ticket,
            policy=command.policy or self.policy,
            gateway=self._version,
        )
        return tuple([draft(cast("AnyEvent", event), meta, command.personal) for event in events])

    async def _vouched(self, standing: Standing, stream: str, guards: dict[str, Slice]) -> None:
        """Add a guard that holds only while the caller's own authority is what it was when this was decided (R8, V1)."""
        own = device_stream(standing.device)
        state, version = await self._devices.get(own)
        if standing.device in self.doubted or not stands(state, standing):
            raise Refused(Reason.FENCED)
        if own != stream:
            guards[own] = Slice(own, version, ())

    async def _kept(
        self, state: Device, events: Sequence[object], command: DeviceBound, guards: dict[str, Slice]
    ) -> Sequence[object]:
        """Return events that leave somebody who can approve, with a guard on one who can; or that say they leave nobody (A22).

        It looks at what follows from a command, not at which one it is: whatever ends access comes through here.
        """
        ending = operators.ends(state, cast("tuple[DeviceEvent, ...]", events), self.under)
        if ending is None or await self._witness(command.device, guards):
            return events
        return (*events, operators.break_glass(ending, command))

    async def _witness(self, besides: str, guards: dict[str, Slice]) -> bool:
        """Find another device that can approve, and hold it to being so until the commit. Views find, its stream decides."""
        seen = 0
        while self.approvers and (found := await self.approvers.approvers(besides=besides, under=self.under, skip=seen)):
            for device in found:
                stream = device_stream(device)
                try:
                    state, version = await self._devices.get(stream)
                except (StreamDamaged, EventUnreadable):
                    continue
                if device != besides and device not in self.doubted and operators.able(state, self.under):
                    guards.setdefault(stream, Slice(stream, version, ()))
                    return True
            seen += len(found)
        return False

    async def _answered(self, streams: "Streams[S]", stream: str, command: Command) -> Handled[S, object] | None:
        """A caller whose answer was lost asks again with the same command id and gets the first answer, not a refusal."""
        records = await self._log.command(command.id)
        return await self._earlier(streams, stream, records) if records else None

    async def _earlier(self, streams: "Streams[S]", stream: str, records: tuple[Record, ...]) -> Handled[S, object]:
        await self._catch_up(streams)
        state, version = await streams.get(stream)
        return Handled(tuple(decode(record) for record in records), records, state, version, repeated=True)

    async def _catch_up(self, streams: "Streams[S]") -> None:
        """Take in what any process has written since, as far as a decision on these streams rests on it."""
        await self._devices.catch_up()
        if streams is not self._devices:
            await streams.catch_up()


@lru_cache
def _united(scopes: tuple[str, ...], ceiling: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*scopes, *ceiling)))


def _stored_as(records: Sequence[Record], stream: str, version: int, drafts: Sequence[Draft]) -> bool:
    """Say whether the rows are these drafts after this version, and not what an earlier asking with the same id has stored."""
    if records[0].stream != stream or records[0].version != version + 1:
        return False
    return [record.body for record in records] == [drafted.body for drafted in drafts]


class _Reading:
    """A stream that is being read: by how many, and the latest version known to have been stored meanwhile."""

    __slots__ = ("readers", "seen")

    def __init__(self) -> None:
        self.readers = 0
        self.seen = 0


class Streams(Generic[S]):
    """A bounded cache of folded streams, kept current by reading the log's new rows.

    What is cached is true at the mark or later. Whatever is read or written beside the following must prove that before it
    is kept: rows that went by meanwhile are looked at by nobody again.
    """

    def __init__(self, events: EventLog, folder: Folder[S], size: int) -> None:
        self._log = events
        self._folder = folder
        self._size = size
        self._cached: OrderedDict[str, tuple[S, int]] = OrderedDict()
        self._mark: Mark | None = None
        self._era = 0
        self._lock = anyio.Lock()
        self._ours: dict[int, Mark] = {}
        self._readings: dict[str, _Reading] = {}

    @property
    def position(self) -> int:
        """The position up to which the log has been taken in."""
        return self._mark.position if self._mark else 0

    def cached(self, stream: str) -> tuple[S, int] | None:
        """Return a stream's state and version if they are cached."""
        hit = self._cached.get(stream)
        if hit is not None:
            self._cached.move_to_end(stream)
        return hit

    async def get(self, stream: str) -> tuple[S, int]:
        """Return a stream's state and version: from the cache, or folded from its rows."""
        hit = self.cached(stream)
        if hit is not None:
            return hit
        found = await self._load(stream)
        # Another task may have put a later version meanwhile.
        later = self._cached.get(stream)
        return later if later is not None and later[1] > found[1] else self._keep(stream, found)

    async def _load(self, stream: str) -> tuple[S, int]:
        rows = await self._read(stream)
        state = self._folder.initial
        for row in rows:
            state = self._folder.fold(state, decode(row))
        return state, rows[-1].version if rows else 0

    async def _read(self, stream: str) -> tuple[Record, ...]:
        """Read a stream's rows, again if the following has passed later ones of it meanwhile."""
        reading = self._readings.setdefault(stream, _Reading())
        reading.readers += 1
        try:
            while True:
                era = self._era
                rows = await self._log.stream(stream)
                if era == self._era and (rows[-1].version if rows else 0) >= reading.seen:
                    return rows
                await self.catch_up()
        finally:
            reading.readers -= 1
            if not reading.readers:
                self._readings.pop(stream, None)

    def put(self, stream: str, version: int, state: S, events: Sequence[AnyEvent], records: Sequence[Record]) -> S:
        """Take in events that this process appended after `version`."""
        for event in events:
            state = self._folder.fold(state, event)
        self.wrote(records)
        self._passed(stream, version + len(events))
        hit = self._cached.get(stream)
        # A state that is no longer cached may have had successors that went by unseen; the next reader folds it anew.
        if hit is not None and hit[1] <= version:
            self._keep(stream, (state, version + len(events)))
        return state

    def wrote(self, records: Sequence[Record]) -> None:
        """Note rows that need not be read again, so that following costs nothing where nobody else writes."""
        if self._mark is None:
            return
        mark = Mark(records[-1].position, records[-1].hash)
        if records[0].position == self._mark.position + 1 and not self._ours:
            self._mark = mark
            return
        if len(self._ours) >= MOST_OURS:
            self._ours.clear()
        self._ours[records[0].position] = mark
        while last := self._ours.pop(self._mark.position + 1, None):
            self._mark = last

    def drop(self, stream: str) -> None:
        """Forget a stream's state; the next reader folds it anew."""
        self._cached.pop(stream, None)

    async def catch_up(self) -> None:
        """Fold the rows above the mark into what is cached; begin anew where the log is no longer the one that was followed."""
        if await self._log.head() == self._mark:
            return
        async with self._lock:
            if self._mark is None:
                # States folded before the first look are already as new as the log was when they were read.
                self._begin(await self._log.head())
            elif not await self._take_in(self._mark):
                log.error("history changed", position=self.position)
                self._begin(await self._log.head())

    def _begin(self, mark: Mark) -> None:
        self._cached.clear()
        self._ours.clear()
        for reading in self._readings.values():
            reading.seen = 0
        self._mark = mark
        self._era += 1

    async def _take_in(self, mark: Mark) -> bool:
        """Take in all rows after the mark; False where the log has another row, or none, at the mark itself."""
        while True:
            rows = await self._log.scan(after=max(mark.position - 1, 0), limit=BATCH)
            if mark.position:
                if not rows or Mark(rows[0].position, rows[0].hash) != mark:
                    return False
                rows = rows[1:]
            for row in rows:
                self._take(row, mark.hash)
                mark = Mark(row.position, row.hash)
            if mark.position > self.position:
                self._mark = mark
                self._ours = {first: last for first, last in self._ours.items() if first > mark.position}
            if len(rows) < BATCH - 1:
                return True

    def _take(self, row: Record, previous: bytes) -> None:
        self._passed(row.stream, row.version)
        hit = self._cached.get(row.stream)
        if hit is None or row.version <= hit[1]:
            return
        # One damaged row closes its own stream, for whoever asks for it next; the others go on (D2).
        self.drop(row.stream)
        why = flaw(row, previous)
        if why is not None:
            log.error("row damaged", position=row.position, stream=row.stream, why=why)
        elif row.version == hit[1] + 1:
            try:
                self._keep(row.stream, (self._folder.fold(hit[0], decode(row)), row.version))
            except EventUnreadable as error:
                log.error("event unreadable", position=error.position, stream=row.stream)

    def _passed(self, stream: str, version: int) -> None:
        reading = self._readings.get(stream)
        if reading is not None:
            reading.seen = max(reading.seen, version)

    def _keep(self, stream: str, found: tuple[S, int]) -> tuple[S, int]:
        self._cached[stream] = found
        self._cached.move_to_end(stream)
        while len(self._cached) > self._size:
            self._cached.popitem(last=False)
        return found
