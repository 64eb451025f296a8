"""Checking a whole log file, part after part, on as many cores as there are: a row's hash needs only the one before it.

Each part is read by itself in a process or thread of its own, and says how it joins the next. It reads only, and repairs nothing.
"""

import json
import os
import pickle
import sqlite3
import subprocess
import sys
from binascii import hexlify
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from hashlib import sha256
from pathlib import Path
from struct import error as PackingError
from typing import Any, TypeAlias

from msgspec import Struct

from .chain import _HEAD, _PERSONAL, _ROW, GENESIS, Fault
from .errors import LogUnavailable
from .file import opened, unavailable
from .merkle import Growing, complete
from .port import Mark

PART = 65_536
MOST_FAULTS = 1_000
# Below this, starting processes costs more than they save.
_ALONE = 2 * PART
_CHILD = "from pairing.log.sweep import child; child()"
_COMMAND = b'"command":"'
_ROWS = """SELECT position, stream, version, kind, recorded_at, command, meta, body, personal, personal_hash, hash
    FROM events WHERE position BETWEEN ? AND ? ORDER BY position"""
_BEFORE = "SELECT position, hash FROM events WHERE position < ? ORDER BY position DESC LIMIT 1"

Progress: TypeAlias = Callable[[int, int], None]


class Swept(Struct):
    """What was found. `faults` holds the first ones of `count`; `kinds` counts rows by kind.

    `forgotten` rows had their personal part emptied, `unnamed` rows name no command in their meta: of both a part cannot be
    checked. `anchor` is the root of the first rows that an anchor asked for, `mark` the last row found.
    """

    rows: int
    faults: list[Fault]
    count: int
    mark: Mark
    kinds: dict[str, int]
    forgotten: int
    unnamed: int
    anchor: tuple[bytes, bytes] | None = None


class _Part(Struct):
    """What one part of the positions says about itself, and what the parts beside it must fit."""

    rows: int = 0
    faults: list[tuple[int, str, str]] = []
    count: int = 0
    position: int = 0
    digest: bytes = b""
    times: tuple[int, int, int] | None = None
    begins: dict[int, tuple[int, int, str]] = {}
    ends: dict[int, int] = {}
    kinds: dict[bytes, int] = {}
    forgotten: int = 0
    unnamed: int = 0
    # What the tree needs of it: one root over a full part, or the entries one by one.
    root: bytes = b""
    entries: bytes = b""


def sweep(path: Path, end: int, *, anchor: int | None = None, progress: Progress | None = None) -> Swept:
    """Check the rows up to a position. `anchor`: also give the root and the last hash of so many first rows.

    It takes its time: call it in a thread. Raises `LogUnavailable` where pages cannot be read at all.
    """
    whole, tree = _Whole(), _Tree(anchor)
    with closing(_parts(path, end, anchor)) as parts:
        for part in parts:
            whole.join(part)
            tree.add(part)
            if progress is not None:
                progress(min(part.position, end), end)
    swept = whole.swept
    swept.anchor = tree.found
    swept.faults.sort(key=lambda fault: fault.position)
    return swept


def _parts(path: Path, end: int, anchor: int | None) -> Generator[_Part, None, None]:
    """Yield the parts in order: read here, or in turns by as many processes as there are cores.

    A pipe holds back whoever is ahead, so that no more than a part of each process is in memory.
    """
    workers = os.cpu_count() or 1
    ranges = _ranges(end)
    if end < _ALONE or workers < 2:
        for first, last in ranges:
            try:
                yield read(path, first, last, anchor)
            except sqlite3.Error as error:
                raise unavailable(path, error) from error
        return
    with ExitStack() as stack:
        children = [stack.enter_context(_started(path, end, anchor, which, workers)) for which in range(workers)]
        for number in range(len(ranges)):
            pipe = children[number % workers].stdout
            assert pipe is not None
            try:
                part = pickle.load(pipe)  # noqa: S301  written by our own child, of the same code
            except (EOFError, pickle.UnpicklingError):
                raise LogUnavailable(path, "a process that was reading it ended") from None
            if not isinstance(part, _Part):
                raise LogUnavailable(path, str(part))
            yield part


