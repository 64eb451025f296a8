"""Going back to a position: what that comes to for every device, node and setup code, and doing it, one command for each.

The plan is the decision itself on the state as it is; doing it decides again at commit. Nothing here rules on authority.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from . import ids
from .commands import (
    Ban,
    DeviceCommand,
    EnrolmentCommand,
    FormerSurface,
    NodeCommand,
    Restore,
    RestoreDevice,
    RestoreNode,
    VoidCode,
)
from .decide import decide
from .device import Device
from .enrolment import EMPTY_ENROLMENT, decide_enrolment, evolve_enrolment
from .events import (
    DeviceImported,
    DeviceRenamed,
    NodeRenamed,
    Personal,
    TokenIssued,
    TokenRevoked,
    device_stream,
    enrolment_stream,
    node_stream,
)
from .evolve import evolve
from .history import Happened, difference, read, world_at
from .nodes import decide_node
from .policy import decide_house
from .refusals import PairingError, Refused
from .restoring import ended_on_purpose, expired_since, former
from .service import Call
from .standing import lapsed

Outcome: TypeAlias = Literal["returns", "goes", "changes", "stays-out", "refused"]
AnyCommand: TypeAlias = DeviceCommand | NodeCommand | EnrolmentCommand

_DEVICE, _NODE, _CODE = device_stream(""), node_stream(""), enrolment_stream("")


class Line(Struct, frozen=True, kw_only=True):
    """What going back comes to for one device, node or code. `collects` are the roles for which it must collect a new token.

    `gained` and `lost` name roles, scopes and commands; `why` says what keeps it out, or why it was refused. `position` of the
    last event, once it is done.
    """

    family: Literal["device", "node", "code"]
    id: str
    outcome: Outcome
    gained: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    collects: tuple[str, ...] = ()
    why: str | None = None
    position: int = 0


class Planned(Struct, frozen=True):
    """A command, and what it comes to on the state as it was read."""

    command: AnyCommand
    line: Line


def stamp(call: Call[Any], cause: int | None) -> dict[str, Any]:
    """Return what each command of a restore or an undo carries, with an id of its own."""
    now = call.service.clock()
    return {**call.stamp(), "id": ids.uuid7(now), "now": now, "cause": cause}


async def plan(call: Call[Any], to: int, device: str | None, *, epoch: int, cause: int | None = None) -> AsyncIterator[Planned]:
    """Yield what going back to a position comes to, leaving out what would stay as it is.

    What returns comes before what goes, so that nobody is left without an operator halfway; the caller's own device is last.
    Raises `Refused` where the caller may not.
    """
    one = (device_stream(device), node_stream(device)) if device is not None else None
    streams = one or await call.service.views.streams_since(to)
    own = device_stream(call.caller.actor.id or "")
    late: list[Planned] = []
    for stream in sorted(streams, key=lambda name: (name == own, name)):
        planned = await _planned(call, stream, to, epoch, cause)
        if planned is None:
            continue
        if planned.line.outcome == "returns" and stream != own:
            yield planned
        else:
            late.append(planned)
    for planned in late:
        yield planned


async def _planned(call: Call[Any], stream: str, to: int, epoch: int, cause: int | None) -> Planned | None:
    past = read(await call.service.desk.log.stream(stream))
    if not past or past[-1].position <= to:
        return None
    if stream.startswith(_DEVICE):
        return device_back(call, stream.removeprefix(_DEVICE), past, to, epoch, cause)
    if stream.startswith(_NODE):
        return node_back(call, stream.removeprefix(_NODE), past, to, epoch, cause)
    if stream.startswith(_CODE):
        return _code_back(call, stream.removeprefix(_CODE), past, to, cause)
    return None


def device_back(
    call: Call[Any], device: str, past: tuple[Happened, ...], to: int, epoch: int | None, cause: int | None
) -> Planned | None:
    """Return what takes a device back, given all that happened to it; None where it would stay as it is. Raises `Refused`."""
    then, now = world_at(past, to).device, world_at(past).device
    command = _device_command(call, device, past, then, now, to, epoch, cause)
    if epoch is None:
        # What is undone is one act: a label or a lock is another one.
        command = replace(command, relabel=False, lock=None)
    news = decide(now, command)
    if news:
        return Planned(command, _device_line(device, now, news))
    if then.grant is not None and now.grant is None:
        return Planned(command, Line(family="device", id=device, outcome="stays-out", why=_kept_out(past, to)))
    return None


def _device_command(
    call: Call[Any],
    device: str,
    past: tuple[Happened, ...],
    then: Device,
    now: Device,
    to: int,
    epoch: int | None,
    cause: int | None,
) -> RestoreDevice:
    stamped, label = stamp(call, cause), label_at(past, to)
    since = [one.event for one in past if one.position > to]
    then = lapsed(then, stamped["now"])
    relabel = then.labelled != now.labelled and (then.labelled is None or label is not None)
    if relabel:
        stamped["personal"] = Personal(salt=ids.salt(), label=label, address=call.caller.address)
    return RestoreDevice(
        **stamped,
        device=device,
        break_glass=getattr(call.params, "break_glass", False),
        to=to,
        epoch=epoch,
        former=former(then.grant, expired_since(since)) if then.grant else None,
        ended=ended_on_purpose(since),
        issue=ids.issue_id(),
        key=call.service.keyring.current.id,
        labelled=then.labelled,
        relabel=relabel,
        lock=Ban(then.lock.until, then.lock.message) if then.lock else None,
        lifetimes=call.service.lifetimes,
        terms=call.service.terms,
    )


def label_at(past: Iterable[Happened], to: int) -> str | None:
    """Return what people called a device or a node at a position; None where it had no label, or that was forgotten."""
    label = None
    for one in past:
        if one.position <= to and isinstance(one.event, DeviceRenamed | DeviceImported | NodeRenamed):
            label = one.personal.label if one.personal else None
    return label


def _device_line(device: str, now: Device, news: tuple[Any, ...]) -> Line:
    later = now
    for event in news:
        later = evolve(later, event)
    turned = difference(now, later)
    collects = tuple(event.role for event in news if isinstance(event, TokenIssued))
    outcome: Outcome = "changes"
    if (now.grant is None) is not (later.grant is None):
        outcome = "returns" if now.grant is None else "goes"
    gained, lost = (
        tuple(fact.value for fact in sorted(some) if fact.aspect in {"role", "scope"}) for some in (turned.gained, turned.lost)
    )
    return Line(family="device", id=device, outcome=outcome, gained=gained, lost=lost, collects=collects)


def _kept_out(past: Sequence[Happened], to: int) -> str:
    ended = ended_on_purpose(one.event for one in past if one.position > to)
    last = max((one.position for one in past if one.position > to and isinstance(one.event, TokenRevoked)), default=0)
    if ended:
        return f"its {' and '.join(ended)} token was revoked on purpose at position {last}"
    return "nothing of it could be given back"


def node_back(
    call: Call[Any], node: str, past: tuple[Happened, ...], to: int, epoch: int | None, cause: int | None
) -> Planned | None:
    """Return what takes a node's approved surface back; None where it would stay as it is. Raises `Refused`."""
    then, now = world_at(past, to).node, world_at(past).node
    surface = None
    if then.approval is not None:
        approved = then.approval
        surface = FormerSurface(caps=approved.caps, commands=approved.commands, created_at=approved.approved_at)
    command = RestoreNode(
        **stamp(call, cause),
        node=node,
        to=to,
        epoch=epoch,
        former=surface,
        issue=ids.issue_id(),
        key=call.service.keyring.current.id,
    )
    if not decide_node(now, command):
        return None
    held, kept = set(now.approval.commands if now.approval else ()), set(surface.commands if surface else ())
    outcome: Outcome = "goes" if surface is None else "returns" if now.approval is None else "changes"
    line = Line(family="node", id=node, outcome=outcome, gained=tuple(sorted(kept - held)), lost=tuple(sorted(held - kept)))
    return Planned(command, line)


