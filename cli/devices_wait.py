"""`pairing devices wait`: end when a request is answered or something happens to a device, and say who did it."""

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from .options import Reach, reaching
from .running import answer
from .spans import SPAN
from .voice import Failure, Told, plain, remark

if TYPE_CHECKING:
    from .door import Door
    from .following import Place

_ENDINGS: Final = ("approved", "rejected", "expired", "superseded", "withdrawn")
# What is waited for, and the kinds of events that bring it about.
_GOALS: Final = {
    "approved": "request.approved",
    "rejected": "request.rejected",
    "paired": "device.paired",
    "removed": "device.removed",
    "requested": "request.opened",
}


_DEVICE_ID: Final = re.compile("[0-9a-f]{64}")


class Awaited(NamedTuple):
    """What to wait for, and where to begin: a request's end, or an event of a device. `over`: what has already come about."""

    device: str
    request: str | None
    goal: str
    start: "Place"
    over: dict[str, Any] | None = None


@click.command("wait", short_help="Wait until a request is answered or a device paired.")
@click.argument("subject", metavar="REQUEST|DEVICE")
@click.option("--for", "goal", type=click.Choice(tuple(_GOALS)), help="approved for a request, paired for a device unless given.")
@click.option("--within", type=SPAN, default="10m", show_default=True, metavar="TIME", help="How long to wait: 90s, 10m, 2h.")
@reaching
def wait(subject: str, goal: str | None, within: int, reach: Reach) -> None:
    """Wait until a REQUEST is answered, or until a DEVICE is paired, removed or asks for something, and say who did it.

    What is so already ends it at once. Exit code 0: it came about; 3: the request ended otherwise; 4: there is no such request
    or device; 1: the time ran out.
    """
    answer(lambda: _wait(reach, subject, goal, within), reach.as_json)


async def _wait(reach: Reach, subject: str, goal: str | None, within: int) -> Told:
    import anyio

    from .door import open_door

    async with open_door(reach, fallback=True) as door:
        awaited = await _find(door, subject.strip(), goal)
    if awaited.over is not None:
        return _told(awaited, awaited.over)
    what = f"request {awaited.request}" if awaited.request else f"device {awaited.device}"
    remark(f"Waiting until {plain(what, 128)} is {awaited.goal}")
    with anyio.move_on_after(within / 1000):
        return _told(awaited, await _happening(reach, awaited))
    raise Failure(
        1,
        "time-ran-out",
        f"{plain(what, 128)} was not {awaited.goal} in time",
        "See what is open: pairing devices list",
        details={"deviceId": awaited.device, "requestId": awaited.request, "for": awaited.goal},
    )


async def _find(door: "Door", subject: str, goal: str | None) -> Awaited:
    """Return what a text means: an open request by its id or the start of it, a device, or a request that has ended."""
    from pairing.client.errors import CallRefused
    from pairing.refusals import Reason, Refused

    from .following import Place
    from .naming import find_device, find_request

    page = await door.call("device.watch", {"limit": 1})
    start = Place(page["position"], page["hash"])
    request, held = await find_request(door, subject)
    entry = next((entry for entry in held.pending if entry.get("requestId") == request), None)
    if entry is not None:
        return Awaited(str(entry.get("deviceId")), request, _asked(goal, "approved"), start)
    try:
        found = await find_device(door, subject)
    except (Refused, CallRefused) as error:
        if error.reason is not Reason.UNKNOWN_DEVICE:
            raise
        if _DEVICE_ID.fullmatch(subject):
            # One that nobody has heard of yet may be waited for all the same.
            return Awaited(subject, None, goal or "paired", start)
        fate = await _fate(door, subject)
        return Awaited(str(fate.get("deviceId")), subject, _asked(goal, "approved"), start, fate)
    goal = goal or "paired"
    over = {"outcome": goal} if _is_so(goal, found.paired, found.pending) else None
    return Awaited(found.id, None, goal, start, over)


async def _fate(door: "Door", request: str) -> dict[str, Any]:
    from pairing.client.errors import CallRefused
    from pairing.refusals import Exit, Reason, Refused

    try:
        return await door.call("device.pair.find", {"requestId": request})
    except (Refused, CallRefused) as error:
        if error.reason is not Reason.UNKNOWN_REQUEST:
            raise
    message = f"no request and no device is called {plain(request)}"
    raise Failure(Exit.NOT_FOUND, "unknown-subject", message, "See which there are: pairing devices list")


def _asked(goal: str | None, usual: str) -> str:
    if goal in {None, "approved", "rejected"}:
        return goal or usual
    raise Failure(2, "usage", f"a request is approved or rejected, never {goal}", "Name the device instead of its request.")


def _is_so(goal: str, paired: object, pending: tuple[Any, ...]) -> bool:
    so = {"paired": paired is not None, "removed": paired is None and not pending, "requested": bool(pending)}
    return so.get(goal, False)


async def _happening(reach: Reach, awaited: Awaited) -> dict[str, Any]:
    """Return the event that ends the wait."""
    from .following import follow

    found: list[dict[str, Any]] = []

    def look(page: dict[str, Any]) -> bool:
        found.extend(event for event in page.get("events", ()) if _ends(awaited, event))
        return bool(found)

    await follow(reach, "device.watch", {"device": awaited.device}, awaited.start, look)
    return found[0]


def _ends(awaited: Awaited, event: dict[str, Any]) -> bool:
    family, _, ending = str(event.get("kind")).partition(".")
    if awaited.request is None:
        return event.get("kind") == _GOALS[awaited.goal]
    return family == "request" and ending in _ENDINGS and (event.get("event") or {}).get("request") == awaited.request


def _told(awaited: Awaited, end: dict[str, Any]) -> Told:
    from pairing.refusals import Exit

    from .devices_watch import line
    from .failures import fate

    outcome = str(end.get("outcome") or str(end.get("kind", "")).partition(".")[2])
    if "says" in end:
        text, position = line(end), end.get("position")
    elif awaited.request:
        text, position = f"Request {awaited.request}: {fate(end)}", end.get("position")
    else:
        text, position = f"Device {awaited.device} is {'asking' if outcome == 'requested' else outcome} already", None
    document = {"deviceId": awaited.device, "requestId": awaited.request, "outcome": outcome, "position": position, "event": end}
    if awaited.request is None or outcome == awaited.goal:
        return Told(document, text)
    later = (end.get("event") or {}).get("by") or end.get("supersededBy")
    hint = f"pairing devices wait {plain(later)}" if later else "pairing devices list"
    raise Failure(Exit.REFUSED, f"request-{outcome}", text, f"Next: {hint}", details=document)
