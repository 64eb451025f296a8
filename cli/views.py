"""`pairing views`: whether the views say what the log says, and building them anew. The log itself is `pairing log`."""

from typing import TYPE_CHECKING, Any

import click

from .options import Reach, reaching
from .running import answer
from .voice import Failure, Told, plain

if TYPE_CHECKING:
    from .door import Door

# Reading all of a long log takes its time, whichever door it is read through.
_WITHIN_MS = 3_600_000


@click.group("views", invoke_without_command=True)
@click.pass_context
def views(context: click.Context) -> None:
    """Compare the views with the log, and build them anew.

    Views are what lists are read from. They can be lost without harm, and no decision rests on them.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@views.command("verify")
@reaching
def verify(reach: Reach) -> None:
    """Build the views anew beside those in use, and compare every row. Exit code 7 where any differs."""
    answer(lambda: _verify(reach), reach.as_json)


@views.command("rebuild")
@reaching
def rebuild(reach: Reach) -> None:
    """Drop the views and build them from the log. What was forgotten stays forgotten."""
    answer(lambda: _rebuild(reach), reach.as_json)


async def _verify(reach: Reach) -> Told:
    from .door import open_door

    async with open_door(reach) as door:
        found = await _call(door, "views.verify", "Comparing")
    wrong, position = found.get("differences", ()), plain(found.get("position", "?"))
    if not wrong:
        return Told(found, f"The views say what the log says, up to position {position}.")
    lines = [
        f"  {plain(table.get('table', '?'))}: {plain(table.get('count', '?'))} rows differ; {_first(table)}" for table in wrong
    ]
    message = f"the views differ from the log in {len(wrong)} tables at position {position}"
    raise Failure(7, "views-differ", message, "Build them anew: pairing views rebuild", details=found, lines=lines)


def _first(table: Any) -> str:
    return "; ".join(plain(text, 120) for text in table.get("first", ()))


async def _rebuild(reach: Reach) -> Told:
    from .door import open_door

    async with open_door(reach) as door:
        found = await _call(door, "views.rebuild", "Rebuilding")
    return Told(found, f"Built the views anew, up to position {plain(found.get('position', '?'))}.")


async def _call(door: "Door", method: str, doing: str) -> dict[str, Any]:
    """Call a method that takes long; on the log itself its progress can be shown."""
    from pairing.authority import ADMIN

    from .door import LogDoor
    from .log_door import Progress

    await door.ask_for((ADMIN,))
    if isinstance(door, LogDoor):
        door.show(Progress(doing))
    return await door.call(method, {}, within_ms=_WITHIN_MS)
