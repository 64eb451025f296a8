"""The port of the log: few verbs, several backends, one contract.

Nothing above this file knows which backend it has. Bodies are bytes here; `codec` turns them into events.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from msgspec import Struct


class Draft(Struct, frozen=True, gc=False):
    """One event on its way into the log: JSON bytes, not yet placed."""

    kind: str
    meta: bytes
    body: bytes
    personal: bytes | None = None


class Slice(Struct, frozen=True, gc=False):
    """Drafts for one stream, valid only if the stream is at version `expected` (0: it has no event yet)."""

    stream: str
    expected: int
    drafts: tuple[Draft, ...]


class Record(Struct, frozen=True, gc=False):
    """One stored row. `position` counts from 1 over the whole log without gaps, `version` from 1 in the stream; times in ms."""

    position: int
    stream: str
    version: int
    kind: str
    recorded_at: int
    meta: bytes
    body: bytes
    personal: bytes | None
    personal_hash: bytes | None
    hash: bytes


class Line(Struct, frozen=True, gc=False):
    """What a fold needs of a row and no more: half the cost of a `Record`."""

    position: int
    stream: str
    version: int
    kind: str
    body: bytes


class Mark(Struct, frozen=True, gc=False):
    """A place in the log: a position and the hash of the row there. Position 0 has the genesis hash."""

    position: int
    hash: bytes


class Conflict(Struct, frozen=True, gc=False):
    """A stream was not where a slice expected it; nothing was written."""

    stream: str
    expected: int
    actual: int


class Appended(Struct, frozen=True, gc=False):
    """The rows of one append, in order, after their commit."""

    records: tuple[Record, ...]

    @property
    def position(self) -> int:
        """The last position written."""
        return self.records[-1].position


class EventLog(Protocol):
    """An append-only, hash-chained, globally ordered log of streams."""

    async def append(self, slices: Sequence[Slice], *, command: str, now: int) -> Appended | Conflict:
        """Append all slices or none, durably, and return their rows.

        `command` is a UUIDv7 in its hyphenated form: rows of a command that was already stored are returned again and nothing is
        written. `now` (ms) becomes `recorded_at`, raised to the last row's time where the clock went back. A conflict is a value.
        A later slice sees what an earlier one adds; a slice without drafts is a condition on its stream alone. Never cancelled
        half-way: a cancelled caller's rows may be stored. Raises `LogUnavailable` when the rows are not known to be stored,
        `StreamDamaged`, and ValueError for what no log could hold.
        """

    async def stream(self, name: str, *, after: int = 0) -> tuple[Record, ...]:
        """Return the rows of one stream with a version above `after`, in order. Raises `StreamDamaged` where a hash is wrong."""

    async def scan(self, *, after: int = 0, limit: int = 1000) -> tuple[Record, ...]:
        """Return up to `limit` rows of all streams with a position above `after`, in order, without judging their hashes."""

    async def replay(self, *, after: int = 0, limit: int = 1000) -> tuple[Line, ...]:
        """Return what `scan` returns, as lines: the quick way to fold everything. Hashes are not judged."""

    async def command(self, command: str) -> tuple[Record, ...]:
        """Return the rows that one command stored, or none."""

    async def head(self) -> Mark:
        """Return the mark of the last row, current across processes; one PRAGMA when nobody else has written."""

    async def mark(self, position: int) -> Mark | None:
        """Return the mark at a position, or None where the log is shorter."""

    def follow(self, *, after: Mark) -> AsyncGenerator[Record, None]:
        """Yield every row above the mark as it is committed by any process, for ever.

        Raises `HistoryChanged` where the mark no longer holds, `LogUnavailable` once the log is closed.
        """

    async def examine(self) -> tuple[str, ...]:
        """Return what the storage finds wrong with its own structure (an index that lacks rows), or nothing. Reads everything.

        Beside `scan` and the chain this is the other half of a verification: the chain proves the rows, this the ways to them.
        """

    async def pick(self, positions: Sequence[int]) -> tuple[Record, ...]:
        """Return the rows at these positions that there are, in the order of the log, without judging their hashes."""

    async def forget(self, stream: str, *, below: int | None = None) -> int:
        """Empty the personal column of a stream, of its rows before a position, and return how many had one.

        The chain still verifies. Raises `LogUnavailable`, also where the bytes could not be scrubbed out of the files: ask again.
        """

    async def forget_at(self, positions: Sequence[int]) -> int:
        """Empty the personal column of the rows at these positions, as `forget` does."""

    async def close(self) -> None:
        """Finish what is being written and let go of the files."""
