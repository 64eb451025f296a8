"""Letting a contact in: its credential judged on a current state and, where pairing is what it lacks, its wish decided.

What is right is `pairing.verdict`'s and `pairing.decide`'s; this keeps their order, and judges again on what was committed.
"""

from typing import Final

import msgspec
import structlog

from pairing.commands import Knock, Redeem
from pairing.decide import decide
from pairing.device import Device
from pairing.enrolment import SPENT
from pairing.events import DeviceEvent, RequestApproved, RequestOpened
from pairing.knocking import blocking
from pairing.locks import locked_out
from pairing.refusals import Reason, Refused
from pairing.shortfall import shortfalls
from pairing.verdict import PAIRING_REASONS, Method, Offered, Presented, Verdict

from . import asking, bootstrap, evidence, login
from .clients import is_probe
from .connect import IssuedToken
from .contact import Contact, wanted
from .herald import Herald
from .house import House
from .limits import Counter
from .opening import Opening

WRITES: Final = 60
"""Logins of one device in a minute that may write to the log; the rest are judged on what is written."""
_ONE_TOO_MANY: Final = {Reason.TOO_MANY_PENDING, Reason.TOO_MANY_REQUESTS}
log = structlog.get_logger("pairing.gateway")


class Admitted(msgspec.Struct, frozen=True):
    """A login that succeeded: by which method, on which state, known up to which position; `issue` is the token it came by.

    `code` is the setup code it came by, `handed` what that hands over besides.
    """

    contact: Contact
    method: Method
    state: Device | None
    position: int
    issue: str | None = None
    code: str | None = None
    handed: tuple[IssuedToken, ...] = ()


