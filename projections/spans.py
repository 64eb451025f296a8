"""Spans of positions: a view's row was true from one position up to, but not including, another; or still is.

Which rows were true at a position is found without reading the others: a closed span is filed under one number inside it, its
fork, and all spans around a position are filed under at most 48 numbers (Kriegel, Pötke, Seidl: relational interval tree).
"""

from typing import Generic, TypeVar, cast

import msgspec
from msgspec import Struct
from msgspec.structs import astuple, replace

R = TypeVar("R", bound=Struct)

OPEN = 0
_LEVELS = 48


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


def held(table: str, where: str = "1") -> str:
    """Return a SELECT of the `from_position` of a table's rows that were true `:at` a position; takes what `at` gives."""
    return f"""
        SELECT from_position FROM {table}
         WHERE node = {OPEN} AND to_position IS NULL AND from_position <= :at AND {where}
        UNION ALL
        SELECT from_position FROM {table}
         WHERE node IN (SELECT value FROM json_each(:below)) AND to_position > :at AND {where}
        UNION ALL
        SELECT from_position FROM {table}
         WHERE node IN (SELECT value FROM json_each(:above)) AND from_position <= :at AND {where}"""  # noqa: S608


def at(position: int, **more: object) -> dict[str, object]:
    """Return the parameters of `held`."""
    below, above = forks(position)
    return {"at": position, "below": as_json(below), "above": as_json(above), **more}


def as_json(value: object) -> str:
    """Return compact JSON text."""
    return msgspec.json.encode(value).decode()


class Table(Struct, frozen=True):
    """A table of spans: the columns of its key, those of its row, and how many of the last ones are written as a span closes."""

    name: str
    keys: tuple[str, ...]
    row: type[Struct]
    closing: int = 0

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


class _Span(Struct, Generic[R]):
    start: int
    row: R
    stored: bool
    end: int | None = None


class Sheet(Generic[R]):
    """The rows of one table that a turn touches, as they stand; they reach the table together, when the turn is over."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._latest: dict[tuple[object, ...], _Span[R]] = {}
        self._fresh: list[tuple[tuple[object, ...], _Span[R]]] = []
        self._closed: list[_Span[R]] = []
        self.loaded: set[object] = set()

    def seed(self, stored: tuple[object, ...]) -> tuple[object, ...] | None:
        """Take a stored row as (from, to, key…, row…) unless a later one is known, and return its key if it was taken."""
        split = 2 + len(self._table.keys)
        key = stored[2:split]
        if key in self._latest:
            return None
        row = cast(R, self._table.row(*stored[split:]))
        self._latest[key] = _Span(cast(int, stored[0]), row, True, cast("int | None", stored[1]))
        return key

    def row(self, *key: object) -> R | None:
        """Return the row that is true now."""
        span = self._latest.get(key)
        return span.row if span is not None and span.end is None else None

    def last(self, *key: object) -> R | None:
        """Return the last row that was true, even if it is no more."""
        span = self._latest.get(key)
        return None if span is None else span.row

    def put(self, row: R, position: int, *key: object) -> None:
        """Let a row be true from a position on, in place of the one before."""
        self.end(position, *key)
        span = self._latest[key] = _Span(position, row, False)
        self._fresh.append((key, span))

    def end(self, position: int, *key: object, **last: object) -> None:
        """Let the row be true no more from a position on, and write what is known as it ends."""
        span = self._latest.get(key)
        if span is None or span.end is not None:
            return
        span.end = position
        if last:
            span.row = replace(span.row, **last)
        if span.stored:
            self._closed.append(span)

    def statements(self) -> list[tuple[str, list[tuple[object, ...]]]]:
        """Return what must be written, for `executemany`."""
        closing = self._table.closing
        closed = [
            (end := cast(int, span.end), fork(span.start, end), *(astuple(span.row)[-closing:] if closing else ()), span.start)
            for span in self._closed
        ]
        fresh = [
            (span.start, span.end, OPEN if span.end is None else fork(span.start, span.end), *key, *astuple(span.row))
            for key, span in self._fresh
        ]
        return [(self._table.close, closed), (self._table.insert, fresh)]
