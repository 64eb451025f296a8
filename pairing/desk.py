"""The desk: load, fold, decide, append, and again where another was faster. The only meeting of decisions and log.

States are kept in a bounded cache and are only ever a guess: the log's expected version judges every append, and a refusal is
spoken only on a state that is current. It knows no socket and no clock. For commands over several streams read `crossing`.
"""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, cast

import anyio
import structlog
from msgspec import Struct
from msgspec.structs import replace

from .commands import (
    Approve,
    Command,
    DeviceBound,
    DeviceCommand,
    EnrolmentCommand,
    GatewayCommand,
    HookCommand,
    NodeCommand,
    Redeem,
    Reject,
    Standing,
    Unlock,
)
from .crossing import Crossed, Crossing
from .decide import decide
from .device import Device
from .enrolment import Enrolment, decide_enrolment
from .events import (
    GATEWAY_STREAM,
    AnyEvent,
    DeviceEvent,
    EnrolmentEvent,
    GatewayEvent,
    HookEvent,
    NodeEvent,
    device_stream,
    enrolment_stream,
    hook_stream,
    node_stream,
)
from .families import Families, Place
from .guards import Guards
from .hooks import HookState, decide_hook
from .log.codec import decode
from .log.port import Conflict, Draft, EventLog, Record, Slice
from .nodes import NodeState, decide_node
from .policy import House, decide_house
from .redemption import redeem, reject
from .refusals import Reason, Refused
from .scribe import Scribe
from .streams import Streams, Witness
from .turns import ATTEMPTS, Turns

S = TypeVar("S")
C = TypeVar("C", bound=Command)
E = TypeVar("E")

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