def _ranges(end: int) -> list[tuple[int, int]]:
    return [(first, min(first + PART - 1, end)) for first in range(1, end + 1, PART)]


class _started:
    """A process that reads every n-th part; it ends with the block, however that ends."""

    def __init__(self, path: Path, end: int, anchor: int | None, which: int, workers: int) -> None:
        job = json.dumps([str(path.absolute()), end, anchor, which, workers])
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", _CHILD, job]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, env=env)  # noqa: S603  ourselves

    def __enter__(self) -> "subprocess.Popen[bytes]":
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()


def child() -> None:
    """Be one of the processes: write each part of one's own to standard output."""
    path, end, anchor, which, workers = json.loads(sys.argv[1])
    for first, last in _ranges(end)[which::workers]:
        try:
            part: _Part | str = read(Path(path), first, last, anchor)
        except sqlite3.Error as error:
            part = str(error)
        pickle.dump(part, sys.stdout.buffer, protocol=5)
        sys.stdout.buffer.flush()


class _Whole:
    """The parts put together: what only shows across them are versions and times."""

    def __init__(self) -> None:
        self.swept = Swept(0, [], 0, GENESIS, {}, 0, 0)
        self._versions: dict[int, int] = {}
        self._time: int | None = None

    def join(self, part: _Part) -> None:
        swept, versions = self.swept, self._versions
        swept.rows += part.rows
        swept.count += part.count
        swept.faults += [Fault(*fault) for fault in part.faults]
        for key, (version, position, stream) in part.begins.items():
            before = versions.get(key, 0)
            if version != before + 1:
                self._fault(position, stream, f"version {version} follows version {before}")
        versions.update(part.ends)
        if part.times is not None:
            first, last, position = part.times
            if self._time is not None and first < self._time:
                self._fault(position, "", "its time lies before that of the row before it")
            self._time = last
        for kind, count in part.kinds.items():
            name = kind.decode("utf-8", "replace") if isinstance(kind, bytes) else repr(kind)
            swept.kinds[name] = swept.kinds.get(name, 0) + count
        swept.forgotten += part.forgotten
        swept.unnamed += part.unnamed
        if part.rows:
            swept.mark = Mark(part.position, part.digest)

    def _fault(self, position: int, stream: str, why: str) -> None:
        self.swept.count += 1
        if len(self.swept.faults) < MOST_FAULTS:
            self.swept.faults.append(Fault(position, stream, why))


class _Tree:
    """The Merkle root of the rows up to the anchor, over their hashes as they stand."""

    def __init__(self, anchor: int | None) -> None:
        self._growing, self._anchor = Growing(), anchor
        self.found: tuple[bytes, bytes] | None = None

    def add(self, part: _Part) -> None:
        if part.root:
            self._growing.add_complete((part.root,), PART)
        self._growing.add(part.entries[at : at + 32] for at in range(0, len(part.entries), 32))
        if self._growing.size == self._anchor and self.found is None:
            self.found = self._growing.root(), part.entries[-32:] or part.digest


def read(path: Path, first: int, last: int, anchor: int | None) -> _Part:
    """Read one part. Raises sqlite3.Error."""
    with closing(opened(path, readonly=True)) as database:
        reading = _Reading(database, first)
        return reading.part(first, last, 0 if anchor is None else min(PART, anchor - first + 1))


