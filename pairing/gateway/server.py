"""The gateway: one service behind one port. Greets, logs in, answers, tells, and ends.

It owns the order in which things happen on a connection and the tasks behind all of them; what is right is decided elsewhere.
"""

import asyncio
import ssl as tls
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio
import msgspec
import structlog
from anyio.abc import TaskStatus

from pairing import ids, methods
from pairing.authority import NODE
from pairing.commands import Caller, EnrolmentCommand, Expire, ExpireCode, Knock, Redeem
from pairing.decide import decide
from pairing.device import Device
from pairing.enrolment import SPENT
from pairing.events import Actor, DeviceEvent, RequestApproved, RequestOpened, device_stream
from pairing.knocking import blocking
from pairing.listing import Notes
from pairing.locks import locked_out
from pairing.log.port import EventLog, Record
from pairing.machine import Machine
from pairing.methods import METHODS
from pairing.nodes import decide_node
from pairing.refusals import PairingError, Reason, Refused
from pairing.service import Service
from pairing.settings import Gateway as Rules
from pairing.shapes import BadParams
from pairing.shortfall import shortfalls
from pairing.verdict import PAIRING_REASONS, Method, Offered, Presented, Verdict

from . import asking, bootstrap, courier, evidence, frames, login, scrape
from .address import Networks, locate, neighbourhood
from .aging import Aging
from .clients import is_probe
from .connect import (
    ConnectParams,
    Features,
    HelloAuth,
    HelloOk,
    IssuedToken,
    Policy,
    ServerInfo,
    SessionDefaults,
    Snapshot,
    decode_connect,
)
from .contact import Contact, Facts, wanted
from .frames import FrameId, Malformed, Request, StateVersion
from .handoffs import wind_up
from .herald import CHANGED, Herald
from .http import Headers, HttpRequest, HttpResponse, Readiness, answer
from .limits import DEVICE_TOKEN, SETUP_CODE, SHARED_SECRET, Counter, RateLimiter
from .listener import Address, serve
from .metrics import CONTENT_TYPE, Metrics, Now
from .opening import Opening
from .session import Registry, Session, refusal
from .site import TransportLimits
from .transport import Closed, Link
from .watch import Watch

MAX_PAYLOAD: Final = 1024 * 1024
TICK_MS: Final = 30_000
REAP_S: Final = 1.0
WRITES: Final = 60
"""Logins of one device in a minute that may write to the log; the rest are judged on what is written."""
SURFACES: Final = 6
"""Surfaces that one node may ask approval for in a minute by connecting; each is kept for ever."""
EVENTS: Final = (
    "connect.challenge",
    "device.pair.changed",
    "device.pair.requested",
    "device.pair.resolved",
    "device.token.due",
    "node.pair.requested",
    "node.pair.resolved",
    "shutdown",
    "tick",
)
_FEATURES: Final = Features(tuple(METHODS), EVENTS)
_DEFAULTS: Final = SessionDefaults()
_UNCOUNTED: Final = StateVersion()
_POLICY: Final = Policy(MAX_PAYLOAD, TransportLimits().buffered_bytes, TICK_MS)
_ONE_TOO_MANY: Final = {Reason.TOO_MANY_PENDING, Reason.TOO_MANY_REQUESTS}
_FORGOTTEN: Final = "device.forgotten"
log = structlog.get_logger("pairing.gateway")


@dataclass(frozen=True)
class House:
    """What a gateway is made of; the composition root fills it."""

    service: Service
    registry: Registry
    events: EventLog
    rules: Rules
    activity: Notes
    limiter: RateLimiter
    describe: Callable[[], dict[str, str]] = field(default=dict)
    machine: Callable[[], Machine] = field(default=Machine)
    requests_lock: Path | None = None


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


