"""Where a gateway is: its URL taken apart, and whether a secret may travel there.

Nothing is looked up: a name is never trusted for what it resolves to.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from msgspec import Struct

from .errors import BadAddress

_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
_PORTS = {"ws": 80, "wss": 443}
# RFC 1918, RFC 6598 (shared), RFC 3927 and RFC 4291 (link-local), RFC 4193 (unique local).
_PRIVATE = tuple(
    ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fe80::/10", "fc00::/7")
)


class Endpoint(Struct, frozen=True):
    """One gateway's address. `url` is ws:// or wss://; `loopback` holds for this host's own addresses and `localhost` alone."""

    url: str
    host: str
    port: int
    secure: bool

    @property
    def loopback(self) -> bool:
        """Whether nobody but this host can answer there."""
        address = _address(self.host)
        return self.host == "localhost" if address is None else address.is_loopback

    @property
    def gateway(self) -> str:
        """The name under which tokens of this gateway are kept: host and port, every loopback name being one."""
        host = "127.0.0.1" if self.loopback else self.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


def endpoint(text: str) -> Endpoint:
    """Take a URL apart: ws, wss, http or https, without credentials, query or fragment. Raises `BadAddress`."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        raise BadAddress("that is not a URL; a gateway's looks like ws://127.0.0.1:18789") from None
    scheme = _SCHEMES.get(parts.scheme.lower())
    if set("@?#") & set(text):
        raise BadAddress("a gateway's URL holds no credentials, query or fragment; give a secret with --token or --password")
    if scheme is None or not parts.hostname or not text.strip().isprintable() or " " in text.strip():
        raise BadAddress("that is not a URL; a gateway's looks like ws://127.0.0.1:18789")
    host = parts.hostname.lower()
    shown = f"[{host}]" if ":" in host else host
    at = port if port is not None else _PORTS[scheme]
    return Endpoint(f"{scheme}://{shown}:{at}{parts.path.rstrip('/')}", host, at, scheme == "wss")


def guard(place: Endpoint, *, allow_private: bool) -> None:
    """Refuse to talk in plain text to another host; `allow_private` lifts that for private addresses. Raises `BadAddress`."""
    private = _private(place.host)
    if place.secure or place.loopback or (allow_private and private):
        return
    text = f"{place.url} is another host, and ws:// would show every secret to everybody on the way"
    raise BadAddress(text, private=private)


def _private(host: str) -> bool:
    address = _address(host)
    return address is not None and any(address in network for network in _PRIVATE if network.version == address.version)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
