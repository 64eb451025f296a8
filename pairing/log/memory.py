"""The log in memory, for tests and for trying things out. Same contract as the others; nothing survives the process."""

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import anyio
from msgspec.structs import replace

from .chain import GENESIS
from .errors import HistoryChanged, LogUnavailable
from .port import Appended, Conflict, Line, Mark, Record, Slice
from .slices import check, command_key, place


class MemoryLog:
    """An `EventLog` that keeps its rows in a list."""

    def __init__(self) -> None:
        self._rows: list[Record] = []
        self._streams: dict[str, list[int]] = {}
        self._commands: dict[bytes, tuple[int, int]] = {}
        self._news = anyio.Event()
        self._closed = False

    async def append(self, slices: Sequence[Slice], *, command: str, now: int) -> Appended | Conflict:
        """Append all slices or none; see the port."""
        key = command_key(command)
        check(slices, now)
        self._check_open()
        if key in self._commands:
            return Appended(self._command(key))
        versions = {part.stream: len(self._streams.get(part.stream, ())) for part in slices}
        placed = place(slices, versions, self._last(), max(now, self._rows[-1].recorded_at if self._rows else 0))
        if isinstance(placed, Conflict):
            return placed
        self._commands[key] = (len(self._rows), len(self._rows) + len(placed))
        for record in placed:
            self._streams.setdefault(record.stream, []).append(record.position)
        self._rows.extend(placed)
        self._tell()
        return Appended(placed)

    async def stream(self, name: str, *, after: int = 0) -> tuple[Record, ...]:
        """Return the rows of one stream with a version above `after`."""
        self._check_open()
        return tuple(self._rows[position - 1] for position in self._streams.get(name, [])[after:])

    async def scan(self, *, after: int = 0, limit: int = 1000) -> tuple[Record, ...]:
        """Return up to `limit` rows with a position above `after`."""
        self._check_open()
        return tuple(self._rows[after : after + limit])

    async def replay(self, *, after: int = 0, limit: int = 1000) -> tuple[Line, ...]:
        """Return up to `limit` rows with a position above `after` as lines."""
        rows = await self.scan(after=after, limit=limit)
        return tuple(Line(row.position, row.stream, row.version, row.kind, row.body) for row in rows)

    async def command(self, command: str) -> tuple[Record, ...]:
        """Return the rows that one command stored, or none."""
        self._check_open()
        return self._command(command_key(command))

    async def head(self) -> Mark:
        """Return the mark of the last row."""
        self._check_open()
        return self._last()

    async def mark(self, position: int) -> Mark | None:
        """Return the mark at a position, or None where the log is shorter."""
        self._check_open()
        if position == 0:
            return GENESIS
        if not 0 < position <= len(self._rows):
            return None
        return Mark(position, self._rows[position - 1].hash)

    async def follow(self, *, after: Mark) -> AsyncGenerator[Record, None]:
        """Yield every row above the mark, for ever. Raises `HistoryChanged` where the mark is not this log's."""
        if await self.mark(after.position) != after:
            raise HistoryChanged(after.position)
        position = after.position
        while True:
            self._check_open()
            news = self._news
            for record in await self.scan(after=position):
                position = record.position
                yield record
            if position == len(self._rows):
                await news.wait()

    async def examine(self) -> tuple[str, ...]:
        """Return nothing: there is no structure beside the rows."""
        return ()

    async def pick(self, positions: Sequence[int]) -> tuple[Record, ...]:
        """Return the rows at these positions that there are."""
        self._check_open()
        return tuple(self._rows[position - 1] for position in sorted(set(positions)) if 0 < position <= len(self._rows))

    async def forget(self, stream: str, *, below: int | None = None) -> int:
        """Empty the personal column of a stream below a position and return how many rows had one."""
        rows = await self.stream(stream)
        return await self.forget_at([row.position for row in rows if below is None or row.position < below])

    async def forget_at(self, positions: Sequence[int]) -> int:
        """Empty the personal column of the rows at these positions and return how many had one."""
        held = [record for record in await self.pick(positions) if record.personal is not None]
        for record in held:
            self._rows[record.position - 1] = replace(record, personal=None)
        return len(held)

    async def close(self) -> None:
        """Take nothing more; may be called twice."""
        self._closed = True
        self._tell()

    def _last(self) -> Mark:
        return Mark(self._rows[-1].position, self._rows[-1].hash) if self._rows else GENESIS

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    def _check_open(self) -> None:
        if self._closed:
            raise LogUnavailable(Path("(memory)"), "it is closed")

    def _command(self, key: bytes) -> tuple[Record, ...]:
        first, end = self._commands.get(key, (0, 0))
        return tuple(self._rows[first:end])
