"""The two doors to the methods: a session with the gateway, or the log of this state folder itself.

The second opens only where no gateway of this host answers, or where it refuses a listing or an approval for want of pairing;
never for a URL that somebody named. Which door was used is said on standard error. No SQL here.
"""

import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import msgspec

from pairing.authority import ADMIN, OPERATOR, PAIRING, covers
from pairing.client.credentials import DeviceToken
from pairing.client.errors import ConnectRefused, Unreachable
from pairing.client.handshake import here
from pairing.client.session import Login, Session, connect
from pairing.client.store import Store
from pairing.identity import Identity
from pairing.refusals import Exit

from .failures import wants_pairing
from .options import Reach
from .target import Target, find
from .voice import Failure, clock, remark

if TYPE_CHECKING:
    from pairing.service import Service

_READING = frozenset(
    {
        "contact.find",
        "contact.list",
        "device.due",
        "device.list",
        "device.pair.find",
        "device.prune.plan",
        "history.at",
        "history.could",
        "history.diff",
        "history.explain",
        "history.story",
        "device.pair.list",
        "device.watch",
        "rehearse.run",
        "node.pair.list",
    }
)


class Door(Protocol):
    """A way to the methods."""

    @property
    def own(self) -> str | None:
        """The device that this door's caller is, where it is one."""

    async def call(self, method: str, params: Mapping[str, Any] | None = None, *, within_ms: int | None = None) -> dict[str, Any]:
        """Call a method and return its result as JSON values. Raises `Refused`, `ClientError`, `PairingError`.

        `within_ms`: the time for this call alone, where it is not a part of the whole command's.
        """

    async def ask_for(self, scopes: Iterable[str]) -> None:
        """Make sure, as far as the gateway lets us, that the next calls are made with these operator scopes too."""

    def keep(self, token: DeviceToken) -> Path | None:
        """Store the successor of the caller's own token and say where; None where the caller is no device."""


class GatewayDoor:
    """A session with a gateway, opened anew where a command turns out to need more scopes; one deadline bounds it all."""

    def __init__(self, target: Target, timeout_ms: int) -> None:
        self._target, self._timeout_ms = target, timeout_ms
        self._store = Store(target.home)
        self._identity: Identity | None = None
        self._deadline = anyio.current_time() + timeout_ms / 1000
        self._stack = AsyncExitStack()
        self._session: Session | None = None

    @property
    def own(self) -> str | None:
        """This state folder's device, where the session is its."""
        return self._identity.device if self._identity else None

    async def open(self, *, make: bool) -> None:
        """Log in with operator.pairing: without a device where the gateway of this host lets the command line, else with one.

        `make`: a device may be made for it. A listing makes none where the log can be read instead (A20).
        """
        if self._target.place.loopback and await self._without_device(make):
            return
        self._identity = self._device()
        await self._log_in((PAIRING, ADMIN) if self._administers(self._identity) else (PAIRING,))

    async def _without_device(self, make: bool) -> bool:
        try:
            session = await self._log_in((PAIRING,))
        except ConnectRefused:
            if self._target.credentials or not (make or self._store.load()):
                raise
            return False
        return covers(OPERATOR, session.hello.scopes, (PAIRING,))

    def _administers(self, identity: Identity) -> bool:
        """Say whether this device's own token holds operator.admin: without asking for it, its session would see itself alone."""
        held = self._store.token(identity.device, self._target.place.gateway, OPERATOR)
        return held is not None and ADMIN in held.scopes

    async def call(self, method: str, params: Mapping[str, Any] | None = None, *, within_ms: int | None = None) -> dict[str, Any]:
        """Call a method of the gateway."""
        if self._session is None:
            raise RuntimeError("the door is closed")
        try:
            with anyio.fail_after(self._left() if within_ms is None else within_ms / 1000):
                result: dict[str, Any] = await self._session.call(method, params)
        except TimeoutError:
            raise self._late(sent=method not in _READING) from None
        return result

    async def ask_for(self, scopes: Iterable[str]) -> None:
        """Log in again with more scopes, where the session has not got them all."""
        held = self._session.hello.scopes if self._session else ()
        wanted = tuple(dict.fromkeys((PAIRING, *sorted(scopes))))
        if not covers(OPERATOR, held, wanted):
            await self._log_in(wanted)

    def keep(self, token: DeviceToken) -> Path | None:
        """Store the successor of this device's own token."""
        if self.own is None:
            return None
        self._store.keep(self.own, self._target.place.gateway, token, clock())
        return self._store.tokens_path

    async def close(self) -> None:
        """End the session."""
        self._session = None
        await self._stack.aclose()

    async def _log_in(self, scopes: tuple[str, ...]) -> Session:
        await self._stack.aclose()
        login = Login(
            client=here("cli", "cli", version=version("pairing-gateway"), name=socket.gethostname() or None),
            credentials=self._target.credentials,
            identity=self._identity,
            store=self._store if self._identity else None,
            scopes=scopes,
            allow_private=self._target.allow_private,
            tls=self._target.tls,
        )
        try:
            with anyio.fail_after(self._left()):
                opened = connect(self._target.place.url, login, timeout=self._left())
                self._session = await self._stack.enter_async_context(opened)
        except TimeoutError:
            raise self._late() from None
        return self._session

    def _left(self) -> float:
        return max(0.0, self._deadline - anyio.current_time())

    def _late(self, *, sent: bool = False) -> Unreachable:
        return Unreachable(self._target.place.url, f"no answer within {self._timeout_ms} ms", sent=sent, late=True)

    def _device(self) -> Identity:
        found = self._store.load()
        if found is None:
            found = self._store.make(clock())
            remark(f"Made a device identity for this state folder: {self._store.identity_path}")
        return found


