"""The desk: load, fold, decide, append, and again where another was faster. The only meeting of decisions and log.

States are kept in a bounded cache and are only ever a guess: the log's expected version judges every append, and a refusal is
spoken only on a state that is current. It knows no socket and no clock.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, cast

import anyio
import structlog
from msgspec import Struct
from msgspec.structs import replace

from . import operators, quorum
from .commands import (
    Approve,
    Command,
    DeviceBound,
    DeviceCommand,
    EnrolmentCommand,
    GatewayCommand,
    HookCommand,
    Lock,
    NodeCommand,
    Redeem,
    Reject,
    Remove,
    Revoke,
    Rotate,
    Standing,
    Unlock,
)
from .decide import decide
from .device import INITIAL, Device
from .enrolment import EMPTY_ENROLMENT, Enrolment, decide_enrolment, evolve_enrolment
from .events import (
    GATEWAY_STREAM,
    AnyEvent,
    DeviceEvent,
    EnrolmentEvent,
    GatewayEvent,
    HookEvent,
    Meta,
    NodeEvent,
    Unknown,
    device_stream,
    enrolment_stream,
    hook_stream,
    node_stream,
)
from .evolve import evolve
from .hooks import NO_HOOK, HookState, decide_hook, evolve_hook
from .log.codec import decode, draft
from .log.errors import EventUnreadable, LogUnavailable, StreamDamaged
from .log.port import Appended, Conflict, Draft, EventLog, Record, Slice
from .nodes import EMPTY_NODE, NodeState, decide_node, evolve_node
from .policy import EMPTY_HOUSE, House, decide_house, evolve_house
from .redemption import redeem, reject
from .refusals import Reason, Refused
from .standing import lapsed, stands
from .streams import Streams, Witness

S = TypeVar("S")
C = TypeVar("C", bound=Command)
E = TypeVar("E")

ATTEMPTS = 12
_ENDS = Revoke | Remove | Rotate | Lock | Reject
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


class _Enrolments:
    initial = EMPTY_ENROLMENT

    def fold(self, state: Enrolment, event: AnyEvent | Unknown) -> Enrolment:
        return evolve_enrolment(state, cast("EnrolmentEvent | Unknown", event))


Place: TypeAlias = tuple[Streams[Any], str]


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


class Desk:
    """Answers commands against one log. Safe to share between any number of tasks of one event loop."""

    def __init__(self, events: EventLog, *, version: str, cache: int = 20_000) -> None:
        self._log = events
        self._version = version
        self._devices: Streams[Device] = Streams(events, _Devices(), cache)
        self._houses: Streams[House] = Streams(events, _House(), 1)
        self._nodes: Streams[NodeState] = Streams(events, _Nodes(), cache)
        self._hooks: Streams[HookState] = Streams(events, _Hooks(), 64)
        self._enrolments: Streams[Enrolment] = Streams(events, _Enrolments(), cache)
        self._families: tuple[Streams[Any], ...] = (self._devices, self._houses, self._nodes, self._hooks, self._enrolments)
        self._turns: dict[str, deque[anyio.Event]] = {}
        self.policy: str | None = None
        self.under: str | None = None
        self.approvers: Approvers | None = None
        self.written = 0
        self.doubted: set[str] = set()
        self._unbarred: set[str] = set()

    def heed(self, witness: Witness) -> None:
        """Close streams that had more rows once than the log finds now."""
        for streams in self._families:
            streams.witness = witness

    @property
    def log(self) -> EventLog:
        """The log it works on."""
        return self._log

    @property
    def position(self) -> int:
        """The log position up to which states are known to be current."""
        return self._devices.position

    def doubts(self, device: str, state: Device) -> bool:
        """Say whether an end of this device's access could not be stored. Without a grant only a lock is left to be missed."""
        if state.grant is None and device not in self._unbarred:
            self.doubted.discard(device)
        return device in self.doubted

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

    async def enrolment(self, code: str) -> Enrolment:
        """Return the state of a setup code, current across processes. Raises `StreamDamaged`."""
        await self._enrolments.catch_up()
        return (await self._enrolments.get(enrolment_stream(code)))[0]

    async def past(self, stream: str) -> tuple[Record, ...]:
        """Return the rows of a stream, current across processes. Raises `StreamDamaged`."""
        return await self._log.stream(stream)

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

    async def vouch(self, standing: Standing, now: int) -> None:
        """Return where what a session rests on still stands at `now`, as far as any process has written. Raises `Refused`."""
        await self._devices.catch_up()
        await self._vouched(standing, "", {}, now)

    async def handle_enrolment(self, command: EnrolmentCommand) -> Handled[Enrolment, EnrolmentEvent]:
        """Decide a command about a setup code and store what follows."""
        return await self._handle(self._enrolments, enrolment_stream(command.code), command, decide_enrolment)

    async def handle_redemption(self, command: Redeem) -> Crossed:
        """Decide what a device gets for a setup code: the code's stream first, then the device's."""
        device = command.knock.device
        code = (await self.enrolment(command.code)).code
        minter = code.minter if code else None
        if minter in self.doubted:
            raise Refused(Reason.BUSY)
        code_place = (self._enrolments, enrolment_stream(command.code))
        places: tuple[Place, ...] = (code_place, (self._devices, device_stream(device)))
        if minter in {None, device}:
            return await self._across(places, command, lambda e, d: redeem(e, d, d if minter else None, command))
        place = (self._devices, device_stream(minter or ""))
        return await self._across((*places, place), command, lambda e, d, by: (*redeem(e, d, by, command), ()))

    async def handle_rejection(self, command: Reject) -> Handled[Device, DeviceEvent]:
        """Decide a rejection, which also voids the setup code that stands behind the request."""
        stream = device_stream(command.device)
        for _ in range(ATTEMPTS):
            pending = (await self.device(command.device)).pending
            code = pending.code if pending and pending.request == command.request else None
            known = replace(command, code=code)
            try:
                if code is None:
                    return await self.handle(known)
                places: tuple[Place, ...] = ((self._devices, stream), (self._enrolments, enrolment_stream(code)))
                crossed = await self._across(places, known, lambda d, e, c=known: reject(e, d, c)[::-1])
            except Refused as refused:
                if refused.reason is not Reason.BUSY:
                    raise
                continue
            events = cast("tuple[DeviceEvent, ...]", crossed.events[0])
            rows = tuple(record for record in crossed.records if record.stream == stream)
            return Handled(events, rows, crossed.states[0], rows[-1].version if rows else 0)
        raise Refused(Reason.BUSY)

    async def _handle(
        self,
        streams: Streams[S],
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
        streams: Streams[S],
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
                    await self._vouched(command.by.standing, stream, guards, command.now)
                if isinstance(command, Approve):
                    command = cast("C", await self._beside(cast("Device", state), command, guards))
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
                if isinstance(command, Unlock):
                    self._sure(command.device)
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
            for family in self._families:
                if family is not streams:
                    family.wrote(outcome.records)
            return Handled(events, outcome.records, after, version + len(events))
        raise Refused(Reason.BUSY)

    async def _across(
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
                await self._turn(stream)
                taken.append(stream)
            return await self._settle_across(places, command, rule)
        finally:
            for stream in taken:
                self._pass_on(stream)

    async def _settle_across(
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
                    await self._vouched(command.by.standing, "", guards, command.now)
                ruled = rule(*states)
                if isinstance(command, DeviceBound) and self.approvers is not None:
                    ruled = await self._kept_across(places, states, ruled, command, guards)
                events = ruled
            except Refused as no:
                refused = no
            if not any(events):
                if not fresh:
                    await self._catch_up_all(places)
                    fresh = True
                    continue
                if records := await self._log.command(command.id):
                    return await self._earlier_across(places, records)
                if refused is not None:
                    raise refused
                return Crossed(events, states, ())
            slices = [
                Slice(stream, version, self._drafts(news, command))
                for (_, stream), (_, version), news in zip(places, found, events, strict=True)
            ]
            held = {stream for _, stream in places}
            slices += [guard for stream, guard in guards.items() if stream not in held]
            outcome = await self._append(slices, command)
            if isinstance(outcome, Conflict):
                log.debug("conflict", stream=outcome.stream, expected=outcome.expected, actual=outcome.actual)
                await self._catch_up_all(places)
                fresh = True
                for family, stream in places:
                    family.drop(stream)
                for stream in guards:
                    self._devices.drop(stream)
                continue
            if not _stored_across(outcome.records, slices):
                return await self._earlier_across(places, outcome.records)
            self.written = max(self.written, outcome.position)
            for known in self._families:
                known.wrote(outcome.records)
            after = tuple(
                family.took(stream, version, state, news)
                for (family, stream), (state, version), news in zip(places, found, events, strict=True)
            )
            return Crossed(events, after, outcome.records)
        raise Refused(Reason.BUSY)

    async def _earlier_across(self, places: tuple[Place, ...], records: tuple[Record, ...]) -> Crossed:
        await self._catch_up_all(places)
        states = tuple([(await family.get(stream))[0] for family, stream in places])
        events = [tuple(decode(row) for row in records if row.stream == stream) for _, stream in places]
        return Crossed(cast("tuple[tuple[AnyEvent, ...], ...]", tuple(events)), states, records)

    async def _catch_up_all(self, places: tuple[Place, ...]) -> None:
        for family in dict.fromkeys((self._devices, *(family for family, _ in places))):
            await family.catch_up()

    async def _append(self, slices: Sequence[Slice], command: Command) -> Appended | Conflict:
        """Append; where an end of access could not be stored, its device is refused until one is, or until a restart (V6)."""
        bars = isinstance(command, Lock) or (isinstance(command, Reject) and command.ban is not None)
        ends = command.device if isinstance(command, _ENDS) and (bars or not isinstance(command, Reject)) else None
        try:
            outcome = await self._log.append(slices, command=command.id, now=command.now)
        except LogUnavailable:
            if ends is not None:
                self.doubted.add(ends)
                self._unbarred.update((ends,) if bars else ())
            raise
        if isinstance(outcome, Conflict):
            return outcome
        if isinstance(command, Unlock):
            self._sure(command.device)
        elif ends is not None and (bars or ends not in self._unbarred):
            self._sure(ends)
        return outcome

    def _sure(self, device: str) -> None:
        self.doubted.discard(device)
        self._unbarred.discard(device)

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

    async def _vouched(self, standing: Standing, stream: str, guards: dict[str, Slice], now: int) -> None:
        """Add a guard that holds only while the caller's own authority is what it was when this was decided (R8, V1)."""
        own = device_stream(standing.device)
        state, version = await self._devices.get(own)
        if standing.device in self.doubted or not stands(state, standing, now):
            raise Refused(Reason.FENCED)
        if own != stream:
            guards[own] = Slice(own, version, ())

    async def _beside(self, state: Device, command: Approve, guards: dict[str, Slice]) -> Approve:
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
            if device not in self.doubted:
                found.append((device, lapsed(holder, command.now)))
        return replace(command, present=quorum.standings(found, command.under))

    async def _kept(
        self, state: Device, events: Sequence[object], command: DeviceBound, guards: dict[str, Slice]
    ) -> Sequence[object]:
        """Return events that leave somebody who can approve, with a guard on one who can; or that say they leave nobody (A22).

        It looks at what follows from a command, not at which one it is: whatever ends access comes through here.
        """
        ending = operators.ends(lapsed(state, command.now), cast("tuple[DeviceEvent, ...]", events), self.under)
        if ending is None or await self._witness(command.device, guards, command.now):
            return events
        return (*events, operators.break_glass(ending, command))

    async def _kept_across(
        self,
        places: tuple[Place, ...],
        states: tuple[Any, ...],
        events: tuple[tuple[AnyEvent, ...], ...],
        command: DeviceBound,
        guards: dict[str, Slice],
    ) -> tuple[tuple[AnyEvent, ...], ...]:
        """Return the same of what follows over several streams, for that of the command's device."""
        index = [stream for _, stream in places].index(device_stream(command.device))
        kept = await self._kept(states[index], events[index], command, guards)
        return (*events[:index], cast("tuple[AnyEvent, ...]", tuple(kept)), *events[index + 1 :])

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
                if device != besides and device not in self.doubted and operators.able(lapsed(state, now), self.under):
                    guards.setdefault(stream, Slice(stream, version, ()))
                    return True
            seen += len(found)
        return False

    async def _answered(self, streams: Streams[S], stream: str, command: Command) -> Handled[S, object] | None:
        """A caller whose answer was lost asks again with the same command id and gets the first answer, not a refusal."""
        records = await self._log.command(command.id)
        return await self._earlier(streams, stream, records) if records else None

    async def _earlier(self, streams: Streams[S], stream: str, records: tuple[Record, ...]) -> Handled[S, object]:
        await self._catch_up(streams)
        state, version = await streams.get(stream)
        return Handled(tuple(decode(record) for record in records), records, state, version, repeated=True)

    async def _catch_up(self, streams: Streams[S]) -> None:
        """Take in what any process has written since, as far as a decision on these streams rests on it."""
        await self._devices.catch_up()
        if streams is not self._devices:
            await streams.catch_up()


@lru_cache
def _united(scopes: tuple[str, ...], ceiling: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*scopes, *ceiling)))


def _stored_across(records: Sequence[Record], slices: Sequence[Slice]) -> bool:
    """Say the same of rows over several streams."""
    wanted = [(cut.stream, cut.expected + 1 + n, d.body) for cut in slices for n, d in enumerate(cut.drafts)]
    return [(record.stream, record.version, record.body) for record in records] == wanted


def _stored_as(records: Sequence[Record], stream: str, version: int, drafts: Sequence[Draft]) -> bool:
    """Say whether the rows are these drafts after this version, and not what an earlier asking with the same id has stored."""
    if records[0].stream != stream or records[0].version != version + 1:
        return False
    return [record.body for record in records] == [drafted.body for drafted in drafts]
