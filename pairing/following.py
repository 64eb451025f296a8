"""Following the log by asking: a page of events after a position, and a wait for the next one where there is none yet.

One mechanism for everybody who follows from outside. Nothing is kept for a follower between two pages: it brings its position
along, so that it can lose its connection, and its gateway, and misses and repeats nothing.
"""

from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio
from msgspec import Struct

from .log.errors import HistoryChanged
from .log.port import EventLog, Mark, Record
from .refusals import Reason, Refused

if TYPE_CHECKING:
    from .service import Call

LONGEST_WAIT_MS = 25_000
MOST = 500
_BATCH = 500
# What one call may read for a follower whom little of it concerns; it goes on with the next call.
_SCANNED = 20_000


class Page(Struct, frozen=True):
    """Rows in their order, the mark to go on from, and the last position of the log; the mark may be past the last row."""

    records: tuple[Record, ...]
    mark: Mark
    head: int


class Following:
    """Gives pages of one log to any number of followers; one of those who wait looks at the log for all of them."""

    def __init__(self, events: EventLog) -> None:
        self._log = events
        self._turn = anyio.Lock()

    async def page(
        self, after: int | None, *, seen: str | None, wait_ms: int, limit: int, wanted: Callable[[Record], bool]
    ) -> Page:
        """Return up to `limit` wanted rows above position `after` (None: the present end), waiting `wait_ms` for the first.

        `seen` is the hash (hex) of the row at `after`, as an earlier page's mark had it. Raises `Refused` where the log is not
        the one that was followed any more, `LogUnavailable`.
        """
        mark = await self._begin(after, seen)
        deadline = anyio.current_time() + wait_ms / 1000
        scanned, found = 0, list[Record]()
        try:
            while True:
                rows = await self._log.scan(after=mark.position, limit=_BATCH)
                for row in rows:
                    mark = Mark(row.position, row.hash)
                    if wanted(row):
                        found.append(row)
                        if len(found) == limit:
                            break
                scanned += len(rows)
                if len(found) == limit or scanned >= _SCANNED:
                    break
                if len(rows) < _BATCH and (found or not await self._news(mark, deadline)):
                    break
        except HistoryChanged as error:
            raise await self._moved(error.position) from None
        return Page(tuple(found), mark, (await self._log.head()).position)

    async def _begin(self, after: int | None, seen: str | None) -> Mark:
        if after is None:
            return await self._log.head()
        mark = await self._log.mark(after)
        if mark is None or (seen is not None and mark.hash.hex() != seen):
            raise await self._moved(after)
        return mark

    async def _moved(self, position: int) -> Refused:
        head = (await self._log.head()).position
        return Refused(Reason.HISTORY_CHANGED, position=position, head=head, details={"position": position, "head": head})

    async def _news(self, mark: Mark, deadline: float) -> bool:
        """Wait until the log goes on after a mark; False where it does not before the deadline. Raises `HistoryChanged`."""
        left = deadline - anyio.current_time()
        if left <= 0:
            return False
        with anyio.move_on_after(left):
            async with self._turn:
                if (await self._log.head()).position > mark.position:
                    if await self._log.mark(mark.position) != mark:
                        raise HistoryChanged(mark.position)
                    return True
                async with aclosing(self._log.follow(after=mark)) as rows:
                    async for _ in rows:
                        return True
        return False


async def follow(
    call: "Call[Any]", after: int | None, *, seen: str | None, wait_ms: int, limit: int, wanted: Callable[[Record], bool]
) -> Page:
    """Return a page for the caller of a method, who must still be what it was when the page is handed out (V1).

    Raises `Refused`.
    """
    page = await call.service.following.page(after, seen=seen, wait_ms=wait_ms, limit=limit, wanted=wanted)
    if call.caller.standing is not None:
        await call.service.desk.vouch(call.caller.standing, call.service.clock())
    return page
