"""Spans of positions: a view's row was true from one position up to, but not including, another; or still is.

Which rows were true at a position is found without reading the others: a closed span is filed under one number inside it, its
fork, and all spans around a position are filed under at most 48 numbers (Kriegel, Pötke, Seidl: relational interval tree).
"""

from typing import Any, Generic, TypeAlias, TypeVar, cast

import msgspec
from msgspec import Struct
from msgspec.structs import astuple, replace

R = TypeVar("R", bound=Struct)
Key: TypeAlias = tuple[Any, ...]

OPEN = 0
_LEVELS = 48
_encode = msgspec.json.Encoder().encode


def fork(start: int, end: int) -> int:
    """Return the number in [start, end) that a binary tree over all numbers meets first. Both count from 1."""
    level = ((start - 1) ^ (end - 1)).bit_length() - 1
    return (end - 1) >> level << level


def forks(position: int) -> tuple[list[int], list[int]]:
    """Return the forks of every closed span that can hold a position: those below it, and those at or above it."""
    if position < 1:
        return [], []
    lowest = (position & -position).bit_length() - 1
    path = [(position >> level | 1) << level for level in range(lowest, _LEVELS)]
    return [node for node in path if node < position], [node for node in path if node >= position]


def held(table: str) -> str:
    """Return a SELECT of the `from_position` of a table's rows that were true `:at` a position; takes what `at` gives."""
    return f"""
        SELECT from_position FROM {table} WHERE node = {OPEN} AND to_position IS NULL AND from_position <= :at
        UNION ALL
        SELECT from_position FROM {table} WHERE node IN (SELECT value FROM json_each(:below)) AND to_position > :at
        UNION ALL
        SELECT from_position FROM {table} WHERE node IN (SELECT value FROM json_each(:above)) AND from_position <= :at"""  # noqa: S608


def last_of(table: str, stream: str) -> str:
    """Return an expression for the `from_position` of a stream's last row that began by `:at`, where it has one row at a time."""
    return f"(SELECT max(from_position) FROM {table} WHERE stream = {stream} AND from_position <= :at)"  # noqa: S608


def at(position: int, **more: object) -> dict[str, object]:
    """Return the parameters of `held`."""
    below, above = forks(position)
    return {"at": position, "below": as_json(below), "above": as_json(above), **more}


def as_json(value: object) -> str:
    """Return compact JSON text."""
    return _encode(value).decode()


class Table(Struct, frozen=True):
    """A table of spans: the columns of its key, those of its row, and how many of the last ones are written as a span closes.

    `personal` are the columns that point at a person, and may be emptied.
    """

    name: str
    keys: tuple[str, ...]
    row: type[Struct]
    closing: int = 0
    personal: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns besides the span, in the order in which they are stored."""
        return (*self.keys, *(field.name for field in msgspec.structs.fields(self.row)))

    @property
    def insert(self) -> str:
        """The statement that stores a row."""
        columns = ("from_position", "to_position", "node", *self.columns)
        return f"INSERT INTO {self.name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608

    @property
    def close(self) -> str:
        """The statement that closes a stored row's span."""
        last = self.columns[len(self.columns) - self.closing :]
        sets = ", ".join(f"{column} = ?" for column in ("to_position", "node", *last))
        return f"UPDATE {self.name} SET {sets} WHERE from_position = ?"  # noqa: S608

    @property
    def forget(self) -> str:
        """The statement that empties what points at a person in the rows of stream ?1 that began before position ?2."""
        sets = ", ".join(f"{column} = NULL" for column in self.personal)
        return f"UPDATE {self.name} SET {sets} WHERE stream = ?1 AND from_position < ?2"  # noqa: S608


def load_last(table: Table) -> str:
    """Return a SELECT of the last row of each stream in the JSON list `:keys`, true or not, for `Sheet.seed`."""
    return f"""
SELECT from_position, to_position, {", ".join(table.columns)} FROM {table.name} WHERE from_position IN (
    SELECT (SELECT max(from_position) FROM {table.name} WHERE stream = value) FROM json_each(:keys))"""  # noqa: S608


class _Span(Struct, Generic[R], gc=False):
    start: int
    row: R
    stored: bool
    end: int | None = None


class Sheet(Generic[R]):
    """The rows of one table that some events touch, as they stand; `statements` takes to the table what is new.

    A key is a tuple of the table's key columns. A row that ended is remembered.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self._latest: dict[Key, _Span[R]] = {}
        self._fresh: list[tuple[Key, _Span[R]]] = []
        self._closed: list[_Span[R]] = []

    def seed(self, stored: tuple[Any, ...]) -> None:
        """Take a stored row as (from, to, key…, row…)."""
        split = 2 + len(self.table.keys)
        self._latest[stored[2:split]] = _Span(stored[0], cast(R, self.table.row(*stored[split:])), True, stored[1])

    def row(self, key: Key) -> R | None:
        """Return the row that is true now."""
        span = self._latest.get(key)
        return span.row if span is not None and span.end is None else None

    def last(self, key: Key) -> R | None:
        """Return the last row that was true, even if it is no more."""
        span = self._latest.get(key)
        return None if span is None else span.row

    def put(self, key: Key, row: R, position: int) -> None:
        """Let a row be true from a position on, in place of the one before."""
        before = self._latest.get(key)
        if before is not None:
            self._close(before, position)
        span = self._latest[key] = _Span(position, row, False)
        self._fresh.append((key, span))

    def end(self, key: Key, position: int, **last: object) -> None:
        """Let the row be true no more from a position on, and write what is known as it ends."""
        span = self._latest.get(key)
        if span is not None and span.end is None:
            if last:
                span.row = replace(span.row, **last)
            self._close(span, position)

    def forget(self, stream: int) -> None:
        """Let the latest rows of a stream say nothing that points at a person; what is stored, `Table.forget` empties."""
        nothing = dict.fromkeys(self.table.personal)
        for key, span in self._latest.items():
            if key[0] == stream:
                span.row = replace(span.row, **nothing)

    def __len__(self) -> int:
        return len(self._latest)

    def statements(self) -> list[tuple[str, list[tuple[object, ...]]]]:
        """Return what must be written, for `executemany`; from now on it counts as stored."""
        closing = self.table.closing
        closed = [
            (end := cast(int, span.end), fork(span.start, end), *(astuple(span.row)[-closing:] if closing else ()), span.start)
            for span in self._closed
        ]
        fresh = [
            (span.start, span.end, OPEN if span.end is None else fork(span.start, span.end), *key, *astuple(span.row))
            for key, span in self._fresh
        ]
        for _, span in self._fresh:
            span.stored = True
        self._closed, self._fresh = [], []
        return [(self.table.close, closed), (self.table.insert, fresh)]

    def _close(self, span: _Span[R], position: int) -> None:
        if span.end is None:
            span.end = position
            if span.stored:
                self._closed.append(span)
