-- The log. One row an event, written once. Read it with any SQLite tool through the view `history`.

CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE events (
    position INTEGER PRIMARY KEY CHECK (position > 0),
    stream INTEGER NOT NULL REFERENCES streams (id),
    version INTEGER NOT NULL CHECK (version > 0),
    kind TEXT NOT NULL,
    recorded_at INTEGER NOT NULL,
    command BLOB NOT NULL CHECK (length(command) = 16),
    meta TEXT NOT NULL,
    body TEXT NOT NULL,
    personal TEXT,
    personal_hash BLOB,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    UNIQUE (stream, version)
) STRICT;

-- Ids of commands are ordered by time (UUIDv7), so that this index grows at its end.
CREATE INDEX events_command ON events (command);

-- REPLACE deletes without asking the trigger on DELETE; an event may only come right after the last.
CREATE TRIGGER events_in_order BEFORE INSERT ON events
WHEN NEW.position IS NOT (SELECT coalesce(max(position), 0) + 1 FROM events)
    OR EXISTS (SELECT 1 FROM events WHERE stream = NEW.stream AND version = NEW.version)
BEGIN
    SELECT raise(ABORT, 'the log is append-only: a row comes right after the last');
END;

CREATE TRIGGER events_kept BEFORE DELETE ON events
BEGIN
    SELECT raise(ABORT, 'the log is append-only: rows are never deleted');
END;

CREATE TRIGGER events_unchanged BEFORE UPDATE ON events
WHEN NEW.personal IS NOT NULL
    OR NEW.position IS NOT OLD.position
    OR NEW.stream IS NOT OLD.stream
    OR NEW.version IS NOT OLD.version
    OR NEW.kind IS NOT OLD.kind
    OR NEW.recorded_at IS NOT OLD.recorded_at
    OR NEW.command IS NOT OLD.command
    OR NEW.meta IS NOT OLD.meta
    OR NEW.body IS NOT OLD.body
    OR NEW.personal_hash IS NOT OLD.personal_hash
    OR NEW.hash IS NOT OLD.hash
BEGIN
    SELECT raise(ABORT, 'the log is append-only: only the personal column may be emptied');
END;

CREATE TRIGGER streams_new BEFORE INSERT ON streams
WHEN EXISTS (SELECT 1 FROM streams WHERE id = NEW.id OR name = NEW.name)
BEGIN
    SELECT raise(ABORT, 'the log is append-only: a stream keeps its name');
END;

CREATE TRIGGER streams_kept BEFORE DELETE ON streams
BEGIN
    SELECT raise(ABORT, 'the log is append-only: streams are never deleted');
END;

CREATE TRIGGER streams_unchanged BEFORE UPDATE ON streams
BEGIN
    SELECT raise(ABORT, 'the log is append-only: a stream keeps its name');
END;

CREATE VIEW history AS
SELECT
    e.position,
    strftime('%Y-%m-%dT%H:%M:%fZ', e.recorded_at / 1000.0, 'unixepoch') AS time,
    s.name AS stream,
    e.version,
    e.kind,
    iif(json_valid(e.meta), e.meta ->> '$.actor.kind', NULL) AS actor,
    iif(json_valid(e.meta), e.meta ->> '$.command', NULL) AS command,
    e.meta,
    e.body,
    e.personal,
    e.recorded_at,
    lower(hex(e.hash)) AS hash
FROM events AS e
LEFT JOIN streams AS s ON s.id = e.stream;
