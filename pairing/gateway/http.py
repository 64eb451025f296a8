"""Plain HTTP on the gateway's port: who asks, what is asked, and the health answers, as pure values.

Owns header fields and the health router. Never reads a socket and never decides whom to trust: a forwarded header is
a claim here, nothing more. The bytes are moved by transport.py.
"""

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

JSON: Final = "application/json; charset=utf-8"
TEXT: Final = "text/plain; charset=utf-8"


class Headers(Struct, frozen=True):
    """Header fields in the order received; names compare without case (RFC 9110 §5.1)."""

    fields: tuple[tuple[str, str], ...] = ()

    def get_all(self, name: str) -> tuple[str, ...]:
        """Every value of a field, in order; empty when it is absent."""
        wanted = name.lower()
        return tuple([value for key, value in self.fields if key.lower() == wanted])

    def get(self, name: str) -> str | None:
        """The field as one value, repeated lines joined by a comma (RFC 9110 §5.3), or None."""
        values = self.get_all(name)
        return ", ".join(values) if values else None

    def tokens(self, name: str) -> frozenset[str]:
        """A comma-separated field as lower-case tokens, so that `keep-alive, Upgrade` holds `upgrade`."""
        return frozenset([token.strip() for token in (self.get(name) or "").lower().split(",")]) - {""}


class Peer(Struct, frozen=True):
    """Who is at the other end, as raw facts: the TCP address and the HTTP head, nothing inferred from them.

    `host` is the address as the kernel reports it (an IPv4-mapped IPv6 address stays one); `path` is the request
    target with its query; `secure` says that TLS ends here.
    """

    host: str
    port: int
    path: str = "/"
    headers: Headers = Headers()
    secure: bool = False


class HttpRequest(Struct, frozen=True):
    """One request that asks for no WebSocket; bodies are refused before it gets here."""

    method: str
    peer: Peer

    @property
    def path(self) -> str:
        """The path without its query."""
        return self.peer.path.partition("?")[0]

    @property
    def headers(self) -> Headers:
        """The header fields of the request."""
        return self.peer.headers


class HttpResponse(Struct, frozen=True):
    """What to answer; for HEAD the transport sends the same head and no body. `fields` are header fields besides the usual."""

    status: int
    content_type: str
    body: bytes
    fields: tuple[tuple[str, str], ...] = ()


class Readiness(Struct, frozen=True, rename="camel"):
    """Whether the gateway can serve now, the names of what fails, and milliseconds since it started."""

    ready: bool
    failing: tuple[str, ...]
    uptime_ms: int


def answer(request: HttpRequest, readiness: Callable[[], Readiness]) -> HttpResponse:
    """Answer a plain request (protocol §1.1): liveness, readiness, or 404 for anything else."""
    if request.method in ("GET", "HEAD"):
        match request.path:
            case "/health" | "/healthz":
                return _LIVE
            case "/ready" | "/readyz":
                state = readiness()
                return HttpResponse(200 if state.ready else 503, JSON, msgspec.json.encode(state))
    return _NOT_FOUND


_LIVE: Final = HttpResponse(200, JSON, b'{"ok":true,"status":"live"}')
_NOT_FOUND: Final = HttpResponse(404, JSON, b'{"error":{"message":"Not Found","type":"not_found"}}')
