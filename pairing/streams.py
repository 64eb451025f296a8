"""States folded from their streams, in a bounded cache that follows the log. It decides nothing and appends nothing.

What is cached is only ever a guess: the log's expected version judges what is decided on it. Read `desk` next.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import anyio
import structlog

from .events import AnyEvent, Unknown
from .log.chain import flaw
from .log.codec import decode
from .log.errors import EventUnreadable, StreamDamaged
from .log.port import EventLog, Mark, Record

S = TypeVar("S")

BATCH = 5_000
MOST_OURS = 4_096
log = structlog.get_logger("pairing.desk")


class Folder(Protocol[S]):
    """How one family of streams is folded."""

    initial: S

    def fold(self, state: S, event: AnyEvent | Unknown) -> S:
        """Return the state after an event."""


class Witness(Protocol):
    """Remembers how far streams went. It may lag behind, and what it says closes a stream, never opens one."""

    async def last(self, stream: str) -> tuple[int, int]:
        """Return the last version of a stream that was seen in the log, and its position; zeros where none was."""

    async def catch_up(self) -> int:
        """Look at the log again: what was seen in another one that stood in its place is not remembered after it."""


class _Reading:
    """A stream that is being read: by how many, and the latest version known to have been stored meanwhile."""

    __slots__ = ("readers", "seen")

    def __init__(self) -> None:
        self.readers = 0
        self.seen = 0


class Streams(Generic[S]):
    """A bounded cache of folded streams, kept current by reading the log's new rows.

    What is cached is true at the mark or later. Whatever is read or written beside the following must prove that before it
    is kept: rows that went by meanwhile are looked at by nobody again.
    """

    def __init__(self, events: EventLog, folder: Folder[S], size: int) -> None:
        self._log = events
        self._folder = folder
        self._size = size
        self._cached: OrderedDict[str, tuple[S, int]] = OrderedDict()
        self._mark: Mark | None = None
        self._era = 0
        self._lock = anyio.Lock()
        self._ours: dict[int, Mark] = {}
        self._readings: dict[str, _Reading] = {}
        self.witness: Witness | None = None

    @property
    def position(self) -> int:
        """The position up to which the log has been taken in."""
        return self._mark.position if self._mark else 0

    def cached(self, stream: str) -> tuple[S, int] | None:
        """Return a stream's state and version if they are cached."""
        hit = self._cached.get(stream)
        if hit is not None:
            self._cached.move_to_end(stream)
        return hit

    async def get(self, stream: str) -> tuple[S, int]:
        """Return a stream's state and version: from the cache, or folded from its rows."""
        hit = self.cached(stream)
        if hit is not None:
            return hit
        found = await self._load(stream)
        # Another task may have put a later version meanwhile.
        later = self._cached.get(stream)
        return later if later is not None and later[1] > found[1] else self._keep(stream, found)

    async def _load(self, stream: str) -> tuple[S, int]:
        rows = await self._read(stream)
        if self.witness is not None and (await self.witness.last(stream))[0] > _version(rows):
            rows = await self._missed(self.witness, stream)
        state = self._folder.initial
        for row in rows:
            state = self._folder.fold(state, decode(row))
        return state, _version(rows)

    async def _missed(self, witness: Witness, stream: str) -> tuple[Record, ...]:
        """Read a stream again that had more rows once. A row that was taken out at its end leaves no other trace in it (D1)."""
        await witness.catch_up()
        version, position = await witness.last(stream)
        rows = await self._read(stream)
        if _version(rows) < version:
            raise StreamDamaged(stream, position, "it is missing")
        return rows

    async def _read(self, stream: str) -> tuple[Record, ...]:
        """Read a stream's rows, again if the following has passed later ones of it meanwhile."""
        reading = self._readings.setdefault(stream, _Reading())
        reading.readers += 1
        try:
            while True:
                era = self._era
                rows = await self._log.stream(stream)
                if era == self._era and _version(rows) >= reading.seen:
                    return rows
                await self.catch_up()
        finally:
            reading.readers -= 1
            if not reading.readers:
                self._readings.pop(stream, None)

    def put(self, stream: str, version: int, state: S, events: Sequence[AnyEvent], records: Sequence[Record]) -> S:
        """Take in events that this process appended after `version`, the only ones of their append."""
        self.wrote(records)
        return self.took(stream, version, state, events)

    def took(self, stream: str, version: int, state: S, events: Sequence[AnyEvent]) -> S:
        """Fold events that this process appended after `version`; that their rows were `wrote` is said apart."""
        for event in events:
            state = self._folder.fold(state, event)
        self._passed(stream, version + len(events))
        hit = self._cached.get(stream)
        # A state that is no longer cached may have had successors that went by unseen; the next reader folds it anew.
        if hit is not None and hit[1] <= version:
            self._keep(stream, (state, version + len(events)))
        return state

    def wrote(self, records: Sequence[Record]) -> None:
        """Note rows that need not be read again, so that following costs nothing where nobody else writes."""
        if self._mark is None:
            return
        mark = Mark(records[-1].position, records[-1].hash)
        if records[0].position == self._mark.position + 1 and not self._ours:
            self._mark = mark
            return
        if len(self._ours) >= MOST_OURS:
            self._ours.clear()
        self._ours[records[0].position] = mark
        while last := self._ours.pop(self._mark.position + 1, None):
            self._mark = last

    def drop(self, stream: str) -> None:
        """Forget a stream's state; the next reader folds it anew."""
        self._cached.pop(stream, None)

    async def catch_up(self) -> None:
        """Fold the rows above the mark into what is cached; begin anew where the log is no longer the one that was followed."""
        if await self._log.head() == self._mark:
            return
        async with self._lock:
            if self._mark is None:
                # States folded before the first look are already as new as the log was when they were read.
                self._begin(await self._log.head())
            elif not await self._take_in(self._mark):
                log.error("history changed", position=self.position)
                self._begin(await self._log.head())

    def _begin(self, mark: Mark) -> None:
        self._cached.clear()
        self._ours.clear()
        for reading in self._readings.values():
            reading.seen = 0
        self._mark = mark
        self._era += 1

    async def _take_in(self, mark: Mark) -> bool:
        """Take in all rows after the mark; False where the log has another row, or none, at the mark itself."""
        while True:
            rows = await self._log.scan(after=max(mark.position - 1, 0), limit=BATCH)
            if mark.position:
                if not rows or Mark(rows[0].position, rows[0].hash) != mark:
                    return False
                rows = rows[1:]
            for row in rows:
                self._take(row, mark.hash)
                mark = Mark(row.position, row.hash)
            if mark.position > self.position:
                self._mark = mark
                self._ours = {first: last for first, last in self._ours.items() if first > mark.position}
            if len(rows) < BATCH - 1:
                return True

    def _take(self, row: Record, previous: bytes) -> None:
        self._passed(row.stream, row.version)
        hit = self._cached.get(row.stream)
        if hit is None or row.version <= hit[1]:
            return
        # One damaged row closes its own stream, for whoever asks for it next; the others go on (D2).
        self.drop(row.stream)
        why = flaw(row, previous)
        if why is not None:
            log.error("row damaged", position=row.position, stream=row.stream, why=why)
        elif row.version == hit[1] + 1:
            try:
                self._keep(row.stream, (self._folder.fold(hit[0], decode(row)), row.version))
            except EventUnreadable as error:
                log.error("event unreadable", position=error.position, stream=row.stream)

    def _passed(self, stream: str, version: int) -> None:
        reading = self._readings.get(stream)
        if reading is not None:
            reading.seen = max(reading.seen, version)

    def _keep(self, stream: str, found: tuple[S, int]) -> tuple[S, int]:
        self._cached[stream] = found
        self._cached.move_to_end(stream)
        while len(self._cached) > self._size:
            self._cached.popitem(last=False)
        return found


def _version(rows: Sequence[Record]) -> int:
    return rows[-1].version if rows else 0
