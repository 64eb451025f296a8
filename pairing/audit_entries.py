"""The audit's entries: an event as it is recorded, with what it changed: before, after, and which access was gained or lost.

Pure. They are made of what the views say of an event's rows; no decision rests on them.
"""

from collections.abc import Iterable
from typing import Any

from .entries import Entry
from .listing import Change
from .recorded import RecordedEntry

_LISTS = ("roles", "scopes", "commands", "caps")


class ChangeEntry(Entry, frozen=True, kw_only=True):
    """One thing that an event changed: `access`, `token`, `lock`, `label`, `request`, `surface-request` or `surface`.

    Absent `before`: it came to be; absent `after`: it ended.
    """

    what: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


class AccessEntry(Entry, frozen=True, kw_only=True):
    """Access that was gained, or lost: of the approved baseline, of tokens, and of what a node may run."""

    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    caps: tuple[str, ...] = ()


class AuditEntry(RecordedEntry, frozen=True, kw_only=True):
    """One event of the audit trail."""

    changes: tuple[ChangeEntry, ...] = ()
    gained: AccessEntry | None = None
    lost: AccessEntry | None = None


def audited(entry: RecordedEntry, changes: Iterable[Change]) -> AuditEntry:
    """Return an event with what it changed."""
    told = {name: getattr(entry, name) for name in entry.__struct_fields__}
    held = [(change, _held(change.what, change.before), _held(change.what, change.after)) for change in changes]
    return AuditEntry(
        **told,
        changes=tuple(ChangeEntry(what=change.what, before=change.before, after=change.after) for change, _, _ in held),
        gained=_beyond([(after, before) for _, before, after in held]),
        lost=_beyond([(before, after) for _, before, after in held]),
    )


def _held(what: str, row: dict[str, Any] | None) -> dict[str, Any]:
    """Return what a row lets anybody do: requests nothing, nor a token that was revoked."""
    if row is None or what in {"request", "surface-request", "label", "lock"} or row.get("revoked_at") is not None:
        return {}
    return row


def _beyond(pairs: Iterable[tuple[dict[str, Any], dict[str, Any]]]) -> AccessEntry | None:
    """Return what the first of each pair holds and the second does not."""
    more = {
        key: tuple(dict.fromkeys(item for one, other in pairs for item in one.get(key, ()) if item not in other.get(key, ())))
        for key in _LISTS
    }
    return AccessEntry(**more) if any(more.values()) else None
