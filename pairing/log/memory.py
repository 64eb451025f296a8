"""The log in memory, for tests and for trying things out. Same contract as the others; nothing survives the process."""

from collections.abc import AsyncIterator, Sequence

import anyio
from msgspec.structs import replace

from .chain import GENESIS
from .errors import HistoryChanged
from .port import Appended, Conflict, Mark, Record, Slice
from .slices import check, command_key, place


class MemoryLog:
    """An `EventLog` that keeps its rows in a list."""

    def __init__(self) -> None:
        self._rows: list[Record] = []
        self._streams: dict[str, list[int]] = {}
        self._commands: dict[bytes, tuple[int, int]] = {}
        self._news = anyio.Event()

    async def append(self, slices: Sequence[Slice], *, command: str, now: int) -> Appended | Conflict:
        """Append all slices or none; see the port."""
        key = command_key(command)
        check(slices, now)
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
        self._news.set()
        self._news = anyio.Event()
        return Appended(placed)

    async def stream(self, name: str, *, after: int = 0) -> tuple[Record, ...]:
        """Return the rows of one stream with a version above `after`."""
        return tuple(self._rows[position - 1] for position in self._streams.get(name, [])[after:])

    async def scan(self, *, after: int = 0, limit: int = 1000) -> tuple[Record, ...]:
        """Return up to `limit` rows with a position above `after`."""
        return tuple(self._rows[after : after + limit])

    async def command(self, command: str) -> tuple[Record, ...]:
        """Return the rows that one command stored, or none."""
        return self._command(command_key(command))

    async def head(self) -> Mark:
        """Return the mark of the last row."""
        return self._last()

    async def mark(self, position: int) -> Mark | None:
        """Return the mark at a position, or None where the log is shorter."""
        if position == 0:
            return GENESIS
        if not 0 < position <= len(self._rows):
            return None
        return Mark(position, self._rows[position - 1].hash)

    async def follow(self, *, after: Mark) -> AsyncIterator[Record]:
        """Yield every row above the mark, for ever. Raises `HistoryChanged` where the mark is not this log's."""
        if await self.mark(after.position) != after:
            raise HistoryChanged(after.position)
        position = after.position
        while True:
            news = self._news
            for record in await self.scan(after=position):
                position = record.position
                yield record
            if position == len(self._rows):
                await news.wait()

    async def forget(self, stream: str) -> int:
        """Empty the personal column of a stream and return how many rows had one."""
        held = [record for record in await self.stream(stream) if record.personal is not None]
        for record in held:
            self._rows[record.position - 1] = replace(record, personal=None)
        return len(held)

    async def close(self) -> None:
        """Let go; may be called twice."""

    def _last(self) -> Mark:
        return Mark(self._rows[-1].position, self._rows[-1].hash) if self._rows else GENESIS

    def _command(self, key: bytes) -> tuple[Record, ...]:
        first, end = self._commands.get(key, (0, 0))
        return tuple(self._rows[first:end])
