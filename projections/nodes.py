"""The view of nodes' surfaces: what each asked to have approved, and what is approved, under which name.

Pure: a row before, an event, a row after. The row of a request that has ended stays, with its outcome.
"""

from msgspec import Struct

from pairing.events import NodeApproved, NodeImported, NodeRequested, NodeRestored, Personal

from .spans import Table, as_json


class Surface(Struct, frozen=True, gc=False):
    """An open request, or one that has ended: `outcome` is then set. `caps` and `commands` are JSON. Times in ms."""

    request: str
    caps: str
    commands: str
    name: str | None
    address: str | None
    platform: str | None
    family: str | None
    model: str | None
    version: str | None
    core_version: str | None
    ui_version: str | None
    silent: bool
    repair: bool
    asked_at: int
    outcome: str | None = None


class Approved(Struct, frozen=True, gc=False):
    """An approved surface, described as its request did. `caps` and `commands` are JSON. Times in ms."""

    request: str
    caps: str
    commands: str
    name: str | None
    label: str | None
    address: str | None
    platform: str | None
    family: str | None
    model: str | None
    version: str | None
    core_version: str | None
    ui_version: str | None
    created_at: int
    approved_at: int


ASKED = Table("node_requests", ("stream",), Surface, closing=1, personal=("name", "address"))
NODES = Table("nodes", ("stream",), Approved, personal=("name", "label", "address"))

_ABOUT = "platform TEXT, family TEXT, model TEXT, version TEXT, core_version TEXT, ui_version TEXT"
SCHEMA = f"""
CREATE TABLE node_requests (
    from_position INTEGER PRIMARY KEY, to_position INTEGER, node INTEGER NOT NULL,
    stream INTEGER NOT NULL, request TEXT NOT NULL, caps TEXT NOT NULL, commands TEXT NOT NULL, name TEXT, address TEXT,
    {_ABOUT}, silent INTEGER NOT NULL, repair INTEGER NOT NULL, asked_at INTEGER NOT NULL, outcome TEXT
) STRICT;
CREATE INDEX node_requests_node ON node_requests (node, to_position);
CREATE INDEX node_requests_request ON node_requests (request);
CREATE INDEX node_requests_stream ON node_requests (stream);
CREATE TABLE nodes (
    from_position INTEGER PRIMARY KEY, to_position INTEGER, node INTEGER NOT NULL,
    stream INTEGER NOT NULL, request TEXT NOT NULL, caps TEXT NOT NULL, commands TEXT NOT NULL, name TEXT, label TEXT,
    address TEXT, {_ABOUT}, created_at INTEGER NOT NULL, approved_at INTEGER NOT NULL
) STRICT;
CREATE INDEX nodes_node ON nodes (node, to_position);
CREATE INDEX nodes_stream ON nodes (stream);
"""


def _load(table: Table) -> str:
    return f"""
SELECT from_position, to_position, {", ".join(table.columns)} FROM {table.name} WHERE from_position IN (
    SELECT (SELECT max(from_position) FROM {table.name} WHERE stream = value) FROM json_each(:keys))
"""  # noqa: S608


# :keys is a JSON list; the last row of each, true or not.
LOAD_ASKED, LOAD_NODES = _load(ASKED), _load(NODES)


def requested(event: NodeRequested, personal: Personal | None) -> Surface:
    """Return the row of a new request."""
    return Surface(
        request=event.request,
        caps=as_json(event.caps),
        commands=as_json(event.commands),
        name=personal.name if personal else None,
        address=personal.address if personal else None,
        platform=event.platform,
        family=event.family,
        model=event.model,
        version=event.version,
        core_version=event.core_version,
        ui_version=event.ui_version,
        silent=event.silent,
        repair=event.repair,
        asked_at=event.at,
    )


def approved(event: NodeApproved, asked: Surface | None, before: Approved | None) -> Approved:
    """Return the row of an approval; a name that an operator gave, and the day the node first came, outlive the one before."""
    said = asked if asked is not None and asked.request == event.request else None
    label, created_at = (before.label, before.created_at) if before else (None, event.at)
    return _allowed(event.request, event, said, label, created_at)


def _allowed(
    request: str, event: NodeApproved | NodeRestored, said: Surface | Approved | None, label: str | None, created_at: int
) -> Approved:
    """Return the row that an event gives; what the node says of itself stands elsewhere."""
    return Approved(
        request=request,
        caps=as_json(event.caps),
        commands=as_json(event.commands),
        name=said.name if said else None,
        label=label,
        address=said.address if said else None,
        platform=said.platform if said else None,
        family=said.family if said else None,
        model=said.model if said else None,
        version=said.version if said else None,
        core_version=said.core_version if said else None,
        ui_version=said.ui_version if said else None,
        created_at=created_at,
        approved_at=event.at,
    )


def imported(event: NodeImported, personal: Personal | None) -> Approved:
    """Return the row of an approval that another gateway gave."""
    return Approved(
        request="",
        caps=as_json(event.caps),
        commands=as_json(event.commands),
        name=personal.name if personal else None,
        label=None,
        address=personal.address if personal else None,
        platform=event.platform,
        family=event.family,
        model=event.model,
        version=event.version,
        core_version=event.core_version,
        ui_version=event.ui_version,
        created_at=event.created_at,
        approved_at=event.approved_at,
    )


def restored(event: NodeRestored, before: Approved | None) -> Approved:
    """Return the row of an approval that was taken back; what is known of the node is the last that was."""
    return _allowed("", event, before, before.label if before else None, event.created_at)
