"""The gateway's own stream: when it served, and under which policy. Pure, like `device` and `decide`.

Policy here is what settings say of who gets in; the shared secret appears as a keyed tag alone.
"""

from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from . import authority
from .authority import Target
from .commands import GatewayCommand, Restore, Start, Stop
from .events import GatewayEvent, GatewayStarted, GatewayStopped, LogRestored, PolicyChanged, Unknown
from .permits import denial
from .refusals import Reason, Refused


class House(Struct, frozen=True):
    """The gateway stream, folded: policy, tag of its secret, which instances serve, and how many restores there were."""

    policy: str | None = None
    secret: str | None = None
    serving: tuple[str, ...] = ()
    newer: str | None = None
    epoch: int = 0


EMPTY_HOUSE = House()


def evolve_house(state: House, event: GatewayEvent | Unknown) -> House:
    """Fold one event of the gateway stream. Total."""
    match event:
        case GatewayStarted():
            # A process that was killed never said that it stopped; only the last few can still be serving.
            return replace(state, serving=(*state.serving, event.instance)[-16:])
        case GatewayStopped():
            return replace(state, serving=tuple(i for i in state.serving if i != event.instance))
        case PolicyChanged():
            return replace(state, policy=event.policy, secret=event.secret)
        case LogRestored():
            return replace(state, epoch=event.epoch)
        case Unknown():
            return replace(state, newer=event.kind)
        case _:
            assert_never(event)


def decide_house(state: House, command: GatewayCommand) -> tuple[GatewayEvent, ...]:
    """Return what follows from a command to the gateway itself. Raises `Refused`."""
    if state.newer is not None:
        raise Refused(Reason.NEWER_WRITER, details={"kind": state.newer})
    match command:
        case Start():
            started = GatewayStarted(
                at=command.now,
                instance=command.instance,
                version=command.version,
                listen=command.listen,
                key=command.key,
            )
            changed = PolicyChanged(at=command.now, policy=command.ruling, secret=command.secret, settings=command.settings)
            news: list[GatewayEvent] = [] if command.instance in state.serving else [started]
            return (*news, changed) if (command.ruling, command.secret) != (state.policy, state.secret) else tuple(news)
        case Stop():
            known = command.instance in state.serving
            return (GatewayStopped(at=command.now, instance=command.instance),) if known else ()
        case Restore():
            ruling = authority.may("restore", command.by, Target(command.device or ""))
            if not ruling.allowed:
                raise denial(ruling, Reason.RESTORE_DENIED)
            return (LogRestored(at=command.now, to=command.to, epoch=state.epoch + 1, device=command.device),)
        case _:
            assert_never(command)
