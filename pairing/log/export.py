"""An export: the log as lines of JSON that a stranger can check with nothing but this description (docs/log.md).

The same rows give the same bytes. Whatever is changed on a file, its reader finds: rows by their chain, the rest by the trailer.
"""

import base64
import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from uuid import UUID

import msgspec
from msgspec import Struct

from pairing.refusals import PairingError

from .chain import GENESIS, Verifier
from .errors import StreamDamaged
from .file import opened, unavailable
from .merkle import Growing
from .port import Mark, Record

FORMAT = "pairing-log-export"
_BATCH = 2_000
_LONGEST = 64 * 1024 * 1024
_ROWS = """SELECT e.position, s.name, e.version, e.kind, e.recorded_at, e.meta, e.body, e.personal, e.personal_hash, e.hash,
    e.command FROM events AS e LEFT JOIN streams AS s ON s.id = e.stream WHERE e.position BETWEEN ? AND ? ORDER BY e.position"""


class ExportUnusable(PairingError):
    """A file is no export, or not a whole one; the text says from which line on."""

    def __init__(self, line: int, why: str) -> None:
        self.line, self.why = line, why
        super().__init__(f"line {line} of the export: {why}")


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    """The first line. `previous` is the hash of the row before `first`, of genesis where that is 1."""

    format: str
    version: int
    first: int
    last: int
    previous: str
    redacted: bool


class Row(Struct, frozen=True, forbid_unknown_fields=True):
    """One line for each row: the columns, texts as stored, hashes in hex, `command` as a UUID."""

    position: int
    stream: str
    version: int
    kind: str
    recorded_at: int
    command: str
    meta: str
    body: str
    personal: str | None
    personal_hash: str | None
    hash: str


class Head(Struct, frozen=True, forbid_unknown_fields=True):
    """The last row."""

    position: int
    hash: str


class Trailer(Struct, frozen=True, forbid_unknown_fields=True):
    """The last line. `root` is the Merkle root where the export begins with the first row; `sha256` covers all lines before."""

    rows: int
    head: Head
    root: str | None
    sha256: str


class Change(Protocol):
    """Something done to rows on their way out, such as redaction."""

    def __call__(self, record: Record, command: str, previous: Mark) -> tuple[Record, str]:
        """Return the row to write in place of one, chained to `previous`."""


class Chunk(Struct, frozen=True):
    """Some lines of an export, up to a position."""

    text: bytes
    position: int


_encode = msgspec.json.Encoder().encode


def write(path: Path, first: int, last: int, change: Change | None = None) -> Iterator[Chunk]:
    """Yield the export of the rows from `first` to `last` of the log at `path`.

    Each row is checked on the way: a damaged log is not written out as a sound one. Raises `StreamDamaged`, `LogUnavailable`.
    """
    with closing(opened(path, readonly=True)) as database:
        try:
            yield from _written(database, first, last, change)
        except sqlite3.Error as error:
            raise unavailable(path, error) from error


def _written(database: sqlite3.Connection, first: int, last: int, change: Change | None) -> Iterator[Chunk]:
    # One reading transaction: every row of one moment.
    database.execute("BEGIN")
    start = _start(database, first)
    verifier, mark = Verifier(start), start
    making = Making(first, last, start.hash, redacted=change is not None)
    yield Chunk(making.begin(), start.position)
    for begin in range(first, last + 1, _BATCH):
        read = list(pairs(database, begin, min(begin + _BATCH - 1, last)))
        for fault in verifier.faults([record for record, _ in read]):
            raise StreamDamaged(fault.stream, fault.position, fault.why)
        lines = []
        for record, command in read:
            if change is not None:
                record, command = change(record, command, mark)
            mark = Mark(record.position, record.hash)
            lines.append((line(record, command), record.hash))
        yield Chunk(making.add(lines), mark.position)
    if mark.position != last:
        raise StreamDamaged("", mark.position + 1, "the row is missing")
    yield Chunk(making.end(mark), mark.position)


