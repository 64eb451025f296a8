"""One WebSocket connection behind four words: recv, send, close, peer.

Owns bytes, frames, limits and timers of one socket (RFC 6455, through the Sans-I/O `websockets`); knows nothing of
JSON, devices or trust. Everything a peer can make us hold is bounded here. Accepting sockets is listener.py's.
"""

import asyncio
import socket
from contextlib import suppress
from email.utils import formatdate
from enum import IntEnum
from http import HTTPStatus
from logging import getLogger
from typing import Final, cast

import anyio
import structlog
from msgspec.structs import replace
from websockets.datastructures import Headers as WireHeaders
from websockets.frames import BINARY, CLOSE, CONT, TEXT, CloseCode, Frame
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from pairing.gateway.http import TEXT as PLAIN_TEXT
from pairing.gateway.http import Headers, HttpRequest, HttpResponse, Peer
from pairing.gateway.site import Site

REASON_BYTES: Final = 120

_VANISHED: Final = (int(CloseCode.ABNORMAL_CLOSURE), "")
_SLOW: Final = (int(CloseCode.POLICY_VIOLATION), "slow consumer")

_log = structlog.get_logger(__name__)
# `websockets` logs frame contents at DEBUG, and tokens travel in frames.
_mute = getLogger("pairing.gateway.websockets")
_mute.disabled = True


