"""The methods that look back: what was true, what changed, what a device could do and why, and its whole life.

They read streams and views up to a moment and decide nothing. A session bound to its device sees that device alone (A8).
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeAlias

import anyio.lowlevel
import msgspec

from . import history, moments
from .authority import PAIRING
from .entries import Entry
from .events import GATEWAY_STREAM, DeviceRenamed, NodeRenamed, device_stream, node_stream
from .finding import find
from .history import Change, Fact, Happened, World
from .log.port import Record
from .moments import AsOf, Moment, Position, Time
from .recorded import RecordedEntry, naming, recorded
from .sentences import Naming
from .service import Call, Method, Params
from .shapes import Name
from .verdict import Step

MOST_DEVICES = 500
MOST_EVENTS = 1_000
Many: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MOST_DEVICES)]
Events: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MOST_EVENTS)]
Cursor: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class AtParams(AsOf, frozen=True, kw_only=True):
    """A moment, and the device whose state it is to show, if one."""

    device: Name | None = None


class CouldParams(AsOf, frozen=True, kw_only=True):
    """A device, one of its roles, and what it would use; no scope: only to be let in."""

    device: Name
    role: Name
    scope: Name | None = None


class DiffParams(Params, frozen=True, kw_only=True):
    """Two moments, of one device or of all. `cursor` is the `next` of the page before."""

    start: Position | None = msgspec.field(name="from", default=None)
    start_ms: Time | None = msgspec.field(name="fromMs", default=None)
    end: Position | None = msgspec.field(name="to", default=None)
    end_ms: Time | None = msgspec.field(name="toMs", default=None)
    device: Name | None = None
    limit: Many = 200
    cursor: Cursor = 0


class StoryParams(AsOf, frozen=True, kw_only=True):
    """A device. `steps`: with the state before and after each event. `after`: go on after this position."""

    device: Name
    steps: bool = False
    after: Cursor = 0
    limit: Events = 200


class FoundToken(Entry, frozen=True, kw_only=True):
    """A token in a state of the past."""

    role: str
    scopes: tuple[str, ...]
    issued_at_ms: int
    revoked_at_ms: int | None = None
    expired_at_ms: int | None = None


class StateEntry(Entry, frozen=True, kw_only=True):
    """What was true of a device: folded from its own events, not from a view."""

    paired: bool
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    tokens: tuple[FoundToken, ...] = ()
    request_id: str | None = None
    locked: bool = False
    labelled: bool = False
    commands: tuple[str, ...] = ()
    caps: tuple[str, ...] = ()


class Was(Entry, frozen=True, kw_only=True):
    """The answer to `history.at`: which position a moment means, when it was recorded, where the log ends."""

    position: int
    recorded_at_ms: int | None = None
    head: int
    device_id: str | None = None
    state: StateEntry | None = None


class CouldEntry(Entry, frozen=True, kw_only=True):
    """The answer to `history.could`. `proof`: with these events alone it could, without any of them not.

    `rule` is the rule that said no, and `since` the event that took the right away; none: it never had it.
    """

    position: int
    recorded_at_ms: int | None = None
    device_id: str
    role: str
    scope: str | None = None
    could: bool
    way: history.Way | None = None
    proof: tuple[RecordedEntry, ...] = ()
    rule: Step | None = None
    since: RecordedEntry | None = None


class ChangeEntry(Entry, frozen=True, kw_only=True):
    """What came or went, and the event that did it. `label` is the label's text, unless it was forgotten."""

    what: history.Aspect
    value: str
    role: str | None = None
    by: RecordedEntry


class DeviceDiff(Entry, frozen=True, kw_only=True):
    """What one device gained and lost."""

    device_id: str
    name: str | None = None
    gained: tuple[ChangeEntry, ...] = ()
    lost: tuple[ChangeEntry, ...] = ()


class Diff(Entry, frozen=True, kw_only=True):
    """The answer to `history.diff`: devices in the order in which something first happened to them. `next`: there are more."""

    start: int = msgspec.field(name="from")
    start_ms: int | None = msgspec.field(name="fromMs", default=None)
    end: int = msgspec.field(name="to")
    end_ms: int | None = msgspec.field(name="toMs", default=None)
    devices: tuple[DeviceDiff, ...]
    next: int | None = None


class StoryEntry(Entry, frozen=True, kw_only=True):
    """One event of a device's life, what it gained and lost by it, and where asked the states around it."""

    event: RecordedEntry
    gained: tuple[Fact, ...] = ()
    lost: tuple[Fact, ...] = ()
    before: StateEntry | None = None
    after: StateEntry | None = None


class Story(Entry, frozen=True, kw_only=True):
    """The answer to `history.story`. `next`: there is more of it after that position."""

    position: int
    recorded_at_ms: int | None = None
    device_id: str
    events: tuple[StoryEntry, ...]
    next: int | None = None


async def at(call: Call[AtParams]) -> Was:
    """Say which position a moment means, and what was true of a device then."""
    when = await moments.of(call)
    known = await _device(call, call.params.device, when) if call.params.device else None
    state = shown(history.world_at(history.read(await past(call, known, when.position)))) if known else None
    return Was(position=when.position, recorded_at_ms=when.recorded_at, head=when.head, device_id=known, state=state)


async def could(call: Call[CouldParams]) -> CouldEntry:
    """Say whether a device could do something at a moment, and prove it."""
    p, when = call.params, await moments.of(call)
    device = await _device(call, p.device, when)
    records = await past(call, device, when.position, house=True)
    now = (when.recorded_at or 0) if when.past else call.service.clock()
    found = history.could(history.read(records), p.role.strip(), (p.scope or "").strip(), now)
    told = await _tell(call, records, [*found.proof, *([found.since] if found.since else [])])
    return CouldEntry(
        position=when.position,
        recorded_at_ms=when.recorded_at,
        device_id=device,
        role=p.role.strip(),
        scope=p.scope and p.scope.strip(),
        could=found.way is not None,
        way=found.way,
        proof=tuple(told[one.position] for one in found.proof),
        rule=None if found.way else next((s for s in reversed(found.verdict.steps) if not s.passed), None),
        since=told[found.since.position] if found.since else None,
    )


