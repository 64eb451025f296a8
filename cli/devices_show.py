"""`pairing devices list` and `show`: what is asked beside what is approved. Reads only, and creates nothing (A20)."""

from typing import Any

import click

from .moments import Params, as_of, at_option
from .options import Reach, reaching
from .running import answer
from .voice import Told, age, clock, duration, fields, moment, plain, table


@click.command("list")
@click.option("--locked", is_flag=True, help="Only the devices that are kept out.")
@at_option
@reaching
def list_(locked: bool, at: Params | None, reach: Reach) -> None:
    """List open requests, paired devices and locks, now or as they were.

    Every request is shown beside what its device already has, with the kind of change it asks for.
    """
    answer(lambda: _list(reach, at, locked), reach.as_json)


@click.command("show", short_help="Show everything about one device.")
@click.argument("device")
@at_option
@reaching
def show(device: str, at: Params | None, reach: Reach) -> None:
    """Show everything about one DEVICE, now or as it was: its access, tokens, open and ended requests."""
    answer(lambda: _show(reach, device, at), reach.as_json)


async def _list(reach: Reach, at: Params | None, locked: bool) -> Told:
    from .devices_lock import locks
    from .door import open_door
    from .naming import Listing, listing

    async with open_door(reach, fallback=True) as door:
        held: Listing = await listing(door, at=at)
    document: dict[str, Any] = {
        "position": held.position,
        "recordedAtMs": held.recorded_at,
        "pending": held.pending,
        "paired": held.paired,
        "locked": held.locked,
    }
    said = as_of(held.position, held.recorded_at, at is not None)
    now = _now(at, held.recorded_at)
    if locked:
        document = {key: document[key] for key in ("position", "recordedAtMs", "locked")}
        return Told(document, f"{locks(held.locked, now) if held.locked else 'No device is locked.'}\n\n{said}")
    if not held.pending and not held.paired and not held.locked:
        return Told(document, "No device pairing entries." + (f"\n\n{said}" if at else ""))
    parts = []
    if held.pending:
        cards = (card(entry, held.device(entry.get("deviceId")), now) for entry in held.pending)
        parts.append(f"Pending ({len(held.pending)})\n\n" + "\n\n".join(cards))
    if held.paired:
        parts.append(f"Paired ({len(held.paired)})\n\n" + _paired(held.paired, now))
    if held.locked:
        parts.append(f"Locked ({len(held.locked)})\n\n" + locks(held.locked, now))
    return Told(document, "\n\n".join((*parts, said)))


def _now(at: Params | None, recorded_at: int | None) -> int:
    """Of the past, ages count from then."""
    return clock() if at is None or recorded_at is None else recorded_at


def card(entry: Any, paired: Any, now: int) -> str:
    """Lay out one open request for a reviewer."""
    from .access import access, called, kind, short
    from .votes import so_far

    name = called(entry)
    device = short(entry) if name == short(entry) else f"{name} ({short(entry)})"
    rows = [
        ("requested", access(entry)),
        ("approved", access(paired)),
        ("from", origin(entry)),
        ("asked", when(entry, now)),
        *((("approvals", votes),) if (votes := so_far(entry, now)) else ()),
        ("request", plain(entry.get("requestId", "?"), 128)),
    ]
    repair = ", repair" if entry.get("isRepair") else ""
    return f"  {device}: {kind(entry, paired)}{repair}\n" + fields(rows, "    ")


def origin(entry: Any) -> str:
    """Say where a request or device comes from, as far as was believed, and on what it runs."""
    runs = plain(entry.get("platform") or "")
    address = plain(entry.get("remoteIp") or "unknown address")
    return f"{address}, {runs}" if runs else address


def when(entry: Any, now: int) -> str:
    """Say when a request was made and how long it still lives."""
    then, until = entry.get("ts"), entry.get("expiresAtMs")
    said = age(then, now) if isinstance(then, int) else "at an unknown time"
    if not isinstance(until, int):
        return said
    return f"{said}, expired" if until < now else f"{said}, expires in {duration(until - now)}"


def _paired(entries: Any, now: int) -> str:
    from .access import called, roles, short, texts, token_words

    rows = []
    for entry in entries:
        scopes = ", ".join(plain(scope) for scope in texts(entry, "scopes")) or "none"
        held = ", ".join(plain(role) for role in roles(entry)) or "none"
        seen = "connected" if entry.get("connected") else _seen(entry, now)
        rows.append((short(entry), called(entry), held, token_words(entry), seen, plain(entry.get("remoteIp") or ""), scopes))
    heads = ("Id", "Device", "Roles", "Tokens", "Seen", "Address", "Scopes")
    shown = [column for column, head in enumerate(heads) if head != "Address" or any(row[column] for row in rows)]
    return table([heads[column] for column in shown], [[row[column] for column in shown] for row in rows])


