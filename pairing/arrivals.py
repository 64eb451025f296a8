"""What a connection may have been like, from the event that it left: the log does not hold all that the door looked at.

Pure. The likeliest comes first; `unsaid` names what a guess takes for granted where another one would not. It decides nothing.
"""

from collections.abc import Iterator
from itertools import product
from typing import Literal, TypeAlias

from msgspec import Struct

from .device import Device
from .events import RequestOpened, RequestRefreshed
from .gateway.address import Origin
from .gateway.silence import Arrival
from .history import Happened
from .verdict import Method

Unsaid: TypeAlias = Literal["page", "credential", "proxy", "scopes", "own-scopes", "contact"]


class Guess(Struct, frozen=True):
    """A connection as it may have been. `coded`: it showed a setup code, with which nothing else is silent."""

    arrival: Arrival
    coded: bool
    said: tuple[tuple[Unsaid, bool], ...]

    def against(self, other: "Guess") -> tuple[Unsaid, ...]:
        """Name what this guess takes to be otherwise than another one."""
        return tuple(name for (name, mine), (_, theirs) in zip(self.said, other.said, strict=True) if mine is not theirs)


def guesses(state: Device, one: Happened, event: RequestOpened | RequestRefreshed) -> Iterator[Guess]:
    """Yield the connections that can have left an event, the likeliest first; `state` is the device's before it.

    Without the origin in its meta nobody knows where it came from, and there is none.
    """
    pending, place = state.pending, one.meta.origin
    if place not in {"local", "direct", "proxied"} or (isinstance(event, RequestRefreshed) and pending is None):
        return
    asked = _asked(state, event)
    address = one.personal.address if one.personal else None
    paired = state.grant is not None
    hidden = (False, True) if place == "proxied" else (False,)
    coded = (False, True) if event.code is not None else (False,)
    for code, page, token, behind, (role, scopes) in product(coded, (False, True), (False, True)[: 1 + paired], hidden, asked):
        method: Method = "bootstrap-token" if code else "device-token" if token else "token"
        origin = Origin(
            client_ip=address,
            reported_ip=address,
            local=place == "local",
            forwarded=place == "proxied",
            trusted_proxy=place == "proxied",
            direct=place != "proxied",
            via_loopback_proxy=behind,
        )
        arrival = Arrival(
            origin=origin,
            page=page,
            role=role,
            scopes=scopes,
            client_id=event.client_id or "",
            client_mode=event.client_mode or "",
            method=method,
        )
        said: tuple[tuple[Unsaid, bool], ...] = (
            ("page", page),
            ("credential", token or code),
            ("proxy", behind),
            ("scopes", (role, scopes) != asked[0]),
        )
        yield Guess(arrival, code, said)


def _asked(state: Device, event: RequestOpened | RequestRefreshed) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return for which role, and which scopes, it can have asked: a request tells only what all asked that are merged in it.

    One that was refreshed was asked for at most what it already was; one that takes another's place at least for what is new.
    """
    pending = state.pending
    if isinstance(event, RequestRefreshed):
        roles = (pending.role, *(role for role in pending.roles if role != pending.role)) if pending else ()
        scopes = tuple(dict.fromkeys((pending.scopes, ()))) if pending else ()
        return tuple(product(roles, scopes))
    if event.replaces is None or pending is None:
        return ((event.role, event.scopes),)
    new = tuple(scope for scope in event.scopes if scope not in pending.scopes)
    return tuple((event.role, scopes) for scopes in dict.fromkeys((new, event.scopes)))
