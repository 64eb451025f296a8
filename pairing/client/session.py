"""A connection to a gateway: `connect` logs in and gives a `Session` that calls methods and hears events.

The only file of the client that knows a socket. One bounded retry with the stored token, none after that (T11).
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import msgspec
from msgspec import Struct
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from pairing.identity import Identity
from pairing.refusals import Reason

from . import dialling
from .address import Endpoint, endpoint, guard
from .credentials import Credentials, DeviceToken, Presented, choose, with_stored
from .dialling import CLOSE_WAIT_S, dial
from .errors import CallRefused, ConnectRefused, Disconnected, NoAnswer, Unreachable
from .handshake import ClientInfo, Hello, Message, challenge, connect_params, hello
from .store import Store

EVENTS_KEPT = 256
CALL_S = 30.0


class Login(Struct, frozen=True, kw_only=True):
    """Who logs in, and as what.

    `identity` None: without a device. `store` lends its token of this gateway where no secret was given, and keeps the one that
    comes. `exact`: ask for just these scopes even where the stored token has others. `allow_private`: plain text to private
    addresses. `pin`: the SHA-256 fingerprint of the one certificate to talk to; it stands in for every other check of it.
    """

    client: ClientInfo
    credentials: Credentials = Credentials()
    identity: Identity | None = None
    store: Store | None = None
    role: str = "operator"
    scopes: tuple[str, ...] = ()
    exact: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    allow_private: bool = False
    tls: ssl.SSLContext | None = None
    pin: str | None = None


class Heard(Struct, frozen=True):
    """An event of the gateway. `seq` counts broadcasts on this connection from 1; `missed` events before it were dropped here."""

    name: str
    payload: Any
    seq: int | None = None
    missed: int = 0


class Session:
    """A logged-in connection. Calls may overlap; events that nobody reads are kept up to a bound, oldest dropped.

    `used_stored_token`: a token kept from before was presented. `token_is_new`: hello brought another than was kept before.
    """

    def __init__(self, place: Endpoint, socket: ClientConnection, granted: Hello, *, stored: bool, new: bool) -> None:
        self.place, self.hello = place, granted
        self.used_stored_token, self.token_is_new = stored, new
        self._socket = socket
        self._calls: dict[str, asyncio.Future[Message]] = {}
        self._count = 0
        self._heard: deque[Heard] = deque(maxlen=EVENTS_KEPT)
        self._missed = 0
        self._news = anyio.Event()
        self._ended: Disconnected | None = None
        self._reader = asyncio.create_task(self._read())

    async def call(self, method: str, params: Mapping[str, Any] | None = None, *, timeout: float = CALL_S) -> Any:
        """Call a method and return its payload; `timeout` in seconds.

        Raises `CallRefused`; `Disconnected` when the session ends before the answer, `NoAnswer` when none comes in time: what
        became of the call is then not known.
        """
        self._count += 1
        key = str(self._count)
        frame = {"type": "req", "id": key, "method": method, "params": dict(params or {})}
        if self._ended is not None:
            raise self._ended
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._calls[key] = answer
        try:
            with suppress(ConnectionClosed):
                await self._socket.send(msgspec.json.encode(frame).decode())
            with anyio.fail_after(timeout):
                message = await answer
        except TimeoutError:
            raise NoAnswer(method, timeout) from None
        finally:
            self._calls.pop(key, None)
        if not message.ok:
            raise CallRefused(*_error(message))
        return message.content()

    async def events(self) -> AsyncIterator[Heard]:
        """Yield what the gateway announces, until the session ends. One reader at a time."""
        while True:
            while self._heard:
                event = self._heard.popleft()
                event, self._missed = msgspec.structs.replace(event, missed=self._missed), 0
                yield event
            if self._ended is not None:
                return
            await self._news.wait()

    async def ended(self) -> Disconnected:
        """Wait for the session's end, and return how it ended."""
        while self._ended is None:
            await self._news.wait()
        return self._ended

    async def close(self) -> None:
        """End the session in order; may be called twice."""
        with anyio.CancelScope(shield=True):
            await self._socket.close()
            self._reader.cancel()
            await asyncio.wait([self._reader])

    async def _read(self) -> None:
        try:
            async for data in self._socket:
                self._take(data)
            self._end(self._socket.close_code or 1006, self._socket.close_reason or "")
        except ConnectionClosed as closed:
            if closed.rcvd is None and closed.sent is not None and closed.sent.code == CloseCode.MESSAGE_TOO_BIG:
                self._end(closed.sent.code, f"its answer has more than {dialling.MAX_MESSAGE // 1024} KiB")
                return
            self._end(self._socket.close_code or 1006, self._socket.close_reason or "")

    def _take(self, data: str | bytes) -> None:
        message = _decoded(data)
        if message is None:
            return
        if message.type == "res" and (answer := self._calls.get(str(message.id))) is not None and not answer.done():
            answer.set_result(message)
        elif message.type == "event":
            self._missed += len(self._heard) == EVENTS_KEPT
            self._heard.append(Heard(message.event, message.content(), message.seq))
            self._wake()

    def _end(self, code: int, reason: str) -> None:
        self._ended = Disconnected(self.place.url, code, reason)
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(Disconnected(self.place.url, code, reason))
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = anyio.Event()


