"""The last operator: what a device may approve with right now, and whether an answer would leave nobody who can (A22).

Pure: looks at one folded state at a time, as time has left it (`standing.lapsed`). Which other device remains able to approve is
found and held by the desk.
"""

from collections.abc import Sequence

from . import authority
from .authority import ADMIN, OPERATOR, PAIRING, Target, covers
from .commands import DeviceBound
from .device import Device
from .events import DeviceEvent, GlassBroken, kind_of
from .evolve import evolve
from .refusals import Reason, Refused


def holds(state: Device, under: str | None) -> tuple[str, ...]:
    """Return the operator scopes that a device's token can be used with now; none where it has none that lives.

    `under` is the keyed tag of the present shared secret (T6).
    """
    token = state.grant.live(OPERATOR, under) if state.grant else None
    return token.scopes if token else ()


def able(state: Device, under: str | None) -> bool:
    """Say whether a device can approve: by its own token and not locked, whether or not it is connected."""
    return state.newer is None and state.lock is None and covers(OPERATOR, holds(state, under), (PAIRING,))


def ends(state: Device, events: Sequence[DeviceEvent], under: str | None) -> DeviceEvent | None:
    """Return the event by which a device that can approve no longer can; None where it never could, or still can in the end."""
    if not events or not able(state, under):
        return None
    ending = None
    for event in events:
        before, state = state, evolve(state, event)
        if able(before, under) and not able(state, under):
            ending = event
    return None if able(state, under) else ending


def break_glass(ending: DeviceEvent, command: DeviceBound) -> GlassBroken:
    """Return the event that says that the last operator was ended on purpose. Raises `Refused` where that may not be.

    Whoever does it must say so and why, and hold operator.admin: only the gateway's host can approve anybody after it.
    """
    if not command.break_glass:
        raise Refused(Reason.LAST_OPERATOR, device=command.device, details={"deviceId": command.device})
    if not (command.reason or "").strip():
        raise Refused(Reason.REASON_REQUIRED)
    ruling = authority.may("break-glass", command.by, Target(command.device, ((OPERATOR, (ADMIN,)),)))
    if not ruling.allowed:
        raise Refused(Reason.MISSING_SCOPE, scope=ruling.scope or ADMIN)
    return GlassBroken(at=command.now, ended=kind_of(ending))
