"""Following the log: turn after turn until the views stand where the log does.

It owns when a turn begins and ends, and what happens when the log is no longer the one that was followed. It contacts nobody.
"""

from collections.abc import Callable
from typing import TypeAlias

import structlog

from pairing.log.chain import GENESIS
from pairing.log.port import EventLog, Mark

from . import audit
from .reading import Read, read_all
from .spans import as_json
from .store import Store
from .turn import LOADS, Turn

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the position that was reached and the position to reach."""

CHUNK = 4_096
TURN = 32_768

log = structlog.get_logger("pairing.views")


async def follow(source: EventLog, store: Store, progress: Progress | None = None) -> Mark:
    """Let the views follow the log to its head, and return the mark that they have reached."""
    while True:
        mark, head = await store.mark(), await source.head()
        if mark == head:
            return mark
        reached = await take_turn(source, store)
        if progress is not None:
            progress(reached.position, max(head.position, reached.position))
        if reached == mark:
            return mark


async def take_turn(source: EventLog, store: Store) -> Mark:
    """Apply the next events in one transaction, and return the mark after it. Another process may have been faster."""
    async with store.writing():
        mark = await store.mark()
        if not await _holds(source, mark):
            log.warning("the log has another history and the views are rebuilt", position=mark.position)
            await store.reset()
            mark = GENESIS
        turn = Turn((await store.rows(audit.LAST_WORD))[0][0])
        while turn.count < TURN:
            records = await source.scan(after=mark.position, limit=CHUNK)
            if not records:
                break
            await _fold(turn, read_all(records), store)
            mark = Mark(records[-1].position, records[-1].hash)
        await store.write(turn.statements(), mark)
    for read in turn.damaged:
        log.warning("a row of the log cannot be read", position=read.record.position, stream=read.record.stream, why=read.damage)
    return mark


async def _holds(source: EventLog, mark: Mark) -> bool:
    return mark == GENESIS or await source.mark(mark.position) == mark


async def _fold(turn: Turn, reads: list[Read], store: Store) -> None:
    words = turn.words(reads)
    if words:
        turn.learn(await store.rows(audit.LOAD_WORDS, {"keys": as_json(words)}), words)
    for load, keys in turn.asks(reads).items():
        turn.seed(load, await store.rows(LOADS[load], {"keys": as_json(keys)}))
    turn.fold(reads)
