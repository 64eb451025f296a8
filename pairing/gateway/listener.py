"""Accepts sockets and gives each its link and its task, until it is cancelled.

Owns the listening sockets, the accept loop and the graceful end. Never looks at a byte of a connection: that is
transport.py's.
"""

import asyncio
import errno
import socket
import ssl as tls
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from pairing.gateway.http import Headers, HttpRequest, HttpResponse, Peer
from pairing.gateway.site import Site, TransportLimits
from pairing.gateway.transport import Closed, Link, log_failure

ACCEPTS_AT_ONCE: Final = 64
BACK_OFF: Final = 0.2
SERVICE_RESTART: Final = (1012, "service restart")

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_log = structlog.get_logger(__name__)

Handler = Callable[[Link], Awaitable[None]]
Address = tuple[str, int]


def by_tcp_peer(host: str, headers: Headers | None) -> str:
    """Count every socket for its TCP peer: right where no proxy stands in front."""
    return host


async def serve(
    handler: Handler,
    *,
    host: str,
    port: int,
    http: Callable[[HttpRequest], HttpResponse | None],
    ssl: tls.SSLContext | None = None,
    limits: TransportLimits | None = None,
    counted_as: Callable[[str, Headers | None], str | None] = by_tcp_peer,
    farewell: tuple[int, str] = SERVICE_RESTART,
    backlog: int = 1024,
    opening: Callable[[Sequence[Address]], Awaitable[None]] | None = None,
    task_status: TaskStatus[Sequence[Address]] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve WebSockets and plain HTTP on one port until cancelled; `started` gets the addresses bound.

    `handler` runs in a task of its own for every open WebSocket; when it returns the link is closed with 1000, when
    it raises with 1011. `http` answers requests that ask for no WebSocket. `counted_as`: see `Site`. When cancelled:
    nothing more is accepted, every link gets `farewell`, handlers see Closed, and after `close_timeout` what is left
    is cancelled and dropped. `opening` is awaited once the addresses are bound and before anybody is let in. Raises OSError
    when an address cannot be bound.
    """
    sockets = await _bind(host, port, backlog)
    site = Site(limits or TransportLimits(), http, counted_as)
    try:
        async with anyio.create_task_group() as outer:
            crowd = _Crowd(site, handler, ssl)
            await outer.start(crowd.run)
            addresses = [sock.getsockname()[:2] for sock in sockets]
            if opening is not None:
                await opening(addresses)
            doors = [_Door(sock, crowd.welcome) for sock in sockets]
            task_status.started(addresses)
            try:
                await anyio.sleep_forever()
            finally:
                for door in doors:
                    door.shut()
                crowd.dismiss(farewell)
    finally:
        for sock in sockets:
            sock.close()


class _Door:
    """One listening socket. Backs off when descriptors run out, and goes on whatever a single socket does."""

    def __init__(self, sock: socket.socket, welcome: Callable[[socket.socket, tuple[Any, ...]], None]) -> None:
        self._socket = sock
        self._welcome = welcome
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.TimerHandle | None = None
        self._loop.add_reader(sock, self._accept)

    def shut(self) -> None:
        """Accept nothing more."""
        self._loop.remove_reader(self._socket)
        if self._again:
            self._again.cancel()

    def _accept(self) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                sock, address = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                # The others are errors of the one connection that was about to be accepted (accept(2)).
                if exc.errno in _EXHAUSTED:
                    self._back_off(exc)
                    return
                continue
            sock.setblocking(False)
            self._welcome(sock, address)

    def _back_off(self, exc: OSError) -> None:
        _log.warning("accepting paused", error=errno.errorcode[exc.errno or 0], seconds=BACK_OFF)
        self._loop.remove_reader(self._socket)
        self._again = self._loop.call_later(BACK_OFF, self._resume)

    def _resume(self) -> None:
        self._again = None
        self._loop.add_reader(self._socket, self._accept)


class _Crowd:
    """The links of one listener and the tasks they run in."""

    def __init__(self, site: Site, handler: Handler, ssl: tls.SSLContext | None) -> None:
        self._site = site
        self._handler = handler
        self._secure = ssl is not None
        self._tls: dict[str, Any] = {}
        if ssl:
            self._tls["ssl"] = ssl
            self._tls["ssl_handshake_timeout"] = site.limits.deadline
            self._tls["ssl_shutdown_timeout"] = site.limits.close_timeout
        self._dismissed = anyio.Event()
        self._tasks: TaskGroup

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Hold the connections' tasks; a cancellation from outside reaches them as the farewell, not half-way."""
        try:
            async with anyio.create_task_group() as self._tasks:
                self._tasks.cancel_scope.shield = True
                task_status.started()
                await self._dismissed.wait()
                self._tasks.cancel_scope.deadline = anyio.current_time() + self._site.limits.close_timeout
                for link in tuple(self._site.links):
                    await link.gone()
        finally:
            for link in tuple(self._site.links):
                link.abort()

    def dismiss(self, farewell: tuple[int, str]) -> None:
        """Say goodbye to everyone."""
        for link in tuple(self._site.links):
            link.end(*farewell)
        self._dismissed.set()

    def welcome(self, sock: socket.socket, address: tuple[Any, ...]) -> None:
        """Give an accepted socket its place in the lobby, its link and its task, or close it unheard."""
        peer = Peer(host=address[0], port=address[1], secure=self._secure)
        place = self._count(peer)
        if place is not None and self._site.lobby.overrun(place):
            sock.close()
            return
        over = place is not None and not self._site.lobby.enter(place)
        link = Link(self._site, sock, peer, place, over)
        self._tasks.start_soon(self._attend, link, sock)

    def _count(self, peer: Peer) -> str | None:
        try:
            return self._site.counted_as(peer.host, None)
        except Exception as exc:
            log_failure("address not resolved", exc, peer)
            return peer.host

    async def _attend(self, link: Link, sock: socket.socket) -> None:
        try:
            if await self._connect(link, sock) and await link.opened():
                await self._handle(link)
                link.end()
        except BaseException:
            link.abort()
            raise

    async def _connect(self, link: Link, sock: socket.socket) -> bool:
        try:
            await self._site.loop.connect_accepted_socket(lambda: link, sock, **self._tls)
        except BaseException as exc:
            link.connection_lost(None)
            sock.close()
            if not isinstance(exc, OSError):
                raise
            return False
        return True

    async def _handle(self, link: Link) -> None:
        try:
            await self._handler(link)
        except Exception as exc:
            if _only_closed(exc):
                return
            log_failure("handler failed", exc, link.peer)
            link.end(1011, "internal error")


def _only_closed(exc: BaseException) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return all(_only_closed(part) for part in exc.exceptions)
    return isinstance(exc, Closed)


async def _bind(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Listen on every address of a host name; with port 0 all of them on the port that the first was given."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
            sock = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                with suppress(OSError):
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != "::"))
            sock.bind((address[0], port or sockets[0].getsockname()[1], *address[2:]))
            sock.listen(backlog)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets
