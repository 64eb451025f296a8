"""`pairing devices watch`: what happens to devices, in sentences, as it is recorded."""

import json
from typing import Any

import click

from .options import Reach, reaching
from .voice import moment, plain, remark


@click.command("watch", short_help="Show what happens to devices, as it happens.")
@click.argument("device", required=False)
@click.option(
    "--from",
    "start",
    type=click.IntRange(0, 2**53),
    metavar="POSITION",
    help="Begin with what was recorded after this position (0: from the beginning); the present end unless given.",
)
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after so many events.")
@reaching
def watch(device: str | None, start: int | None, count: int | None, reach: Reach) -> None:
    """Show every event about devices, nodes and setup codes as it is recorded, or those of one DEVICE, until Ctrl-C.

    Each line begins with the event's position. A gateway that restarts is found again, and nothing is missed or shown twice;
    where it ends, the command to go on with is said. With --json each event is one line of JSON, and a failure the last one.
    """
    from .running import run

    reached = [start]
    try:
        run(lambda: _watch(reach, device, start, count, reached))
    except KeyboardInterrupt:
        if reached[0] is not None:
            remark(f"Go on with: pairing devices watch --from {reached[0]}")
        raise


async def _watch(reach: Reach, device: str | None, start: int | None, count: int | None, reached: list[int | None]) -> None:
    from .door import open_door
    from .following import Place, follow
    from .naming import find_device

    params: dict[str, Any] = {"limit": min(count or 200, 200)}
    if device is not None:
        async with open_door(reach, fallback=True) as door:
            params["device"] = (await find_device(door, device)).id
    told = 0

    def tell(page: dict[str, Any]) -> bool:
        nonlocal told
        if reached[0] is None:
            remark(f"Watching from position {page['position']} on")
        for event in page.get("events", ()):
            click.echo(json.dumps(event) if reach.as_json else line(event))
            reached[0], told = event.get("position"), told + 1
            if told == count:
                return True
        reached[0] = page["position"]
        return False

    await follow(reach, "device.watch", params, Place(start), tell)


def line(event: dict[str, Any]) -> str:
    """Return an event on one line: position, time, what happened."""
    at = event.get("recordedAtMs")
    when = moment(at) if isinstance(at, int) else "at an unknown time"
    said = f"#{plain(event.get('position', '?'))}  {when}  {plain(event.get('says') or event.get('kind', '?'), 400)}"
    return f"{said} — {plain(event['reason'], 200)}" if event.get("reason") else said
