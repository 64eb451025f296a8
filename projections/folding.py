"""The fold over all views: rows of the log go in, statements for the views come out.

It says which stored rows it must know (`asks`), is given them (`seed`), folds events over them, and knows no file. In how many
batches a log is followed makes no difference to what the views say.
"""

from collections.abc import Iterable
from typing import TypeAlias

from pairing.reasons import reasons

from . import audit, devices, enrolments, locks, nodes, requests, tokens
from .reading import Read
from .spans import Table
from .steps import STEPS, Sheets, Step

Row: TypeAlias = tuple[object, ...]
Statements: TypeAlias = list[tuple[str, list[Row]]]

# What can be asked for, and how; `:keys` is a JSON list.
LOADS = {
    "requests": requests.LOAD_LAST,
    "open": requests.LOAD_OPEN,
    "devices": devices.LOAD_DEVICES,
    "labels": devices.LOAD_LABELS,
    "tokens": tokens.LOAD,
    "locks": locks.LOAD,
    "node_requests": nodes.LOAD_ASKED,
    "nodes": nodes.LOAD_NODES,
    "enrolments": enrolments.LOAD_CODES,
    "holders": enrolments.LOAD_HOLDERS,
}

_PERSONAL: tuple[Table, ...] = tuple(sheet.table for sheet in Sheets().all() if sheet.table.personal)
# What is said of a stream (?1) below a position (?2) once it is forgotten. Rows that came later are not touched: whether they
# came in the same batch makes no difference.
FORGET = (*(table.forget for table in _PERSONAL), *audit.FORGET)


class Fold:
    """The rows that events touch, as they stand. For each batch: `words`, `learn`, `asks`, `seed`, `fold`, `statements`."""

    def __init__(self, last_word: int) -> None:
        self.sheets = Sheets()
        self._asked: dict[str, set[object]] = {load: set() for load in LOADS}
        self._work: list[tuple[Read, int, Step | None]] = []
        self._words: dict[str, int] = {}
        self._last_word = last_word
        self._new_words: list[Row] = []
        self._events: list[Row] = []
        self._reasons: list[Row] = []
        self._damages: list[Row] = []

    def words(self, reads: Iterable[Read]) -> list[str]:
        """Return the names in these events whose numbers it does not know."""
        names: dict[str, None] = {}
        for read in reads:
            names[read.record.stream] = names[read.record.kind] = None
            if read.actor is not None:
                names[read.actor] = None
            for reason in reasons(read.event, read.meta):
                names[reason] = None
        return [name for name in names if name not in self._words]

    def learn(self, stored: Iterable[tuple[str, int]], names: Iterable[str]) -> None:
        """Take the numbers that are stored, and number the rest of the names in their order."""
        self._words.update(stored)
        for name in names:
            if name not in self._words:
                self._last_word += 1
                self._words[name] = self._last_word
                self._new_words.append((self._last_word, name))

    def asks(self, reads: Iterable[Read]) -> dict[str, list[object]]:
        """Take the next events, and return the keys of stored rows that they may touch, once each, by the name of the load."""
        words, work = self._words, self._work
        keys: dict[str, list[object]] = {}
        for read in reads:
            stream, step = words[read.record.stream], _step(read)
            work.append((read, stream, step))
            if step is None:
                continue
            for load in step.loads:
                key = (stream, read.event.request) if load == "requests" else stream  # type: ignore[union-attr]
                asked = self._asked[load]
                if key not in asked:
                    asked.add(key)
                    keys.setdefault(load, []).append(key)
        return keys

    def seed(self, load: str, stored: Iterable[Row]) -> None:
        """Take stored rows that were asked for."""
        for row in stored:
            self.sheets.seed(load, row)

    def fold(self) -> None:
        """Let the views follow the events that were taken."""
        words, sheets, events = self._words, self.sheets, self._events
        for read, stream, step in self._work:
            actor = None if read.actor is None else words[read.actor]
            events.append(audit.row(read, stream, words[read.record.kind], actor))
            for reason in reasons(read.event, read.meta):
                self._reasons.append((words[reason], read.record.position))
            if read.damage is not None:
                self._damages.append((read.record.position, stream, read.damage))
            if step is not None:
                step.apply(sheets, stream, read, read.event)
        self._work.clear()

    def statements(self) -> Statements:
        """Return all that must be written, in an order in which it can be, and count it as stored."""
        sheets = self.sheets
        all_of_it: Statements = [
            (audit.INSERT_WORD, self._new_words),
            (audit.INSERT_EVENT, self._events),
            (audit.INSERT_REASON, self._reasons),
            (audit.INSERT_DAMAGE, self._damages),
        ]
        all_of_it.extend(statement for sheet in sheets.all() for statement in sheet.statements())
        forgotten: list[Row] = list(sheets.forgotten)
        all_of_it.extend((forget, forgotten) for forget in FORGET)
        self._new_words, self._events, self._reasons, self._damages, sheets.forgotten = [], [], [], [], []
        return [(sql, rows) for sql, rows in all_of_it if rows]

    def __len__(self) -> int:
        """How many rows it remembers."""
        return len(self._words) + sum(len(sheet) for sheet in self.sheets.all())


def _step(read: Read) -> Step | None:
    step = STEPS.get(type(read.event))
    return step if step is not None and read.record.stream.startswith(step.family) else None
