"""The view of tokens: for each device and role the generation that counts, what it covers, and its days.

Pure: a row before, an event, a row after. The token itself is nowhere; tokens end with their device's grant.
"""

from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from pairing.authority import ADMIN, OPERATOR, PAIRING
from pairing.events import (
    HandoffClosed,
    TokenDue,
    TokenExpired,
    TokenImported,
    TokenIssued,
    TokenNarrowed,
    TokenRevoked,
    TokenRotated,
    TokenWidened,
)

from .spans import Table, as_json

TokenEvent: TypeAlias = (
    TokenImported
    | TokenIssued
    | TokenRotated
    | TokenWidened
    | TokenNarrowed
    | TokenRevoked
    | TokenDue
    | TokenExpired
    | HandoffClosed
)


class Held(Struct, frozen=True, gc=False):
    """A role's token. `scopes` is JSON. `created_at` is that of the first generation since the device was paired. Times in ms.

    `expires_at` is the end that was announced, `expired_at` when it came, `warned` the least distance at which it was warned of.
    `predecessor` is the generation before, while it is handed over: until `handoff_until`, or until this one is used.
    """

    scopes: str
    issue: str
    created_at: int
    rotated_at: int | None
    revoked_at: int | None
    under: str | None
    expires_at: int | None = None
    expired_at: int | None = None
    warned: int | None = None
    predecessor: str | None = None
    handoff_until: int | None = None


TABLE = Table("tokens", ("stream", "role"), Held)

# By name, as the tokens hold them: covering them is for the device's own state to say.
APPROVING = f"""to_position IS NULL AND revoked_at IS NULL AND expired_at IS NULL AND role = '{OPERATOR}'
    AND (instr(scopes, '"{ADMIN}"') OR instr(scopes, '"{PAIRING}"'))"""

SCHEMA = f"""
CREATE TABLE tokens (
    from_position INTEGER PRIMARY KEY, to_position INTEGER, node INTEGER NOT NULL,
    stream INTEGER NOT NULL, role TEXT NOT NULL,
    scopes TEXT NOT NULL, issue TEXT NOT NULL, created_at INTEGER NOT NULL, rotated_at INTEGER, revoked_at INTEGER, under TEXT,
    expires_at INTEGER, expired_at INTEGER, warned INTEGER, predecessor TEXT, handoff_until INTEGER
) STRICT;
CREATE INDEX tokens_stream ON tokens (stream, to_position);
CREATE INDEX tokens_approving ON tokens (from_position, stream, under) WHERE {APPROVING};
CREATE INDEX tokens_due ON tokens (expires_at)
 WHERE to_position IS NULL AND expires_at IS NOT NULL AND revoked_at IS NULL AND expired_at IS NULL;
CREATE INDEX tokens_handed_over ON tokens (handoff_until) WHERE to_position IS NULL AND handoff_until IS NOT NULL;
"""

# :keys is a JSON list; the rows that are true now.
LOAD = f"""
SELECT from_position, to_position, {", ".join(TABLE.columns)} FROM tokens
 WHERE to_position IS NULL AND stream IN (SELECT value FROM json_each(:keys))
"""  # noqa: S608


def apply(row: Held | None, event: TokenEvent) -> Held | None:
    """Return a role's row after an event; the same one where the event speaks of a generation that is not the present one."""
    match event:
        case TokenImported():
            return Held(as_json(event.scopes), event.issue, event.created_at, event.rotated_at, event.revoked_at, None)
        case TokenIssued():
            return Held(as_json(event.scopes), event.issue, event.at, None, None, event.under, event.expires_at)
        case TokenRotated():
            return row and _rotated(row, event)
        case TokenWidened():
            fits = row is not None and row.issue == event.issue
            return replace(row, scopes=as_json(event.scopes), under=event.under) if row and fits else row
        case TokenNarrowed():
            return replace(row, scopes=as_json(event.scopes)) if row and row.issue == event.issue else row
        case TokenRevoked():
            fits = row is not None and row.issue == event.issue
            return replace(row, revoked_at=event.at, predecessor=None, handoff_until=None) if row and fits else row
        case TokenExpired():
            fits = row is not None and row.issue == event.issue
            return replace(row, expired_at=event.at, predecessor=None, handoff_until=None) if row and fits else row
        case TokenDue():
            return replace(row, warned=event.distance) if row and row.issue == event.issue else row
        case HandoffClosed():
            fits = row is not None and row.predecessor == event.retires
            return replace(row, predecessor=None, handoff_until=None) if row and fits else row


def _rotated(row: Held, event: TokenRotated) -> Held:
    after = Held(as_json(event.scopes), event.issue, row.created_at, event.at, None, event.under, event.expires_at)
    outlived = row.expires_at is not None and event.at >= row.expires_at
    if event.handoff_until is None or row.revoked_at is not None or row.expired_at is not None or outlived:
        return after
    return replace(after, predecessor=row.issue, handoff_until=event.handoff_until)
