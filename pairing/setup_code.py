"""Setup codes as text: the address and the token that a device needs, in one string that a QR picture can carry (protocol §6.9).

It says which addresses may stand in one. It mints nothing and remembers nothing.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from .identity import b64url, unb64
from .refusals import Reason, Refused

MOST_CHARS: Final = 2_048
_SCHEMES: Final = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\Z")
# RFC 1918, RFC 3927 and RFC 4291 (link-local), RFC 4193 (unique local). The shared space of RFC 6598 is other people's too.
_PRIVATE: Final = tuple(
    ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fe80::/10", "fc00::/7")
)


class SetupCode(Struct, frozen=True, rename={"bootstrap_token": "bootstrapToken"}):
    """What a setup code holds. Its repr shows the address only."""

    url: str
    bootstrap_token: str

    def __repr__(self) -> str:
        return f"SetupCode({self.url!r}, …)"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("url", self.url), ("bootstrap_token", "…")]


def encode(url: str, token: str) -> str:
    """Return a setup code: base64url without padding of a JSON object."""
    return b64url(msgspec.json.encode(SetupCode(url, token)))


def decode(text: str) -> SetupCode | None:
    """Return what a setup code holds, None where it is none. Blanks around it, as copying leaves them, do not matter."""
    bare = text.strip()
    raw = unb64(bare) if len(bare) <= MOST_CHARS else None
    try:
        held = msgspec.json.decode(raw or b"", type=SetupCode)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return held if held.url and held.bootstrap_token.strip() else None


def address(text: str, scheme: str = "wss") -> str:
    """Return the address that goes into a code: `ws(s)://host[:port]`. Raises `Refused`, before a code exists (B8).

    Without a scheme it is taken as `scheme`. In plain text only this host itself and private addresses may be named: a code that
    travels in the clear through a public network is anybody's (protocol §6.9).
    """
    bare = text.strip()
    if bare and bare.isprintable() and "://" not in bare and not re.match(r"[a-z]+:(?!\d+(/|$))", bare.lower()):
        bare = f"{scheme}://{bare}"
    try:
        parts = urlsplit(bare)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise _refused("that is not a URL") from None
    plain = _SCHEMES.get(parts.scheme.lower())
    if plain is None or not _host(host) or not bare.isprintable() or set(bare) & set(" \\") or len(bare) > MOST_CHARS:
        raise _refused("that is not a URL")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment or port == 0:
        raise _refused("an address has no credentials, query or fragment")
    if plain == "ws" and not (loopback(host) or _private(host)):
        raise _refused("ws:// to another network would show the code to everybody on the way; use wss://")
    shown = f"[{host}]" if ":" in host else host
    return f"{plain}://{shown}" + (f":{port}" if port is not None else "")


def loopback(host: str) -> bool:
    """Say whether nobody but this host can answer there."""
    if host in {"localhost", ""}:
        return host == "localhost"
    found = _ip(host)
    return found is not None and found.is_loopback


def _refused(why: str) -> Refused:
    return Refused(Reason.ENROLMENT_ADDRESS, why=why)


def _host(host: str) -> bool:
    found = _ip(host)
    if found is not None:
        return not found.is_unspecified and not found.is_multicast
    return _NAME.match(host) is not None and not re.fullmatch(r"[0-9.]+|0x[0-9a-f.]+", host)


def _private(host: str) -> bool:
    found = _ip(host)
    return found is not None and any(found in network for network in _PRIVATE if network.version == found.version)


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(host)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
