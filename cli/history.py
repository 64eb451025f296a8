"""`pairing history`: the life of one device, event by event, and how events are laid out wherever somebody looks back."""

from collections.abc import Iterable, Mapping
from typing import Any

import click

from .moments import Params, as_of, at_option
from .options import Reach, reaching
from .running import answer
from .voice import Told, moment, plain

_PAGE = 1_000
_LONGEST = 400
_ASPECTS = {
    "paired": "paired, key",
    "role": "role",
    "scope": "scope",
    "token": "token",
    "token-scope": "token covers",
    "handoff": "accepted beside it",
    "label": "label",
    "lock": "locked until",
    "request": "open request",
    "node-command": "may run",
    "node-cap": "capability",
}


@click.command("history", short_help="Tell the life of one device.")
@click.argument("device")
@click.option("--steps", is_flag=True, help="With what it gained and lost by each event, and the state before and after.")
@at_option
@reaching
def history(device: str, steps: bool, at: Params | None, reach: Reach) -> None:
    """Tell the life of one DEVICE: every event with its position, time, and who did it."""
    answer(lambda: _history(reach, device, steps, at), reach.as_json)


async def _history(reach: Reach, device: str, steps: bool, at: Params | None) -> Told:
    from .door import open_door

    events: list[dict[str, Any]] = []
    async with open_door(reach, fallback=True) as door:
        asked: dict[str, Any] = {"device": device, "steps": steps, "limit": _PAGE, **(at or {})}
        while True:
            found = await door.call("history.story", asked)
            events += found.get("events", ())
            if (after := found.get("next")) is None:
                break
            # The pages of one answer are of one moment.
            asked = {**asked, "after": after, "device": found["deviceId"]}
            if at is None:
                asked["at"] = found["position"]
    document = {key: value for key, value in found.items() if key != "next"} | {"events": events}
    lines = [line for one in events for line in _told(one, steps)]
    said = as_of(found.get("position"), found.get("recordedAtMs"), at is not None)
    return Told(document, "\n".join([plain(found.get("deviceId", "?"), 128), "", *lines, "", said]))


def _told(one: Mapping[str, Any], steps: bool) -> list[str]:
    lines = [line(one.get("event", {}))]
    if steps:
        lines += [f"        - {fact(lost)}" for lost in one.get("lost", ())]
        lines += [f"        + {fact(gained)}" for gained in one.get("gained", ())]
        lines += [f"        before  {state(one.get('before', {}))}", f"        after   {state(one.get('after', {}))}"]
    return lines


def line(event: Mapping[str, Any]) -> str:
    """Say an event in a line: its position, when, what happened and by whom, and why where a person said so."""
    words = plain(event.get("says") or event.get("kind", "?"), _LONGEST)
    why = "".join(f", {name}: {plain(event[name], _LONGEST)}" for name in ("reason", "ticket") if event.get(name))
    at = event.get("recordedAtMs")
    when = moment(at) if isinstance(at, int) else "?"
    return f"{plain(event.get('position', '?')):>7}  {when}  {words}{why}"


def fact(one: Mapping[str, Any]) -> str:
    """Say what came or went."""
    aspect = str(one.get("what") or one.get("aspect") or "?")
    value, role = plain(one.get("value", ""), 128), plain(one.get("role") or "")
    if aspect == "lock":
        value = moment(int(value)) if value.isascii() and value.isdecimal() else "unlocked"
    if aspect == "token":
        value = f"{value[:12]}…"
    return " ".join(word for word in (role, _ASPECTS.get(aspect, plain(aspect)), value) if word)


def state(one: Mapping[str, Any]) -> str:
    """Say a state in a line."""
    if not one.get("paired"):
        parts = ["not paired"]
    else:
        parts = [f"roles: {_words(one.get('roles'))}", f"scopes: {_words(one.get('scopes'))}"]
        parts += [_token(token) for token in one.get("tokens", ())]
    parts += [f"asks: {plain(one['requestId'], 128)}"] if one.get("requestId") else []
    parts += ["locked"] if one.get("locked") else []
    parts += [f"may run: {_words(one['commands'])}"] if one.get("commands") else []
    return "; ".join(parts)


def _token(token: Mapping[str, Any]) -> str:
    dead = "revoked" if token.get("revokedAtMs") else "expired" if token.get("expiredAtMs") else _words(token.get("scopes"))
    return f"{plain(token.get('role', '?'))} token: {dead}"


def _words(texts: Iterable[Any] | None) -> str:
    return ", ".join(plain(text) for text in texts or ()) or "none"
