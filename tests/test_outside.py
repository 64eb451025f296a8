"""Which addresses webhooks may go to: a table of what attackers reach for, and names that change their meaning."""

import socket
from typing import Any

import anyio
import pytest

from pairing.outside import NotOutside, outside, resolve

INSIDE = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",  # a cloud's metadata
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",  # a cloud's host agent, public by its number
    "169.254.169.254",  # most clouds' metadata
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",  # a cloud's metadata
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:7f00:1::",
    "fc00::1",
    "fd00:ec2::254",  # a cloud's metadata
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "not an address",
    "",
]
OUTSIDE = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.32.0.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_inside_are_known_in_every_disguise(address: str) -> None:
    """Private, loopback, link-local, shared, reserved, multicast, metadata; mapped, translated and tunnelled ones alike."""
    assert not outside(address)


@pytest.mark.parametrize("address", OUTSIDE)
def test_addresses_of_the_internet_may_be_called(address: str) -> None:
    assert outside(address)


def _meaning(*addresses: str) -> Any:
    async def getaddrinfo(host: str, port: int, **more: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return getaddrinfo


@pytest.mark.parametrize("host", ["localhost", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "127.0.0.1", "::1"])
async def test_every_way_to_write_this_host_is_seen_through(host: str) -> None:
    """What counts is the address that comes of it, not how it was written."""
    with pytest.raises(NotOutside):
        await resolve(host, 80, private_allowed=False)


async def test_one_address_inside_among_several_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that means an inner host now and then is never called; the address judged is the one that is given back."""
    monkeypatch.setattr(anyio, "getaddrinfo", _meaning("93.184.216.34", "10.0.0.1"))
    with pytest.raises(NotOutside):
        await resolve("rebinding.example", 443, private_allowed=False)
    monkeypatch.setattr(anyio, "getaddrinfo", _meaning("93.184.216.34"))
    assert await resolve("rebinding.example", 443, private_allowed=False) == "93.184.216.34"
    monkeypatch.setattr(anyio, "getaddrinfo", _meaning("10.0.0.1"))
    assert await resolve("inner.example", 443, private_allowed=True) == "10.0.0.1"


async def test_a_name_that_nobody_knows_is_said_to_be_that(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(host: str, port: int, **more: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(anyio, "getaddrinfo", unknown)
    with pytest.raises(NotOutside, match="not known"):
        await resolve("nowhere.example", 443, private_allowed=False)
