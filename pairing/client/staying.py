"""Staying connected: one session after another to one gateway, for as long as trying makes sense.

`stay` connects, waits and connects again; calls and events go to whichever session there is. It ends on its own only where a
person has to act first, and then says so with a `Stopped`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeAlias

import anyio
from msgspec import Struct

from .errors import (
    ApprovalNeeded,
    ClientError,
    ConnectRefused,
    CredentialRefused,
    Disconnected,
    NotApproved,
    Stopped,
    Unreachable,
    final,
)
from .pacing import Backoff
from .session import CALL_S, Heard, Login, Session, connect

PATIENT_S = 5.0


class Turn(Struct, frozen=True):
    """What has just become of the connection. `wait`: seconds until the next try; `why`: what went wrong, if something did."""

    now: Literal["connected", "waiting-for-approval", "retrying", "stopped"]
    wait: float = 0.0
    why: ClientError | None = None


Hearer: TypeAlias = Callable[[Turn], None]
Sleep: TypeAlias = Callable[[float], Awaitable[None]]


class Line:
    """A connection that is made again whenever it breaks."""

    def __init__(self, hear: Hearer) -> None:
        self._hear = hear
        self._session: Session | None = None
        self._failed: ClientError | None = None
        self._changed = anyio.Event()

    async def session(self) -> Session:
        """Return the session there is, once there is one. Raises `Stopped` and what else ended it for good."""
        while self._session is None:
            if self._failed is not None:
                raise self._failed
            await self._changed.wait()
        return self._session

    async def call(self, method: str, params: Mapping[str, Any] | None = None, *, timeout: float = CALL_S) -> Any:
        """Call a method and return its payload; `timeout` in seconds, waiting for a connection included.

        Raises what `Session.call` does. A call is never made twice: where the connection broke under it, `Disconnected` says so,
        and an `idempotencyKey` makes it safe to repeat.
        """
        start = anyio.current_time()
        session = None
        with anyio.move_on_after(timeout):
            session = await self.session()
        if session is None:
            raise Unreachable("the gateway", f"no connection within {timeout:g} s")
        return await session.call(method, params, timeout=max(0.0, timeout - (anyio.current_time() - start)))

    async def events(self) -> AsyncIterator[Heard]:
        """Yield what the gateway announces, over all sessions: `seq` begins anew with each. Raises `Stopped` at the end."""
        while True:
            session = await self.session()
            async for event in session.events():
                yield event
            await self._after(session)

    async def _after(self, session: Session) -> None:
        while self._session is session:
            await self._changed.wait()

    def turn(self, turn: Turn, session: Session | None = None) -> None:
        """Take note of what has become of the connection, and wake whoever waits for it."""
        self._session = session
        if turn.now == "stopped":
            self._failed = turn.why
        self._changed.set()
        self._changed = anyio.Event()
        self._hear(turn)


def _nobody(turn: Turn) -> None:
    """Hear nothing."""


@asynccontextmanager
async def stay(
    url: str,
    login: Login,
    *,
    wait_for_approval: bool = True,
    asked: str | None = None,
    timeout: float = 10.0,
    hear: Hearer = _nobody,
    backoff: Backoff | None = None,
    sleep: Sleep = anyio.sleep,
) -> AsyncIterator[Line]:
    """Lend a connection that is made again whenever it breaks; leaving the block ends it.

    `timeout` seconds bound each try. With `wait_for_approval` a device that has asked goes on asking, which keeps its request
    alive, until somebody has answered; otherwise it stops with `ApprovalNeeded`. `asked` is a request that waits already, from an
    earlier try. `hear` is told of every turn. `backoff` and `sleep` are for tests.
    """
    line = Line(hear)
    keeper = _Keeper(url, login, line, wait_for_approval, asked, timeout, backoff or Backoff(), sleep)
    # No task group around the caller's block: it would wrap what the caller raises.
    keeping = asyncio.create_task(keeper.run())
    try:
        yield line
    finally:
        keeping.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([keeping])


class _Keeper:
    """Keeps one line."""

    def __init__(
        self,
        url: str,
        login: Login,
        line: Line,
        patient: bool,
        asked: str | None,
        timeout: float,
        backoff: Backoff,
        sleep: Sleep,
    ) -> None:
        self._url, self._login, self._line = url, login, line
        self._patient, self._timeout = patient, timeout
        self._backoff, self._sleep = backoff, sleep
        self._asked = asked

    async def run(self) -> None:
        while True:
            try:
                turn = self._next(await self._hold())
            except ClientError as error:
                turn = self._next(error)
            except Exception as error:
                broken = ClientError(f"the connection cannot be kept up: {error!r}")
                broken.__cause__ = error
                turn = Turn("stopped", why=broken)
            self._line.turn(turn)
            if turn.now == "stopped":
                return
            await self._sleep(turn.wait)

    async def _hold(self) -> Disconnected:
        async with connect(self._url, self._login, timeout=self._timeout) as session:
            self._asked = None
            since = anyio.current_time()
            self._line.turn(Turn("connected"), session)
            end = await session.ended()
            self._backoff.held(anyio.current_time() - since)
            return end

    def _next(self, why: ClientError) -> Turn:
        match why:
            case ConnectRefused():
                return self._refused(why)
            case Disconnected() | Unreachable():
                return Turn("retrying", self._backoff.failed(), why)
            case _:
                return Turn("stopped", why=why)

    def _refused(self, why: ConnectRefused) -> Turn:
        if why.details.get("code") == "PAIRING_REQUIRED":
            return self._unapproved(why)
        if not final(why):
            return Turn("retrying", self._backoff.failed(why.retry_after_ms), why)
        code = str(why.details.get("code", ""))
        return Turn("stopped", why=CredentialRefused(why) if code.startswith("AUTH_") else Stopped(why))

    def _unapproved(self, why: ConnectRefused) -> Turn:
        asked, self._asked = self._asked, why.request or self._asked
        if not self._patient:
            return Turn("stopped", why=ApprovalNeeded(why))
        if asked is not None and why.request is not None and asked != why.request:
            # Asked alike all the time a request neither expires nor gives way to a wider one: somebody said no.
            return Turn("stopped", why=NotApproved(why, asked))
        return Turn("waiting-for-approval", min(self._backoff.failed(why.retry_after_ms), PATIENT_S), why)
