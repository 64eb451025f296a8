"""Opening the socket to a gateway: over TLS where the URL says so, and to the pinned certificate where one is pinned.

A pin is checked before anything of this client's is said beyond the request for a WebSocket: no secret is in that.
"""

import hashlib
import hmac
import re
import ssl
from logging import getLogger
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as Dialler
from websockets.exceptions import InvalidHandshake, InvalidStatus

from .address import Endpoint
from .errors import BadAddress, PinMismatch, Unreachable

# A list of 100,000 devices has some 60 MB; a gateway that means ill can cost a client no more than this.
MAX_MESSAGE = 128 * 1024 * 1024
CLOSE_WAIT_S = 1.0
_PIN = re.compile(r"[0-9a-f]{64}")

# `websockets` logs frame contents at DEBUG, and tokens travel in frames.
_mute = getLogger("pairing.client.websockets")
_mute.disabled = True


def pinned(text: str) -> str:
    """Return a pin in its plain form: the SHA-256 of the certificate, 64 hex digits, with or without colons and `sha256:`.

    Raises `BadAddress` for what is none.
    """
    plain = text.strip().lower().removeprefix("sha256:").removeprefix("sha256/").replace(":", "")
    if not _PIN.fullmatch(plain):
        raise BadAddress("a pin is the SHA-256 fingerprint of the gateway's certificate: 64 hex digits")
    return plain


def fingerprint(certificate: bytes) -> str:
    """Return what pins a certificate: the hex SHA-256 of its DER bytes."""
    return hashlib.sha256(certificate).hexdigest()


class _Straight(Dialler):
    """Dials the URL it was given and nothing else: a redirect would carry the secrets of this connect to another place."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def dial(
    place: Endpoint,
    *,
    version: str,
    headers: tuple[tuple[str, str], ...] = (),
    tls: ssl.SSLContext | None = None,
    pin: str | None = None,
) -> ClientConnection:
    """Open a socket. Raises `Unreachable`, `PinMismatch`, and `BadAddress` for a pin where there is no certificate."""
    if pin is not None and not place.secure:
        raise BadAddress(f"{place.url} has no certificate that could be pinned; use wss://")
    wanted = None if pin is None else pinned(pin)
    context = tls if wanted is None else _any_certificate()
    secure: dict[str, Any] = {"ssl": context} if place.secure and context is not None else {}
    try:
        socket = await _Straight(
            place.url,
            additional_headers=list(headers),
            user_agent_header=f"pairing/{version}",
            compression=None,
            # A proxy has no business between this host and itself.
            proxy=None if place.loopback else True,
            open_timeout=None,
            close_timeout=CLOSE_WAIT_S,
            max_size=MAX_MESSAGE,
            logger=_mute,
            **secure,
        )
    except InvalidStatus as error:
        raise Unreachable(place.url, f"it answers HTTP {error.response.status_code}, which is no gateway's welcome") from None
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", None) or error.reason or error
        raise Unreachable(place.url, f"TLS failed: {why}") from None
    except (InvalidHandshake, EOFError) as error:
        other = "" if place.secure else ", or only over TLS (wss://)"
        raise Unreachable(place.url, f"it does not speak WebSocket ({type(error).__name__}){other}") from None
    except OSError as error:
        refused = isinstance(error, ConnectionRefusedError)
        why = "connection refused" if refused else error.strerror or str(error)
        raise Unreachable(place.url, why, refused=refused) from None
    if wanted is not None:
        await _expect(place, socket, wanted)
    return socket


def _any_certificate() -> ssl.SSLContext:
    """The pin names the one certificate that is right, whoever signed it and whatever it is called."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _expect(place: Endpoint, socket: ClientConnection, wanted: str) -> None:
    channel: ssl.SSLObject | None = socket.transport.get_extra_info("ssl_object")
    certificate = channel.getpeercert(binary_form=True) if channel else None
    found = fingerprint(certificate) if certificate else ""
    if not hmac.compare_digest(found, wanted):
        await socket.close()
        raise PinMismatch(place.url, found)
