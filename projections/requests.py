"""The view of requests: what each asked for as a reviewer saw it, while it was open, and how it ended.

Pure: a row before, an event, a row after. The row of a request that has ended stays, with its outcome.
"""

from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from pairing.events import (
    Meta,
    Personal,
    RequestApproved,
    RequestExpired,
    RequestOpened,
    RequestRefreshed,
    RequestRejected,
    RequestSuperseded,
    RequestWithdrawn,
)
from pairing.listing import Outcome

from .spans import Table, as_json, load_last

Ending: TypeAlias = RequestSuperseded | RequestApproved | RequestRejected | RequestExpired | RequestWithdrawn


class Asked(Struct, frozen=True, gc=False):
    """A request. `roles` and `scopes` are JSON; the last five fields are null while it is open. Times in ms."""

    key: str
    need: str
    name: str | None
    platform: str | None
    family: str | None
    client_id: str | None
    client_mode: str | None
    role: str
    roles: str
    scopes: str
    address: str | None
    silent: bool
    repair: bool
    opened_at: int
    opened_position: int
    expires_at: int
    digest: str
    outcome: Outcome | None = None
    ended_at: int | None = None
    actor_kind: str | None = None
    actor_id: str | None = None
    by: str | None = None


TABLE = Table("requests", ("stream", "request"), Asked, closing=5, personal=("name", "address"))

SCHEMA = """
CREATE TABLE requests (
    from_position INTEGER PRIMARY KEY, to_position INTEGER, node INTEGER NOT NULL,
    stream INTEGER NOT NULL, request TEXT NOT NULL,
    key TEXT NOT NULL, need TEXT NOT NULL, name TEXT, platform TEXT, family TEXT, client_id TEXT, client_mode TEXT,
    role TEXT NOT NULL, roles TEXT NOT NULL, scopes TEXT NOT NULL, address TEXT, silent INTEGER NOT NULL, repair INTEGER NOT NULL,
    opened_at INTEGER NOT NULL, opened_position INTEGER NOT NULL, expires_at INTEGER NOT NULL, digest TEXT NOT NULL,
    outcome TEXT, ended_at INTEGER, actor_kind TEXT, actor_id TEXT, by TEXT
) STRICT;
CREATE INDEX requests_node ON requests (node, to_position);
CREATE INDEX requests_request ON requests (request, stream);
CREATE INDEX requests_stream ON requests (stream);
CREATE INDEX requests_address ON requests (address) WHERE to_position IS NULL;
CREATE INDEX requests_expiry ON requests (expires_at) WHERE to_position IS NULL;
"""

# :keys is a JSON list of [stream, request]; the last row of each, open or not.
LOAD_LAST = f"""
SELECT from_position, to_position, {", ".join(TABLE.columns)} FROM requests WHERE from_position IN (
    SELECT (SELECT max(from_position) FROM requests
             WHERE request = json_extract(value, '$[1]') AND stream = json_extract(value, '$[0]'))
      FROM json_each(:keys))
"""  # noqa: S608
# :keys is a JSON list of streams; the last row of each, open or not.
LOAD_OPEN = load_last(TABLE)

_OUTCOMES: dict[type, Outcome] = {
    RequestSuperseded: "superseded",
    RequestApproved: "approved",
    RequestRejected: "rejected",
    RequestExpired: "expired",
    RequestWithdrawn: "withdrawn",
}


def opened(event: RequestOpened, personal: Personal | None, position: int) -> Asked:
    """Return the row of a new request."""
    return Asked(
        key=event.key,
        need=event.need,
        name=personal.name if personal else None,
        platform=event.platform,
        family=event.family,
        client_id=event.client_id,
        client_mode=event.client_mode,
        role=event.role,
        roles=as_json(event.roles),
        scopes=as_json(event.scopes),
        address=personal.address if personal else None,
        silent=event.silent,
        repair=event.repair,
        opened_at=event.at,
        opened_position=position,
        expires_at=event.expires_at,
        digest=event.digest,
    )


def refreshed(row: Asked, event: RequestRefreshed, personal: Personal | None) -> Asked:
    """Return the row after a retry: what was given replaces, what was not stays (protocol §5.5)."""
    return replace(
        row,
        name=(personal.name if personal else None) or row.name,
        platform=event.platform or row.platform,
        family=event.family or row.family,
        client_id=event.client_id or row.client_id,
        client_mode=event.client_mode or row.client_mode,
        address=(personal.address if personal else None) or row.address,
        silent=event.silent,
        expires_at=event.expires_at,
        digest=event.digest,
    )


def ending(event: Ending, meta: Meta | None) -> dict[str, object]:
    """Return what is known as a request ends: its outcome, when, by whom, and the id that took its place."""
    by = event.by if isinstance(event, RequestSuperseded) else None
    return _end(_OUTCOMES[type(event)], event.at, meta, by)


def superseded(event: RequestOpened, meta: Meta | None) -> dict[str, object]:
    """Return the same for a request that was still open when another one opened."""
    return _end("superseded", event.at, meta, event.request)


def _end(outcome: Outcome, at: int, meta: Meta | None, by: str | None) -> dict[str, object]:
    actor = meta.actor if meta else None
    return {
        "outcome": outcome,
        "ended_at": at,
        "actor_kind": actor.kind if actor else None,
        "actor_id": actor.id if actor else None,
        "by": by,
    }
