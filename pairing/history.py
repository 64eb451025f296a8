"""The past as folds: what was true at a position, what changed between two, and which events a right rests on.

Pure, like `device`, whose fold it uses: it knows rows that were read, and no log. Nothing here decides, and nothing is ever
rewritten. What a position means to a person is in `moments`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from .commands import Wanted
from .device import INITIAL, Device
from .events import (
    GATEWAY_STREAM,
    AnyEvent,
    DeviceEvent,
    GatewayEvent,
    Meta,
    NodeEvent,
    Personal,
    Unknown,
    device_stream,
    node_stream,
)
from .evolve import evolve
from .log.codec import decode, decode_meta, decode_personal
from .log.port import Record
from .nodes import EMPTY_NODE, NodeState, evolve_node
from .policy import EMPTY_HOUSE, House, evolve_house
from .refusals import Reason
from .verdict import Presented, Step, Verdict, judge

T = TypeVar("T")

Way: TypeAlias = Literal["device-token", "shared-secret"]
Aspect: TypeAlias = Literal[
    "paired", "role", "scope", "token", "token-scope", "handoff", "label", "lock", "request", "node-command", "node-cap"
]


class Happened(Struct, frozen=True, gc=False):
    """A row of the log, read. `at` is when it was recorded, in ms."""

    position: int
    stream: str
    at: int
    event: AnyEvent | Unknown
    meta: Meta
    personal: Personal | None = None


def read(records: Iterable[Record]) -> tuple[Happened, ...]:
    """Return rows as what happened. Raises `EventUnreadable`."""
    return tuple(
        Happened(r.position, r.stream, r.recorded_at, decode(r), decode_meta(r), decode_personal(r) if r.personal else None)
        for r in records
    )


# --- what was true ---------------------------------------------------------------------------------------------------


class World(Struct, frozen=True, gc=False):
    """What one device's rights rest on: its own stream, its node's, and the gateway's, each folded."""

    device: Device = INITIAL
    node: NodeState = EMPTY_NODE
    house: House = EMPTY_HOUSE


NOTHING = World()


def state_at(records: Iterable[Record], position: int | None = None) -> Device:
    """Return the state of a device as it was at a position, from the rows of its stream; None is after all of them."""
    return world_at(read(records), position).device


def world_at(past: Iterable[Happened], position: int | None = None) -> World:
    """Return what was true at a position, from what had happened in any of the three streams."""
    world = NOTHING
    for one in past:
        if position is not None and one.position > position:
            break
        world = after(world, one)
    return world


def after(world: World, one: Happened) -> World:
    """Return what is true after one more event; total, as the folds are."""
    family, event = one.stream.partition(":")[0], one.event
    if family == _DEVICE:
        return World(evolve(world.device, cast("DeviceEvent | Unknown", event)), world.node, world.house)
    if family == _NODE:
        return World(world.device, evolve_node(world.node, cast("NodeEvent | Unknown", event)), world.house)
    if family == GATEWAY_STREAM:
        return World(world.device, world.node, evolve_house(world.house, cast("GatewayEvent | Unknown", event)))
    return world


_DEVICE, _NODE = device_stream("").partition(":")[0], node_stream("").partition(":")[0]


# --- what changed ----------------------------------------------------------------------------------------------------


class Fact(Struct, frozen=True, gc=False, order=True):
    """One thing that is true of a device. `role` is set for tokens; `value` is a role, a scope, a generation, a tag, an id.

    `token` and `token-scope` are of tokens that are not dead, `handoff` is a generation still accepted beside one; `label` is the
    label's keyed tag, `lock` until when it holds (ms, or nothing), `request` an open request.
    """

    aspect: Aspect
    value: str
    role: str = ""


class Difference(Struct, frozen=True):
    """What one state has that another has not. Differences add up: from A to B, then from B to C, is from A to C."""

    gained: frozenset[Fact] = frozenset()
    lost: frozenset[Fact] = frozenset()

    def __add__(self, later: "Difference") -> "Difference":
        gained = (self.gained - later.lost) | (later.gained - self.lost)
        lost = (self.lost - later.gained) | (later.lost - self.gained)
        return Difference(gained, lost)

    def __bool__(self) -> bool:
        return bool(self.gained or self.lost)


class Change(Struct, frozen=True):
    """A fact that came or went between two positions, and the event that made it so last."""

    fact: Fact
    gained: bool
    by: Happened


def facts(state: Device) -> frozenset[Fact]:
    """Return all that is true of a device in a state."""
    found: list[Fact] = []
    if grant := state.grant:
        found.append(Fact("paired", grant.key))
        found += [Fact("role", role) for role in grant.roles]
        found += [Fact("scope", scope) for scope in grant.scopes]
        for token in grant.tokens:
            if not token.dead:
                found.append(Fact("token", token.issue, token.role))
                found += [Fact("token-scope", scope, token.role) for scope in token.scopes]
                found += [Fact("handoff", token.handoff.issue, token.role)] if token.handoff else []
    if state.pending:
        found.append(Fact("request", state.pending.request))
    if state.lock:
        found.append(Fact("lock", "" if state.lock.until is None else str(state.lock.until)))
    if state.labelled:
        found.append(Fact("label", state.labelled))
    return frozenset(found)


