"""The two doors to the methods: a session with the gateway, or the log of this state folder itself.

The second opens only where no gateway of this host answers, or where it refuses a listing or an approval for want of pairing; never
for a URL that somebody named. Which door was used is said on standard error. No SQL here.
"""

import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import msgspec

from pairing.authority import ADMIN, OPERATOR, PAIRING, covers
from pairing.client.errors import ConnectRefused, Unreachable
from pairing.client.handshake import here
from pairing.client.session import Login, Session, connect
from pairing.client.store import Store
from pairing.refusals import Exit

from .failures import wants_pairing
from .options import Reach
from .target import Target, find
from .voice import Failure, remark

if TYPE_CHECKING:
    from pairing.methods import Service

_READING = frozenset({"device.list", "device.pair.list", "health", "status"})


class Door(Protocol):
    """A way to the methods."""

    own: str | None
    """The device that this door's caller is, where it is one."""

    async def call(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call a method and return its result as JSON values. Raises `Refused`, `ClientError`, `PairingError`."""

    async def ask_for(self, scopes: Iterable[str]) -> None:
        """Make sure, as far as the gateway lets us, that the next calls are made with these operator scopes too."""


class GatewayDoor:
    """A session with a gateway; opened anew where a command turns out to need more scopes."""

    def __init__(self, target: Target, store: Store, timeout: float) -> None:
        self.own: str | None = None
        self._target, self._store, self._timeout = target, store, timeout
        self._stack = AsyncExitStack()
        self._session: Session | None = None

    async def open(self) -> None:
        """Log in with `operator.pairing`: without a device where this host's gateway lets the command line do so, else with one."""
        if self._target.place.loopback and self._target.credentials:
            session = await self._log_in((PAIRING,))
            if covers(OPERATOR, session.hello.scopes, (PAIRING,)):
                return
        await self._log_in((PAIRING,), device=True)

    async def call(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call a method of the gateway."""
        if self._session is None:
            raise RuntimeError("the door is closed")
        try:
            result: dict[str, Any] = await self._session.call(method, params)
        except anyio.get_cancelled_exc_class():
            # Told apart from a connection that never was: the gateway may have done it.
            self.pending = method not in _READING
            raise
        return result

    pending = False

    async def ask_for(self, scopes: Iterable[str]) -> None:
        """Log in again with more scopes, where the session has not got them all."""
        held = self._session.hello.scopes if self._session else ()
        wanted = tuple(dict.fromkeys((PAIRING, *sorted(scopes))))
        if not covers(OPERATOR, held, wanted):
            await self._log_in(wanted, device=self.own is not None)

    def keep(self, role: str, scopes: Iterable[str], token: str, now: int) -> Path | None:
        """Store the successor of this device's own token, which comes to nobody else; say where."""
        from pairing.client.credentials import DeviceToken
        from pairing.settings.secret import Secret

        if self.own is None:
            return None
        self._store.keep(self.own, self._target.place.gateway, DeviceToken(role, tuple(scopes), Secret(token)), now)
        return self._store.tokens_path

    async def close(self) -> None:
        """End the session."""
        self._session = None
        await self._stack.aclose()

    async def _log_in(self, scopes: tuple[str, ...], *, device: bool = False) -> Session:
        await self._stack.aclose()
        identity = self._identity() if device else None
        login = Login(
            client=here("cli", "cli", version=_version()),
            credentials=self._target.credentials,
            identity=identity,
            store=self._store if identity else None,
            scopes=scopes,
            allow_private=self._target.allow_private,
            tls=self._target.tls,
        )
        session = await self._stack.enter_async_context(connect(self._target.place.url, login, timeout=self._timeout))
        self._session, self.own = session, identity.device if identity else None
        return session

    def _identity(self) -> Any:
        from .compose import clock

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

    async def call(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call a method here; what it does is recorded with actor `local` and the uid."""
        from pairing import methods

        from .compose import local_caller

        raw = msgspec.Raw(msgspec.json.encode(dict(params or {})))
        result = await methods.call(self._service, local_caller(), method, raw)
        found: dict[str, Any] = msgspec.json.decode(methods.encode(result))
        return found

    async def ask_for(self, scopes: Iterable[str]) -> None:
        """Nothing to do: the owner of the log holds every scope."""


@asynccontextmanager
async def open_door(reach: Reach, *, fallback: bool = False, env: Mapping[str, str] = os.environ) -> AsyncIterator[Door]:
    """Lend the door that this command is to use; `fallback` is for `list` and `approve` alone (protocol §8.6)."""
    target = find(reach, env)
    door = GatewayDoor(target, Store(target.home), reach.timeout_ms / 1000)
    why = await _knock(door, target, fallback)
    if why is None:
        with _bounded(reach.timeout_ms, target, lambda: door.pending):
            try:
                yield door
            finally:
                await door.close()
        return
    if target.settings is None:
        raise RuntimeError("only this host's own gateway has a log here")
    from .compose import LOG, open_service

    _hush()
    async with open_service(target.settings) as service:
        remark(f"{why}: working on the log {target.home / LOG}")
        yield LogDoor(service)


async def _knock(door: GatewayDoor, target: Target, fallback: bool) -> str | None:
    """Open the gateway's door. Return None where it is open, why the log is the way in where that may be, and raise otherwise."""
    here = target.source == "this host"
    try:
        await door.open()
    except Unreachable as error:
        if not (here and error.refused):
            raise
        return f"No gateway on {target.place.gateway}"
    except ConnectRefused as refused:
        if not (here and fallback and wants_pairing(refused)):
            raise
        return f"The gateway on {target.place.gateway} lets this command in only after pairing"
    return None
