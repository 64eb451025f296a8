"""The methods `device.token.*`: replacing and killing the token of one role of one device (protocol §6.6).

No method decides: they build the command, hand it to the desk, and shape the answer.
"""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from . import ids
from .authority import PAIRING, normalise
from .commands import Revoke, Rotate
from .events import TokenIssued, TokenRevoked, TokenRotated, kind_of
from .refusals import Reason, Refused
from .service import Call, Ending, Method, Receipt, receipt
from .shapes import Name


class RotateParams(Ending, frozen=True, kw_only=True):
    """`scopes` absent keeps the token's present ones. `handoff_ms` leaves the present one so long, or until the next is used.

    `compromised`: somebody else may have the present one; it is left no time.
    """

    device_id: Name
    role: Name
    scopes: tuple[Name, ...] | UnsetType = UNSET
    handoff_ms: Annotated[int, Meta(ge=0)] = 0
    compromised: bool = False


class RevokeParams(Ending, frozen=True, kw_only=True):
    """The token of one role of one device."""

    device_id: Name
    role: Name


class Rotated(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The answer to `device.token.rotate`; `token` goes to the device itself alone (T4).

    `handoff_until_ms`: until then, or until the next token is used, the one before is accepted too.
    """

    device_id: str
    role: str
    scopes: tuple[str, ...]
    rotated_at_ms: int
    token: str | None = None
    token_delivery: str | None = None
    handoff_until_ms: int | None = None
    recorded: Receipt | None = None


class Revoked(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The answer to `device.token.revoke`."""

    device_id: str
    role: str
    revoked_at_ms: int
    recorded: Receipt | None = None


async def rotate(call: Call[RotateParams]) -> Rotated:
    """Retire a token and issue the next (protocol §6.6)."""
    service, p = call.service, call.params
    device, role = p.device_id.strip(), p.role.strip()
    if p.compromised and p.handoff_ms:
        problems = "at /handoffMs: must be absent where the token is compromised"
        raise Refused(Reason.INVALID_PARAMS, method="device.token.rotate", problems=problems)
    command = Rotate(
        device=device,
        role=role,
        scopes=None if p.scopes is UNSET else p.scopes,
        issue=ids.issue_id(),
        key=service.keyring.current.id,
        break_glass=p.break_glass,
        handoff=p.handoff_ms,
        longest=service.longest_handoff,
        compromised=p.compromised,
        lifetimes=service.lifetimes,
        **call.stamp("device.token.rotate", device, role),
    )
    handled = await service.desk.handle(command)
    event = handled.events[0]
    if not isinstance(event, TokenIssued | TokenRotated):
        raise TypeError(f"a rotation gave {kind_of(event)}")
    if handled.repeated and not _as_asked(command, event):
        raise Refused(Reason.KEY_REUSED, details={"position": handled.position})
    standing = call.caller.standing
    mine = call.caller.method == "device-token" and standing is not None and standing.device == device
    # An answer that is given again may be about a generation that has been replaced since: its token is nobody's any more.
    token = handled.state.token(role)
    value = service.keyring.token_of(handled.state, device, role) if mine and token and token.issue == event.issue else None
    return Rotated(
        device_id=p.device_id,
        role=event.role,
        scopes=event.scopes,
        rotated_at_ms=event.at,
        token=value,
        token_delivery="in-band" if value else "superseded" if mine else "withheld-cross-device",
        handoff_until_ms=event.handoff_until if isinstance(event, TokenRotated) else None,
        recorded=receipt(p, handled),
    )


def _as_asked(command: Rotate, event: TokenIssued | TokenRotated) -> bool:
    """Say whether what an earlier call with the same key has done is what is asked for now."""
    if command.scopes is not None and normalise(command.scopes) != event.scopes:
        return False
    if not isinstance(event, TokenRotated):
        return True
    left = 0 if event.handoff_until is None else event.handoff_until - event.at
    # A token's own end may have come before that of the time it was to be left.
    return left <= command.handoff and event.compromised == command.compromised


async def revoke(call: Call[RevokeParams]) -> Revoked:
    """Kill a token (protocol §6.6)."""
    device, role = call.params.device_id.strip(), call.params.role.strip()
    stamp = call.stamp("device.token.revoke", device, role)
    command = Revoke(device=device, role=role, break_glass=call.params.break_glass, **stamp)
    handled = await call.service.desk.handle(command)
    event = handled.events[0]
    at = event.at if isinstance(event, TokenRevoked) else 0
    return Revoked(device_id=device, role=role, revoked_at_ms=at, recorded=receipt(call.params, handled))


METHODS: tuple[Method[Any], ...] = (
    Method("device.token.rotate", RotateParams, rotate, PAIRING),
    Method("device.token.revoke", RevokeParams, revoke, PAIRING),
)
