"""`pairing devices rotate` and `revoke`: the token of one role of one device. A token itself is never printed."""

from typing import Any

import click

from .durations import DURATION
from .glass import breaking
from .options import Reach, Words, reaching, repeatable
from .running import answer
from .voice import Told, moment, plain

_device = click.option("--device", required=True, metavar="DEVICE", help="Whose token: an id, the start of it, or a label.")
_role = click.option("--role", required=True, metavar="ROLE", help="Which of its tokens: operator or node.")


@click.command("rotate")
@_device
@_role
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="What the new token covers; as before unless given.")
@click.option("--no-scopes", is_flag=True, help="The new token covers no scope.")
@click.option(
    "--handoff",
    type=DURATION,
    metavar="TIME",
    help="Leave the old token until the new one is first used, or for so long at most (like 10m).",
)
@click.option("--compromised", is_flag=True, help="Somebody else may have the old token: record so, and leave it no time.")
@breaking
@repeatable
@reaching
def rotate(
    device: str,
    role: str,
    scopes: tuple[str, ...],
    no_scopes: bool,
    handoff: int | None,
    compromised: bool,
    words: Words,
    reach: Reach,
) -> None:
    """Retire a device's token and issue the next. The old one is dead at once, unless --handoff leaves it a while.

    During a handoff the device is let in by either, and is handed the new one when it comes by the old one. Its first use of the
    new one ends the old one; so do a revocation, a removal and another rotation.
    """
    if scopes and no_scopes:
        raise click.UsageError("Give --scope or --no-scopes, not both.")
    if handoff and compromised:
        raise click.UsageError("Give --handoff or --compromised, not both: a token that others may have is left no time.")
    wanted: dict[str, Any] = {"scopes": list(scopes)} if scopes or no_scopes else {}
    if handoff:
        wanted["handoffMs"] = handoff
    if compromised:
        wanted["compromised"] = True
    answer(lambda: _rotate(reach, device, role, wanted, words), reach.as_json)


@click.command("revoke")
@_device
@_role
@breaking
@repeatable
@reaching
def revoke(device: str, role: str, words: Words, reach: Reach) -> None:
    """Kill a device's token. The device stays paired, without this role, until its token is rotated."""
    answer(lambda: _revoke(reach, device, role, words), reach.as_json)


async def _rotate(reach: Reach, name: str, role: str, wanted: dict[str, Any], words: Words) -> Told:
    from pairing.client.credentials import DeviceToken
    from pairing.settings.secret import Secret

    from .access import texts, to_touch_token
    from .door import open_door
    from .failures import about
    from .naming import find_device
    from .receipts import params, recorded_as

    async with open_door(reach) as door:
        found = await find_device(door, name)
        with about(device=found.id[:12]):
            await door.ask_for(to_touch_token(found.paired, role, wanted.get("scopes", ())))
            result = await door.call("device.token.rotate", params(words, deviceId=found.id, role=role, **wanted))
        bearer = result.pop("token", None)
        held = texts(result, "scopes")
        kept = door.keep(DeviceToken(role, held, Secret(bearer))) if isinstance(bearer, str) and found.id == door.own else None
    said = recorded_as(result, f"Rotated the {plain(role)} token of {found.words}", "Already rotated")
    scope_words = ", ".join(plain(scope) for scope in held) or "none"
    if kept is not None:
        result["tokenStored"] = str(kept)
        return Told(result, f"{said}\n  scopes  {scope_words}", (f"This is your own token; the new one is in {kept}.",))
    return Told(result, f"{said}\n  scopes  {scope_words}", (_what_now(result, bool(wanted.get("handoffMs"))),))


def _what_now(result: dict[str, Any], asked: bool) -> str:
    until = result.get("handoffUntilMs")
    if isinstance(until, int):
        return (
            f"The old token is accepted until {moment(until)}, or until the new one is used. "
            f"The device is handed the new one when it connects by the old one."
        )
    dead = "The old token was dead already, and is left no time." if asked else "The old token is dead."
    return f"{dead} The device collects the new one when it connects with the shared secret."


async def _revoke(reach: Reach, name: str, role: str, words: Words) -> Told:
    from .access import to_touch_token
    from .door import open_door
    from .failures import about
    from .naming import find_device
    from .receipts import params, recorded_as

    async with open_door(reach) as door:
        found = await find_device(door, name)
        with about(device=found.id[:12]):
            await door.ask_for(to_touch_token(found.paired, role))
            result = await door.call("device.token.revoke", params(words, deviceId=found.id, role=role))
    return Told(result, recorded_as(result, f"Revoked the {plain(role)} token of {found.words}", "Already revoked"))
