"""`pairing devices prune`: clear out devices nobody uses, by a plan that is written to a file, read by a person, and applied."""

import json
import os
from pathlib import Path
from typing import Any

import click

from .ahead import SpanType
from .options import Reach, Words, reaching, recorded
from .running import answer
from .voice import Failure, Told, age, clock, duration, moment, plain, table

_KIND = "pairing-prune-plan"
_AT_ONCE = 500


@click.command("prune", short_help="Remove devices that nobody uses, by a plan to review.")
@click.option("--idle", type=SpanType(), metavar="SPAN", help="Plan for the devices not used for so long: 90d.")
@click.option("--plan", "to", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write the plan here.")
@click.option(
    "--apply",
    "plan",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Remove what this plan says; lines may have been taken out of it.",
)
@recorded
@reaching
def prune(idle: int | None, to: Path | None, plan: Path | None, words: Words, reach: Reach) -> None:
    """Remove devices that nobody uses, in two steps: --idle SPAN --plan FILE writes what would go, --apply FILE removes it.

    A line whose device was used or has changed since the plan was made is refused, and the others are removed; the exit code is
    then 3.
    """
    if plan is not None and idle is None and to is None:
        answer(lambda: _apply(reach, plan, words), reach.as_json)
    elif idle is not None and to is not None and plan is None:
        answer(lambda: _plan(reach, idle, to), reach.as_json)
    else:
        raise click.UsageError("Give --idle SPAN and --plan FILE to make a plan, or --apply FILE to carry one out.")


async def _plan(reach: Reach, idle: int, to: Path) -> Told:
    from .access import called, short
    from .door import open_door

    _free(to)
    lines: list[Any] = []
    async with open_door(reach) as door:
        found = await door.call("device.prune.plan", {"idleMs": idle})
        head = {key: found.get(key) for key in ("position", "madeAtMs", "idleMs", "knownSinceMs")}
        lines += found.get("lines") or []
        while found.get("more") and found.get("lines"):
            found = await door.call("device.prune.plan", {"idleMs": idle, "after": lines[-1]["deviceId"]})
            lines += found.get("lines") or []
    document = {"kind": _KIND, "version": 1, **head, "lines": lines}
    since = head.get("knownSinceMs")
    note = f"Uses are known since {moment(since)}; what was used before counts as used then." if isinstance(since, int) else ""
    if not lines:
        return Told(document, f"No device has been unused for {duration(idle)}; nothing is written.", (note,))
    _write(to, document)
    now = clock()
    rows = [(short(line), called(line), age(line.get("lastSeenAtMs"), now)) for line in lines]
    listed = table(("Id", "Device", "Last used"), rows)
    said = f"{listed}\n\n{len(lines)} to remove, written to {plain(to, 200)}; none is removed yet."
    return Told(document, f"{said}\nReview it, then: pairing devices prune --apply {plain(to, 200)}", (note,))


def _free(to: Path) -> None:
    if to.exists():
        raise Failure(2, "file-exists", f"{plain(to, 200)} exists already", "Give another name, or remove it first.")


def _write(to: Path, document: dict[str, Any]) -> None:
    handle = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(json.dumps(document, indent=2) + "\n")


async def _apply(reach: Reach, plan: Path, words: Words) -> Told:
    from pairing.authority import ADMIN
    from pairing.refusals import Exit

    from .door import open_door
    from .receipts import params

    lines = _read(plan)
    removed: list[Any] = []
    refused: list[Any] = []
    more: dict[str, Any] = {}
    async with open_door(reach) as door:
        await door.ask_for((ADMIN,))
        for start in range(0, len(lines), _AT_ONCE):
            found = await door.call("device.prune.apply", params(words, lines=lines[start : start + _AT_ONCE], **more))
            removed += found.get("removed") or []
            refused += found.get("refused") or []
            more = {"cause": found["cause"]} if found.get("cause") else {}
    document = {"removed": removed, "refused": refused, **more}
    said = f"Removed {len(removed)} of {len(lines)}"
    if more:
        said += f"; all of them by the cause at position {more['cause']}"
    if refused:
        rows = [(plain(entry.get("deviceId", "?"))[:12], plain(entry.get("message", "?"), 80)) for entry in refused]
        return Told(document, f"{said}\n\nNot removed ({len(refused)})\n\n{table(('Id', 'Why'), rows)}", exit=Exit.REFUSED)
    return Told(document, said)


def _read(plan: Path) -> list[dict[str, Any]]:
    """Return the lines of a plan. Raises `Failure` for what is none: nothing is removed by a file that cannot be read."""

    def bad(why: str) -> Failure:
        hint = "Make a plan: pairing devices prune --idle 90d --plan FILE"
        return Failure(2, "bad-plan", f"{plain(plan, 200)} is no plan: {why}", hint)

    try:
        found = json.loads(plan.read_text(encoding="utf-8"))
    except (ValueError, UnicodeError) as error:
        raise bad(f"it is not JSON ({plain(error)})") from None
    if not isinstance(found, dict) or found.get("kind") != _KIND or found.get("version") != 1:
        raise bad(f'it does not say "kind": "{_KIND}", "version": 1')
    lines = found.get("lines")
    if not isinstance(lines, list) or not lines or not all(isinstance(line, dict) and line.get("deviceId") for line in lines):
        raise bad("it has no lines, or one of them names no device")
    ids = [line["deviceId"] for line in lines]
    if len(set(ids)) != len(ids):
        raise bad("a device is named twice")
    return list(lines)
