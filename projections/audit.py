"""The index of events: which there are, when, of which stream, by whom, from where, why, and by which command.

The log keeps what they say. Names that repeat (streams, kinds, actors, reasons) are numbers here, in the order in which they came
first. What cannot be read is kept as it is, and its stream counts as damaged from there on.
"""

from pairing.events import Unknown

from .reading import SPEAKS_OF_DEVICE, Read

SCHEMA = """
CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE events (
    position INTEGER PRIMARY KEY, recorded_at INTEGER NOT NULL, stream INTEGER NOT NULL, version INTEGER NOT NULL,
    kind INTEGER NOT NULL, actor INTEGER, command TEXT, request TEXT, address TEXT, raw BLOB
) STRICT;
CREATE INDEX events_stream ON events (stream);
CREATE INDEX events_kind ON events (kind);
CREATE INDEX events_actor ON events (actor) WHERE actor IS NOT NULL;
CREATE INDEX events_address ON events (address) WHERE address IS NOT NULL;
CREATE TABLE reasons (word INTEGER NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (word, position)) STRICT, WITHOUT ROWID;
CREATE TABLE damages (position INTEGER PRIMARY KEY, stream INTEGER NOT NULL, why TEXT NOT NULL) STRICT;
CREATE INDEX damages_stream ON damages (stream);
CREATE VIEW audit AS
SELECT e.position, datetime(e.recorded_at / 1000, 'unixepoch') AS recorded, s.word AS stream, e.version, k.word AS kind,
       a.word AS actor, e.command, e.request, e.address, d.why AS damage
  FROM events e JOIN words s ON s.id = e.stream JOIN words k ON k.id = e.kind
  LEFT JOIN words a ON a.id = e.actor LEFT JOIN damages d ON d.position = e.position;
"""

INSERT_WORD = "INSERT INTO words (id, word) VALUES (?, ?)"
INSERT_EVENT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_REASON = "INSERT INTO reasons VALUES (?, ?)"
INSERT_DAMAGE = "INSERT INTO damages VALUES (?, ?, ?)"
# :keys is a JSON list.
LOAD_WORD = "SELECT word, id FROM words WHERE word = :word"
LOAD_WORDS = "SELECT word, id FROM words WHERE word IN (SELECT value FROM json_each(:keys))"
LAST_WORD = "SELECT ifnull(max(id), 0) FROM words"


def row(read: Read, stream: int, kind: int, actor: int | None) -> tuple[object, ...]:
    """Return the index row of an event, with what it says only where no reader of today could tell."""
    record, event = read.record, read.event
    raw = record.body if event is None or type(event) is Unknown else None
    command = read.meta.command if read.meta else None
    request = getattr(event, "request", None)
    address = read.personal.address if read.personal else None
    return (record.position, record.recorded_at, stream, record.version, kind, actor, command, request, address, raw)


# Kinds whose personal part speaks of the device, as SQL.
OTHERS = ", ".join(sorted(f"'{kind.__struct_config__.tag}'" for kind in SPEAKS_OF_DEVICE))
# As whom a device acts: by its token, named as its stream is, or by the shared secret.
ACTORS = """SELECT id FROM words WHERE word IN ({0}, 'shared-secret:' || substr({0}, 1 + length('device:')))"""
_NAMED = ACTORS.format("(SELECT word FROM words WHERE id = ?1)")
# What a device did, where the personal part is the actor's own. ?1 is the device's stream.
ACTED = f"""actor IN ({_NAMED}) AND address IS NOT NULL AND position < ?2
    AND kind NOT IN (SELECT id FROM words WHERE word IN ({OTHERS}))"""  # noqa: S608
FORGET = (
    "UPDATE events SET address = NULL WHERE stream = ?1 AND address IS NOT NULL AND position < ?2",
    f"UPDATE events SET address = NULL WHERE {ACTED}",  # noqa: S608
)