class Admission:
    """Admits contacts to one house, as far as the herald has told of what happened there."""

    def __init__(self, house: House, opening: Opening, herald: Herald) -> None:
        self._house = house
        self._service = house.service
        self._rules = house.rules
        self._registry = house.registry
        self._limiter = house.limiter
        self._opening = opening
        self._herald = herald
        self._pace = Counter(WRITES, 60_000, 60_000)

    async def admit(self, contact: Contact) -> Admitted:
        """Judge a contact and, where pairing is what it lacks, let it ask. Raises `Refused`."""
        desk, now = self._service.desk, self._service.clock()
        if contact.device is None:
            if contact.method is None:
                raise login.unauthorized(self._rules, contact.params, contact.shared or Reason.AUTH_REQUIRED)
            login.note_success(self._limiter, contact, contact.method)
            return Admitted(contact, contact.method, None, self._herald.position)
        for turn in range(8):
            state = await desk.device(contact.device)
            position = desk.position
            if desk.doubts(contact.device, state) or self._hogs(contact.device):
                raise Refused(Reason.BUSY)
            offered = None if contact.bootstrap is None else await self._offered(contact, state, now)
            method, verdict = self._credential(contact, state, now, offered)
            if turn == 0:
                login.note_guess(self._rules, self._limiter, contact, method, now)
            if close := asking.close_handoff(contact, method, state, verdict.issue, now):
                handled = await desk.handle(close)
                state, position = handled.state, max(position, handled.position)
            if offered is not None and offered.code is not None and method == bootstrap.METHOD:
                redeemed = await self._redeem(contact, state, position, offered.code, verdict, now)
                if redeemed is None:
                    continue
                admitted, position = redeemed, redeemed.position
            elif login.exempt(self._rules, contact, method, state):
                admitted = Admitted(login.without_record(self._rules, contact), method, None, position)
            else:
                state, position = await self._ask(contact, state, position, method, verdict, now)
                admitted = Admitted(contact, method, state, position, verdict.issue)
            # What the herald has passed since was passed without this session: judge again, on what it said (V1).
            if self._herald.position <= position:
                return admitted
        raise Refused(Reason.BUSY)

    def _hogs(self, device: str) -> bool:
        """Say whether a device holds half of all the places already; the others are for others."""
        return 2 * len(self._registry.of_device(device)) >= max(2, self._rules.max_connections)

    async def _offered(self, contact: Contact, state: Device, now: int) -> Offered:
        """Return which setup code a contact shows, and record where it is one too many for it."""
        service = self._service
        offered = await bootstrap.look_up(service, self._limiter, contact, state, now)
        if offered.fault == SPENT and offered.code is not None:
            await bootstrap.overuse(service.desk, offered, bootstrap.redemption(self._rules, contact, offered.code, service, now))
        return offered

    async def _redeem(
        self, contact: Contact, state: Device, position: int, code: str, verdict: Verdict, now: int
    ) -> Admitted | None:
        """Redeem a setup code for a contact; None where it must be judged again. Raises `Refused` where a person must answer."""
        desk, needs = self._service.desk, verdict.needs
        tokens: tuple[IssuedToken, ...] = ()
        looking = is_probe(contact.params.client.id, contact.params.client.mode)
        if not looking and self._pace.spend(contact.device or "", now):
            command = bootstrap.redemption(self._rules, contact, code, self._service, now)
            opens = bool(needs) and state.pending is None and not bootstrap.approves(await desk.enrolment(code), state, command)
            origin = contact.facts.origin
            try:
                crossed = await self._opening.handle(
                    lambda full: desk.handle_redemption(_capped(command, full)),
                    address=origin.reported_ip,
                    local=origin.local,
                    opens=opens,
                )
            except Refused as refused:
                if refused.reason is Reason.BOOTSTRAP_INVALID:
                    return None
                if refused.reason in _ONE_TOO_MANY:
                    raise login.pairing_required(contact, state, refused.reason) from None
                raise
            enrolment, state = crossed.states[:2]
            if enrolment.holder(contact.device or "") is None:
                return None
            position, needs = max(position, crossed.position), shortfalls(state.grant, command.knock.wanted)
            tokens = bootstrap.handed(enrolment, state, contact, self._service.keyring)
        if needs:
            reason = PAIRING_REASONS[needs[0]]
            self._remember(contact, state, verdict, reason, now)
            raise login.pairing_required(contact, state, reason)
        token = state.token(contact.role)
        return Admitted(contact, bootstrap.METHOD, state, position, token.issue if token else None, code, tokens)

    def _credential(self, contact: Contact, state: Device, now: int, offered: Offered | None = None) -> tuple[Method, Verdict]:
        """Return by what a device is authenticated, on this state, and what was found. Raises `Refused`."""
        limiter = self._limiter
        presented = login.present(contact, state, self._service.keyring, limiter, now, offered)
        verdict = login.judge(contact, state, presented, self._service.under, now)
        if verdict.method is None:
            raise self._turned_down(contact, state, presented, verdict, now)
        login.note_success(limiter, contact, verdict.method)
        return verdict.method, verdict

    def _turned_down(self, contact: Contact, state: Device, presented: Presented, verdict: Verdict, now: int) -> Refused:
        reason = verdict.reason or Reason.AUTH_REQUIRED
        login.note_failure(self._limiter, contact, presented, now, paired=state.grant is not None)
        reference = self._remember(contact, state, verdict, reason, now)
        if reason is Reason.DEVICE_LOCKED and state.lock is not None:
            return locked_out(state.lock, reference)
        return login.unauthorized(self._rules, contact.params, reason, reference)

    def _remember(self, contact: Contact, state: Device, verdict: Verdict, reason: Reason, now: int) -> str:
        """Keep a refusal that a proven key met, with the rules tried, under the reference it is given."""
        notes, desk = self._house.activity, self._service.desk
        met = evidence.of_device(
            contact,
            state,
            verdict,
            reason,
            now,
            notes=notes,
            wanted=wanted(contact, self._service.under),
            position=max(desk.position, desk.written),
        )
        reference = notes.refuse(met)
        if met.reuse is not None:
            log.warning("ended token shown", device=contact.device, issue=met.reuse.issue, how=met.reuse.how, reference=reference)
        return reference

    async def _ask(
        self, contact: Contact, state: Device, position: int, method: Method, verdict: Verdict, now: int
    ) -> tuple[Device, int]:
        """Have the device's wish decided, and return its state, and up to where it is known, if it may in. Raises `Refused`."""
        service = self._service
        command = asking.knock(self._rules, contact, method, service.keyring.current, service.under, now)
        try:
            return await self._asked(contact, command, state, position, verdict, now)
        except Refused as refused:
            if refused.reason not in _ONE_TOO_MANY:
                raise
            raise login.pairing_required(contact, state, refused.reason) from None

    async def _asked(
        self, contact: Contact, command: Knock, state: Device, position: int, verdict: Verdict, now: int
    ) -> tuple[Device, int]:
        foreseen = decide(state, command)
        # Looking is not asking: a probe leaves nothing behind (A20). Nor may one device fill a log that is kept for ever.
        looking = is_probe(contact.params.client.id, contact.params.client.mode)
        if foreseen and not looking and self._pace.spend(command.device, now):
            opens = _stays_open(foreseen) and state.pending is None
            command = asking.recordable(command, contact)
            origin, asked = contact.facts.origin, command
            handled = await self._opening.handle(
                lambda full: self._service.desk.handle(msgspec.structs.replace(asked, full=full)),
                address=origin.reported_ip,
                local=origin.local,
                opens=opens,
            )
            # Somebody may have been faster: the credential is judged again on the state that was committed on.
            state, position = handled.state, max(position, handled.position)
            offered = None if contact.bootstrap is None else await self._offered(contact, state, now)
            _, verdict = self._credential(contact, state, now, offered)
        if verdict.needs:
            reason = PAIRING_REASONS[blocking(verdict.needs, command.silence)]
            self._remember(contact, state, verdict, reason, now)
            raise login.pairing_required(contact, state, reason)
        return state, position


def _capped(command: Redeem, full: bool) -> Redeem:
    return msgspec.structs.replace(command, knock=msgspec.structs.replace(command.knock, full=full))


def _stays_open(events: tuple[DeviceEvent, ...]) -> bool:
    opened = any(isinstance(event, RequestOpened) for event in events)
    return opened and not any(isinstance(event, RequestApproved) for event in events)
