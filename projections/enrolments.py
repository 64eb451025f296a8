"""The view of setup codes: who minted what for how long, what became of it, and which devices hold its uses.

Pure: a row before, an event, a row after. The code itself is nowhere.
"""

from typing import TypeAlias, assert_never

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from pairing.events import (
    EnrolmentAcknowledged,
    EnrolmentBound,
    EnrolmentDelivered,
    EnrolmentExpired,
    EnrolmentIssued,
    EnrolmentOverused,
    EnrolmentRedeemed,
    EnrolmentRevoked,
    Meta,
    Personal,
)

from .spans import Table, as_json, load_last

_names = msgspec.json.Decoder(tuple[str, ...]).decode

Step: TypeAlias = EnrolmentBound | EnrolmentRedeemed | EnrolmentDelivered | EnrolmentAcknowledged
End: TypeAlias = EnrolmentRevoked | EnrolmentExpired | EnrolmentOverused


class Minted(Struct, frozen=True, gc=False):
    """A code. `roles` and `scopes` are JSON; the actor is who minted it; `redeemed` counts uses since then. Times in ms."""

    code: str
    profile: str
    roles: str
    scopes: str
    uses: int
    approves: bool
    label: str | None
    actor_kind: str | None
    actor_id: str | None
    issued_at: int
    expires_at: int
    revoked_at: int | None = None
    expired_at: int | None = None
    overuses: int = 0
    redeemed: int = 0


class Held(Struct, frozen=True, gc=False):
    """One use of a code, by the device that holds it. `roles`, JSON, are those whose tokens were handed over. Times in ms."""

    roles: str
    bound_at: int
    redeemed_at: int | None = None
    delivered_at: int | None = None
    acknowledged_at: int | None = None


CODES = Table("enrolments", ("stream",), Minted)
HOLDERS = Table("holders", ("stream", "device"), Held)

SCHEMA = """
CREATE TABLE enrolments (
    from_position INTEGER PRIMARY KEY, to_position INTEGER, node INTEGER NOT NULL,
    stream INTEGER NOT NULL, code TEXT NOT NULL, profile TEXT NOT NULL, roles TEXT NOT NULL, scopes TEXT NOT NULL,
    uses INTEGER NOT NULL, approves INTEGER NOT NULL, label TEXT, actor_kind TEXT, actor_id TEXT,
    issued_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, revoked_at INTEGER, expired_at INTEGER, overuses INTEGER NOT NULL,
    redeemed INTEGER NOT NULL
) STRICT;
CREATE INDEX enrolments_node ON enrolments (node, to_position);
CREATE INDEX enrolments_stream ON enrolments (stream);
CREATE INDEX enrolments_expiry ON enrolments (expires_at)
    WHERE to_position IS NULL AND revoked_at IS NULL AND expired_at IS NULL AND redeemed < uses;
CREATE TABLE holders (
    from_position INTEGER PRIMARY KEY, to_position INTEGER, node INTEGER NOT NULL,
    stream INTEGER NOT NULL, device TEXT NOT NULL, roles TEXT NOT NULL,
    bound_at INTEGER NOT NULL, redeemed_at INTEGER, delivered_at INTEGER, acknowledged_at INTEGER
) STRICT;
CREATE INDEX holders_stream ON holders (stream, from_position);
"""

# :keys is a JSON list; the last row of each code, and the rows of its holders that are true now.
LOAD_CODES = load_last(CODES)
LOAD_HOLDERS = f"""
SELECT from_position, to_position, {", ".join(HOLDERS.columns)} FROM holders
 WHERE to_position IS NULL AND stream IN (SELECT value FROM json_each(:keys))
"""  # noqa: S608


def minted(event: EnrolmentIssued, meta: Meta | None, personal: Personal | None) -> Minted:
    """Return the row of a new code."""
    return Minted(
        code=event.code,
        profile=event.profile,
        roles=as_json(event.roles),
        scopes=as_json(event.scopes),
        uses=event.uses,
        approves=event.approves,
        label=personal.label if personal else None,
        actor_kind=meta.actor.kind if meta else None,
        actor_id=meta.actor.id if meta else None,
        issued_at=event.at,
        expires_at=event.expires_at,
    )


def ended(row: Minted, event: End) -> Minted:
    """Return the row of a code that was taken back, ran out, or was tried once too often."""
    match event:
        case EnrolmentRevoked():
            return replace(row, revoked_at=event.at)
        case EnrolmentExpired():
            return replace(row, expired_at=event.at)
        case EnrolmentOverused():
            return replace(row, overuses=row.overuses + 1)
        case _:
            assert_never(event)


def held(row: Held | None, event: Step) -> Held | None:
    """Return a holder's row after a step; None where it holds nothing."""
    match event:
        case EnrolmentBound():
            return row or Held("[]", event.at)
        case EnrolmentRedeemed():
            told = as_json(sorted({*(_names(row.roles) if row else ()), *event.tokens}))
            return replace(row, roles=told, redeemed_at=event.at) if row else Held(told, event.at, event.at)
        case EnrolmentDelivered():
            return row and replace(row, delivered_at=event.at)
        case EnrolmentAcknowledged():
            return row and replace(row, acknowledged_at=event.at)
        case _:
            assert_never(event)
