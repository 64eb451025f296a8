"""Following: every row once, in order, from any mark on, and never past a history that is another one now."""

import asyncio
from typing import Any

import pytest

from pairing.log.chain import GENESIS
from pairing.log.errors import HistoryChanged, LogUnavailable
from pairing.log.port import EventLog, Mark, Record


async def _take(log: EventLog, after: Mark, count: int) -> list[Record]:
    seen: list[Record] = []
    async for record in log.follow(after=after):
        seen.append(record)
        if len(seen) == count:
            break
    return seen


async def _write(log: EventLog, words: Any, first: int, end: int) -> None:
    for number in range(first, end):
        await log.append([words.slice(f"device:{number % 5}", number // 5, "x")], command=words.command(number), now=number)


async def test_followers_from_any_mark_see_every_row_once(log: EventLog, words: Any) -> None:
    """Whatever mark a follower starts from, it sees each later row exactly once and in order, those written meanwhile too."""
    await _write(log, words, 0, 20)
    marks = [await log.mark(position) for position in (0, 1, 7, 20)]
    async with asyncio.timeout(10):
        taking = [asyncio.create_task(_take(log, mark, 50 - mark.position)) for mark in marks if mark]
        await _write(log, words, 20, 50)
        taken = await asyncio.gather(*taking)
    rows = await log.scan()
    assert [len(part) for part in taken] == [50, 49, 43, 30]
    assert all(part == list(rows[-len(part) :]) for part in taken)


async def test_a_waiting_follower_is_woken(log: EventLog, words: Any) -> None:
    """A follower at the head sleeps and wakes for the next row."""
    async with asyncio.timeout(10):
        task = asyncio.create_task(_take(log, GENESIS, 1))
        await asyncio.sleep(0.1)
        assert not task.done()
        await _write(log, words, 0, 1)
        assert [row.position for row in await task] == [1]


@pytest.mark.parametrize("mark", [Mark(1, bytes(32)), Mark(4, bytes(32)), Mark(0, bytes(32))], ids=["other", "beyond", "genesis"])
async def test_a_mark_that_does_not_hold_is_said_aloud(log: EventLog, words: Any, mark: Mark) -> None:
    """Where the row at the mark is another one or gone, the follower is told that history changed (L5, D10)."""
    await _write(log, words, 0, 2)
    async with asyncio.timeout(10):
        with pytest.raises(HistoryChanged, match=f"position {mark.position}:"):
            await _take(log, mark, 1)


async def test_closing_wakes_followers(log: EventLog) -> None:
    """A follower does not sleep on a closed log."""
    async with asyncio.timeout(10):
        task = asyncio.create_task(_take(log, GENESIS, 1))
        await asyncio.sleep(0.01)
        await log.close()
        with pytest.raises(LogUnavailable):
            await task
