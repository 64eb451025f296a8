"""From what a person types to exactly one device or request. Several candidates are listed and nothing is changed (L14)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pairing.refusals import Exit

from .access import Entry, called, full, short
from .door import Door
from .voice import Failure, plain

_SHORTEST = 4


class Listing(NamedTuple):
    """An answer of `device.list`: open requests and paired devices at a position of the log, and when that was recorded."""

    position: int
    recorded_at: int | None
    pending: tuple[Entry, ...]
    paired: tuple[Entry, ...]
    closed: tuple[Entry, ...]
    voided: tuple[Entry, ...]
    refused: tuple[Entry, ...]
    locked: tuple[Entry, ...] = ()

    def device(self, id: object) -> Entry | None:
        """Return the paired device of an id."""
        return next((entry for entry in self.paired if entry.get("deviceId") == id), None)


class Named(NamedTuple):
    """One device: its id, what is approved and what it asks for, where there is either, and its ended requests."""

    id: str
    position: int
    recorded_at: int | None
    paired: Entry | None
    pending: tuple[Entry, ...]
    closed: tuple[Entry, ...]
    voided: tuple[Entry, ...]
    refused: tuple[Entry, ...]
    locked: tuple[Entry, ...] = ()

    @property
    def words(self) -> str:
        """The device's id, and what people call it."""
        entry = self.paired or (self.pending or self.locked or ({"deviceId": self.id},))[0]
        name = called(entry)
        return self.id if self.id.startswith(name) else f"{name} {self.id}"


async def listing(door: Door, device: str | None = None, at: Mapping[str, int] | None = None) -> Listing:
    """List devices and requests: all, or those of one device by id, prefix or label; of the past at a moment's params."""
    return _listing(await door.call("device.list", {**({"device": device} if device else {}), **(at or {})}))


def _listing(found: dict[str, Any]) -> Listing:
    def entries(key: str) -> tuple[Entry, ...]:
        held = found.get(key)
        return tuple(entry for entry in held if isinstance(entry, dict)) if isinstance(held, list) else ()

    position, recorded_at = found.get("position"), found.get("recordedAtMs")
    return Listing(
        position if isinstance(position, int) else 0,
        recorded_at if isinstance(recorded_at, int) else None,
        entries("pending"),
        entries("paired"),
        entries("closed"),
        entries("voided"),
        entries("refused"),
        entries("locked"),
    )


async def find_device(door: Door, name: str, at: Mapping[str, int] | None = None) -> Named:
    """Return the one device that a full id, a prefix of 4 characters or more, or a label names, now or at a moment.

    Raises `Failure` for a blank name, and whatever the door raises for none and for several.
    """
    name = name.strip()
    if not name:
        raise Failure(Exit.USAGE, "device-required", "a device is required", "See which there are: pairing devices list")
    found = await door.call("device.list", {"device": name, **(at or {})})
    held = _listing(found)
    told = found.get("deviceId") or next((entry.get("deviceId") for entry in (*held.paired, *held.pending, *held.locked)), name)
    paired = held.paired[0] if held.paired else None
    about = (held.closed, held.voided, held.refused, held.locked)
    return Named(str(told), held.position, held.recorded_at, paired, held.pending, *about)


async def find_request(door: Door, text: str) -> tuple[str, Listing]:
    """Return the full id of the open request that an id or its first characters name, and the list it was found in.

    An id that is not open is returned as it is: the methods know what became of it. Raises `Failure` for several.
    """
    text = text.strip()
    if not text:
        raise Failure(Exit.USAGE, "request-required", "a request id is required", "See what is open: pairing devices list")
    held = await listing(door)
    ids = {str(entry.get("requestId")): entry for entry in held.pending}
    if text in ids or len(text) < _SHORTEST:
        return text, held
    matches = [id for id in ids if id.startswith(text.lower())]
    if len(matches) > 1:
        lines = [f"  {plain(id)}  {called(ids[id])} ({short(ids[id])})" for id in matches]
        details = {"candidates": [{"requestId": id, "deviceId": full(ids[id])} for id in matches]}
        message = f"ambiguous request: {plain(text)} means {len(matches)} open requests"
        raise Failure(Exit.AMBIGUOUS, "ambiguous-request", message, "Give more of the id.", details=details, lines=lines)
    return matches[0] if matches else text, held