class Closed(Exception):
    """The connection has ended: with the close frame's code and reason, or 1006 where none was exchanged."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"connection closed with {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class _Phase(IntEnum):
    HEAD, OPEN, ENDING, DRAINING, GONE = range(5)


# Names of the module, because a lookup on an Enum class is a function call before Python 3.12.
_HEAD, _OPEN, _ENDING, _DRAINING, _GONE = _Phase


class _Frames(ServerProtocol):
    """The RFC 6455 machine; a failure it finds itself is closed with a code alone (protocol §1.1)."""

    def fail(self, code: CloseCode | int, reason: str = "") -> None:
        super().fail(code)

    def refuse(self, code: int, reason: str) -> None:
        """Close at once and hear nothing more."""
        super().fail(code, reason)


class Link(asyncio.BufferedProtocol):
    """One WebSocket connection; built by the listener, handed to the handler once it is open.

    The session's words come first; those that the event loop and the listener call come after.
    """

    __slots__ = (
        "_admitted", "_choked", "_controls", "_controls_until", "_ended", "_frames", "_gone", "_head", "_max_message",
        "_over", "_parts", "_paused", "_phase", "_place", "_queue", "_queued", "_site", "_socket", "_stall", "_text",
        "_timer", "_transport", "_waiter", "_written", "accepted_at", "peer",
    )  # fmt: skip

    def __init__(self, site: Site, sock: socket.socket, peer: Peer, place: str | None, over: bool) -> None:
        self.peer = peer
        self.accepted_at = site.loop.time()
        self._site = site
        self._socket: socket.socket | None = sock
        self._place = place
        self._over = over
        self._phase = _HEAD
        self._transport: asyncio.Transport | None = None
        self._frames: _Frames | None = None
        self._head: bytearray | None = bytearray()
        self._queue: list[str | bytes] = []
        self._queued = 0
        self._max_message = site.limits.first_message_bytes
        self._parts: list[bytes | bytearray | memoryview] = []
        self._text = False
        self._admitted = False
        self._choked = False
        self._paused = False
        self._written = 0
        self._controls = 0
        self._controls_until = 0.0
        self._ended: tuple[int, str] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._gone: anyio.Event | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        site.links.add(self)

    async def recv(self) -> str | bytes:
        """Wait for the next whole message: str from text frames, bytes from binary ones.

        Nothing is handed out while more than `write_high` bytes wait to be sent, so that a peer that asks and never
        reads stops being served. What arrived before the peer's close is still handed out. Raises Closed. One
        reader at a time; safe to cancel.
        """
        while True:
            if self._queue and (not self._choked or self._ended):
                message = self._queue.pop(0)
                self._queued -= len(message)
                if self._paused:
                    self._balance()
                return message
            if self._ended:
                raise Closed(*self._ended)
            await self._wait()

    def send(self, text: str | bytes, *, droppable: bool = False) -> bool:
        """Queue one text message (bytes are UTF-8 already) and say whether it was taken.

        With more than `buffered_bytes` unsent, a droppable message is dropped and any other closes the connection
        with 1008 `slow consumer` (protocol §1.1). A message for a link that has ended is dropped.
        """
        if self._phase is not _OPEN or self._frames is None:
            return False
        if self.buffered > self._site.limits.buffered_bytes:
            if not droppable:
                self._refuse(*_SLOW)
            return False
        self._frames.send_text(text.encode() if isinstance(text, str) else text)
        self._flush()
        return True

    @property
    def buffered(self) -> int:
        """Bytes given to `send` that the kernel has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport else 0

    def admit(self, max_message: int) -> None:
        """Lift the limits for strangers, at login: messages up to `max_message` bytes, several may wait, no deadline."""
        if self._phase is not _OPEN or self._frames is None or self._admitted:
            return
        self._admitted = True
        self._max_message = self._frames.max_message_size = max_message
        self._set_timer(None)
        self._leave_lobby()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye with a close frame and wait until TCP is closed, `close_timeout` at most; see `end`."""
        self.end(code, reason)
        await self.gone()

    def end(self, code: int = 1000, reason: str = "") -> None:
        """Send the close frame now and take nothing more: the part of `close` that needs no waiting.

        The reason is cut to 120 bytes of UTF-8 (protocol §1.4). Waiting messages are forgotten, so that nothing is
        accepted after it. Does nothing on a link that is ending.
        """
        if self._phase is _HEAD:
            self.abort()
        elif self._phase is _OPEN and self._frames is not None:
            self._ended = (code, cut(reason))
            self._queue.clear()
            self._frames.send_close(*self._ended)
            self._flush()
            self._conclude(_ENDING)

    def abort(self) -> None:
        """Drop the TCP connection, unsent bytes and all."""
        if self._transport is not None:
            self._transport.abort()
        elif self._socket is not None:
            # The loop still owns the socket for TLS; an end of stream makes that fail now.
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    async def opened(self) -> bool:
        """Wait for the end of the HTTP exchange; True when it became a WebSocket."""
        while self._phase is _HEAD:
            await self._wait()
        return self._phase is _OPEN

    async def gone(self) -> None:
        """Wait until the TCP connection is closed."""
        if self._phase is not _GONE:
            if self._gone is None:
                self._gone = anyio.Event()
            await self._gone.wait()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock; what TLS has taken is already counted."""
        self._transport = cast(asyncio.Transport, transport)
        self._socket = None
        if self._phase is _GONE:  # given up while TLS was still at work
            self.abort()
            return
        limits = self._site.limits
        self._transport.set_write_buffer_limits(high=limits.write_high)
        patience = min(limits.deadline, limits.close_timeout) if self._over else limits.deadline
        self._timer = self._site.loop.call_at(self.accepted_at + patience, self._expire)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Read in small bites: one bite of pings or tiny messages is what a peer can make us hold at a time."""
        return self._site.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        if self._phase is _HEAD:
            self._read_head(self._site.buffer[:nbytes])
        elif self._phase < _DRAINING:
            self._read_frames(bytes(self._site.buffer[:nbytes]))

    def eof_received(self) -> None:
        """Let the loop close a connection whose peer has stopped talking, within the bound."""
        self._conclude(_DRAINING)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake whoever waits, and let go of everything."""
        self._phase = _GONE
        self._ended = self._ended or _VANISHED
        self._set_timer(None)
        if self._stall:
            self._stall.cancel()
        self._leave_lobby()
        self._site.links.discard(self)
        self._frames = self._transport = self._socket = self._head = None
        self._wake()
        if self._gone:
            self._gone.set()

    def pause_writing(self) -> None:
        """Stop reading and serving until the peer has taken what waits for it."""
        self._choked = True
        self._balance()
        self._watch_stall()

    def resume_writing(self) -> None:
        """Go on."""
        self._choked = False
        if self._stall:
            self._stall.cancel()
            self._stall = None
        self._balance()
        self._wake()

    # HTTP, until the upgrade.

    def _read_head(self, data: memoryview) -> None:
        head = self._head
        assert head is not None
        searched = max(0, len(head) - 3)
        head += data
        limit = self._site.limits.head_bytes
        found = head.find(b"\r\n\r\n", searched)
        end = found + 4 if found >= 0 else len(head) + 1
        if end > limit:
            self._respond(HttpResponse(431, PLAIN_TEXT, b"Request header too large\n"))
        elif found >= 0:
            self._head = None
            try:
                self._take_head(bytes(head[:end]))
            except Exception as exc:
                log_failure("http failed", exc, self.peer)
                self._respond(HttpResponse(500, PLAIN_TEXT, b"Internal server error\n"))
            if len(head) > end and self._phase is _OPEN:
                self._read_frames(bytes(head[end:]))

    def _take_head(self, head: bytes) -> None:
        frames = self._frames = _Frames(max_size=self._max_message, logger=_mute)
        frames.receive_data(head)
        match frames.events_received():
            case [Request() as request]:
                self._take_request(frames, request)
            case _ if frames.data_to_send() == [b""]:
                self._respond(HttpResponse(400, PLAIN_TEXT, b"Bad request\n"))
            case _:
                self._respond(HttpResponse(431, PLAIN_TEXT, b"Request header too large\n"))

    def _take_request(self, frames: _Frames, request: Request) -> None:
        headers = Headers(tuple(request.headers.raw_items()))
        self.peer = replace(self.peer, path=request.path, headers=headers)
        self._recount(headers)
        if "websocket" in headers.tokens("Upgrade"):
            if self._over:
                self._respond(HttpResponse(503, PLAIN_TEXT, b"Too many unauthenticated sockets"))
            else:
                self._upgrade(frames, request)
            return
        response = self._site.http(HttpRequest(request.method, self.peer))
        if response is None:
            self._upgrade(frames, request)  # which it is not: answered 426
        else:
            self._respond(response, bodiless=request.method == "HEAD")

    def _upgrade(self, frames: _Frames, request: Request) -> None:
        response = frames.accept(request)
        if response.status_code == 101:
            self._phase = _OPEN
        frames.send_response(response)
        request.headers.clear()  # we have our own; the parser would keep these as long as the connection lives
        self._wake()
        # After the handler, whose first words then leave in the same write.
        self._site.loop.call_soon(self._flush)

    def _recount(self, headers: Headers) -> None:
        place = self._site.counted_as(self.peer.host, headers) or self.peer.host
        if place != self._place:
            self._leave_lobby()
            self._place = place
            self._over = not self._site.lobby.enter(place)

    def _respond(self, response: HttpResponse, *, bodiless: bool = False) -> None:
        headers = WireHeaders(
            {
                "Date": formatdate(usegmt=True),
                "Connection": "close",
                "Content-Length": str(len(response.body)),
                "Content-Type": response.content_type,
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
                **dict(response.fields),
            }
        )
        status = HTTPStatus(response.status)
        body = b"" if bodiless else response.body
        self._write(Response(status, status.phrase, headers, body).serialize())
        self._drain()

    # Frames, after it.

    def _read_frames(self, data: bytes) -> None:
        frames = self._frames
        assert frames is not None
        frames.receive_data(data)
        for frame in frames.events_received():
            assert isinstance(frame, Frame)
            self._take_frame(frame)
        if self._ended is None and (end := frames.close_rcvd or frames.close_sent):
            self._ended = (end.code, end.reason)
        self._flush()

    def _take_frame(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is TEXT or opcode is BINARY:
            self._text = opcode is TEXT
            if frame.fin:
                self._take_message(frame.data)
            else:
                self._parts = [frame.data]
        elif opcode is CONT:
            self._parts.append(frame.data)
            if len(self._parts) > self._site.limits.fragments:
                self._refuse(CloseCode.POLICY_VIOLATION, "too many fragments")
            elif frame.fin:
                parts, self._parts = self._parts, []
                self._take_message(b"".join(parts))
        elif opcode is not CLOSE:
            self._count_control()

    def _take_message(self, data: bytes | bytearray | memoryview) -> None:
        if self._phase is not _OPEN:
            return
        if not self._admitted and len(self._queue) > (self._waiter is not None):
            self._refuse(CloseCode.POLICY_VIOLATION, "too many pending handshake frames")
            return
        try:
            message = str(data, "utf-8") if self._text else bytes(data)
        except UnicodeDecodeError:
            self._refuse(CloseCode.INVALID_DATA, "")
            return
        self._queue.append(message)
        self._queued += len(message)
        self._balance()
        self._wake()

    def _count_control(self) -> None:
        now = self._site.loop.time()
        if now >= self._controls_until:
            self._controls, self._controls_until = 0, now + 1.0
        self._controls += 1
        if self._controls > self._site.limits.control_frames:
            self._refuse(CloseCode.POLICY_VIOLATION, "too many control frames")

    # Endings.

    def _refuse(self, code: int, reason: str) -> None:
        """End a connection that broke a limit: nothing it still sends is looked at."""
        if self._phase < _DRAINING and self._frames is not None:
            self._ended = self._ended or (code, reason)
            self._queue.clear()
            self._frames.refuse(code, reason)
            self._flush()

    def _drain(self) -> None:
        """Close our direction, and TCP when the peer has closed its own or the bound has passed.

        Closing TCP at once with bytes of the peer unread would reset it, and the peer might never see our last word.
        """
        transport = self._transport
        if transport is not None and not transport.is_closing():
            try:
                if transport.can_write_eof() and not (self._frames and self._frames.close_rcvd):
                    transport.write_eof()
                else:
                    transport.close()
            except OSError:
                transport.abort()
        self._conclude(_DRAINING)

    def _conclude(self, phase: _Phase) -> None:
        if phase > self._phase:
            self._phase = phase
            self._ended = self._ended or _VANISHED
            self._set_timer(self._site.limits.close_timeout)
            self._balance()
            self._wake()

    def _expire(self) -> None:
        """The handshake's deadline, or the bound on an ending, has passed."""
        self._timer = None
        if self._phase is _OPEN:
            self.end(CloseCode.NORMAL_CLOSURE)
        else:
            self.abort()

    def _set_timer(self, delay: float | None) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None if delay is None else self._site.loop.call_later(delay, self._expire)

    def _leave_lobby(self) -> None:
        if self._place is not None:
            self._site.lobby.leave(self._place)
            self._place = None

    # Bytes and waiting.

    def _flush(self) -> None:
        frames = self._frames
        if frames is None:
            return
        writes = frames.data_to_send()
        if writes:
            self._write(b"".join(writes))
            if not writes[-1]:
                self._drain()

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if data and transport is not None and self._phase < _DRAINING and not transport.is_closing():
            self._written += len(data)
            transport.write(data)

    def _balance(self) -> None:
        """Read while there is room for an answer and for another message; always, once we only wait for the end."""
        full = self._queued >= self._max_message or len(self._queue) >= self._site.limits.waiting_messages
        pause = self._phase < _ENDING and (self._choked or (self._admitted and full))
        if pause != self._paused and self._transport is not None:
            self._paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _watch_stall(self, taken: int | None = None) -> None:
        """Drop a peer that has taken nothing since the last look."""
        now_taken = self._written - self.buffered
        if taken is not None and now_taken <= taken:
            self._ended = self._ended or _SLOW
            self._conclude(_DRAINING)
            self.abort()
        else:
            self._stall = self._site.loop.call_later(self._site.limits.stall, self._watch_stall, now_taken)

    async def _wait(self) -> None:
        self._waiter = self._site.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def cut(reason: str) -> str:
    """The first 120 bytes of UTF-8, never half a character; protocol §1.4 and the 123 of RFC 6455 §5.5."""
    return reason.encode(errors="replace")[:REASON_BYTES].decode(errors="ignore")


def log_failure(event: str, exc: BaseException, peer: Peer) -> None:
    """Log what kind of error and where it was raised; its text may quote what the peer sent."""
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "unknown"
    _log.error(event, error=type(exc).__name__, where=where, peer=peer.host)
