"""Where a connection comes from, and which pages may open one: TCP peer, forwarded headers, Origin (protocol §4.2, §5.3, §5.9).

Pure. A header is a claim: it can take locality away, never give it (N6), and it names an address only where a configured proxy
vouches for it, read from the right (N8).
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, Literal, Protocol, TypeAlias

from msgspec import Struct

IP: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

FORWARDED: Final = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Real-IP")
NOT_ALLOWED: Final = "origin not allowed"
INVALID: Final = "origin missing or invalid"

_MAPPED_BITS: Final = 96
_HOP: Final = re.compile(r"\[([^\[\]]+)\](?::[0-9]{1,5})?|([^:\[\]]+):[0-9]{1,5}|([^\[\]]+)")
_PAGE: Final = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443", "ws": "80", "wss": "443"}


class Headers(Protocol):
    """Header fields by name, ignoring case; a name may have several values, in the order received."""

    def get_all(self, name: str, /) -> Sequence[str]:
        """Return every value of a field."""


class Networks(Struct, frozen=True):
    """Addresses and CIDR blocks. IPv4-mapped blocks are held as IPv4."""

    blocks: tuple[Network, ...] = ()

    def __contains__(self, ip: IP) -> bool:
        return any(ip in block for block in self.blocks)


TrustedProxies: TypeAlias = Networks


class Origin(Struct, frozen=True, kw_only=True):
    """What is believed of a connection's address.

    `client_ip` is whom to count and `reported_ip` what to show a reviewer, None where unknown; `forwarded` says that any
    forwarded header was there, `direct` that `client_ip` is the TCP peer itself and nobody stands between.
    """

    client_ip: str | None
    reported_ip: str | None
    local: bool
    forwarded: bool
    trusted_proxy: bool
    direct: bool
    via_loopback_proxy: bool


def locate(peer_host: str, headers: Headers, trusted: TrustedProxies, allow_real_ip: bool) -> Origin:
    """Judge where a connection comes from; never raises. A peer host that is no IP address is neither local nor known."""
    forwarded = any(value.strip() for name in FORWARDED for value in headers.get_all(name))
    return _judge(peer_host, headers, trusted, allow_real_ip) if forwarded else _unforwarded(peer_host, trusted)


@lru_cache(maxsize=1024)
def _unforwarded(peer_host: str, trusted: TrustedProxies) -> Origin:
    return _judge(peer_host, None, trusted, allow_real_ip=False)


def _judge(peer_host: str, forwarding: Headers | None, trusted: TrustedProxies, allow_real_ip: bool) -> Origin:
    peer, forwarded = parse_ip(peer_host), forwarding is not None
    local = peer is not None and peer.is_loopback and not forwarded
    vouched = peer is not None and peer in trusted
    # A trusted proxy that names nobody must not be taken for its clients; a local peer has none.
    client = peer
    if vouched and not local:
        client = None if forwarding is None else _claimed(forwarding, trusted, allow_real_ip)
    known = client is not None and not client.is_loopback and (vouched or not forwarded)
    return Origin(
        client_ip=None if client is None else str(client),
        reported_ip=str(client) if known else None,
        local=local,
        forwarded=forwarded,
        trusted_proxy=vouched,
        direct=peer is not None and not forwarded and (local or not vouched),
        via_loopback_proxy=vouched and not local and peer is not None and peer.is_loopback,
    )


def believed(origin: Origin) -> Literal["local", "direct", "proxied"]:
    """Return the word for an event's meta."""
    if origin.local:
        return "local"
    return "proxied" if origin.forwarded or origin.trusted_proxy else "direct"


def cidr_allows(origin: Origin, cidrs: Networks) -> bool:
    """Say whether the address itself allows silent approval (protocol §5.3): seen directly, or vouched for from off this host."""
    if origin.reported_ip is None or origin.via_loopback_proxy:
        return False
    ip = parse_ip(origin.reported_ip)
    return ip is not None and ip in cidrs


@lru_cache(maxsize=1024)
def neighbourhood(ip: str | None) -> str:
    """Return the name under which an address is counted: an IPv6 /64 as one, because one host has all of it."""
    address = parse_ip(ip or "")
    if address is None:
        return "unknown"
    if address.is_loopback:
        return "loopback"
    return str(address) if isinstance(address, IPv4Address) else str(IPv6Network((int(address), 64), strict=False))


def parse_ip(text: str) -> IP | None:
    """Read an address; IPv4-mapped IPv6 becomes IPv4, a zone is dropped. None where it is none."""
    try:
        ip = ip_address(text.strip())
    except ValueError:
        return None
    if isinstance(ip, IPv4Address):
        return ip
    return ip.ipv4_mapped or IPv6Address(int(ip))


def origin_verdict(
    origin_header: str | None,
    host_header: str | None,
    local: bool,
    allowed: Iterable[str],
    host_fallback: bool,
    required: bool,
) -> str | None:
    """Judge the page that opened a connection (protocol §5.9); None where it may, else what is wrong.

    `required` says that the client is of a kind that always has a page. Several Origin lines, joined by a comma, are invalid.
    """
    if origin_header is None:
        return INVALID if required else None
    page = _page(origin_header)
    if page is None:
        return INVALID
    listed = {entry.strip().lower() for entry in allowed}
    if "*" in listed or page in {_page(entry) or entry for entry in listed}:
        return None
    scheme, _, authority = page.partition("://")
    if host_fallback and host_header is not None and _page(f"{scheme}://{host_header.strip()}") == page:
        return None
    return None if local and _loopback_name(authority) else NOT_ALLOWED


def _claimed(headers: Headers, trusted: TrustedProxies, allow_real_ip: bool) -> IP | None:
    entries = [entry.strip() for line in headers.get_all("X-Forwarded-For") for entry in line.split(",")]
    for entry in reversed([entry for entry in entries if entry]):
        hop = _hop(entry)
        # Whatever stands left of a hop nobody can read was written by nobody known.
        if hop is None:
            return None
        if not _passes_on(hop, trusted):
            return hop
    return _real_ip(headers, trusted) if allow_real_ip else None


def _real_ip(headers: Headers, trusted: TrustedProxies) -> IP | None:
    values = [value for value in headers.get_all("X-Real-IP") if value.strip()]
    ip = _hop(values[0].strip()) if len(values) == 1 else None
    return None if ip is None or _passes_on(ip, trusted) else ip


def _passes_on(hop: IP, trusted: TrustedProxies) -> bool:
    return hop.is_loopback or hop in trusted


def _hop(entry: str) -> IP | None:
    found = _HOP.fullmatch(entry)
    return parse_ip(found[1] or found[2] or found[3]) if found else None


def _page(text: str) -> str | None:
    # Lower-casing folds some letters from elsewhere into ASCII, so those are refused first.
    found = _PAGE.fullmatch(text.strip().lower()) if text.isascii() else None
    if found is None:
        return None
    scheme, host, port = found.groups()
    return f"{scheme}://{host}" + (f":{port}" if port and port != _DEFAULT_PORTS.get(scheme) else "")


def _loopback_name(authority: str) -> bool:
    host = authority.rpartition("]")[0].lstrip("[") if authority.startswith("[") else authority.partition(":")[0]
    ip = parse_ip(host)
    return host == "localhost" or (ip is not None and ip.is_loopback)