def _seen(entry: Any, now: int) -> str:
    then = entry.get("lastSeenAtMs")
    return age(then if isinstance(then, int) else None, now)


async def _show(reach: Reach, device: str, at: Params | None) -> Told:
    from .devices_lock import locks
    from .door import open_door
    from .naming import find_device
    from .votes import voided

    async with open_door(reach) as door:
        found = await find_device(door, device, at)
    document: dict[str, Any] = {
        "deviceId": found.id,
        "position": found.position,
        "recordedAtMs": found.recorded_at,
        "device": found.paired,
        "pending": found.pending,
        "closed": found.closed,
        "voided": found.voided,
        "refused": found.refused,
        "locked": found.locked[0] if found.locked else None,
    }
    now = _now(at, found.recorded_at)
    parts = [_device(found.paired, now) if found.paired else f"{plain(found.id, 128)}\n  not paired"]
    if found.locked:
        parts.append("Locked\n\n" + locks(found.locked, now))
    if found.pending:
        parts.append("Open requests\n\n" + "\n\n".join(card(entry, found.paired, now) for entry in found.pending))
    if found.closed:
        parts.append("Ended requests\n\n" + _closed(found.closed))
    if found.voided:
        parts.append("Approvals that count no longer\n\n" + voided(found.voided))
    if found.refused:
        parts.append("Turned away lately\n\n" + _refused(found.refused, now))
    return Told(document, "\n\n".join((*parts, as_of(found.position, found.recorded_at, at is not None))))


def _refused(entries: Any, now: int) -> str:
    from .devices_refusals import reused, rule_that_failed

    rows = []
    for entry in entries:
        at, count = entry.get("atMs"), entry.get("count", 1)
        last = age(at, now) if isinstance(at, int) else ""
        ended = reused(entry, now)
        why = rule_that_failed(entry) + (f" ({ended})" if ended else "")
        rows.append((plain(entry.get("reference", "?")), plain(entry.get("reason", "?")), f"{count}x", last, why))
    return table(("Reference", "Reason", "Times", "Last", "Rule that failed"), rows)


def _device(entry: Any, now: int) -> str:
    from .access import full, roles, texts, tokens

    def said(key: str) -> str:
        return plain(entry.get(key) or "", 128)

    def at(key: str) -> str:
        then = entry.get(key)
        return f"{moment(then)} ({age(then, now)})" if isinstance(then, int) else ""

    rows = [
        ("label", said("operatorLabel")),
        ("name", said("displayName")),
        ("key", said("publicKey")),
        ("runs", ", ".join(text for text in (said("platform"), said("deviceFamily")) if text)),
        ("client", " / ".join(text for text in (said("clientId"), said("clientMode")) if text)),
        ("address", said("remoteIp")),
        ("roles", ", ".join(plain(role) for role in roles(entry)) or "none"),
        ("scopes", ", ".join(plain(scope) for scope in texts(entry, "scopes")) or "none"),
        ("paired", at("createdAtMs")),
        ("approved", at("approvedAtMs") + (f", {said('approvedVia')}" if said("approvedVia") else "")),
        ("seen", "connected now" if entry.get("connected") else at("lastSeenAtMs") or "never"),
        *((f"token {plain(t.get('role', '?'))}", _token(t, now)) for t in tokens(entry)),
    ]
    return f"{full(entry)}\n" + fields([row for row in rows if row[1]])


def _token(token: Any, now: int) -> str:
    from .access import texts

    scopes = ", ".join(plain(scope) for scope in texts(token, "scopes")) or "no scopes"
    for key, word in (("revokedAtMs", "revoked"), ("rotatedAtMs", "rotated"), ("createdAtMs", "issued")):
        if isinstance(then := token.get(key), int):
            used = token.get("lastUsedAtMs")
            last = f", used {age(used, now)}" if isinstance(used, int) else ""
            until = token.get("handoffUntilMs")
            if isinstance(until, int) and until >= now:
                last += f", the one before accepted for another {duration(until - now)}"
            return f"{scopes}; {word} {age(then, now)}{last}"
    return scopes


def _closed(entries: Any) -> str:
    rows = []
    for entry in entries:
        at = entry.get("atMs")
        by = f" by {plain(entry['supersededBy'], 128)}" if entry.get("supersededBy") else ""
        when = moment(at) if isinstance(at, int) else ""
        rows.append((plain(entry.get("requestId", "?"), 128), plain(entry.get("outcome", "?")) + by, when))
    return table(("Request", "Outcome", "At"), rows)
