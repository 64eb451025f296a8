"""The hash chain: each row carries a digest over itself and the digest of the row before.

Pure, and built from SHA-256 and fixed-width integers alone, so that anybody can check an exported log with a
standard library. It never reads a file and never decides what a fault means.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from struct import Struct as Packing
from struct import error as PackingError
from typing import Any

import msgspec

from .port import Draft, Mark, Record

_ROW = b"pairing log row 1\n"
_PERSONAL = b"pairing log personal 1\n"
_HEAD = Packing(">18s32sqqqIIIII").pack

GENESIS = Mark(0, sha256(b"pairing log genesis 1\n").digest())


def personal_hash(personal: bytes) -> bytes:
    """Return SHA-256 over the 23 bytes `pairing log personal 1\\n` and the stored bytes; their random salt prevents guessing."""
    return sha256(_PERSONAL + personal).digest()


def row_hash(
    previous: bytes,
    position: int,
    stream: str,
    version: int,
    kind: str,
    recorded_at: int,
    meta: bytes,
    body: bytes,
    personal_hash: bytes | None,
) -> bytes:
    """Return the 32-byte hash of a row: SHA-256 over this concatenation, integers big-endian.

    1. the 18 bytes `pairing log row 1\\n` (domain and version);
    2. the 32-byte hash of the row before, for position 1 that is SHA-256 over the 22 bytes `pairing log genesis 1\\n`;
    3. position, version, recorded_at, each a signed 64-bit integer;
    4. the lengths in bytes of stream, kind, meta, body and personal hash, each an unsigned 32-bit integer;
    5. stream and kind in UTF-8, meta and body exactly as stored, and the personal hash, nothing where the row has none.

    The personal column itself is not covered, only its hash (`personal_hash`), so that emptying it breaks nothing.
    """
    name = stream.encode("utf-8", "surrogateescape")
    sort = kind.encode("utf-8", "surrogateescape")
    personal = b"" if personal_hash is None else personal_hash
    head = _HEAD(_ROW, previous, position, version, recorded_at, len(name), len(sort), len(meta), len(body), len(personal))
    return sha256(b"".join((head, name, sort, meta, body, personal))).digest()


def link(last: Mark, stream: str, version: int, recorded_at: int, draft: Draft) -> Record:
    """Place a draft after the last row."""
    position = last.position + 1
    veiled = None if draft.personal is None else personal_hash(draft.personal)
    digest = row_hash(last.hash, position, stream, version, draft.kind, recorded_at, draft.meta, draft.body, veiled)
    return Record(position, stream, version, draft.kind, recorded_at, draft.meta, draft.body, draft.personal, veiled, digest)


def digest(record: Record, previous: bytes) -> bytes | None:
    """Return the hash that a row should have after `previous`, or None where its columns are not even of the right types."""
    try:
        return row_hash(
            previous,
            record.position,
            record.stream,
            record.version,
            record.kind,
            record.recorded_at,
            record.meta,
            record.body,
            record.personal_hash,
        )
    except (TypeError, PackingError):
        return None


def flaw(record: Record, previous: bytes) -> str | None:
    """Say what is wrong with one row, given the hash of the row before, or None. A forgotten personal part is no flaw."""
    made = digest(record, previous)
    # Damage can leave no hash at all, which must not equal one that could not be worked out.
    if made is None or made != record.hash:
        return "its hash does not fit"
    personal: Any = record.personal  # damage can turn it into a number
    if personal is not None and (type(personal) is not bytes or personal_hash(personal) != record.personal_hash):
        return "its personal part does not fit its hash"
    return None


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong: at which row, of which stream, and what."""

    position: int
    stream: str
    why: str


class Verifier:
    """Checks rows in order, batch after batch: hashes, gaps in positions, versions of every stream, times that go back.

    Begun at genesis it knows that streams start at version 1; begun at a later mark it learns each stream from its first row.
    """

    def __init__(self, start: Mark = GENESIS) -> None:
        self.mark = start
        self._whole = start.position == 0
        self._versions: dict[str, int] = {}
        self._time = -(1 << 63)

    def faults(self, records: Iterable[Record]) -> Iterator[Fault]:
        """Yield every fault, in order. After one, go on from what the row itself says, so that one fault is not counted twice."""
        versions = self._versions
        for record in records:
            last, self.mark = self.mark, Mark(record.position, record.hash)
            if record.position != last.position + 1:
                yield Fault(record.position, record.stream, f"it comes right after position {last.position}")
            elif (why := flaw(record, last.hash)) is not None:
                yield Fault(record.position, record.stream, why)
                if {type(record.version), type(record.recorded_at)} != {int}:
                    continue
            before = versions.get(record.stream, 0 if self._whole else record.version - 1)
            versions[record.stream] = record.version
            if record.version != before + 1:
                yield Fault(record.position, record.stream, f"version {record.version} follows version {before}")
            if record.recorded_at < self._time:
                yield Fault(record.position, record.stream, "its time lies before that of the row before it")
            self._time = record.recorded_at


def verify(records: Iterable[Record], start: Mark = GENESIS) -> Fault | None:
    """Return the first fault of rows that follow `start`, or None."""
    return next(Verifier(start).faults(records), None)
