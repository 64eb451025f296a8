"""Setup codes at the door: which code a token is, the command that redeems it, and what is recorded once a device is in.

What a code gives is `pairing.redemption`'s to say, whether it is good `pairing.enrolment`'s. It knows no socket.
"""

from pairing import ids
from pairing.commands import Acknowledge, Caller, Deliver, EnrolmentCommand, Redeem
from pairing.desk import Desk
from pairing.device import Device
from pairing.enrolment import SPENT, Enrolment, beyond, decide_enrolment, fault
from pairing.redemption import overuse_due, silently, vouched
from pairing.refusals import Refused
from pairing.service import Service
from pairing.settings import Gateway
from pairing.standing import lapsed
from pairing.tokens import Keyring
from pairing.verdict import Method, Offered

from .asking import knock, recordable
from .connect import IssuedToken
from .contact import Contact, wanted
from .limits import SETUP_CODE, RateLimiter

METHOD: Method = "bootstrap-token"


async def look_up(service: Service, limiter: RateLimiter, contact: Contact, state: Device, now: int) -> Offered:
    """Return which setup code a contact shows, found by the keyed hash of its token alone, and why it is no good, if so."""
    token, device, state = contact.bootstrap or "", contact.device or "", lapsed(state, now)
    if limiter.locked(SETUP_CODE, contact.facts.source, now, device):
        return Offered(None, "not looked at: too many wrong ones came from there", locked=True)
    for id in service.keyring.enrolment_ids(token):
        enrolment = await service.desk.enrolment(id)
        code = enrolment.code
        if code is None or not service.keyring.is_bootstrap(code, token):
            continue
        why = fault(enrolment, state, device, wanted(contact, service.under), now)
        minter = await service.desk.device(code.minter) if code.minter else None
        if why is None and not vouched(code, minter, service.under, now):
            why = "whoever minted it may not give as much any more"
        return Offered(id, why)
    return Offered(None, "unknown")


def redemption(rules: Gateway, contact: Contact, code: str, service: Service, now: int) -> Redeem:
    """Return the command with which a contact redeems a code."""
    asked = recordable(knock(rules, contact, METHOD, service.keyring.current, service.under, now), contact)
    return Redeem(id=asked.id, now=now, by=asked.by, personal=asked.personal, code=code, knock=asked)


def approves(enrolment: Enrolment, state: Device, command: Redeem) -> bool:
    """Say whether redeeming lets the device in at once, so that no request stays open."""
    held = enrolment.holder(command.knock.device)
    return enrolment.code is not None and silently(enrolment.code, state, held, command)


async def overuse(desk: Desk, offered: Offered, command: Redeem) -> None:
    """Record an attempt at a code that is used up, where one is due."""
    if offered.fault == SPENT and overuse_due(await desk.enrolment(command.code), command.now):
        try:
            await desk.handle_redemption(command)
        except Refused:
            # Recorded for somebody else meanwhile, or ended another way: this attempt is refused all the same.
            return


def handed(enrolment: Enrolment, state: Device, contact: Contact, keyring: Keyring) -> tuple[IssuedToken, ...]:
    """Return the tokens of the other roles that a device redeemed, for it alone (T4), and none that came after them (B3)."""
    code, device = enrolment.code, contact.device or ""
    held = enrolment.holder(device)
    if code is None or held is None:
        return ()
    tokens: list[IssuedToken] = []
    for role, issue in sorted(held.tokens.items()):
        token, value = state.token(role), keyring.token_of(state, device, role)
        if role == contact.role or token is None or value is None or token.issue != issue or token.dead:
            continue
        if not beyond(code, token):
            tokens.append(IssuedToken(value, role, token.scopes, token.issued_at))
    return tuple(tokens)


def errand(contact: Contact, by: Caller, state: Device | None, code: str | None, now: int) -> EnrolmentCommand | None:
    """Return what is to be recorded once a device is in: that it was sent what `code` gives, or used what one gave before."""
    step: type[Deliver | Acknowledge] = Acknowledge if code is None else Deliver
    if code is None and by.method == "device-token" and state is not None and state.grant is not None:
        code = state.grant.code
    if code is None or contact.device is None:
        return None
    itself = Caller(actor=by.actor, scopes=(), origin=by.origin, address=by.address)
    return step(id=ids.uuid7(now), now=now, by=itself, code=code, device=contact.device)


async def record(desk: Desk, command: EnrolmentCommand) -> None:
    """Record it, unless it is on record. Raises `Refused`, `PairingError`."""
    if decide_enrolment(await desk.enrolment(command.code), command):
        await desk.handle_enrolment(command)
