"""`pairing blast`: all that follows from a device, an address, a code or an actor, and one command that shuts it out."""

from collections.abc import Mapping
from typing import Any

import click

from .ahead import SpanType
from .options import Reach, Words, reaching, recorded
from .running import answer
from .voice import Told, plain, table

_SHOWN = 200
_HOW = {
    "root": "asked about",
    "asked-from": "asked from there",
    "paired": "approved",
    "upgraded": "given more",
    "brought": "imported",
    "minted": "minted",
    "redeemed": "let in by the code",
    "allowed": "allowed to run",
    "restored": "taken back",
    "added": "added",
}


@click.command("blast", short_help="Show all that follows from a device, an address, a code or an actor.")
@click.argument("what")
@click.option("--lock", is_flag=True, help="Lock every device that was found and still stands, and take its codes back.")
@click.option("--for", "span", type=SpanType(), metavar="SPAN", help="With --lock: how long; else until unlocked.")
@click.option("--yes", is_flag=True, help="With --lock: do it; without it the list is shown and nothing is done.")
@recorded
@reaching
def blast(what: str, lock: bool, span: int | None, yes: bool, words: Words, reach: Reach) -> None:
    """Show every device, code, node and webhook that got in because of WHAT, and what followed from those, by cause.

    WHAT is a device (id, prefix or label), an IP address, a setup code's id, or an actor as the audit names it: local:1000,
    shared-secret. With --lock --yes all of it is shut out: devices are locked, as `pairing devices unlock` can take back, and
    codes are void for good.
    """
    if (yes or span) and not lock:
        raise click.UsageError("--yes and --for go with --lock.")
    answer(lambda: _blast(reach, what, lock, span, yes, words), reach.as_json)


async def _blast(reach: Reach, what: str, lock: bool, span: int | None, yes: bool, words: Words) -> Told:
    from pairing.authority import ADMIN

    from .door import open_door

    async with open_door(reach) as door:
        if lock:
            await door.ask_for((ADMIN,))
        result = await door.call("blast.find", {"what": what})
        reached = [one for one in result.get("reached") or () if isinstance(one, dict)]
        meant = [one for one in reached if _shut(one)]
        done = await _lock(door, meant, span, words) if lock and yes else []
    shut_out = {(one["family"], one["id"]) for one in done if one["why"] is None}
    result = {**result, "reached": [_now(one, shut_out) for one in reached]}
    text = _told(result["reached"], bool(result.get("more")))
    if done:
        refused = [one for one in done if one["why"]]
        said = [f"  {one['family']} {plain(one['id'])[:12]}: {plain(one['why'], 300)}" for one in refused]
        shut = f"Shut out {len(done) - len(refused)} of {len(done)}."
        return Told({**result, "done": done}, "\n".join((text, "", shut, *said)), (), 3 if refused else 0)
    if not meant:
        return Told(result, text, ("Nothing of it still stands.",))
    again = f"pairing blast {plain(what)} --lock --yes --reason TEXT"
    note = f"{'Nothing was done. ' if lock else ''}To shut out the {len(meant)} that still stand: {again}"
    return Told(result, text, (note,), 1 if lock else 0)


def _shut(one: Mapping[str, Any]) -> bool:
    return bool(one.get("standing")) and not one.get("locked") and one.get("family") in {"device", "code"}


def _now(one: dict[str, Any], shut_out: set[tuple[str, str]]) -> dict[str, Any]:
    """Return one line as it is after the locking; asked again, a caller that shut itself out would get no answer."""
    if (one.get("family"), one.get("id")) not in shut_out:
        return one
    return {**one, "standing": False} if one.get("family") == "code" else {**one, "locked": True}


async def _lock(door: Any, meant: list[dict[str, Any]], span: int | None, words: Words) -> list[dict[str, Any]]:
    """Shut out one after another, the furthest first, and whoever does it last; what is refused is told and the rest goes on."""
    from pairing.client.errors import CallRefused
    from pairing.refusals import Refused

    given = {key: value for key, value in words.items() if value is not None}
    done = []
    for one in sorted(meant, key=lambda one: (one.get("id") == door.own, -int(one.get("depth") or 0))):
        code = one.get("family") == "code"
        params = {"enrolmentId": one["id"]} if code else {"deviceId": one["id"], **({"forMs": span} if span else {})}
        why = None
        try:
            await door.call("enroll.revoke" if code else "device.lock", {**params, **given})
        except (CallRefused, Refused) as no:
            why = str(no)
        done.append({"family": one["family"], "id": one["id"], "why": why})
    return done


def _told(reached: list[dict[str, Any]], more: bool) -> str:
    rows = []
    for one in reached[:_SHOWN]:
        id = plain(one.get("id", "?"))
        rows.append(
            (
                "  " * int(one.get("depth") or 0) + f"{one.get('family')} {id if one.get('how') == 'root' else id[:12]}",
                plain(one.get("name") or "", 40),
                _HOW.get(str(one.get("how")), "?"),
                plain(one.get("because") or "")[:12],
                str(one.get("position") or ""),
                _state(one),
            )
        )
    drawn = table(("What", "Name", "How", "Because of", "Position", "Now"), rows)
    left = f"\nand {len(reached) - _SHOWN} more: see --json" if len(reached) > _SHOWN else ""
    return drawn + left + ("\nThere is more than was looked through." if more else "")


def _state(one: Mapping[str, Any]) -> str:
    if one.get("locked"):
        return "locked"
    if one.get("family") in {"address", "actor"}:
        return ""
    return "stands" if one.get("standing") else "ended"
