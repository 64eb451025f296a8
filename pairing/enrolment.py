"""The state of one setup code or join key: what it gives, who holds a use of it, and whether it can still be used.

Pure: `evolve_enrolment` folds the events of the stream `enrolment:<id>` and never refuses; `decide_enrolment` answers commands,
and puts every question of authority to `authority.may`. What happens when a device shows a code is in `redemption`.
"""

from typing import Final, TypeAlias, assert_never

from msgspec import Struct
from msgspec.structs import replace

from . import authority
from .authority import ADMIN, OPERATOR, ROLES, Target, belongs, covers, of_role
from .commands import Acknowledge, Command, Deliver, EnrolmentCommand, ExpireCode, Mint, VoidCode, Wanted
from .device import Device, Token
from .events import (
    EnrolmentAcknowledged,
    EnrolmentBound,
    EnrolmentDelivered,
    EnrolmentEvent,
    EnrolmentExpired,
    EnrolmentIssued,
    EnrolmentOverused,
    EnrolmentRedeemed,
    EnrolmentRevoked,
    Unknown,
)
from .refusals import Reason, Refused

Events: TypeAlias = tuple[EnrolmentEvent, ...]

LIFE_MS: Final = 600_000
"""How long a code lives where nobody says otherwise (protocol §6.9)."""
LONGEST_MS: Final = 366 * 86_400_000
MOST_USES: Final = 1_000
HANDED_OUT: Final = ("operator.approvals", "operator.read", "operator.talk.secrets", "operator.write")
"""The scopes that profiles hold; any other is given by an owner alone, who names it (B4)."""
SPENT: Final = "every use of it is taken"

PROFILES: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "default": (("node", "operator"), HANDED_OUT),
    "node": (("node",), ()),
    "limited": (("node", "operator"), ("operator.read",)),
    "voice-node": (("node", "operator"), ("operator.read", "operator.talk.secrets")),
}


class Holder(Struct, frozen=True, gc=False):
    """A device that holds one use: since when, and how far the handing over has come. Times in ms."""

    device: str
    key: str
    at: int
    tokens: dict[str, str] = {}
    redeemed_at: int | None = None
    delivered_at: int | None = None
    acknowledged_at: int | None = None

    def complete(self, code: "Code") -> bool:
        """Say whether it was handed a token for every role that the code gives."""
        return set(code.roles) <= set(self.tokens)


class Code(Struct, frozen=True, gc=False):
    """What was minted; the token itself is nowhere. Times in ms."""

    id: str
    secret: str
    key: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    uses: int
    approves: bool
    issued_at: int
    expires_at: int
    minter: str | None
    under: str | None
    lent: tuple[str, ...] = ()


class Enrolment(Struct, frozen=True, gc=False):
    """One code's stream, folded. `newer` is set once an event of an unknown kind was met: no decision may follow it."""

    code: Code | None = None
    holders: tuple[Holder, ...] = ()
    revoked_at: int | None = None
    expired_at: int | None = None
    overuses: int = 0
    overused_at: int | None = None
    newer: str | None = None

    def holder(self, device: str) -> Holder | None:
        """Return what a device holds of it."""
        return next((holder for holder in self.holders if holder.device == device), None)

    @property
    def redeemed(self) -> int:
        """How many devices were let in by it."""
        return sum(holder.redeemed_at is not None for holder in self.holders)


EMPTY_ENROLMENT: Final = Enrolment()


def evolve_enrolment(state: Enrolment, event: EnrolmentEvent | Unknown) -> Enrolment:
    """Fold one event. Total: an event that does not fit leaves what it does not concern as it was."""
    match event:
        case EnrolmentIssued():
            return replace(state, code=_issued(event))
        case EnrolmentBound():
            return _held(state, Holder(event.device, event.key, event.at))
        case EnrolmentRedeemed():
            held = state.holder(event.device) or Holder(event.device, event.key, event.at)
            return _held(state, replace(held, tokens={**held.tokens, **event.tokens}, redeemed_at=event.at))
        case EnrolmentDelivered():
            return _moved(state, event.device, delivered_at=event.at)
        case EnrolmentAcknowledged():
            return _moved(state, event.device, acknowledged_at=event.at)
        case EnrolmentOverused():
            return replace(state, overuses=state.overuses + 1, overused_at=event.at)
        case EnrolmentRevoked():
            return replace(state, revoked_at=event.at)
        case EnrolmentExpired():
            return replace(state, expired_at=event.at)
        case Unknown():
            return replace(state, newer=event.kind)
        case _:
            assert_never(event)


def _issued(event: EnrolmentIssued) -> Code:
    return Code(
        id=event.code,
        secret=event.secret,
        key=event.key,
        roles=event.roles,
        scopes=event.scopes,
        uses=event.uses,
        approves=event.approves,
        issued_at=event.at,
        expires_at=event.expires_at,
        minter=event.minter,
        under=event.under,
        lent=event.lent,
    )


def _held(state: Enrolment, holder: Holder) -> Enrolment:
    """A device keeps its place, or takes the last one."""
    others = tuple(holder if other.device == holder.device else other for other in state.holders)
    return replace(state, holders=others if state.holder(holder.device) else (*others, holder))


def _moved(state: Enrolment, device: str, **change: int) -> Enrolment:
    held = state.holder(device)
    return state if held is None else _held(state, replace(held, **change))