class Gateway:
    """Serves one house on one port."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.service = house.service
        self.rules = house.rules
        self.registry = house.registry
        self.metrics = Metrics(self._now)
        self.herald = Herald(house.events, house.service.desk, house.registry, self._heard)
        self.watch = Watch(house.events, house.service.views, lambda: self.herald.position, house.machine)
        self.aging = Aging(house.service, house.registry, house.activity, house.rules.tokens.warn_at)
        hooks = house.rules.hooks
        on = courier.terms(timeout_ms=hooks.timeout_ms, give_up_ms=hooks.give_up_ms, private_allowed=hooks.allow_private)
        self.courier = courier.Courier(house.service, house.events, house.service.outbox, on)
        self._proxies = Networks(house.rules.trusted_proxies)
        self._gate = asyncio.Lock()
        self._opening = Opening(house.service, house.rules.pairing, house.requests_lock)
        self._pace = Counter(WRITES, 60_000, 60_000)
        self._surfaces = Counter(SURFACES, 60_000, 60_000)
        self._links = 0

    def _heard(self, record: Record) -> None:
        self.metrics.heard(record)
        self.courier.heard(record)
        if record.kind == _FORGOTTEN:
            # Another process may have forgotten the device; what this one holds in memory is its own to let go of.
            self.house.activity.drop(record.stream.removeprefix(device_stream("")))

    async def run(
        self,
        *,
        ssl: tls.SSLContext | None = None,
        opening: Callable[[Sequence[Address]], Awaitable[None]] | None = None,
        task_status: TaskStatus[Sequence[Address]],
    ) -> None:
        """Serve until cancelled, then say goodbye to everyone. Raises OSError where the address cannot be bound.

        `opening` is awaited between binding and letting anybody in.
        """
        limits = TransportLimits(
            deadline=self.rules.handshake_timeout_ms / 1000, sockets_per_address=self.rules.max_preauth_per_address
        )
        async with anyio.create_task_group() as tasks:
            await tasks.start(self.herald.run)
            tasks.start_soon(self._tick)
            tasks.start_soon(self._reap)
            tasks.start_soon(self.aging.run)
            tasks.start_soon(self.watch.run)
            tasks.start_soon(self.courier.run)
            self.watch.phase = None
            try:
                await serve(
                    self._attend,
                    host=self.rules.host,
                    port=self.rules.port,
                    http=self._http,
                    ssl=ssl,
                    limits=limits,
                    counted_as=self._counted_as,
                    opening=opening,
                    task_status=task_status,
                )
            finally:
                tasks.cancel_scope.cancel()
                self._opening.close()

    def farewell(self) -> None:
        """Announce the end to every session; the close frames follow when serving is cancelled."""
        self.watch.phase = "stopping"
        self.registry.tell(frames.broadcast("shutdown", {"reason": "gateway stopping", "restartExpectedMs": None}))

    # --- before the upgrade ---

    def _http(self, request: HttpRequest) -> HttpResponse:
        if scrape.asks_for_metrics(request):
            return self._figures(request)
        return answer(request, self._readiness)

    def _readiness(self) -> Readiness:
        failing = self.watch.failing
        return Readiness(not failing, failing, self._uptime())

    def _figures(self, request: HttpRequest) -> HttpResponse:
        """Answer with the metrics where the asker may read them."""
        secret, peer = self.rules.auth.secret, request.peer
        origin = locate(peer.host, peer.headers, self._proxies, self.rules.allow_real_ip_fallback)
        if not scrape.may_read(request, origin, secret, self.house.limiter, self.service.clock()):
            return scrape.UNAUTHORIZED
        return HttpResponse(200, CONTENT_TYPE, self.metrics.text())

    def _now(self) -> Now:
        watch, service = self.watch, self.service
        now = service.clock()
        return Now(
            now,
            service.started_at,
            self.registry.by_role(),
            self._links,
            watch.failing,
            watch.seen,
            self.registry.cut,
            self.courier.figures(watch.seen.owed if watch.seen.head is None else watch.seen.head, now),
        )

    def _uptime(self) -> int:
        return max(0, self.service.clock() - self.service.started_at)

    def _counted_as(self, host: str, headers: Headers | None) -> str | None:
        if headers is None:
            # Behind a proxy the client is known only once the head is read.
            return None if locate(host, Headers(), self._proxies, False).trusted_proxy else neighbourhood(host)
        origin = locate(host, headers, self._proxies, self.rules.allow_real_ip_fallback)
        return neighbourhood(origin.client_ip or host)

    # --- one connection ---

    async def _attend(self, link: Link) -> None:
        if self._links >= self.rules.max_connections:
            link.end(1013, "too many connections")
            return
        self._links += 1
        try:
            session = await self._login(link)
            if session is not None:
                await self._converse(link, session)
        except Closed:
            pass
        finally:
            self._links -= 1

    async def _login(self, link: Link) -> Session | None:
        now = self.service.clock()
        peer = link.peer
        origin = locate(peer.host, peer.headers, self._proxies, self.rules.allow_real_ip_fallback)
        facts = Facts(origin, peer.headers.get("Origin"), peer.headers.get("Host"), ids.uuid4())
        link.send(frames.challenge(facts.nonce, now))
        self.metrics.handshakes += 1
        request = frames.parse_request(await link.recv())
        if isinstance(request, Malformed):
            link.end(*((1000, "") if request.fault == "not-json" else (1008, "invalid request frame")))
            return None
        if request.method != "connect":
            text = "invalid handshake: first request must be connect"
            _turn_away(link, frames.response_error(request.id, "INVALID_REQUEST", text), text)
            return None
        try:
            return await self._connect(link, facts, request)
        except BadParams as bad:
            text = f"invalid connect params: {bad.problems}"
            _turn_away(link, frames.response_error(request.id, "INVALID_REQUEST", text), text)
        except PairingError as error:
            log.error("login failed", error=str(error))
            text = "gateway cannot judge this device now; retry shortly"
            _turn_away(link, frames.response_error(request.id, "UNAVAILABLE", text, None, True, 1000), text)
        return None

    async def _connect(self, link: Link, facts: Facts, request: Request) -> Session | None:
        # One proof at a time, and a turn of the loop between two: a herd at the door waits, those inside are served.
        async with self._gate:
            await asyncio.sleep(0)
            params = decode_connect(request.params)
            now = self.service.clock()
            try:
                contact = login.examine(self.rules, self.house.limiter, facts, params, now)
            except Refused as refused:
                if refused.reason in login.WRONG_SECRET:
                    self.house.limiter.failed(SHARED_SECRET, facts.source, now)
                self._refuse(link, request.id, refused, params, facts, None, now)
                return None
        try:
            admitted = await self._admit(contact)
        except Refused as refused:
            self._refuse(link, request.id, refused, params, facts, contact.device, now)
            return None
        return self._welcome(link, request.id, admitted)

    def _refuse(
        self, link: Link, id: FrameId, refused: Refused, params: ConnectParams, facts: Facts, device: str | None, now: int
    ) -> None:
        """Turn a connection away: note it, and tell it no more than why, whether to come again, and a reference (L8)."""
        log.info("refused", reason=refused.reason.value, device=device, address=facts.origin.client_ip)
        self.metrics.refused("login", refused.reason)
        if evidence.marks(refused.reason, refused.details):
            if "reference" not in refused.details:
                met = evidence.of_stranger(facts, params, refused.reason, now)
                refused.details["reference"] = self.house.activity.refuse(met)
            refused.details["terminal"] = refused.saying.terminal
        limiter, wait = self.house.limiter, None
        if refused.reason is Reason.RATE_LIMITED:
            shared = limiter.retry_after(SHARED_SECRET, facts.source, now)
            wait = max(shared, *(limiter.retry_after(kind, facts.source, now, device) for kind in (DEVICE_TOKEN, SETUP_CODE)))
        text = refused.message
        if request := refused.details.get("requestId"):
            text = f"{text} (requestId: {request})"
        if refused.reason is Reason.DEVICE_LOCKED:
            # Clients act on the words of a close reason, and an operator's message may hold any.
            text = "device locked"
        code = 1002 if refused.reason is Reason.PROTOCOL_MISMATCH else 1008
        _turn_away(link, refusal(id, refused, protocol=min(4, params.max_protocol), retry_after_ms=wait), text, code)

    async def _admit(self, contact: Contact) -> Admitted:
        """Judge a contact and, where pairing is what it lacks, let it ask. Raises `Refused`."""
        desk, now = self.service.desk, self.service.clock()
        if contact.device is None:
            if contact.method is None:
                raise login.unauthorized(self.rules, contact.params, contact.shared or Reason.AUTH_REQUIRED)
            login.note_success(self.house.limiter, contact, contact.method)
            return Admitted(contact, contact.method, None, self.herald.position)
        for turn in range(8):
            state = await desk.device(contact.device)
            position = desk.position
            if desk.doubts(contact.device, state) or self._hogs(contact.device):
                raise Refused(Reason.BUSY)
            offered = None if contact.bootstrap is None else await self._offered(contact, state, now)
            method, verdict = self._credential(contact, state, now, offered)
            if turn == 0:
                login.note_guess(self.rules, self.house.limiter, contact, method, now)
            if close := asking.close_handoff(contact, method, state, verdict.issue, now):
                handled = await desk.handle(close)
                state, position = handled.state, max(position, handled.position)
            if offered is not None and offered.code is not None and method == bootstrap.METHOD:
                redeemed = await self._redeem(contact, state, position, offered.code, verdict, now)
                if redeemed is None:
                    continue
                admitted, position = redeemed, redeemed.position
            elif login.exempt(self.rules, contact, method, state):
                admitted = Admitted(login.without_record(self.rules, contact), method, None, position)
            else:
                state, position = await self._ask(contact, state, position, method, verdict, now)
                admitted = Admitted(contact, method, state, position, verdict.issue)
            # What the herald has passed since was passed without this session: judge again, on what it said (V1).
            if self.herald.position <= position:
                return admitted
        raise Refused(Reason.BUSY)

    def _hogs(self, device: str) -> bool:
        """Say whether a device holds half of all the places already; the others are for others."""
        return 2 * len(self.registry.of_device(device)) >= max(2, self.rules.max_connections)

    async def _offered(self, contact: Contact, state: Device, now: int) -> Offered:
        """Return which setup code a contact shows, and record where it is one too many for it."""
        service = self.service
        offered = await bootstrap.look_up(service, self.house.limiter, contact, state, now)
        if offered.fault == SPENT and offered.code is not None:
            await bootstrap.overuse(service.desk, offered, bootstrap.redemption(self.rules, contact, offered.code, service, now))
        return offered

    async def _redeem(
        self, contact: Contact, state: Device, position: int, code: str, verdict: Verdict, now: int
    ) -> Admitted | None:
        """Redeem a setup code for a contact; None where it must be judged again. Raises `Refused` where a person must answer."""
        desk, needs = self.service.desk, verdict.needs
        tokens: tuple[IssuedToken, ...] = ()
        looking = is_probe(contact.params.client.id, contact.params.client.mode)
        if not looking and _in_pace(self._pace, contact.device or "", now):
            command = bootstrap.redemption(self.rules, contact, code, self.service, now)
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
            tokens = bootstrap.handed(enrolment, state, contact, self.service.keyring)
        if needs:
            reason = PAIRING_REASONS[needs[0]]
            self._remember(contact, state, verdict, reason, now)
            raise login.pairing_required(contact, state, reason)
        token = state.token(contact.role)
        return Admitted(contact, bootstrap.METHOD, state, position, token.issue if token else None, code, tokens)

    def _credential(self, contact: Contact, state: Device, now: int, offered: Offered | None = None) -> tuple[Method, Verdict]:
        """Return by what a device is authenticated, on this state, and what was found. Raises `Refused`."""
        limiter = self.house.limiter
        presented = login.present(contact, state, self.service.keyring, limiter, now, offered)
        verdict = login.judge(contact, state, presented, self.service.under, now)
        if verdict.method is None:
            raise self._turned_down(contact, state, presented, verdict, now)
        login.note_success(limiter, contact, verdict.method)
        return verdict.method, verdict

    def _turned_down(self, contact: Contact, state: Device, presented: Presented, verdict: Verdict, now: int) -> Refused:
        reason = verdict.reason or Reason.AUTH_REQUIRED
        login.note_failure(self.house.limiter, contact, presented, now, paired=state.grant is not None)
        reference = self._remember(contact, state, verdict, reason, now)
        if reason is Reason.DEVICE_LOCKED and state.lock is not None:
            return locked_out(state.lock, reference)
        return login.unauthorized(self.rules, contact.params, reason, reference)

    def _remember(self, contact: Contact, state: Device, verdict: Verdict, reason: Reason, now: int) -> str:
        """Keep a refusal that a proven key met, with the rules tried, under the reference it is given."""
        notes, desk = self.house.activity, self.service.desk
        met = evidence.of_device(
            contact,
            state,
            verdict,
            reason,
            now,
            notes=notes,
            wanted=wanted(contact, self.service.under),
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
        service = self.service
        command = asking.knock(self.rules, contact, method, service.keyring.current, service.under, now)
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
        if foreseen and not looking and _in_pace(self._pace, command.device, now):
            opens = _stays_open(foreseen) and state.pending is None
            command = asking.recordable(command, contact)
            origin, asked = contact.facts.origin, command
            handled = await self._opening.handle(
                lambda full: self.service.desk.handle(msgspec.structs.replace(asked, full=full)),
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

    def _welcome(self, link: Link, id: FrameId, admitted: Admitted) -> Session:
        now, contact = self.service.clock(), admitted.contact
        caller = asking.caller(self.rules, contact, admitted.method, admitted.state, admitted.issue)
        session = Session(link, contact, caller, id=ids.uuid4(), now=now, joined=admitted.position)
        if caller.standing is not None:
            # The last use is a token's; who came in by the shared secret was only seen.
            used = (contact.role, caller.standing.issue) if caller.standing.issue else ("", "")
            self.house.activity.note_use(caller.standing.device, *used, now, contact.facts.origin.reported_ip)
        link.admit(MAX_PAYLOAD)
        link.send(frames.response_ok(id, self._hello(session, admitted, now)))
        session.errand = bootstrap.errand(contact, caller, admitted.state, admitted.code, now)
        self.registry.add(session)
        self.metrics.logins += 1
        log.info("connected", device=contact.device, role=contact.role, method=admitted.method, client=contact.params.client.id)
        return session

    def _hello(self, session: Session, admitted: Admitted, now: int) -> HelloOk:
        contact, service = session.contact, self.service
        token = value = None
        if admitted.state is not None and contact.device is not None:
            token = admitted.state.token(contact.role)
            # Who came by the present token has just shown it; who came by its predecessor is handed the present one.
            present = admitted.method == "device-token" and token is not None and admitted.issue == token.issue
            shown = contact.candidate if present else None
            value = shown or service.keyring.token_of(admitted.state, contact.device, contact.role)
        scopes = token.scopes if token and value and contact.protocol < 4 else contact.scopes
        admin = "operator.admin" in contact.scopes
        told = self.house.describe() if admin else {}
        return HelloOk(
            protocol=contact.protocol,
            server=ServerInfo(service.version, session.id),
            features=_FEATURES,
            snapshot=Snapshot(
                presence=(),
                health={},
                state_version=_UNCOUNTED,
                uptime_ms=self._uptime(),
                session_defaults=_DEFAULTS,
                config_path=told.get("configPath"),
                state_dir=told.get("stateDir"),
                auth_mode=self.rules.auth.mode if admin else None,
            ),
            auth=HelloAuth(
                role=contact.role,
                scopes=scopes,
                device_token=value,
                issued_at_ms=token.issued_at if token and value else None,
                device_tokens=admitted.handed or None,
                expires_at_ms=token.expires_at if token and value else None,
                method=admitted.method if contact.protocol >= 4 else None,
            ),
            policy=_POLICY,
        )

    async def _ask_node(self, session: Session) -> None:
        """Ask, for a node that has just connected, that what it declares be approved. It is let in whatever comes of it (A11)."""
        standing, now = session.caller.standing, self.service.clock()
        if standing is None or session.role != NODE:
            return
        desk, contact = self.service.desk, session.contact
        try:
            state = await desk.device(standing.device)
            command = asking.ask_node(contact, session.caller, state, self.service.keyring, now)
            if decide_node(await desk.node(command.node), command) and _in_pace(self._surfaces, command.node, now):
                await desk.handle_node(command)
        except (Refused, PairingError) as error:
            log.warning("surface not asked for", device=standing.device, error=str(error))

    async def _run(self, errand: EnrolmentCommand) -> None:
        """Record how far the handing over of a setup code's tokens has come. The device is in whatever comes of it."""
        try:
            await bootstrap.record(self.service.desk, errand)
        except (Refused, PairingError) as error:
            log.warning("setup code not noted", code=errand.code, error=str(error))

    async def _converse(self, link: Link, session: Session) -> None:
        try:
            await self._ask_node(session)
            if session.errand is not None:
                await self._run(session.errand)
            while True:
                request = session.read(await link.recv())
                if request is None:
                    continue
                waits = _waits(request.method)
                if session.begin(waits=waits):
                    await (self._answer_later(link, session, request) if waits else self._answer_now(session, request))
        finally:
            self.registry.discard(session)
            log.info("disconnected", device=session.device, role=session.role)

    async def _answer_now(self, session: Session, request: Request) -> None:
        session.finish(await self._answer(session, request))

    async def _answer_later(self, link: Link, session: Session, request: Request) -> None:
        """Answer a call that may wait for news, unless its peer goes away, or is sent away, in the meantime."""
        async with anyio.create_task_group() as tasks:

            async def until_gone() -> None:
                await link.gone()
                tasks.cancel_scope.cancel()

            tasks.start_soon(until_gone)
            await self._answer_now(session, request)
            tasks.cancel_scope.cancel()

    async def _answer(self, session: Session, request: Request) -> bytes:
        desk = self.service.desk
        written = desk.written
        try:
            params = request.params if isinstance(request.params, msgspec.Raw) else None
            result = await methods.call(self.service, session.caller, request.method, params)
        except Refused as refused:
            self.metrics.refused("call", refused.reason)
            log.info("call refused", method=_known(request.method), reason=refused.reason.value, device=session.device)
            return session.refused(request.id, refused)
        except PairingError as error:
            log.error("call failed", method=_known(request.method), error=str(error))
            for device in desk.doubted:
                self.registry.fence(device, *CHANGED)
            return frames.response_error(request.id, "UNAVAILABLE", str(error))
        if desk.written > written:
            # Durable first; then whoever it concerns is fenced and told; then the answer goes out.
            await self.herald.reached(desk.written)
        return session.succeeded(request.id, result)

    # --- behind the connections ---

    async def _tick(self) -> None:
        while True:
            await anyio.sleep(TICK_MS / 1000)
            self.registry.tell(frames.broadcast("tick", {"ts": self.service.clock()}))

    async def _reap(self) -> None:
        """Record the requests and setup codes that ran out, so that listeners are told and replay needs no clock."""
        timer = Caller(actor=Actor("timer"), scopes=None)
        while True:
            await anyio.sleep(REAP_S)
            now = self.service.clock()
            try:
                await wind_up(self.service, self.registry)
                overdue = await self.service.views.overdue(now)
                codes = await self.service.views.overdue_codes(now)
            except PairingError as error:
                log.warning("expiry not looked for", error=str(error))
                continue
            for device, request in overdue:
                command = Expire(id=ids.uuid7(now), now=now, by=timer, device=device, request=request)
                await self._expired(self.service.desk.handle(command), device)
            for code in codes:
                ran_out = ExpireCode(id=ids.uuid7(now), now=now, by=timer, code=code)
                await self._expired(self.service.desk.handle_enrolment(ran_out), code)

    async def _expired(self, work: Awaitable[object], what: str) -> None:
        try:
            await work
        except (Refused, PairingError) as error:
            # One stream that takes no decisions must not keep the others' requests open (D2).
            log.warning("expiry not recorded", of=what, error=str(error))


def _waits(method: str) -> bool:
    known = METHODS.get(method)
    return known is not None and known.waits


def _known(method: str) -> str:
    """Return what the log may say of a method: its name, never a text that a peer made up."""
    return method if method in METHODS else "unknown"


def _in_pace(pace: Counter, device: str, now: int) -> bool:
    """Count a login that writes; False where its device has written too often of late."""
    if pace.retry_after(device, now):
        return False
    pace.failed(device, now)
    return True


def _capped(command: Redeem, full: bool) -> Redeem:
    return msgspec.structs.replace(command, knock=msgspec.structs.replace(command.knock, full=full))


def _stays_open(events: tuple[DeviceEvent, ...]) -> bool:
    opened = any(isinstance(event, RequestOpened) for event in events)
    return opened and not any(isinstance(event, RequestApproved) for event in events)


def _turn_away(link: Link, frame: bytes, reason: str, code: int = 1008) -> None:
    """Send the error, and our own close frame at once: clients report the close reason, not the error (protocol §1.4)."""
    link.send(frame)
    link.end(code, reason)