class LogDoor:
    """The methods on this state folder's log, with the rights of its owner."""

    own: str | None = None

    def __init__(self, service: "Service") -> None:
        self._service = service

    async def call(self, method: str, params: Mapping[str, Any] | None = None, *, within_ms: int | None = None) -> dict[str, Any]:
        """Call a method here; what it does is recorded with actor `local` and the uid."""
        from pairing import methods

        from .compose import local_caller

        raw = msgspec.Raw(msgspec.json.encode(dict(params or {})))
        result = await methods.call(self._service, local_caller(), method, raw)
        found: dict[str, Any] = msgspec.json.decode(methods.encode(result))
        return found

    def show(self, progress: Callable[[int, int], None]) -> None:
        """Have long work on the views say how far it is."""
        self._service.views.progress = progress

    async def ask_for(self, scopes: Iterable[str]) -> None:
        """Nothing to do: the owner of the log holds every scope."""

    def keep(self, token: DeviceToken) -> Path | None:
        """Nothing to keep: the caller is no device."""
        return None


@asynccontextmanager
async def open_door(reach: Reach, *, fallback: bool = False, env: Mapping[str, str] = os.environ) -> AsyncIterator[Door]:
    """Lend the door that this command is to use; `fallback` is for `list` and `approve` alone (protocol §8.6)."""
    target = find(reach, env)
    door = GatewayDoor(target, reach.timeout_ms)
    try:
        why = await _closed(door, target, fallback)
        if why is None:
            yield door
            return
    finally:
        await door.close()
    async with _log_door(target, why) as inside:
        yield inside


async def _closed(door: GatewayDoor, target: Target, fallback: bool) -> str | None:
    """Open the gateway's door. Return None where it opened, why the log is the way in where that may be, and raise otherwise."""
    at_home = target.source == "this host"
    try:
        await door.open(make=not (at_home and fallback))
    except Unreachable as error:
        if not (at_home and error.refused):
            raise
        return f"No gateway on {target.place.gateway}"
    except ConnectRefused as refused:
        if not (at_home and fallback and wants_pairing(refused)):
            raise
        return f"The gateway on {target.place.gateway} would have this command paired first"
    return None


@asynccontextmanager
async def _log_door(target: Target, why: str) -> AsyncIterator[Door]:
    from .compose import LOG, open_service
    from .logs import configure

    path = target.home / LOG
    if target.settings is None or not path.exists():
        raise Failure(Exit.UNREACHABLE, "no-log", f"{why}, and no log at {path} to work on", "Start the gateway: pairing serve")
    configure("warning", "console")
    async with open_service(target.settings) as service:
        remark(f"{why}: working on the log {path}")
        yield LogDoor(service)