class _Reading:
    """One part, row by row: what `chain.Verifier` checks, and the column beside the chain, without making a record of each."""

    def __init__(self, database: sqlite3.Connection, first: int) -> None:
        self._db = database
        self._names: dict[Any, bytes] = {}
        self._part = _Part(0, [], 0, 0, b"", None, {}, {}, {}, 0, 0)
        row = None if first == 1 else database.execute(_BEFORE, (first,)).fetchone()
        self._before = GENESIS if row is None else Mark(*row)

    def part(self, first: int, last: int, leaves: int) -> _Part:
        """Check the rows; `leaves`: how many of the first of them the tree needs."""
        part, names, begins, ends, kinds = self._part, self._names, self._part.begins, self._part.ends, self._part.kinds
        before, previous, anew = self._before.position, self._before.hash, b""
        entries: list[bytes] = []
        time = began = None
        for row in self._db.execute(_ROWS, (first, last)):
            position, stream, version, kind, recorded, command, meta, body, personal, veiled, digest = row
            part.rows += 1
            name = names.get(stream)
            if name is None:
                name = names[stream] = self._name(stream)
            shown = b"" if veiled is None else veiled
            made = None
            try:
                sizes = (len(name), len(kind), len(meta), len(body), len(shown))
                head = _HEAD(_ROW, previous, position, version, recorded, *sizes)
                made = sha256(b"".join((head, name, kind, meta, body, shown))).digest()
                fits = made == digest
                if not fits and anew:
                    # The stored hash of the row before was what is damaged: this row fits the one worked out anew.
                    head = _HEAD(_ROW, anew, position, version, recorded, *sizes)
                    fits = sha256(b"".join((head, name, kind, meta, body, shown))).digest() == digest
            except (TypeError, PackingError):
                fits = False
            if position != before + 1:
                self._fault(row, name, f"it comes right after position {before}")
            elif not fits:
                self._fault(row, name, "its hash does not fit")
            anew = b"" if fits or made is None else made
            if personal is not None:
                if type(personal) is not bytes or sha256(_PERSONAL + personal).digest() != veiled:
                    self._fault(row, name, "its personal part does not fit its hash")
            elif veiled is not None:
                part.forgotten += 1
            if type(version) is int and type(recorded) is int:
                known = ends.get(stream)
                if known is None:
                    begins[stream] = (version, position, _text(name))
                elif version != known + 1:
                    self._fault(row, name, f"version {version} follows version {known}")
                ends[stream] = version
                if time is None:
                    began = (recorded, position)
                elif recorded < time:
                    self._fault(row, name, "its time lies before that of the row before it")
                time = recorded
            at = meta.find(_COMMAND) if type(meta) is bytes else -1
            if at < 0 or type(command) is not bytes or meta[at + 11 : at + 47].replace(b"-", b"") != hexlify(command):
                self._command(row, name)
            kinds[kind] = kinds.get(kind, 0) + 1
            before, previous = position, digest
            entries.append(digest)
        if began is not None and time is not None:
            part.times = (began[0], time, began[1])
        part.position, part.digest = before, previous
        if leaves > 0:
            self._keep([entry if type(entry) is bytes and len(entry) == 32 else bytes(32) for entry in entries[:leaves]])
        return part

    def _keep(self, entries: list[bytes]) -> None:
        if len(entries) == PART:
            self._part.root = complete([sha256(b"\0" + entry).digest() for entry in entries])
        else:
            self._part.entries = b"".join(entries)

    def _name(self, stream: Any) -> bytes:
        row = self._db.execute("SELECT name FROM streams WHERE id = ?", (stream,)).fetchone()
        return row[0] if row and type(row[0]) is bytes else b"(a stream without a name)"

    def _command(self, row: Any, name: bytes) -> None:
        """Compare the column, which stands outside the chain, with the id inside it."""
        command, meta = row[5], row[6]
        try:
            inside = json.loads(meta).get("command")
        except (ValueError, TypeError, AttributeError, RecursionError):
            inside = None
        if not isinstance(inside, str):
            self._part.unnamed += 1
        elif type(command) is not bytes or inside.replace("-", "").lower() != command.hex():
            self._fault(row, name, "its command column is not the command that its meta names")

    def _fault(self, row: Any, name: bytes, why: str) -> None:
        self._part.count += 1
        if len(self._part.faults) < MOST_FAULTS:
            self._part.faults.append((row[0], _text(name), why))


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")
