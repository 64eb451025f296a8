"""`pairing devices who`: by whom, when and by what means each right of a device came to be. It reads and changes nothing."""

from typing import Any

import click

from .options import Reach, reaching
from .running import answer
from .voice import Told, age, clock, fields, moment, plain


@click.command("who", short_help="Show who let a device be what it is.")
@click.argument("device")
@reaching
def who(device: str, reach: Reach) -> None:
    """Show for each right that a DEVICE holds who gave it, when, by what means and authority, and what they were shown."""
    answer(lambda: _who(reach, device), reach.as_json)


async def _who(reach: Reach, device: str) -> Told:
    from .door import open_door

    async with open_door(reach, fallback=True) as door:
        found = await door.call("device.who", {"device": device})
    id = plain(found.get("deviceId", "?"), 128)
    if not found.get("paired"):
        return Told(found, f"{id} holds nothing: it is not paired.", (f"What happened to it: pairing audit --device {id}",))
    now = clock()
    return Told(found, "\n\n".join((id, *(_card(origin, now) for origin in found.get("origins", ())))))


def _card(origin: Any, now: int) -> str:
    from .access import texts, words

    event, seen = origin.get("event") or {}, origin.get("seen") or {}
    by, told, at = event.get("by") or {}, event.get("personal") or {}, event.get("recordedAtMs")
    held, covered = texts(origin, "scopes"), texts(origin, "token")
    rows = [
        ("given", f"{moment(at)} ({age(at, now)})" if isinstance(at, int) else ""),
        ("by", ":".join(plain(part, 128) for part in (by.get("kind"), by.get("id")) if part)),
        ("means", plain(origin.get("means") or "")),
        ("from", plain(told.get("address") or "")),
        ("by right of", " ".join(plain(scope) for scope in texts(event, "authority"))),
        ("reason", plain(event.get("reason") or "", 200)),
        ("ticket", plain(event.get("ticket") or "")),
        ("recorded as", f"{plain(event.get('kind', '?'))} at position {plain(event.get('position', '?'))}"),
        ("token lacks", " ".join(plain(scope) for scope in held if scope not in covered)),
        *_shown(seen),
    ]
    return f"  {words(texts(origin, 'roles'), held)}\n" + fields([row for row in rows if row[1]], "    ")


def _shown(seen: Any) -> list[tuple[str, str]]:
    """Return the request as its reviewer saw it."""
    if not seen:
        return []
    from .access import texts, words

    about, runs = seen.get("personal") or {}, plain(seen.get("platform") or "")
    return [
        ("was shown", f"{plain(about.get('name') or 'no name')}, from {plain(about.get('address') or 'an unknown address')}"),
        ("", ", ".join(part for part in (runs, plain(seen.get("clientId") or "")) if part)),
        ("asking for", words(texts(seen, "roles"), texts(seen, "scopes"))),
        ("digest", plain(seen.get("digest", "?"))),
    ]
