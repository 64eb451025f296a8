"""What a token is, or was: the generations of a device's tokens with their days, and which of them a shown token equals.

Pure: keys come with the question. Every comparison is in constant time and all are made, found or not, so that how long an
answer takes tells nothing of the token (T3).
"""

import hmac
import re
from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from .events import DeviceAbandoned, HandoffClosed, TokenAbandoned, TokenExpired, TokenRevoked, TokenRotated
from .history import NOTHING, Happened, World, after
from .listing import Issued
from .tokens import TOKEN_LENGTH, GatewayKey, Keyring

Fate: TypeAlias = Literal["current", "handed-over", "rotated", "compromised", "revoked", "expired", "removed", "abandoned"]


class Generation(Struct, frozen=True, gc=False):
    """One generation of a role's token: the event that began it, and the one that ended it first.

    One that is handed over was replaced, and is still accepted beside its successor.
    """

    role: str
    issue: str
    key: str
    born: Happened
    proof: str | None = None
    how: Fate = "current"
    ended: Happened | None = None


def generations(past: Iterable[Happened]) -> tuple[Generation, ...]:
    """Return every generation of a device's tokens in the order in which they began."""
    found: dict[_Name, Generation] = {}
    world, before = NOTHING, dict[_Name, _Known]()
    for one in past:
        world = after(world, one)
        now = dict(_known(world))
        for name, known in now.items():
            if name not in found:
                found[name] = Generation(*name, known.key, one, known.proof)
            if known.fate != found[name].how and found[name].ended is None:
                ended = one if known.fate in {"revoked", "expired"} else None
                found[name] = replace(found[name], how=known.fate, ended=ended)
        for name in before.keys() - now.keys():
            if found[name].ended is None:
                found[name] = replace(found[name], how=_end(one), ended=one)
        before = now
    return tuple(found.values())


_Name: TypeAlias = tuple[str, str]


class _Known(Struct, frozen=True, gc=False):
    key: str
    proof: str | None
    fate: Fate


def _known(world: World) -> Iterator[tuple[_Name, _Known]]:
    for token in world.device.grant.tokens if world.device.grant else ():
        fate: Fate = "revoked" if token.revoked_at is not None else "expired" if token.expired_at is not None else "current"
        yield (token.role, token.issue), _Known(token.key, token.proof, fate)
        if past := token.handoff:
            yield (token.role, past.issue), _Known(past.key, past.proof, "handed-over")


def _end(one: Happened) -> Fate:
    """Say how an event ended what it ended."""
    match one.event:
        case TokenRotated():
            return "compromised" if one.event.compromised else "rotated"
        case HandoffClosed():
            return "rotated"
        case TokenRevoked():
            return "revoked"
        case TokenExpired():
            return "expired"
        case DeviceAbandoned() | TokenAbandoned():
            return "abandoned"
        case _:
            return "removed"


def recognise(keyring: Keyring, device: str, held: Iterable[Generation], shown: str) -> Generation | None:
    """Return the generation of a device that a token is, the present one included."""
    found = None
    for one in held:
        if (key := keyring.find(one.key)) and _same(key, device, one.role, one.issue, one.proof, shown):
            found = one
    return found


def search(keyring: Keyring, issues: Iterable[Issued], shown: str) -> Issued | None:
    """Return the one of many generations that a token is; each is tried with every key there is. Not those made elsewhere."""
    keys, found = (keyring.current, *keyring.older), None
    for one in issues:
        for key in keys:
            if _same(key, one.device, one.role, one.issue, None, shown):
                found = one
    return found


def _same(key: GatewayKey, device: str, role: str, issue: str, proof: str | None, shown: str) -> bool:
    if proof is not None:
        return hmac.compare_digest(proof, key.proof("device", device, role, shown))
    return hmac.compare_digest(key.token(device, role, issue).encode(), shown.encode("utf-8", "surrogatepass"))


def formed(shown: str) -> bool:
    """Say whether a text has the form of a token: 43 characters of base64url."""
    return len(shown) == TOKEN_LENGTH and re.fullmatch(r"[A-Za-z0-9_-]*", shown) is not None
