"""The gateway: one service behind one port. Greets, logs in, answers, tells, and ends.

It owns the order in which things happen on a connection and the tasks behind all of them; what is right is decided elsewhere.
"""

import asyncio
import ssl as tls
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio
import msgspec
import structlog
from anyio.abc import TaskStatus

from pairing import ids, methods
from pairing.authority import NODE
from pairing.commands import EnrolmentCommand
from pairing.events import device_stream
from pairing.log.port import Record
from pairing.methods import METHODS
from pairing.nodes import decide_node
from pairing.refusals import PairingError, Reason, Refused
from pairing.shapes import BadParams

from . import asking, bootstrap, courier, evidence, frames, login, scrape
from .address import Networks, locate, neighbourhood
from .admission import Admission, Admitted
from .aging import Aging
from .connect import ConnectParams, decode_connect
from .contact import Facts
from .expiry import reap
from .frames import FrameId, Malformed, Request
from .hello import MAX_PAYLOAD, TICK_MS, hello
from .herald import CHANGED, Herald
from .house import House
from .http import Headers, HttpRequest, HttpResponse, Readiness, answer
from .limits import DEVICE_TOKEN, SETUP_CODE, SHARED_SECRET, Counter
from .listener import Address, serve
from .metrics import CONTENT_TYPE, Metrics, Now
from .opening import Opening
from .session import Session, refusal
from .site import TransportLimits
from .transport import Closed, Link
from .watch import Watch

SURFACES: Final = 6
"""Surfaces that one node may ask approval for in a minute by connecting; each is kept for ever."""
_FORGOTTEN: Final = "device.forgotten"
log = structlog.get_logger("pairing.gateway")


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
        self._admission = Admission(house, self._opening, self.herald)
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
            tasks.start_soon(reap, self.service, self.registry)
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
            admitted = await self._admission.admit(contact)
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

    def _welcome(self, link: Link, id: FrameId, admitted: Admitted) -> Session:
        now, contact = self.service.clock(), admitted.contact
        caller = asking.caller(self.rules, contact, admitted.method, admitted.state, admitted.issue)
        session = Session(link, contact, caller, id=ids.uuid4(), now=now, joined=admitted.position)
        if caller.standing is not None:
            # The last use is a token's; who came in by the shared secret was only seen.
            used = (contact.role, caller.standing.issue) if caller.standing.issue else ("", "")
            self.house.activity.note_use(caller.standing.device, *used, now, contact.facts.origin.reported_ip)
        link.admit(MAX_PAYLOAD)
        link.send(frames.response_ok(id, hello(self.house, session, admitted, now, self._uptime())))
        session.errand = bootstrap.errand(contact, caller, admitted.state, admitted.code, now)
        self.registry.add(session)
        self.metrics.logins += 1
        log.info("connected", device=contact.device, role=contact.role, method=admitted.method, client=contact.params.client.id)
        return session

    async def _ask_node(self, session: Session) -> None:
        """Ask, for a node that has just connected, that what it declares be approved. It is let in whatever comes of it (A11)."""
        standing, now = session.caller.standing, self.service.clock()
        if standing is None or session.role != NODE:
            return
        desk, contact = self.service.desk, session.contact
        try:
            state = await desk.device(standing.device)
            command = asking.ask_node(contact, session.caller, state, self.service.keyring, now)
            if decide_node(await desk.node(command.node), command) and self._surfaces.spend(command.node, now):
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


def _waits(method: str) -> bool:
    known = METHODS.get(method)
    return known is not None and known.waits


def _known(method: str) -> str:
    """Return what the log may say of a method: its name, never a text that a peer made up."""
    return method if method in METHODS else "unknown"


def _turn_away(link: Link, frame: bytes, reason: str, code: int = 1008) -> None:
    """Send the error, and our own close frame at once: clients report the close reason, not the error (protocol §1.4)."""
    link.send(frame)
    link.end(code, reason)
