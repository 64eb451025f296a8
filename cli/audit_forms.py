"""The forms in which the audit leaves the terminal: spreadsheet rows and collector lines, each safe for what reads it.

Pure: an event of `audit.list` or `audit.follow`, or a refused contact, to one line of text.
"""

import csv
import io
from collections.abc import Mapping
from typing import Any, TypeAlias

from .voice import moment

Event: TypeAlias = Mapping[str, Any]

COLUMNS = (
    "position",
    "time",
    "kind",
    "device",
    "says",
    "actor",
    "authority",
    "origin",
    "address",
    "reason",
    "ticket",
    "cause",
    "command",
    "gained",
    "lost",
)
# A spreadsheet runs what begins so (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_LISTS = ("roles", "scopes", "commands", "caps")


def columns(event: Event) -> dict[str, str]:
    """Return what an event says, column by column; nothing where it says nothing."""
    at, by, personal = event.get("recordedAtMs", event.get("atMs")), event.get("by") or {}, event.get("personal") or {}
    told = {
        "position": event.get("position"),
        "time": moment(at) if isinstance(at, int) else None,
        "kind": event.get("kind") or "contact.refused",
        "device": event.get("deviceId"),
        "says": event.get("says") or says(event),
        "actor": ":".join(str(part) for part in (by.get("kind"), by.get("id")) if part),
        "authority": " ".join(event.get("authority", ())),
        "origin": event.get("origin"),
        "address": personal.get("address") or event.get("remoteIp"),
        "reason": event.get("reason"),
        "ticket": event.get("ticket"),
        "cause": event.get("cause") or event.get("reference"),
        "command": event.get("commandId"),
        "gained": access(event.get("gained")),
        "lost": access(event.get("lost")),
    }
    return {name: "" if value is None else str(value) for name, value in told.items()}


def says(contact: Event) -> str:
    """Return a refused contact as a sentence."""
    who, proven = contact.get("deviceId"), contact.get("proven")
    device = f"device {str(who)[:8]}{'' if proven else ' (not proven)'}" if who else "somebody"
    times = contact.get("count", 1)
    return f"{device} was turned away: {contact.get('reason', '?')}" + (f", {times} times" if times != 1 else "")


def access(held: object) -> str:
    """Return access that was gained or lost, in words."""
    if not isinstance(held, Mapping):
        return ""
    return " ".join(str(item) for key in _LISTS for item in held.get(key, ()))


def csv_line(cells: Mapping[str, str]) -> str:
    """Return a row of a spreadsheet (RFC 4180): nothing in it can be taken for a formula, or for another row."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow([_inert(cells[name]) for name in COLUMNS])
    return out.getvalue()


def csv_head() -> str:
    """Return the row of names."""
    return csv_line({name: name for name in COLUMNS})


def _inert(cell: str) -> str:
    said = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" if c not in "\t\r\n" else " " for c in cell)
    return f"'{said}" if cell.startswith(_FORMULA) or said.lstrip().startswith(_FORMULA) else said


def cef_line(event: Event, version: str) -> str:
    """Return a line for a collector in ArcSight's Common Event Format 0: header fields, then extensions, each escaped.

    Severity is 8 for what was turned away, 6 where access was gained, 5 where it was lost, and 3 otherwise.
    """
    cells = columns(event)
    at = event.get("recordedAtMs", event.get("atMs"))
    severity = 8 if cells["kind"] == "contact.refused" else 6 if cells["gained"] else 5 if cells["lost"] else 3
    head = ("CEF:0", "pairing", "pairing-gateway", version, cells["kind"], cells["says"], str(severity))
    more = {
        "rt": str(at) if isinstance(at, int) else "",
        "externalId": cells["position"] or cells["cause"],
        "suser": cells["actor"],
        "src": cells["address"] if "." in cells["address"] else "",
        "c6a2": cells["address"] if ":" in cells["address"] else "",
        "c6a2Label": "Source IPv6 Address" if ":" in cells["address"] else "",
        "duid": cells["device"],
        "reason": cells["reason"],
        "cs1": cells["ticket"],
        "cs1Label": "ticket" if cells["ticket"] else "",
        "cs2": cells["authority"],
        "cs2Label": "authority" if cells["authority"] else "",
        "cs3": cells["gained"],
        "cs3Label": "gained" if cells["gained"] else "",
        "cs4": cells["lost"],
        "cs4Label": "lost" if cells["lost"] else "",
        "cs5": cells["command"],
        "cs5Label": "command" if cells["command"] else "",
    }
    extension = " ".join(f"{name}={_extension(value)}" for name, value in more.items() if value)
    return "|".join((head[0], *(_header(part) for part in head[1:]))) + f"|{extension}"


def _header(text: str) -> str:
    """In the header a bar would end the field; a line cannot go on below."""
    return _flat(text).replace("\\", "\\\\").replace("|", "\\|")


def _extension(text: str) -> str:
    """In an extension an equals sign would begin another."""
    return _flat(text).replace("\\", "\\\\").replace("=", "\\=")


def _flat(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
