"""`pairing devices due`: which tokens expire when. Reads only."""

from typing import Any

import click

from .ahead import SpanType
from .options import Reach, reaching
from .running import answer
from .voice import Told, clock, duration, moment, plain, table


@click.command("due", short_help="Show which tokens expire soon.")
@click.option("--within", type=SpanType(), default="14d", show_default=True, metavar="SPAN", help="How far ahead to look.")
@reaching
def due(within: int, reach: Reach) -> None:
    """Show which tokens expire soon, the next first: those with a lifetime, and those that nobody uses.

    A new approval or `pairing devices rotate` gives a fresh one.
    """
    answer(lambda: _due(reach, within), reach.as_json)


async def _due(reach: Reach, within: int) -> Told:
    from .access import called, short
    from .door import open_door

    async with open_door(reach, fallback=True) as door:
        found = await door.call("device.due", {"withinMs": within})
    rows: list[Any] = found.get("due") or []
    if not rows:
        return Told(found, f"No token expires within {duration(within)}.")
    now, lines = clock(), []
    for entry in rows:
        end, name = entry.get("expiresAtMs"), called(entry)
        when = (moment(end), duration(end - now)) if isinstance(end, int) else ("?", "?")
        why = "if nobody uses it" if entry.get("how") == "idle" else "end of its lifetime"
        lines.append((short(entry), "" if name == short(entry) else name, plain(entry.get("role", "?")), *when, why))
    return Told(found, table(("Id", "Device", "Role", "Expires", "In", "Why"), lines))
