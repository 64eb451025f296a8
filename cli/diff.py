"""`pairing diff`: who gained and lost what between two moments, by which events and by whom."""

from collections.abc import Mapping
from typing import Any

import click

from .history import fact, line
from .moments import MOMENT, Params
from .options import Reach, patience, reaching
from .running import answer
from .voice import Told, moment, plain

_PAGE = 500
_MOST = 1_000


@click.command("diff", short_help="Show who gained and lost what between two moments.")
@click.argument("start", type=MOMENT, metavar="A")
@click.argument("end", type=MOMENT, required=False, metavar="[B]")
@click.option("--device", metavar="DEVICE", help="Of this device alone: an id, the start of it, or a label.")
@click.option("--most", type=click.IntRange(1, 100_000), default=_MOST, show_default=True, help="How many devices at most.")
@reaching
def diff(start: Params, end: Params | None, device: str | None, most: int, reach: Reach) -> None:
    """Show who gained and lost what between the moments A and B: positions or times; without B, since A.

    What came and went again in between is no difference: `pairing history` tells it.
    """
    answer(lambda: _diff(reach, start, end, device, most), reach.as_json)


async def _diff(reach: Reach, start: Params, end: Params | None, device: str | None, most: int) -> Told:
    from .door import open_door

    devices: list[dict[str, Any]] = []
    asked: dict[str, Any] = {**_named("from", start), **_named("to", end), **({"device": device} if device else {})}
    async with open_door(reach, fallback=True) as door:
        while True:
            found = await door.call(
                "history.diff", {**asked, "limit": min(_PAGE, most - len(devices))}, within_ms=patience(reach)
            )
            devices += found.get("devices", ())
            more = found.get("next")
            if more is None or len(devices) >= most:
                break
            # The pages of one answer are of the same two moments.
            asked = {"from": found["from"], "to": found["to"], "cursor": more}
    document = {**found, "devices": devices, "more": more is not None}
    document.pop("next", None)
    notes = ("There are more devices: --most shows more of them.",) if more is not None else ()
    return Told(document, _text(document), notes)


def _named(name: str, when: Params | None) -> dict[str, int]:
    return {name + key.removeprefix("at"): value for key, value in (when or {}).items()}


def _text(found: Mapping[str, Any]) -> str:
    span = f"From position {_place(found, 'from')} to {_place(found, 'to')}."
    blocks = [_device(one) for one in found["devices"]]
    return "\n\n".join((*blocks, span)) if blocks else f"Nobody gained or lost anything.\n\n{span}"


def _place(found: Mapping[str, Any], name: str) -> str:
    at = found.get(f"{name}Ms")
    return plain(found.get(name, "?")) + (f" ({moment(at)})" if isinstance(at, int) else "")


def _device(one: Mapping[str, Any]) -> str:
    name, device = plain(one.get("name") or ""), plain(one.get("deviceId", "?"), 128)
    lines = [f"{name} ({device})" if name else device]
    for sign, key in (("-", "lost"), ("+", "gained")):
        for change in one.get(key, ()):
            lines += [f"  {sign} {fact(change)}", f"    {line(change.get('by', {}))}"]
    return "\n".join(lines)
