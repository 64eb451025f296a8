"""Group commit: appends that wait are written together by one task, one after another group, and answered after the flush.

Owns the writing connection. A caller that is cancelled stops waiting; what it asked for is written all the same.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from .errors import LogUnavailable
from .file import Connection
from .writer import Outcome, Request, Writer

_MOST_TOGETHER = 512
_CHECKPOINT_PAGES = 4_000

T = TypeVar("T")


class GroupCommit:
    """The queue of appends of one process. `done` is called after every commit, in the event loop."""

    def __init__(self, path: Path, writing: Connection, beside: Connection, writer: Writer, done: Callable[[], None]) -> None:
        self._path, self._writing, self._beside, self._writer, self._done = path, writing, beside, writer, done
        self._waiting: list[tuple[Request, asyncio.Future[Outcome]]] = []
        self._calm = asyncio.Event()
        self._calm.set()
        self._drain: asyncio.Task[None] | None = None
        self._checkpoint: asyncio.Task[None] | None = None
        self._pages = 0

    async def append(self, request: Request) -> Outcome:
        """Wait until the request is written with others, or judged, and return what came of it."""
        if self._calm.is_set():
            return await self._go_first(request)
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        return await answer

    async def forget(self, work: Callable[[Writer], int]) -> tuple[int, bool]:
        """Empty personal columns, then the WAL, which may hold what was erased. Raises sqlite3.Error.

        Returns how many rows had one, and whether the WAL could be emptied: while another process reads in it, it cannot. An
        earlier time may have failed in that, so it is done also where nothing was left to erase.
        """
        count = await self._alone(work)
        ((blocked, *_),) = await self._beside.run(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        return count, not blocked

    async def _alone(self, work: Callable[[Writer], T]) -> T:
        return await self._writing.run(lambda _: work(self._writer))

    async def finish(self) -> None:
        """Write what waits, let a checkpoint end, close the writing connection."""
        await self._calm.wait()
        if self._checkpoint is not None:
            await asyncio.wait([self._checkpoint])
        await self._writing.close()

    async def _go_first(self, request: Request) -> Outcome:
        """Write one request from its caller's own task: nobody else waits, so there is nothing to gather.

        If the caller is cancelled the connection's thread writes on; what is asked next stands in line behind it.
        """
        self._calm.clear()
        try:
            return (await self._write([request]))[0]
        finally:
            if self._waiting:
                self._drain = asyncio.create_task(self._write_waiting())
            else:
                self._calm.set()

    async def _write_waiting(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:_MOST_TOGETHER], self._waiting[_MOST_TOGETHER:]
                answers = await self._write([request for request, _ in group])
                for (_, future), answer in zip(group, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)
                await asyncio.sleep(0)  # those just answered may ask again, and then go together
        finally:
            self._calm.set()

    async def _write(self, group: list[Request]) -> list[Outcome]:
        try:
            answers = await self._writing.run(lambda _: self._writer.write(group))
        except Exception as error:
            return [LogUnavailable(self._path, f"{type(error).__name__}: {error}") for _ in group]
        self._done()
        # Every append touches a page of each index, and every group the pages at the end of the table: near enough.
        self._pages += 4 + len(group)
        if self._pages >= _CHECKPOINT_PAGES and self._checkpoint is None:
            self._pages = 0
            self._checkpoint = asyncio.create_task(self._copy())
        return answers

    async def _copy(self) -> None:
        """Move the WAL into the database beside the writer; what was written meanwhile is little and goes between two groups.

        Without the second step a writer that never pauses would never let the WAL begin again, and it would grow for ever.
        """
        try:
            await self._beside.run(lambda db: db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall())
            await self._alone(Writer.settle)
        except Exception:  # the next one tries again; until then the WAL is the log, and as durable
            self._pages = _CHECKPOINT_PAGES // 2
        finally:
            self._checkpoint = None