@asynccontextmanager
async def connect(url: str, login: Login, *, timeout: float = 10.0) -> AsyncIterator[Session]:
    """Log in and lend the session; `timeout` seconds bound everything up to hello-ok.

    Raises `BadAddress` before anything is sent, `Unreachable`, `ConnectRefused`, `StoreUnusable`. A device token that comes is
    stored before the session is lent.
    """
    place = endpoint(url)
    guard(place, allow_private=login.allow_private)
    try:
        with anyio.fail_after(timeout):
            session = await _log_in(place, login)
    except TimeoutError:
        raise Unreachable(place.url, f"no answer within {round(timeout * 1000)} ms") from None
    try:
        yield session
    finally:
        await session.close()


async def _log_in(place: Endpoint, login: Login) -> Session:
    stored = _stored(place, login)
    first = choose(login.credentials, stored, login.role, login.scopes, exact=login.exact)
    try:
        return await _attempt(place, login, first)
    except ConnectRefused as refused:
        if first.stored and stored and refused.reason is Reason.DEVICE_TOKEN_MISMATCH:
            _forget(place, login, stored)
        if first.stored or stored is None or not may_retry(place, refused, pinned=login.pin is not None):
            raise
        refusal = refused
    try:
        return await _attempt(place, login, with_stored(first, stored))
    except ConnectRefused as again:
        # The shared token failed first; that is what the person gave and can mend (T10).
        raise (refusal if again.reason is Reason.DEVICE_TOKEN_MISMATCH else again) from None


def may_retry(place: Endpoint, refused: ConnectRefused, *, pinned: bool = False) -> bool:
    """Say whether the stored token may be tried beside a refused shared one.

    Once, and towards this host or a pinned certificate alone (T11): whoever else answers could be asking for it.
    """
    asked = refused.details.get("canRetryWithDeviceToken") is True or refused.reason is Reason.TOKEN_MISMATCH
    return asked and (place.loopback or (place.secure and pinned))


def _stored(place: Endpoint, login: Login) -> DeviceToken | None:
    if login.identity is None or login.store is None:
        return None
    return login.store.token(login.identity.device, place.gateway, login.role)


def _forget(place: Endpoint, login: Login, dead: DeviceToken) -> None:
    if login.identity is not None and login.store is not None:
        login.store.forget(login.identity.device, place.gateway, dead)


async def _attempt(place: Endpoint, login: Login, presented: Presented) -> Session:
    socket = await dial(place, version=login.client.version, headers=login.headers, tls=login.tls, pin=login.pin)
    try:
        greeting = await _answered(place, socket, login, presented)
        new = False
        if login.identity is not None and login.store is not None:
            for token in greeting.others:
                login.store.keep(login.identity.device, place.gateway, token, _now())
            if greeting.token is not None:
                new = login.store.keep(login.identity.device, place.gateway, greeting.token, _now())
    except BaseException:
        with anyio.CancelScope(shield=True):
            await socket.close()
        raise
    return Session(place, socket, greeting, stored=presented.stored, new=new)


async def _answered(place: Endpoint, socket: ClientConnection, login: Login, presented: Presented) -> Hello:
    """Say who this is and return hello. Raises `ConnectRefused` for a no, `Unreachable` for what is no gateway."""
    try:
        opening = _decoded(await socket.recv())
        challenged = challenge(opening) if opening else None
        if challenged is None:
            raise Unreachable(place.url, "what answers there does not speak the gateway protocol")
        params = connect_params(login.client, presented, login.role, login.identity, challenged, _now())
        await socket.send(msgspec.json.encode({"type": "req", "id": "connect", "method": "connect", "params": params}).decode())
        while True:
            message = _decoded(await socket.recv())
            if message is not None and message.type == "res" and message.id == "connect":
                break
    except ConnectionClosed:
        raise _closed(place, socket) from None
    if message.ok:
        return hello(message.content(), login.role)
    # The close frame follows at once; without one we say goodbye ourselves.
    with anyio.move_on_after(CLOSE_WAIT_S):
        await socket.wait_closed()
    wait = (message.error or {}).get("retryAfterMs")
    raise ConnectRefused(
        *_error(message),
        socket.close_code,
        socket.close_reason or "",
        retry_after_ms=wait if isinstance(wait, int) and not isinstance(wait, bool) and wait >= 0 else None,
    )


def _closed(place: Endpoint, socket: ClientConnection) -> ConnectRefused | Unreachable:
    code, reason = socket.close_code or 1006, socket.close_reason or ""
    if reason:
        return ConnectRefused("", reason, {}, code, reason)
    return Unreachable(place.url, f"it closed the connection ({code}) before it answered")


def _decoded(data: str | bytes) -> Message | None:
    try:
        return msgspec.json.decode(data, type=Message)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _error(message: Message) -> tuple[str, str, dict[str, Any]]:
    error = message.error or {}
    details = error.get("details")
    return str(error.get("code", "")), str(error.get("message", "refused")), details if isinstance(details, dict) else {}


def _now() -> int:
    return time.time_ns() // 1_000_000
