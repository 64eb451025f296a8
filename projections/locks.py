"""The view of locks: which keys are kept out, until when, by whom and why. A lock outlives its device's removal.

Pure: an event, a row.
"""

from msgspec import Struct

from pairing.events import DeviceLocked, Meta

from .spans import Table, load_last


class Locked(Struct, frozen=True, gc=False):
    """A lock; `until` is null where only unlocking ends it. `reason` is for operators, `message` for the locked party. In ms."""

    locked_at: int
    until: int | None
    message: str | None
    ban: int
    reason: str | None
    actor_kind: str | None
    actor_id: str | None


TABLE = Table("locks", ("stream",), Locked)

SCHEMA = """
CREATE TABLE locks (
    from_position INTEGER PRIMARY KEY, to_position INTEGER, node INTEGER NOT NULL,
    stream INTEGER NOT NULL,
    locked_at INTEGER NOT NULL, until INTEGER, message TEXT, ban INTEGER NOT NULL,
    reason TEXT, actor_kind TEXT, actor_id TEXT
) STRICT;
CREATE INDEX locks_node ON locks (node, to_position);
CREATE INDEX locks_stream ON locks (stream);
CREATE INDEX locks_until ON locks (until) WHERE to_position IS NULL AND until IS NOT NULL;
"""

LOAD = load_last(TABLE)


def locked(event: DeviceLocked, meta: Meta | None) -> Locked:
    """Return the row of a lock."""
    actor = meta.actor if meta else None
    return Locked(
        locked_at=event.at,
        until=event.until,
        message=event.message,
        ban=int(event.ban),
        reason=meta.reason if meta else None,
        actor_kind=actor.kind if actor else None,
        actor_id=actor.id if actor else None,
    )
