"""Where devices reach the gateway, as far as it can know: what the settings say, else the address that it listens on.

Setup codes name it. It opens one datagram socket and sends nothing.
"""

import socket
from contextlib import closing

from msgspec import Struct

from .refusals import Reason, Refused
from .setup_code import address, loopback


class Reach(Struct, frozen=True):
    """What the settings say of it: the address that an operator gave, what it listens on, and by which secret one logs in."""

    public_url: str | None = None
    host: str = "127.0.0.1"
    port: int = 18_789
    secure: bool = False
    auth: str = "token"


def default_address(reach: Reach) -> tuple[str, str]:
    """Return the address that goes into a setup code, and where it is from. Raises `Refused` where only this host gets there."""
    if reach.public_url is not None:
        return address(reach.public_url), "gateway.publicUrl"
    if loopback(reach.host):
        why = "the gateway listens on this host's own address alone, where no other device gets to it"
        raise Refused(Reason.ENROLMENT_ADDRESS, why=why)
    host = lan_address() if reach.host in {"0.0.0.0", "::"} else reach.host  # noqa: S104
    if host is None:
        raise Refused(Reason.ENROLMENT_ADDRESS, why="this host has no address in a network")
    shown = f"[{host}]" if ":" in host else host
    return address(f"{'wss' if reach.secure else 'ws'}://{shown}:{reach.port}"), "gateway.bind"


def lan_address() -> str | None:
    """Return this host's address towards other networks, None where it has none. Nothing is sent."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            # TEST-NET-1 (RFC 5737): routed like any other place, and nobody's.
            probe.connect(("192.0.2.1", 9))
            found = str(probe.getsockname()[0])
        except OSError:
            return None
    return None if loopback(found) or found == "0.0.0.0" else found  # noqa: S104
