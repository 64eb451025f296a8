"""What the connections of one listener share: their limits, the lobby of those not logged in, and who is connected.

Owns the figures and the counting; never touches a socket. transport.py obeys it, listener.py makes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from pairing.gateway.http import Headers, HttpRequest, HttpResponse

if TYPE_CHECKING:
    from pairing.gateway.transport import Link

READ_BYTES: Final = 16 * 1024


class TransportLimits(Struct, frozen=True):
    """What a peer may cost; bytes and seconds (protocol §1.1). Values before login are the strict ones."""

    deadline: float = 15.0
    """From accept to `admit`, TLS and HTTP included, however the bytes are spread."""
    head_bytes: int = 16 * 1024
    first_message_bytes: int = 64 * 1024
    fragments: int = 256
    """Frames in one message; empty ones would otherwise be free."""
    control_frames: int = 64
    """Pings and pongs in one second."""
    waiting_messages: int = 16
    """Messages after login that wait for the handler before reading pauses; their sum is held to one message's cap."""
    write_high: int = 64 * 1024
    """Unsent bytes above which nothing more is read or handed to the handler."""
    buffered_bytes: int = 1024 * 1024
    """Unsent bytes above which a send is dropped or ends the connection (`Link.send`)."""
    stall: float = 10.0
    """How long a peer may take nothing at all while more than `write_high` waits for it."""
    close_timeout: float = 5.0
    """From our close frame, or last word, to the end of the TCP connection."""
    sockets_per_address: int = 32
    """Unauthenticated sockets of one address; the next upgrades get 503, four times as many are dropped unheard."""


class Lobby:
    """Counts the sockets that have not logged in, by address, so that one address cannot hold them all."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._counts: dict[str, int] = {}

    def enter(self, address: str) -> bool:
        """Count one socket more; False when the address now has more than its share."""
        count = self._counts.get(address, 0) + 1
        self._counts[address] = count
        return count <= self._cap

    def leave(self, address: str) -> None:
        """Count one socket less."""
        count = self._counts[address] - 1
        if count:
            self._counts[address] = count
        else:
            del self._counts[address]

    def overrun(self, address: str) -> bool:
        """Whether the address has so many sockets that another is not worth an answer."""
        return self._counts.get(address, 0) >= 4 * self._cap

    def __len__(self) -> int:
        return sum(self._counts.values())


class Site:
    """What all links of one listener share: limits, the lobby, the HTTP door, one read buffer, and who is connected.

    `counted_as(host, headers)` names the client address that a socket counts for. It is asked with None at accept
    (None back: not known before the head is read, as behind a proxy) and again with the head (None back: `host`).
    """

    def __init__(
        self,
        limits: TransportLimits,
        http: Callable[[HttpRequest], HttpResponse | None],
        counted_as: Callable[[str, Headers | None], str | None],
    ) -> None:
        self.limits = limits
        self.http = http
        self.counted_as = counted_as
        self.lobby = Lobby(limits.sockets_per_address)
        self.links: set[Link] = set()
        self.loop = asyncio.get_running_loop()
        # One buffer serves every link: the loop fills it and calls `buffer_updated` before it turns to another socket.
        self.buffer = memoryview(bytearray(READ_BYTES))