def _code_back(call: Call[Any], code: str, past: tuple[Happened, ...], to: int, cause: int | None) -> Planned | None:
    """A code that was minted later is void; a spent or void one stays so."""
    if past[0].position <= to:
        return None
    state = EMPTY_ENROLMENT
    for one in past:
        state = evolve_enrolment(state, one.event)  # type: ignore[arg-type]
    command = VoidCode(**stamp(call, cause), code=code)
    if state.expired_at is not None or not decide_enrolment(state, command):
        return None
    return Planned(command, Line(family="code", id=code, outcome="goes"))


async def foresee(call: Call[Any], to: int, device: str | None) -> int:
    """Return the number of the timeline that going back would begin. Raises `Refused` where the caller may not."""
    house = await call.service.desk.house()
    decide_house(house, Restore(**stamp(call, None), to=to, device=device))
    return house.epoch + 1


async def begin(call: Call[Any], to: int, device: str | None) -> tuple[int, int]:
    """Record that a new timeline begins; return its number and the position that says so. Raises `Refused`."""
    handled = await call.service.desk.handle_house(Restore(**stamp(call, None), to=to, device=device))
    return handled.state.epoch, handled.position


async def carry_out(call: Call[Any], planned: Planned) -> Line:
    """Do what was planned, decided anew; what is refused by now says so on its line. Raises `LogUnavailable`."""
    desk, command, line = call.service.desk, planned.command, planned.line
    try:
        match command:
            case RestoreNode():
                position = (await desk.handle_node(command)).position
            case VoidCode():
                position = (await desk.handle_enrolment(command)).position
            case _:
                position = (await desk.handle(command)).position  # type: ignore[arg-type]
    except Refused as no:
        return _refused(line, f"{no.message}. {no.hint}")
    except PairingError as error:
        return _refused(line, str(error))
    return replace(line, position=position)


def _refused(line: Line, why: str) -> Line:
    return Line(family=line.family, id=line.id, outcome="refused", why=why)