class Desk:
    """Answers commands against one log. Safe to share between any number of tasks of one event loop."""

    def __init__(self, events: EventLog, *, version: str, policy: str | None = None, cache: int = 20_000) -> None:
        self._log = events
        self._families = Families(events, cache)
        self._devices = self._families.devices
        self._turns = Turns()
        self._scribe = Scribe(events, version=version, policy=policy)
        self.guards = Guards(self._devices, self._scribe)
        self._crossing = Crossing(events, self._families, self._turns, self.guards, self._scribe)

    def heed(self, witness: Witness) -> None:
        """Close streams that had more rows once than the log finds now."""
        for streams in self._families.all:
            streams.witness = witness

    @property
    def log(self) -> EventLog:
        """The log it works on."""
        return self._log

    @property
    def position(self) -> int:
        """The log position up to which states are known to be current."""
        return self._devices.position

    @property
    def written(self) -> int:
        """The last position that this desk wrote."""
        return self._scribe.written

    @property
    def doubted(self) -> set[str]:
        """The devices whose access was to end, which could not be stored."""
        return self._scribe.doubted

    def doubts(self, device: str, state: Device) -> bool:
        """Say whether an end of this device's access could not be stored. Without a grant only a lock is left to be missed."""
        return self._scribe.doubts(device, state)

    async def device(self, device: str) -> Device:
        """Return a device's state, current across processes. Raises `StreamDamaged`."""
        return (await self.device_at(device))[0]

    async def device_at(self, device: str) -> tuple[Device, int]:
        """Return a device's state and the version of its stream, current across processes."""
        await self._devices.catch_up()
        return await self._devices.get(device_stream(device))

    async def house(self) -> House:
        """Return the state of the gateway's own stream, current across processes."""
        await self._families.houses.catch_up()
        return (await self._families.houses.get(GATEWAY_STREAM))[0]

    async def node(self, node: str) -> NodeState:
        """Return the state of a node's surface, current across processes. Raises `StreamDamaged`."""
        await self._families.nodes.catch_up()
        return (await self._families.nodes.get(node_stream(node)))[0]

    async def hook(self, hook: str) -> HookState:
        """Return the state of a webhook, current across processes. Raises `StreamDamaged`."""
        await self._families.hooks.catch_up()
        return (await self._families.hooks.get(hook_stream(hook)))[0]

    async def enrolment(self, code: str) -> Enrolment:
        """Return the state of a setup code, current across processes. Raises `StreamDamaged`."""
        await self._families.enrolments.catch_up()
        return (await self._families.enrolments.get(enrolment_stream(code)))[0]

    async def past(self, stream: str) -> tuple[Record, ...]:
        """Return the rows of a stream, current across processes. Raises `StreamDamaged`."""
        return await self._log.stream(stream)

    async def handle(self, command: DeviceCommand) -> Handled[Device, DeviceEvent]:
        """Decide a command about a device and store what follows. Raises `Refused`, `LogUnavailable`, `StreamDamaged`."""
        return await self._handle(self._devices, device_stream(command.device), command, decide)

    async def handle_house(self, command: GatewayCommand) -> Handled[House, GatewayEvent]:
        """Decide a command about the gateway itself and store what follows."""
        return await self._handle(self._families.houses, GATEWAY_STREAM, command, decide_house)

    async def handle_node(self, command: NodeCommand) -> Handled[NodeState, NodeEvent]:
        """Decide a command about a node's surface and store what follows."""
        return await self._handle(self._families.nodes, node_stream(command.node), command, decide_node)

    async def handle_hook(self, command: HookCommand) -> Handled[HookState, HookEvent]:
        """Decide a command about a webhook and store what follows."""
        return await self._handle(self._families.hooks, hook_stream(command.hook), command, decide_hook)

    async def vouch(self, standing: Standing, now: int) -> None:
        """Return where what a session rests on still stands at `now`, as far as any process has written. Raises `Refused`."""
        await self._devices.catch_up()
        await self.guards.vouched(standing, "", {}, now)

    async def handle_enrolment(self, command: EnrolmentCommand) -> Handled[Enrolment, EnrolmentEvent]:
        """Decide a command about a setup code and store what follows."""
        return await self._handle(self._families.enrolments, enrolment_stream(command.code), command, decide_enrolment)

    async def handle_redemption(self, command: Redeem) -> Crossed:
        """Decide what a device gets for a setup code: the code's stream first, then the device's."""
        device = command.knock.device
        code = (await self.enrolment(command.code)).code
        minter = code.minter if code else None
        if minter in self.doubted:
            raise Refused(Reason.BUSY)
        code_place = (self._families.enrolments, enrolment_stream(command.code))
        places: tuple[Place, ...] = (code_place, (self._devices, device_stream(device)))
        if minter in {None, device}:
            return await self._crossing.settle(places, command, lambda e, d: redeem(e, d, d if minter else None, command))
        place = (self._devices, device_stream(minter or ""))
        return await self._crossing.settle((*places, place), command, lambda e, d, by: (*redeem(e, d, by, command), ()))

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
                places: tuple[Place, ...] = ((self._devices, stream), (self._families.enrolments, enrolment_stream(code)))
                crossed = await self._crossing.settle(places, known, lambda d, e, c=known: reject(e, d, c)[::-1])
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
        await self._turns.take(stream)
        try:
            return await self._settle(streams, stream, command, rule)
        finally:
            self._turns.pass_on(stream)

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
                    await self.guards.vouched(command.by.standing, stream, guards, command.now)
                if isinstance(command, Approve):
                    command = cast("C", await self.guards.beside(cast("Device", state), command, guards))
                ruled = rule(state, command)
                if isinstance(command, DeviceBound) and self.guards.approvers is not None:
                    ruled = cast("tuple[E, ...]", await self.guards.kept(cast("Device", state), ruled, command, guards))
                events = ruled
            except Refused as no:
                refused = no
            if not events:
                # Neither a refusal nor "nothing to do" is said on a guess, whoever else has caught up meanwhile.
                if not fresh:
                    await self._families.catch_up(streams)
                    fresh = True
                    continue
                if earlier := await self._answered(streams, stream, command):
                    return cast("Handled[S, E]", earlier)
                if refused is not None:
                    raise refused
                if isinstance(command, Unlock):
                    self._scribe.sure(command.device)
                return Handled((), (), state, version)
            drafts = self._scribe.drafts(events, command)
            outcome = await self._scribe.append([Slice(stream, version, drafts), *guards.values()], command)
            if isinstance(outcome, Conflict):
                log.debug("conflict", stream=outcome.stream, expected=outcome.expected, actual=outcome.actual)
                await self._families.catch_up(streams)
                fresh = True
                streams.drop(stream)
                for guard in guards:
                    self._devices.drop(guard)
                continue
            if not _stored_as(outcome.records, stream, version, drafts):
                return cast("Handled[S, E]", await self._earlier(streams, stream, outcome.records))
            self._scribe.wrote(outcome.position)
            after = streams.put(stream, version, state, cast("tuple[AnyEvent, ...]", events), outcome.records)
            for family in self._families.all:
                if family is not streams:
                    family.wrote(outcome.records)
            return Handled(events, outcome.records, after, version + len(events))
        raise Refused(Reason.BUSY)

    async def _answered(self, streams: Streams[S], stream: str, command: Command) -> Handled[S, object] | None:
        """A caller whose answer was lost asks again with the same command id and gets the first answer, not a refusal."""
        records = await self._log.command(command.id)
        return await self._earlier(streams, stream, records) if records else None

    async def _earlier(self, streams: Streams[S], stream: str, records: tuple[Record, ...]) -> Handled[S, object]:
        await self._families.catch_up(streams)
        state, version = await streams.get(stream)
        return Handled(tuple(decode(record) for record in records), records, state, version, repeated=True)


def _stored_as(records: Sequence[Record], stream: str, version: int, drafts: Sequence[Draft]) -> bool:
    """Say whether the rows are these drafts after this version, and not what an earlier asking with the same id has stored."""
    if records[0].stream != stream or records[0].version != version + 1:
        return False
    return [record.body for record in records] == [drafted.body for drafted in drafts]