def fault(state: Enrolment, device: Device, name: str, wanted: Wanted, now: int) -> str | None:
    """Return why the device `name`, whose key is proven, cannot use this code for what it wants; None where it can.

    A use counts from the first showing, and its expiry is that of the code. What was redeemed may be collected again by the same
    device until it has been acknowledged, as long as what it gave has not ended (protocol §6.9, B3, B5).
    """
    code, held = state.code, state.holder(name)
    if code is None:
        return "unknown"
    if state.revoked_at is not None:
        return f"revoked at {state.revoked_at}"
    if code.under is not None and code.under != wanted.under:
        return "minted under an earlier shared secret"
    ended = held is not None and wanted.role in held.tokens and not _current(held, device, wanted)
    if ended:
        return "what it gave has ended"
    if held is not None and held.complete(code):
        why = None if held.acknowledged_at is None else f"acknowledged at {held.acknowledged_at}"
    else:
        why = _unused(state, code, held, device, now)
    return why or _outside(code, device, wanted)


def _unused(state: Enrolment, code: Code, held: Holder | None, device: Device, now: int) -> str | None:
    if held is None and len(state.holders) >= code.uses:
        return SPENT
    if now > code.expires_at:
        return f"expired at {code.expires_at}"
    if device.grant is None and device.gone_at is not None and device.gone_at >= code.issued_at:
        # What a person has taken away since, no code brings back (R9, V7).
        return "the device was removed after it was minted"
    return None


def _current(held: Holder, device: Device, wanted: Wanted) -> bool:
    token = device.token(wanted.role)
    return token is not None and not token.dead and token.issue == held.tokens[wanted.role]


def beyond(code: Code, token: Token) -> bool:
    """Say whether a token holds more than a code gives: then the code is no way to it (B3)."""
    return not covers(token.role, code.scopes, token.scopes)


def _outside(code: Code, device: Device, wanted: Wanted) -> str | None:
    if wanted.role not in code.roles:
        return f"not for role {wanted.role}"
    if not covers(wanted.role, code.scopes, wanted.scopes):
        return f"outside its scopes: {', '.join(code.scopes) or 'none'}"
    token = device.token(wanted.role)
    return "the device's token holds more than it gives" if token and not token.dead and beyond(code, token) else None


def decide_enrolment(state: Enrolment, command: EnrolmentCommand) -> Events:
    """Return what follows from a command in a state; `()` means that nothing had to happen. Raises `Refused`."""
    if state.newer is not None:
        raise Refused(Reason.NEWER_WRITER, details={"kind": state.newer})
    match command:
        case Mint():
            return _mint(state, command)
        case VoidCode():
            return _void(state, command)
        case ExpireCode():
            return _expire(state, command)
        case Deliver():
            held = state.holder(command.device)
            sent = held is None or held.redeemed_at is None or held.delivered_at is not None
            return () if sent else (EnrolmentDelivered(at=command.now, device=command.device),)
        case Acknowledge():
            return _acknowledge(state, command)
        case _:
            assert_never(command)


def _mint(state: Enrolment, c: Mint) -> Events:
    _permit(c, c.roles, c.scopes)
    if not c.roles or not set(c.roles) <= set(ROLES):
        raise Refused(Reason.INVALID_ROLE)
    if astray := next((s for s in c.scopes if not any(belongs(s, role) for role in c.roles)), None):
        raise Refused(Reason.INVALID_SCOPE, scope=astray)
    if not 1 <= c.uses <= MOST_USES or not 0 < c.expires_at - c.now <= LONGEST_MS:
        raise Refused(Reason.ENROLMENT_BOUNDS, uses=MOST_USES, days=LONGEST_MS // 86_400_000)
    if state.code is not None:
        return ()
    issued = EnrolmentIssued(
        at=c.now,
        code=c.code,
        secret=c.secret,
        key=c.key,
        profile=c.profile,
        roles=c.roles,
        scopes=c.scopes,
        uses=c.uses,
        approves=c.approves,
        expires_at=c.expires_at,
        minter=c.by.standing.device if c.by.standing else None,
        under=c.under,
        lent=c.by.ceiling if c.by.standing else (),
        labelled=c.labelled,
    )
    return (issued,)


def _void(state: Enrolment, c: VoidCode) -> Events:
    _permit(c, (), ())
    code = state.code
    if code is None:
        raise Refused(Reason.UNKNOWN_ENROLMENT)
    _permit(c, code.roles, code.scopes)
    return () if state.revoked_at is not None else (EnrolmentRevoked(at=c.now, request=None),)


def _expire(state: Enrolment, c: ExpireCode) -> Events:
    code = state.code
    if code is None or c.now <= code.expires_at or state.revoked_at is not None or state.expired_at is not None:
        return ()
    return () if state.redeemed >= code.uses else (EnrolmentExpired(at=c.now),)


def _acknowledge(state: Enrolment, c: Acknowledge) -> Events:
    """Who was handed only some of the roles may still come for the others."""
    held, code = state.holder(c.device), state.code
    if held is None or code is None or held.acknowledged_at is not None or not held.complete(code):
        return ()
    return (EnrolmentAcknowledged(at=c.now, device=c.device),)


def given(roles: tuple[str, ...], scopes: tuple[str, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return what a code gives, by role, and with it what its minter must hold; other than profiles do takes an owner (B4)."""
    access = tuple((role, of_role(scopes, role)) for role in roles)
    return access if set(of_role(scopes, OPERATOR)) <= set(HANDED_OUT) else (*access, (OPERATOR, (ADMIN,)))


def _permit(c: Command, roles: tuple[str, ...], scopes: tuple[str, ...]) -> None:
    """Nobody mints, or takes back, what they do not hold; what no profile hands out is an owner's alone (B4, B6)."""
    ruling = authority.may("enrol", c.by, Target("", given(roles, scopes)))
    if ruling.allowed:
        return
    if ruling.scope is not None:
        raise Refused(Reason.MISSING_SCOPE, scope=ruling.scope)
    raise Refused(Reason.ENROLMENT_DENIED, rule=ruling.rule)
