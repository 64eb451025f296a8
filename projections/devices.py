"""The view of devices: what each was granted, under which name and from where; and the labels that operators gave.

Pure: a row before, an event, a row after. A grant ends with its device's removal; a label outlives it.
"""

from msgspec import Struct
from msgspec.structs import replace

from pairing.events import DeviceDescribed, DeviceImported, DevicePaired, DeviceRenamed, DeviceRestored, DeviceUpgraded, Personal
from pairing.reasons import fold

from .requests import Asked
from .spans import Table, as_json, load_last


class Grant(Struct, frozen=True, gc=False):
    """A grant. `roles` and `scopes` (the approved baseline) are JSON; `address` is the one it was asked from. Times in ms."""

    key: str
    name: str | None
    platform: str | None
    family: str | None
    client_id: str | None
    client_mode: str | None
    role: str
    roles: str
    scopes: str
    address: str | None
    means: str
    created_at: int
    approved_at: int


class Label(Struct, frozen=True, gc=False):
    """A device's label, and the same as names are compared; both null once it was taken away or forgotten."""

    label: str | None
    folded: str | None


DEVICES = Table("devices", ("stream",), Grant, personal=("name", "address"))
LABELS = Table("labels", ("stream",), Label, personal=("label", "folded"))

SCHEMA = """
CREATE TABLE devices (
    from_position INTEGER PRIMARY KEY, to_position INTEGER, node INTEGER NOT NULL,
    stream INTEGER NOT NULL,
    key TEXT NOT NULL, name TEXT, platform TEXT, family TEXT, client_id TEXT, client_mode TEXT,
    role TEXT NOT NULL, roles TEXT NOT NULL, scopes TEXT NOT NULL, address TEXT, means TEXT NOT NULL,
    created_at INTEGER NOT NULL, approved_at INTEGER NOT NULL
) STRICT;
CREATE INDEX devices_node ON devices (node, to_position);
CREATE INDEX devices_stream ON devices (stream);
CREATE TABLE labels (
    from_position INTEGER PRIMARY KEY, to_position INTEGER, node INTEGER NOT NULL,
    stream INTEGER NOT NULL,
    label TEXT, folded TEXT
) STRICT;
CREATE INDEX labels_stream ON labels (stream);
CREATE INDEX labels_folded ON labels (folded, to_position) WHERE folded IS NOT NULL;
"""


# :keys is a JSON list of streams; the last row of each, true or not.
LOAD_DEVICES, LOAD_LABELS = load_last(DEVICES), load_last(LABELS)


def paired(event: DevicePaired, asked: Asked | None) -> Grant:
    """Return the row of a device that had no grant; name and address are those of its request."""
    return _granted(event.key, event, asked, event.means, event.at, event.at)


def imported(event: DeviceImported, personal: Personal | None) -> Grant:
    """Return the row of a device that another gateway had approved."""
    return _granted(event.key, event, personal, "imported", event.created_at, event.approved_at)


def restored(before: Grant | None, event: DeviceRestored) -> Grant:
    """Return the row of a device that was taken back; name and address are the last that it had."""
    return _granted(event.key, event, before, "restored", event.created_at, event.at)


def upgraded(grant: Grant, event: DeviceUpgraded, asked: Asked | None) -> Grant:
    """Return the row after a new approval: all of it is the request's, but for the key and the day the device first came."""
    return _granted(grant.key, event, asked or grant, event.means, grant.created_at, event.at)


def _granted(
    key: str,
    event: DevicePaired | DeviceImported | DeviceRestored | DeviceUpgraded,
    said: Asked | Personal | Grant | None,
    means: str,
    created_at: int,
    approved_at: int,
) -> Grant:
    """Return the row that an event gives; who the device says it is stands elsewhere."""
    return Grant(
        key=key,
        name=said.name if said else None,
        platform=event.platform,
        family=event.family,
        client_id=event.client_id,
        client_mode=event.client_mode,
        role=event.role,
        roles=as_json(event.roles),
        scopes=as_json(event.scopes),
        address=said.address if said else None,
        means=means,
        created_at=created_at,
        approved_at=approved_at,
    )


def described(grant: Grant, event: DeviceDescribed, personal: Personal | None) -> Grant:
    """Return the row after the device came back under another name or client; one without a name has none (UP-17)."""
    return replace(grant, name=personal.name if personal else None, client_id=event.client_id, client_mode=event.client_mode)


def renamed(event: DeviceRenamed | DeviceImported, personal: Personal | None) -> Label:
    """Return the label that an operator gave, or the lack of one."""
    label = personal.label if personal and event.labelled is not None else None
    return Label(label, None if label is None else fold(label))