def surface(state: NodeState) -> frozenset[Fact]:
    """Return what a node is approved to run."""
    approval = state.approval
    if approval is None:
        return frozenset()
    commands = (Fact("node-command", command) for command in approval.commands)
    return frozenset((*commands, *(Fact("node-cap", cap) for cap in approval.caps)))


def difference(before: Device, later: Device) -> Difference:
    """Return what a device gained and lost from one state to another."""
    return _between(facts(before), facts(later))


def between(before: World, later: World) -> Difference:
    """Return what a device gained and lost from one world to another, its node's surface included."""
    return _between(_all(before), _all(later))


def changes(past: Iterable[Happened], start: int, end: int) -> tuple[Change, ...]:
    """Return what a device, its node included, gained and lost between two positions, each with the event that did it.

    `past` is all that happened to it, in order. What came and went again in between is no change.
    """
    world, begun, held, causes = NOTHING, False, frozenset[Fact](), dict[Fact, Happened]()
    first = frozenset[Fact]()
    for one in past:
        if one.position > end:
            break
        if one.position > start and not begun:
            first = held = _all(world)
            begun = True
        world = after(world, one)
        if begun:
            now = _all(world)
            causes |= dict.fromkeys(held ^ now, one)
            held = now
    turned = _between(first, held)
    lost = (Change(fact, False, causes[fact]) for fact in sorted(turned.lost))
    return (*lost, *(Change(fact, True, causes[fact]) for fact in sorted(turned.gained)))


def _all(world: World) -> frozenset[Fact]:
    return facts(world.device) | surface(world.node)


def _between(before: frozenset[Fact], later: frozenset[Fact]) -> Difference:
    return Difference(later - before, before - later)


# --- what could be done, and why -------------------------------------------------------------------------------------


class Could(Struct, frozen=True):
    """Whether a device could use a scope of a role. `proof`: with these events alone it could, and without any of them not.

    Where it could not, `verdict` tells the rule, and `since` is the event that took the right away; None: it never had it.
    """

    way: Way | None
    verdict: Verdict
    proof: tuple[Happened, ...] = ()
    since: Happened | None = None


def could(past: Sequence[Happened], role: str, scope: str, now: int) -> Could:
    """Say whether a device could come in and use a scope, by the events up to a moment and at its time (ms), and prove it.

    By its own token, else by the gateway's shared secret beside its pairing: that also reaches what the token does not cover.
    """
    world = world_at(past)
    verdict = use(world, role, scope, "device-token", now)
    way: Way = "device-token"
    if verdict.reason is not None:
        beside = use(world, role, scope, "shared-secret", now)
        if beside.reason is not None:
            return Could(None, verdict, since=turned(past, lambda then, at: _may(then, role, scope, at), now))
        way, verdict = "shared-secret", beside
    token = world.device.token(role)

    def holds(then: World) -> bool:
        # The right by another generation than the one that counts would be another right.
        mine = then.device.token(role)
        same = mine is not None and token is not None and mine.issue == token.issue
        return same and use(then, role, scope, way, now).reason is None

    return Could(way, verdict, needed(past, holds))


def use(world: World, role: str, scope: str, way: Way, now: int) -> Verdict:
    """Judge the device coming in with what it was last given, as it was last described, for one scope."""
    grant, token = world.device.grant, world.device.token(role)
    wanted = Wanted(
        key=grant.key if grant else "",
        role=role,
        scopes=(scope,) if scope else (),
        platform=grant.platform if grant else None,
        family=grant.family if grant else None,
        under=world.house.secret,
    )
    shown = Presented(candidate="deviceToken", issue=token.issue if token else None)
    return met(world.device, Presented(method="token") if way == "shared-secret" else shown, wanted, now)


def met(state: Device, presented: Presented, wanted: Wanted, now: int) -> Verdict:
    """Judge as the gateway does, which lets nobody in past an event that it does not understand."""
    verdict = judge(state, presented, wanted, now)
    if verdict.method is None or state.newer is None:
        return verdict
    unknown = Step("known-events", False, state.newer)
    return replace(verdict, reason=Reason.NEWER_WRITER, steps=(*verdict.steps, unknown))


def _may(world: World, role: str, scope: str, now: int) -> bool:
    return any(use(world, role, scope, way, now).reason is None for way in ("device-token", "shared-secret"))


def needed(past: Sequence[Happened], holds: Callable[[World], bool]) -> tuple[Happened, ...]:
    """Return events, of those that led to something true, that alone make it true and of which none can be left out.

    The earliest are given up first, so that what was only overtaken since is not among them.
    """
    kept = list(past)
    size = len(kept)
    while size:
        start, before = 0, len(kept)
        while start < len(kept):
            without = kept[:start] + kept[start + size :]
            if holds(world_at(without)):
                kept = without
            else:
                start += size
        # Leaving out one may let another go: at single events it ends only when none went.
        size = size // 2 if size > 1 else int(len(kept) < before)
    return tuple(kept)


def turned(past: Iterable[Happened], holds: Callable[[World, int], bool], now: int) -> Happened | None:
    """Return the event after which something came to be as it is at the end, true or false.

    None where it always was so, and where no event but time alone has turned it.
    """
    world, last = NOTHING, None
    was = holds(world, 0)
    for one in past:
        world = after(world, one)
        if (then := holds(world, one.at)) is not was:
            was, last = then, one
    return last if holds(world, now) is was else None
