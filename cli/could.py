"""`pairing could`: whether a device could use a scope, now or at a moment, and the events that prove it."""

from collections.abc import Mapping
from typing import Any

import click

from .history import line
from .moments import Params, as_of, at_option
from .options import Reach, reaching
from .running import answer
from .voice import Told, fields, plain


@click.command("could", short_help="Say whether a device could do something, and prove it.")
@click.argument("device")
@click.argument("role")
@click.argument("scope", required=False, metavar="[SCOPE]")
@at_option
@reaching
def could(device: str, role: str, scope: str | None, at: Params | None, reach: Reach) -> None:
    """Say whether a DEVICE could use a SCOPE of a ROLE, now or then; without SCOPE, whether it would be let in.

    The events named prove it: with them alone it could, without any one of them it could not. Where it could not, the rule that
    said no is shown, and the event that took the right away.
    """
    answer(lambda: _could(reach, device, role, scope, at), reach.as_json)


async def _could(reach: Reach, device: str, role: str, scope: str | None, at: Params | None) -> Told:
    from .door import open_door

    async with open_door(reach, fallback=True) as door:
        asked = {"device": device, "role": role, **({"scope": scope} if scope else {}), **(at or {})}
        found = await door.call("history.could", asked)
    said = as_of(found.get("position"), found.get("recordedAtMs"), at is not None)
    return Told(found, f"{_said(found, at is not None)}\n\n{said}")


def _said(found: Mapping[str, Any], past: bool) -> str:
    role, scope = plain(found.get("role", "?")), plain(found.get("scope") or "")
    can, cannot = ("could", "could not") if past else ("can", "cannot")
    what = f"use {scope} as {role}" if scope else f"be let in as {role}"
    device = plain(found.get("deviceId", "?"), 128)
    if not found.get("could"):
        return _no(found, f"No: {device} {cannot} {what}.")
    way = "by its own token" if found.get("way") == "device-token" else "by the gateway's shared secret, which its token is not"
    proof = "\n".join(line(event) for event in found.get("proof", ()))
    return f"Yes: {device} {can} {what}, {way}.\n\nIt rests on these events, and on every one of them:\n\n{proof}"


def _no(found: Mapping[str, Any], text: str) -> str:
    rule: Any = found.get("rule") or {}
    needed = f", needed {plain(rule['needed'], 128)}" if rule.get("needed") else ""
    rows = [("rule", f"{plain(rule.get('rule', '?'))}: {plain(rule.get('found', '?'), 128)}{needed}")]
    since = found.get("since")
    rows.append(("since", line(since).strip() if since else "it never had it"))
    return f"{text}\n" + fields(rows)