class Making:
    """The text of an export as it comes to be, from the lines of its rows."""

    def __init__(self, first: int, last: int, previous: bytes, *, redacted: bool = False) -> None:
        self._header = Header(FORMAT, 1, first, last, previous.hex(), redacted)
        self._tree = Growing() if first == 1 else None
        self._digest, self._rows = hashlib.sha256(), 0

    def begin(self) -> bytes:
        """Return the header's line."""
        return self._count(_line(self._header))

    def add(self, lines: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Return the lines of rows, given without their ends and with their rows' hashes."""
        self._rows += len(lines)
        if self._tree is not None:
            self._tree.add(digest for _, digest in lines)
        return self._count(b"".join([text + b"\n" for text, _ in lines]))

    def end(self, mark: Mark) -> bytes:
        """Return the trailer's line, after the last row."""
        return _line(_trailer(self._rows, mark, self._tree, self._digest.hexdigest()))

    def _count(self, text: bytes) -> bytes:
        self._digest.update(text)
        return text


def _start(database: sqlite3.Connection, first: int) -> Mark:
    if first == 1:
        return GENESIS
    row = database.execute("SELECT hash FROM events WHERE position = ?", (first - 1,)).fetchone()
    if row is None:
        raise StreamDamaged("", first - 1, "the row is missing")
    return Mark(first - 1, row[0])


def pairs(database: sqlite3.Connection, first: int, last: int) -> Iterator[tuple[Record, str]]:
    """Yield rows and their commands, from one position to another. Raises `StreamDamaged` where a column is not of its type."""
    for row in database.execute(_ROWS, (first, last)):
        yield _pair(row)


def line(record: Record, command: str) -> bytes:
    """Return the line of one row, without its end."""
    return _encode(_row(record, command))


def _pair(row: tuple[Any, ...]) -> tuple[Record, str]:
    position, stream, version, kind, recorded, meta, body, personal, veiled, digest, command = row
    try:
        name, word = str(stream, "utf-8"), str(kind, "utf-8")
        record = Record(position, name, version, word, recorded, meta, body, personal, veiled, digest)
        return record, str(UUID(bytes=command))
    except (TypeError, ValueError):
        raise StreamDamaged("", int(str(position)), "a column is not of its type") from None


def _row(record: Record, command: str) -> Row:
    personal, veiled = record.personal, record.personal_hash
    return Row(
        record.position,
        record.stream,
        record.version,
        record.kind,
        record.recorded_at,
        command,
        record.meta.decode(),
        record.body.decode(),
        None if personal is None else personal.decode(),
        None if veiled is None else veiled.hex(),
        record.hash.hex(),
    )


def _trailer(count: int, mark: Mark, tree: Growing | None, digest: str) -> Trailer:
    root = None if tree is None else base64.b64encode(tree.root()).decode()
    return Trailer(count, Head(mark.position, mark.hash.hex()), root, digest)


def _line(content: Struct) -> bytes:
    return _encode(content) + b"\n"


class Reader:
    """An export, read and checked line by line. Whoever takes rows from it must read to the end before trusting them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest, self._number = file, hashlib.sha256(), 0
        self.header = self._header()
        self.trailer: Trailer | None = None
        self._previous = bytes.fromhex(self.header.previous)

    def rows(self) -> Iterator[tuple[Record, str]]:
        """Yield each row and its command, then check the trailer. Raises `ExportUnusable`."""
        header = self.header
        mark = Mark(header.first - 1, self._previous)
        verifier, tree = Verifier(mark), Growing()
        for _ in range(header.last - header.first + 1):
            record, command = self._row(self._next())
            fault = next(verifier.faults((record,)), None)
            if fault is not None:
                raise ExportUnusable(self._number, f"position {fault.position} of stream {fault.stream}: {fault.why}")
            tree.add((record.hash,))
            yield record, command
        expected = _trailer(self._number - 1, verifier.mark, tree if header.first == 1 else None, self._digest.hexdigest())
        if self._line() != _line(expected):
            raise ExportUnusable(self._number, "the trailer is not that of the lines before it")
        if self._file.read(1):
            raise ExportUnusable(self._number + 1, "something follows the trailer")
        self.trailer = expected

    def _header(self) -> Header:
        line = self._next()
        try:
            header: Header = msgspec.json.decode(line, type=Header)
            previous = bytes.fromhex(header.previous)
        except (ValueError, RecursionError) as error:
            raise ExportUnusable(1, f"it is no export of a log: {error}") from None
        if (header.format, header.version) != (FORMAT, 1):
            raise ExportUnusable(1, f"it is a {header.format} of version {header.version}, not a {FORMAT} of version 1")
        if _line(header) != line or len(previous) != 32 or header.first < 1 or header.last < header.first - 1:
            raise ExportUnusable(1, "the header is not one that an export has")
        if header.first == 1 and previous != GENESIS.hash:
            raise ExportUnusable(1, "the hash before the first row is not that of genesis")
        return header

    def _row(self, line: bytes) -> tuple[Record, str]:
        try:
            row: Row = msgspec.json.decode(line, type=Row)
            if _line(row) != line:
                raise ExportUnusable(self._number, "it is not written as an export writes it")
            record = Record(
                row.position,
                row.stream,
                row.version,
                row.kind,
                row.recorded_at,
                row.meta.encode(),
                row.body.encode(),
                None if row.personal is None else row.personal.encode(),
                None if row.personal_hash is None else bytes.fromhex(row.personal_hash),
                bytes.fromhex(row.hash),
            )
            command = str(UUID(row.command))
            said = msgspec.json.decode(record.meta)
        except (ValueError, RecursionError) as error:
            raise ExportUnusable(self._number, f"it is no row: {error}") from None
        named = said.get("command") if isinstance(said, dict) else None
        if isinstance(named, str) and named.lower() != command:
            raise ExportUnusable(self._number, f"position {row.position} has another command than its meta names")
        return record, row.command

    def _next(self) -> bytes:
        line = self._line()
        self._digest.update(line)
        return line

    def _line(self) -> bytes:
        self._number += 1
        line = self._file.readline(_LONGEST)
        if not line.endswith(b"\n"):
            raise ExportUnusable(
                self._number, "the file ends here, or the line never does" if line else "the file ends before it"
            )
        return line
