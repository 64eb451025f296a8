"""What happens when a device shows a setup code, or when a request that came with one is rejected: two streams, one decision.

Pure. Each function returns the events of the code's stream and those of the device's, which are stored all or none.
"""

from typing import Final, TypeAlias

from msgspec.structs import replace

from . import authority, quorum
from .authority import NODE, OPERATOR, Target, of_role
from .commands import Caller, Redeem, Reject, Standing
from .decide import decide
from .device import REMEMBERED, Device
from .enrolment import SPENT, Code, Enrolment, Holder, fault, given
from .events import Actor, DeviceEvent, EnrolmentBound, EnrolmentEvent, EnrolmentOverused, EnrolmentRedeemed, EnrolmentRevoked
from .evolve import fold
from .knocking import admit
from .locks import locked_out
from .refusals import Reason, Refused
from .shortfall import shortfalls
from .standing import lapsed, stands

Both: TypeAlias = tuple[tuple[EnrolmentEvent, ...], tuple[DeviceEvent, ...]]

# A flood of attempts must not grow a log that is kept for ever.
MOST_OVERUSES: Final = 16
OVERUSE_PAUSE_MS: Final = 60_000


def redeem(enrolment: Enrolment, device: Device, minter: Device | None, c: Redeem) -> Both:
    """Let a device in by a code, or have it ask. Raises `Refused`.

    `minter` is the state of the device whose session minted the code, None where it was no paired device's: a code is worth
    nothing once who minted it is out. An attempt at a code that is used up is an event where one is due, and no device's gain.
    """
    for newer in (enrolment.newer, device.newer):
        if newer is not None:
            raise Refused(Reason.NEWER_WRITER, details={"kind": newer})
    knock, device = c.knock, lapsed(device, c.now)
    if device.lock is not None:
        # No code brings a locked key in (V7).
        raise locked_out(device.lock)
    why = fault(enrolment, device, knock.device, knock.wanted, c.now)
    if why == SPENT and overuse_due(enrolment, c.now):
        return (EnrolmentOverused(at=c.now, device=knock.device),), ()
    code = enrolment.code
    if why is not None or code is None or not vouched(code, minter, c.knock.wanted.under, c.now):
        raise Refused(Reason.BOOTSTRAP_INVALID)
    held = enrolment.holder(knock.device)
    knock = replace(knock, code=c.code, silence=None)
    if silently(code, device, held, c):
        return _let_in(device, c, admit(device, knock, code.roles, code.scopes))
    events = decide(device, knock)
    after = fold(device, events)
    if shortfalls(after.grant, knock.wanted):
        return (() if held else (EnrolmentBound(at=c.now, device=knock.device, key=knock.wanted.key),)), events
    token = after.token(knock.wanted.role)
    handed = {knock.wanted.role: token.issue} if token else {}
    if held is not None and held.redeemed_at is not None and handed.items() <= held.tokens.items():
        return (), events
    return (EnrolmentRedeemed(at=c.now, device=knock.device, key=knock.wanted.key, tokens=handed),), events


def vouched(code: Code, minter: Device | None, under: str | None, now: int) -> bool:
    """Say whether who minted a code may still give as much, and nobody has ended or doubted what they held then (V3)."""
    if code.minter is None:
        return True
    if minter is None or minter.newer is not None or not stands(minter, Standing(code.minter, OPERATOR, None), now):
        return False
    since = [old for old in minter.retired if old.at >= code.issued_at]
    # Of more ends than are remembered some may have been more than a rotation.
    if len(since) >= REMEMBERED or any(old.role == OPERATOR and old.how != "rotated" for old in since):
        return False
    token = minter.grant.live(OPERATOR, under) if minter.grant else None
    held = Caller(actor=Actor("device", code.minter), scopes=token.scopes if token else (), ceiling=code.lent)
    return authority.may("enrol", held, Target("", given(code.roles, code.scopes))).allowed


def silently(code: Code, device: Device, held: Holder | None, c: Redeem) -> bool:
    """Say whether redeeming is approval: for a bare node nobody knows yet, or where the code says so (protocol §6.9, A19).

    Never for what takes several people, or a reason: who minted the code is one of them, and said nothing of this device.
    """
    wanted = c.knock.wanted
    if quorum.takes_people(c.knock.terms, tuple((role, of_role(code.scopes, role)) for role in code.roles)):
        return False
    bare_node = wanted.role == NODE and not wanted.scopes
    return device.grant is None and (held is None or held.redeemed_at is None) and (bare_node or code.approves)


def reject(enrolment: Enrolment, device: Device, c: Reject) -> Both:
    """Say no to a request, and thereby to the code that stands behind it (B7). Raises `Refused`."""
    events = decide(device, c)
    if enrolment.newer is not None:
        raise Refused(Reason.NEWER_WRITER, details={"kind": enrolment.newer})
    over = not events or enrolment.code is None or enrolment.revoked_at is not None
    return (() if over else (EnrolmentRevoked(at=c.now, request=c.request),)), events


def overuse_due(enrolment: Enrolment, now: int) -> bool:
    """Say whether another attempt at a code that is used up is to be recorded."""
    last = enrolment.overused_at
    return enrolment.overuses < MOST_OVERUSES and (last is None or now - last >= OVERUSE_PAUSE_MS)


def _let_in(device: Device, c: Redeem, events: tuple[DeviceEvent, ...]) -> Both:
    after = fold(device, events)
    tokens = {token.role: token.issue for token in after.grant.tokens} if after.grant else {}
    return (EnrolmentRedeemed(at=c.now, device=c.knock.device, key=c.knock.wanted.key, tokens=tokens),), events
