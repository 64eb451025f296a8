"""Following the log: turn after turn until the views stand where the log does.

It owns when a turn begins and ends, and what happens when the log is no longer the one that was followed. It contacts nobody.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import structlog

from pairing.log.chain import GENESIS
from pairing.log.port import EventLog, Mark, Record

from . import audit
from .folding import LOADS, Fold
from .reading import read_all
from .spans import as_json
from .store import Store

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the position that was reached and the position to reach."""

BATCH = 8_192
# Batches in one transaction: other writers and a cancellation wait for as long.
TURN = 8
# Rows that are remembered from turn to turn.
MOST = 200_000

log = structlog.get_logger("pairing.views")


class Follower:
    """One way along a log, remembering rows from turn to turn while nobody else writes."""

    def __init__(self, source: EventLog, store: Store) -> None:
        self._log = source
        self._store = store
        self._at: Mark | None = None
        self._fold = Fold(0)

    async def follow(self, progress: Progress | None = None) -> Mark:
        """Let the views follow the log to its head, and return the mark that they have reached."""
        while True:
            mark, head = await self._store.mark(), await self._log.head()
            if mark == head:
                return mark
            reached = await self._turn()
            if progress is not None:
                progress(reached.position, max(head.position, reached.position))
            if reached == mark:
                return mark

    async def _turn(self) -> Mark:
        """Apply the next events in one transaction, and return the mark after it. Another process may have been faster."""
        async with self._store.writing():
            mark = await self._begin()
            before = self._fold.sheets.opened
            for _ in range(TURN):
                records = await self._log.scan(after=mark.position, limit=BATCH)
                if not records:
                    break
                await self._apply(records)
                mark = Mark(records[-1].position, records[-1].hash)
            await self._store.set_mark(mark, self._fold.sheets.opened - before)
        self._at = mark
        return mark

    async def _begin(self) -> Mark:
        mark = await self._store.mark()
        if mark != GENESIS and await self._log.mark(mark.position) != mark:
            log.warning("the log has another history and the views are rebuilt", position=mark.position)
            await self._store.reset()
            mark = GENESIS
        if mark != self._at or len(self._fold) > MOST:
            self._fold = Fold((await self._store.rows(audit.LAST_WORD))[0][0])
        return mark

    async def _apply(self, records: Sequence[Record]) -> None:
        fold = self._fold
        with _uncollected():
            reads = read_all(records)
            words = fold.words(reads)
        if words:
            stored = [*await self._store.rows(audit.LOAD_WORDS, {"keys": as_json(words)})]
            for word in words:
                # To SQLite's JSON functions a text ends at its first NUL.
                if "\0" in word:
                    stored += await self._store.rows(audit.LOAD_WORD, {"word": word})
            fold.learn(stored, words)
        with _uncollected():
            asks = fold.asks(reads)
        for load, keys in asks.items():
            fold.seed(load, await self._store.rows(LOADS[load], {"keys": as_json(keys)}))
        with _uncollected():
            fold.fold()
            statements = fold.statements()
        await self._store.write(statements)
        for read in reads:
            if read.damage is not None:
                log.warning(
                    "a row of the log cannot be read", position=read.record.position, stream=read.record.stream, why=read.damage
                )


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector out of a stretch without awaits: nearly all that a batch makes stays, and is soon written."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
