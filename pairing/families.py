"""The families of streams: of devices, nodes, hooks and setup codes, and the gateway's own; each folded its own way.

It decides nothing and appends nothing. Read `desk` next.
"""

from typing import Any, TypeAlias, cast

from .device import INITIAL, Device
from .enrolment import EMPTY_ENROLMENT, Enrolment, evolve_enrolment
from .events import AnyEvent, DeviceEvent, EnrolmentEvent, GatewayEvent, HookEvent, NodeEvent, Unknown
from .evolve import evolve
from .hooks import NO_HOOK, HookState, evolve_hook
from .log.port import EventLog
from .nodes import EMPTY_NODE, NodeState, evolve_node
from .policy import EMPTY_HOUSE, House, evolve_house
from .streams import Streams

Place: TypeAlias = tuple[Streams[Any], str]


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


class Families:
    """The streams of one log, by what they are about."""

    def __init__(self, events: EventLog, cache: int) -> None:
        self.devices: Streams[Device] = Streams(events, _Devices(), cache)
        self.houses: Streams[House] = Streams(events, _House(), 1)
        self.nodes: Streams[NodeState] = Streams(events, _Nodes(), cache)
        self.hooks: Streams[HookState] = Streams(events, _Hooks(), 64)
        self.enrolments: Streams[Enrolment] = Streams(events, _Enrolments(), cache)
        self.all: tuple[Streams[Any], ...] = (self.devices, self.houses, self.nodes, self.hooks, self.enrolments)

    async def catch_up(self, *used: Streams[Any]) -> None:
        """Take in what any process has written since, as far as a decision on these streams rests on it."""
        for family in dict.fromkeys((self.devices, *used)):
            await family.catch_up()
