"""Which addresses the gateway may contact of its own accord: such as the whole internet can reach, unless more was allowed.

A name is looked up for every attempt, each address that it gives is judged, and the one that is then dialled is one of these, so
that a name cannot mean one host when it is judged and another when it is called.
"""

import ipaddress
import socket
from typing import Final, TypeAlias

import anyio

Ip: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64: Final = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
# Public by their number, and yet the inside of a cloud: Azure's host agent, and the IETF's protocol assignments.
_INSIDE: Final = (ipaddress.ip_network("168.63.129.16/32"), ipaddress.ip_network("192.0.0.0/24"))


class NotOutside(Exception):
    """A host that may not be contacted, or that no address is known of."""


def outside(address: str) -> bool:
    """Say whether an address is one of the public internet: not private, loopback, link-local, shared, reserved or multicast.

    An IPv6 address that stands for an IPv4 one (mapped, 6to4, Teredo, NAT64) is what that one is.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return all(_public(one) for one in (ip, *_meant(ip)))


def _public(ip: Ip) -> bool:
    if isinstance(ip, ipaddress.IPv6Address) and (_meant(ip) or ip.is_site_local):
        return bool(_meant(ip))
    if any(ip in network for network in _INSIDE):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def _meant(ip: Ip) -> tuple[Ip, ...]:
    if isinstance(ip, ipaddress.IPv4Address):
        return ()
    found: list[Ip] = [one for one in (ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())) if one is not None]
    if any(ip in network for network in _NAT64):
        found.append(ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF))
    return tuple(found)


async def resolve(host: str, port: int, *, private_allowed: bool) -> str:
    """Return the address to dial for a host. Raises `NotOutside` where one of its addresses may not be contacted."""
    try:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NotOutside(f"its name is not known ({error.strerror or error})") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not addresses:
        raise NotOutside("its name has no address")
    if not private_allowed and not all(outside(address) for address in addresses):
        raise NotOutside("its address is not one of the public internet (gateway.hooks.allowPrivate)")
    return addresses[0]
