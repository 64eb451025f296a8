"""`pairing rehearse`: what would have gone otherwise under other settings. Reads only, and contacts no device."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .moments import MOMENT, Params
from .options import Reach, patience, reaching
from .running import answer
from .voice import Failure, Told, fields, moment, plain, table

if TYPE_CHECKING:
    from pairing.settings import Settings

_WHAT = {
    "silent": "let in without a person",
    "asks": "waiting for a person",
    "refused": "refused",
    "approvers": "waiting for more approvers",
    "reason": "refused for want of a reason",
    "votes-suffice": "approved by fewer",
    "expires": "expired before the answer",
    "stays-open": "open for longer",
    "capped": "turned away by a cap",
    "token-dead": "tokens dead",
    "token-works": "tokens that work",
    "last-operator": "ends of the last operator, refused",
    "glass-whole": "done without breaking the glass",
}
_UNSAID = {
    "page": "no web page opened the connection",
    "credential": "it came by the shared secret",
    "proxy": "its proxy is not on this host",
    "scopes": "it asked for no more than shown",
    "own-scopes": "the approver held it by being local alone",
    "contact": "it did not ask again meanwhile",
}
_SECRET = "gateway.auth"  # noqa: S105  the name of a section


@click.command("rehearse", short_help="Say what would have gone otherwise under other settings.")
@click.option(
    "--policy",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="Those settings: a whole config.toml; what it does not name has its default.",
)
@click.option("--since", type=MOMENT, metavar="POSITION|TIME", help="Judge again what was recorded after it; else all of it.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True, help="How many lines, the latest first.")
@reaching
def rehearse(policy: Path, since: Params | None, limit: int, reach: Reach) -> None:
    """Judge again what was recorded, under other settings: who would have been let in, asked about or refused, and why.

    Requests, answers, refused contacts and the devices as they stand are judged by the gateway's own rules, each on the state
    that there was. What was not recorded is named as not checked. Nothing is changed. A secret in FILE is not sent: on the
    gateway's host a keyed tag of it is.
    """
    answer(lambda: _rehearse(reach, policy, since, limit), reach.as_json)


async def _rehearse(reach: Reach, policy: Path, since: Params | None, limit: int) -> Told:
    from pairing.authority import ADMIN

    from .door import open_door

    other = _read(policy)
    tag, doubt = _secret(reach, other)
    params: dict[str, Any] = {"settings": _admitting(other), "limit": limit}
    if tag is not None:
        params["under"] = tag
    if since is not None:
        params |= {{"at": "since", "atMs": "sinceMs"}[key]: value for key, value in since.items()}
    async with open_door(reach) as door:
        await door.ask_for((ADMIN,))
        found = await door.call("rehearse.run", params, within_ms=patience(reach))
    if doubt:
        found["notChecked"] = [*(found.get("notChecked") or ()), {"setting": _SECRET, "why": doubt}]
    return Told(found, _told(found, policy), tuple(other.warnings))


def _read(policy: Path) -> "Settings":
    from pairing.refusals import Exit
    from pairing.settings import SettingsError, load_file

    try:
        return load_file(policy)
    except SettingsError as error:
        raise Failure(Exit.USAGE, "settings", str(error), f"Correct it, then: pairing rehearse --policy {policy}") from None


def _admitting(other: "Settings") -> dict[str, Any]:
    from pairing.settings import KEYS
    from pairing.settings.kinds import plain as as_plain

    return {name: as_plain(other.value(name)) for name, key in KEYS.items() if key.setting.admits}


def _secret(reach: Reach, other: "Settings") -> tuple[str | None, str]:
    """Return the keyed tag of the secret that the file names, or why there is none although it names one."""
    from pairing import keyring

    from .compose import secret_tag
    from .target import find

    auth = other.gateway.auth
    if auth.secret is None and auth.mode != "none":
        return None, ""
    target = find(reach, os.environ)
    if target.source != "this host":
        return None, "the secret in the file is not sent to a gateway elsewhere: rehearse on its host"
    keys = keyring.load(target.home, os.environ.get(keyring.ENV))
    if keys is None:
        return None, f"{target.home} has no gateway key to compare the secret by"
    return secret_tag(other, keys), ""


# --- the answer as text ----------------------------------------------------------------------------------------------


def _told(found: Mapping[str, Any], policy: Path) -> str:
    parts = [_differing(found, policy), _judged(found)]
    lines = _maps(found, "lines")
    if lines:
        counts: Mapping[str, Any] = found.get("counts") or {}
        parts.append(fields([(_WHAT.get(what, plain(what)), str(count)) for what, count in counts.items()]))
        heads = ("Position", "Device", "Happened", "Would be", "By")
        parts.append(table(heads, [_row(line) for line in lines]))
        if more := found.get("more"):
            parts[-1] += f"\nand {plain(more)} before these: --limit"
    else:
        parts.append("Nothing of it would have gone otherwise.")
    if later := found.get("fromNowOn"):
        parts.append("For tokens issued from now on: " + ", ".join(plain(name) for name in later))
    if unchecked := _maps(found, "notChecked"):
        said = [": ".join(plain(one[key], 200) for key in ("setting", "why") if one.get(key)) for one in unchecked]
        parts.append("\n  ".join(("Not checked:", *said)))
    return "\n\n".join(parts)


def _differing(found: Mapping[str, Any], policy: Path) -> str:
    settings = _maps(found, "settings")
    if not settings:
        return f"{plain(policy, 200)} decides as the settings in force do."
    rows = [
        (
            plain(one.get("setting", "?")),
            f"{plain(one['now'], 200)} -> {plain(one.get('other'), 200)}" if "now" in one else "another secret",
        )
        for one in settings
    ]
    return "Under these settings:\n" + fields(rows)


def _judged(found: Mapping[str, Any]) -> str:
    devices, commands, contacts = (found.get(key, 0) for key in ("devices", "commands", "contacts"))
    place = f"after position {found.get('since')} and up to {found.get('position')}"
    turned = f", and {contacts} refused contacts" if contacts else ""
    return f"Judged again, {place}: {commands} commands of {devices} devices{turned}."


def _row(line: Mapping[str, Any]) -> tuple[str, ...]:
    name = plain(line.get("name") or "")
    device = f"{plain(line.get('deviceId', '?'))[:12]} {name}".rstrip()
    at = line.get("atMs")
    when = f"{line.get('position')}" + (f", {moment(at)}" if isinstance(at, int) else "")
    unsaid = " and ".join(_UNSAID.get(word, plain(word)) for word in line.get("unsaid") or ())
    would = plain(line.get("would", "?"), 200) + (f", if {unsaid}" if unsaid else "")
    return (when, device, plain(line.get("then", "?"), 200), would, ", ".join(plain(name) for name in line.get("settings") or ()))


def _maps(found: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    return [one for one in found.get(key) or () if isinstance(one, dict)]
