"""From a name to exactly one device, for every method that takes one. Several that it can mean are listed, and none is picked."""

from typing import Any

from .refusals import Reason, Refused
from .service import Call


async def find(call: Call[Any], name: str, at: int | None = None) -> str:
    """Return the id of the device that a full id, a prefix or a label names. Raises `Refused` for none and for several (L14)."""
    own = call.caller.own
    matches = [m for m in await call.service.views.matches(name.strip(), at=at) if own in {None, m.device}]
    if len(matches) == 1:
        return matches[0].device
    if not matches:
        raise Refused(Reason.UNKNOWN_DEVICE)
    candidates = [{"deviceId": m.device, "label": m.label, "displayName": m.name, "status": m.status} for m in matches]
    raise Refused(Reason.AMBIGUOUS_DEVICE, name=name, count=len(matches), details={"candidates": candidates})