async def diff(call: Call[DiffParams]) -> Diff:
    """Say who gained and lost what between two moments, by which events and by whom."""
    p = call.params
    start, end = await moments.moment(call, p.start, p.start_ms), await moments.moment(call, p.end, p.end_ms)
    if start.position > end.position:
        start, end = end, start
    only = await _device(call, p.device, None) if p.device else call.caller.own
    if only is not None:
        touched, more = [only], None
    else:
        rows = await call.service.views.touched(start=start.position, end=end.position, after=p.cursor, limit=p.limit)
        touched, more = [row.device for row in rows], rows[-1].position if len(rows) == p.limit else None
    found = [await _differ(call, device, start.position, end.position) for device in touched]
    return Diff(
        start=start.position,
        start_ms=start.recorded_at,
        end=end.position,
        end_ms=end.recorded_at,
        devices=tuple(one for one in found if one is not None),
        next=more,
    )


async def story(call: Call[StoryParams]) -> Story:
    """Tell a device's life up to a moment, event by event."""
    p, when = call.params, await moments.of(call)
    device = await _device(call, p.device, when)
    records = await past(call, device, when.position)
    page = [record for record in records if record.position > p.after][: p.limit]
    last = page[-1].position if page else 0
    called = await naming(call.service.views, page, call.caller.own)
    rows, told, world = {record.position: record for record in page}, list[StoryEntry](), World()
    for one in history.read(record for record in records if record.position <= last):
        before, world = world, history.after(world, one)
        if one.position in rows:
            told.append(_step(recorded(rows[one.position], called, call.caller.own), before, world, p.steps))
    more = last if page and records[-1].position > last else None
    return Story(position=when.position, recorded_at_ms=when.recorded_at, device_id=device, events=tuple(told), next=more)


def _step(event: RecordedEntry, before: World, later: World, steps: bool) -> StoryEntry:
    turned = history.between(before, later)
    return StoryEntry(
        event=event,
        gained=tuple(sorted(turned.gained)),
        lost=tuple(sorted(turned.lost)),
        before=shown(before) if steps else None,
        after=shown(later) if steps else None,
    )


async def _device(call: Call[Any], name: str, when: Moment | None) -> str:
    """Find a device by its name then; one that has a name only now, or had one before, is found by its id."""
    return await find(call, name, when.at if when else None)


async def past(call: Call[Any], device: str, position: int, *, house: bool = False) -> tuple[Record, ...]:
    """Return what had happened to a device and its node by a position, and to the gateway where that matters; in order."""
    desk = call.service.desk
    rows = [*await desk.past(device_stream(device)), *await desk.past(node_stream(device))]
    if house:
        rows += await desk.past(GATEWAY_STREAM)
    return tuple(sorted((row for row in rows if row.position <= position), key=lambda row: row.position))


async def _tell(call: Call[Any], records: Iterable[Record], wanted: Iterable[Happened]) -> dict[int, RecordedEntry]:
    positions = {one.position for one in wanted}
    rows = [record for record in records if record.position in positions]
    called = await naming(call.service.views, rows, call.caller.own)
    return {row.position: recorded(row, called, call.caller.own) for row in rows}


async def _differ(call: Call[Any], device: str, start: int, end: int) -> DeviceDiff | None:
    await anyio.lowlevel.checkpoint()
    records = await past(call, device, end)
    found = history.changes(history.read(records), start, end)
    if not found:
        return None
    rows = {record.position: record for record in records}
    called = await naming(call.service.views, [rows[change.by.position] for change in found], call.caller.own)
    told = [(change.gained, _change(change, rows, called, call.caller.own)) for change in found]
    return DeviceDiff(
        device_id=device,
        name=called(device),
        gained=tuple(entry for gained, entry in told if gained),
        lost=tuple(entry for gained, entry in told if not gained),
    )


def _change(change: Change, rows: Mapping[int, Record], called: Naming, own: str | None) -> ChangeEntry:
    fact, by = change.fact, change.by
    value = fact.value
    if fact.aspect == "label" and change.gained and isinstance(by.event, DeviceRenamed | NodeRenamed) and by.personal:
        value = by.personal.label or value
    return ChangeEntry(what=fact.aspect, value=value, role=fact.role or None, by=recorded(rows[by.position], called, own))


def shown(world: World) -> StateEntry:
    """Return what was true, as it is shown."""
    grant, approval = world.device.grant, world.node.approval
    tokens = grant.tokens if grant else ()
    return StateEntry(
        paired=grant is not None,
        roles=grant.roles if grant else (),
        scopes=grant.scopes if grant else (),
        tokens=tuple(
            FoundToken(
                role=t.role,
                scopes=t.scopes,
                issued_at_ms=t.issued_at,
                revoked_at_ms=t.revoked_at,
                expired_at_ms=t.expired_at,
            )
            for t in tokens
        ),
        request_id=world.device.pending.request if world.device.pending else None,
        locked=world.device.lock is not None,
        labelled=world.device.labelled is not None,
        commands=approval.commands if approval else (),
        caps=approval.caps if approval else (),
    )


METHODS = (
    Method("history.at", AtParams, at, PAIRING),
    Method("history.could", CouldParams, could, PAIRING),
    Method("history.diff", DiffParams, diff, PAIRING),
    Method("history.story", StoryParams, story, PAIRING),
)
